package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/archive"
	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/pipe"
	"novaagent/engine/runtime"
)

// Files of a container are read and written by way of its root directory: that of its process, with all
// that is mounted there, or without a process the same tree mounted where nobody else sees it.
//
// A client may take hours over a copy, so the container's lock is held only until the root is open.
// What would go wrong with a copy under way, a start (two overlays would have the same upper directory) and
// a removal, waits for copies a moment and then ends them.

// accessGrace is how long a start waits for copies.
const accessGrace = 5 * time.Second

// access is one use of a container's files.
type access struct {
	rec  *Container
	root archive.Root
	tree *kernel.Tree
	ctx  context.Context
	end  context.CancelCauseFunc
	done chan struct{}
	free func() // lets go of everything
}

// PathStat is what there is to know of a path in a container.
type PathStat = archive.Stat

// ExtractOptions say how Extract treats what is there, and who owns what it makes.
type ExtractOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and the reverse.
	NoOverwriteDirNonDir bool
	// ToUser gives everything to the user of the container's process, if it has one.
	ToUser bool
}

// StatPath looks at a path in a container, running or not; it follows no symbolic link
// in last place unless path ends with "/" or "/.".
//
// ErrNotFound: no such container or path.
func (e *Engine) StatPath(ctx context.Context, ref, path string) (PathStat, error) {
	a, err := e.openFiles(ctx, ref, allMounts)
	if err != nil {
		return PathStat{}, err
	}
	defer a.free()
	var s PathStat
	err = a.run(func() (err error) {
		s, err = a.root.Stat(path)
		return err
	})
	return s, a.pathError(path, err)
}

// Archive returns a tar stream of a path in a container, running or not, with the path's last
// component as the name of its first entry. Reading may fail with ErrUnavailable when the
// container is started or removed meanwhile. The caller closes it.
//
// ErrNotFound: no such container or path. ErrInvalid: the path cannot be archived.
func (e *Engine) Archive(ctx context.Context, ref, path string) (io.ReadCloser, PathStat, error) {
	a, err := e.openFiles(ctx, ref, allMounts)
	if err != nil {
		return nil, PathStat{}, err
	}
	stat := make(chan PathStat, 1)
	s := a.stream(func(w io.Writer) error {
		return a.pathError(path, a.root.Write(w, path, func(st PathStat) { stat <- st }))
	})
	select {
	case st := <-stat:
		e.Tell(ref, ActionArchive, nil)
		return s, st, nil
	case <-s.ended:
	}
	// It may have told before it ended.
	select {
	case st := <-stat:
		e.Tell(ref, ActionArchive, nil)
		return s, st, nil
	default:
	}
	s.Close()
	return nil, PathStat{}, s.err
}

// Export returns a tar stream of the whole root file system of a container, running or
// not, without what is mounted in it. The caller closes it.
//
// ErrNotFound: no such container.
func (e *Engine) Export(ctx context.Context, ref string) (io.ReadCloser, error) {
	a, err := e.openFiles(ctx, ref, noMounts)
	if err != nil {
		return nil, err
	}
	e.Tell(ref, ActionExport, nil)
	return a.stream(a.root.WriteAll), nil
}

// Extract puts the files of a tar stream into the directory path of a container, running or not.
// It reads r to the end. See archive.Root.Extract for what hostile archives can do.
//
// ErrNotFound: no such container or directory. ErrInvalid: the archive is damaged or hostile, the
// path is no directory or read-only. ErrExhausted: no room. ErrUnavailable: the container was started or
// removed meanwhile.
func (e *Engine) Extract(ctx context.Context, ref, path string, r io.Reader, o ExtractOptions) error {
	a, err := e.openFiles(ctx, ref, allMounts)
	if err != nil {
		return err
	}
	// What reads r is not what holds the files: a client that says nothing holds up nobody.
	pr, pw := pipe.New()
	stop := context.AfterFunc(a.ctx, func() { pr.Abort(context.Cause(a.ctx)) })
	result := make(chan error, 1)
	go func() {
		defer a.free()
		defer stop()
		err := a.run(func() error {
			to := archive.ExtractOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir}
			if user := a.rec.Process.User; o.ToUser && user != "" {
				uid, gid, err := runtime.LookupUser(a.root.Dir, user)
				if err != nil {
					return err
				}
				to.Owner = &archive.Owner{UID: int(uid), GID: int(gid)}
			}
			if err := a.root.Extract(pr, path, to); err != nil {
				return err
			}
			// tar programs write more zeros than the format needs.
			_, err := io.Copy(io.Discard, pr)
			return err
		})
		if a.ctx.Err() != nil {
			err = context.Cause(a.ctx)
		}
		pr.Abort(errExtracted)
		result <- a.pathError(path, err)
	}()
	_, readErr := io.Copy(pw, r)
	if errors.Is(readErr, errExtracted) || a.ctx.Err() != nil {
		readErr = nil // the result says why
	}
	if readErr != nil {
		pw.Abort(readErr)
	} else {
		_ = pw.Close() // the result says why
	}
	err = <-result
	if readErr != nil {
		return fmt.Errorf("read archive: %v: %w", readErr, errdefs.ErrInvalid)
	}
	if err == nil {
		e.Tell(ref, ActionExtract, nil)
	}
	return err
}

// Change is a path that a container has made, changed or deleted.
type Change = archive.Change

// Changes are all of them, sorted by path, without the mount points that every container gets.
//
// ErrNotFound: no such container.
func (e *Engine) Changes(ctx context.Context, ref string) ([]Change, error) {
	a, err := e.openFiles(ctx, ref, imageAlone)
	if err != nil {
		return nil, err
	}
	defer a.free()
	return e.changesOf(a)
}

// Layer returns what a container has changed as the tar stream of an image layer, on top of the image
// that the container was made of. The caller closes it. A container that runs goes on changing.
//
// ErrNotFound: no such container.
func (e *Engine) Layer(ctx context.Context, ref string) (io.ReadCloser, error) {
	changes, err := e.Changes(ctx, ref)
	if err != nil {
		return nil, err
	}
	a, err := e.openFiles(ctx, ref, noMounts)
	if err != nil {
		return nil, err
	}
	return a.stream(func(w io.Writer) error { return a.root.WriteLayer(w, changes) }), nil
}

// changesOf compares the upper directory of a's container with the image that a shows.
func (e *Engine) changesOf(a *access) ([]Change, error) {
	upper, err := kernel.OpenPath(e.rootfs(a.rec, nil).Upper)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", a.rec.Spec.Name, err)
	}
	defer upper.Close()
	hidden := map[string]bool{"/dev": true} // where the mounts of /dev/pts and others are
	for _, m := range runtime.DefaultSpec().Mounts {
		hidden[m.Destination] = true
	}
	hidden["/etc"] = true
	for _, name := range etcFiles {
		hidden["/etc/"+name] = true
	}
	changes, err := archive.Changes(a.ctx, upper, a.root.Dir, hidden)
	if err != nil {
		return nil, fmt.Errorf("container %s: changes: %w", a.rec.Spec.Name, err)
	}
	return changes, nil
}

// errExtracted ends the reading of an archive whose extraction has ended.
var errExtracted = errors.New("the extraction has ended")

// view says which files of a container are opened.
type view int

const (
	allMounts  view = iota // what its processes see
	noMounts               // its layers alone, read-only
	imageAlone             // the layers below its own, read-only
)

// openFiles opens a container's root directory. The caller frees the result.
func (e *Engine) openFiles(ctx context.Context, ref string, want view) (*access, error) {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec := e.record(t)
	if rec.State == Removing || rec.State == Creating {
		return nil, fmt.Errorf("container %s is being %s: %w", rec.Spec.Name,
			map[State]string{Removing: "removed", Creating: "created"}[rec.State], errdefs.ErrConflict)
	}
	leave, err := e.enter()
	if err != nil {
		return nil, err
	}
	a := &access{rec: rec, done: make(chan struct{})}
	if a.tree, err = e.openTree(ctx, t, want); err != nil {
		leave()
		return nil, fmt.Errorf("container %s: open its files: %w", rec.Spec.Name, err)
	}
	a.root = archive.Root{Dir: a.tree.Root, IDs: archive.IDs{Start: rec.IDs.Start, Size: rec.IDs.Size}}
	a.ctx, a.end = context.WithCancelCause(ctx)
	closing := context.AfterFunc(e.ctx, func() {
		a.end(fmt.Errorf("the engine is closing: %w", errdefs.ErrUnavailable))
	})
	e.mu.Lock()
	t.accesses = append(t.accesses, a)
	e.mu.Unlock()
	a.free = func() {
		closing()
		a.end(nil)
		if err := a.tree.Close(); err != nil {
			e.log.Error("letting go of a container's files", "container_id", t.id, "error", err)
		}
		e.mu.Lock()
		t.accesses = slices.DeleteFunc(t.accesses, func(o *access) bool { return o == a })
		e.mu.Unlock()
		close(a.done)
		leave()
	}
	return a, nil
}

// openTree opens t's files. The caller holds t's lock.
func (e *Engine) openTree(ctx context.Context, t *tracked, want view) (*kernel.Tree, error) {
	rec := e.record(t)
	if rec.State.Live() && want == allMounts {
		task, err := t.process()
		if err != nil {
			return nil, err
		}
		root, err := task.Root()
		if err != nil {
			return nil, err
		}
		return &kernel.Tree{Root: root}, nil
	}
	if !t.prepared && !rec.State.Live() { // a reboot has taken the mount of a quota
		if err := e.prepareFiles(ctx, t, false); err != nil {
			return nil, err
		}
	}
	lowers, err := e.lowers(ctx, rec)
	if err != nil {
		return nil, err
	}
	tree := runtime.Tree{
		Rootfs:   e.rootfs(rec, lowers),
		IDs:      kernel.IDRange{Host: rec.IDs.Start, Size: rec.IDs.Size},
		ReadOnly: rec.Spec.Security.ReadonlyRootfs,
	}
	if want == imageAlone {
		tree.Rootfs = runtime.Rootfs{Lowers: lowers}
		if len(lowers) == 1 { // no overlay has one layer only
			tree.Path, tree.Rootfs.Lowers = lowers[0], nil
		}
		return tree.Open()
	}
	if want == noMounts {
		// Beside a process the upper directory may only be read.
		tree.Rootfs.Top, tree.Rootfs.Upper, tree.Rootfs.Work = tree.Rootfs.Upper, "", ""
		return tree.Open()
	}
	s := &specs.Spec{}
	held, err := e.mounts(s, rec)
	defer held.close()
	if err != nil {
		return nil, err
	}
	for _, m := range s.Mounts {
		if m.Type == string(MountBind) {
			tree.Mounts = append(tree.Mounts, m)
		}
	}
	return tree.Open()
}

// endAccesses waits until nobody uses t's files, at most grace; then it ends the uses. The
// caller holds t's lock, so no new ones begin.
func (e *Engine) endAccesses(t *tracked, grace time.Duration) {
	e.mu.RLock()
	list := slices.Clone(t.accesses)
	e.mu.RUnlock()
	if len(list) == 0 {
		return
	}
	enough := time.After(grace)
	for _, a := range list {
		select {
		case <-a.done:
		case <-enough:
			for _, a := range list {
				a.end(fmt.Errorf("container %s was started or removed meanwhile: %w", a.rec.Spec.Name, errdefs.ErrUnavailable))
			}
			<-a.done
		}
	}
}

// run runs f on a thread that may do no more than work on the container's files.
func (a *access) run(f func() error) error {
	return kernel.OnFileThread(a.rec.IDs.Start, func() error { return guarded(f) })
}

// stream is what an access writes, as a reader.
type stream struct {
	*pipe.Reader
	ended chan struct{} // closed when nothing is used any more
	err   error         // what it ended with
}

// stream runs write on the access and frees it.
func (a *access) stream(write func(io.Writer) error) *stream {
	pr, pw := pipe.New()
	s := &stream{Reader: pr, ended: make(chan struct{})}
	stop := context.AfterFunc(a.ctx, func() { pw.Abort(context.Cause(a.ctx)) })
	go func() {
		defer close(s.ended)
		defer a.free()
		defer stop()
		s.err = a.run(func() error { return write(pw) })
		if a.ctx.Err() != nil {
			s.err = context.Cause(a.ctx)
		}
		if s.err == nil {
			s.err = pw.Close()
		} else {
			pw.Abort(s.err)
		}
	}()
	return s
}

// Close ends the stream and waits until it uses nothing any more.
func (s *stream) Close() error {
	err := s.Reader.Close()
	<-s.ended
	return err
}

// pathError says of a path that is not there what Docker says.
func (a *access) pathError(path string, err error) error {
	if err == nil || !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return fmt.Errorf("Could not find the file %s in container %s: %w", path, a.rec.Spec.Name, errdefs.ErrNotFound)
}
