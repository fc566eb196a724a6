package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// Start runs b's process and returns once that has been executed. If it returns
// an error nothing is left.
//
// errdefs.ErrInvalid: the specification, executable, working directory or user is wrong;
// errdefs.ErrConflict: b.ID exists; errdefs.ErrUnsupported: the specification asks for
// what this runtime or kernel can't do; errdefs.ErrExhausted: the host has
// no room.
func (r *Runtime) Start(ctx context.Context, b Bundle) (t *Task, err error) {
	defer func() {
		if err != nil {
			for _, a := range b.Attach {
				a.fail(err)
			}
			err = fmt.Errorf("container %s: start: %w", b.ID, err)
		}
	}()
	spec, err := checkBundle(b)
	if err != nil {
		return nil, err
	}
	oci, err := r.ociNamed(b.Runtime)
	if err != nil {
		return nil, err
	}
	if err := r.awaitUnmount(ctx, b.ID); err != nil {
		return nil, err
	}
	dir := r.taskDir(b.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("it exists already: %w", errdefs.ErrConflict)
		}
		return nil, err
	}
	cg := r.cgroupFor(b, spec)
	defer func() {
		if err != nil {
			ctx, cancel := cleanupContext(ctx)
			defer cancel()
			if oci != nil {
				err = errors.Join(err, r.deleteOCI(ctx, oci, b.ID))
			}
			err = errors.Join(err, r.removeTraces(ctx, b.ID, cg))
		}
	}()
	if cg != nil {
		if parent := foreignParent(spec, r.cg.parent); parent != "" {
			// What is elsewhere must be found again if the agent dies on the next line.
			foreign := record{Version: recordVersion, ID: b.ID, BootID: r.bootID, Cgroup: cg, OCI: oci}
			if err := foreign.write(dir); err != nil {
				return nil, err
			}
			if err := r.cg.below(parent).makeParent(); err != nil {
				return nil, err
			}
		}
	}
	limits := spec.Linux.Resources
	if oci != nil {
		limits = nil // they are the runtime's to set
	}
	inCgroup := cg.createBeside(limits)
	defer inCgroup() // before anything is removed
	ns, err := openNamespaces(spec)
	if err != nil {
		return nil, err
	}
	defer ns.close()
	root, err := openRootfs(b, spec, ns, r.closeLater)
	if err != nil {
		return nil, err
	}
	l := &launch{r: r, id: b.ID, b: kernel.NewBuilder(), spec: spec, ns: ns, root: root, width: b.Width, height: b.Height}
	defer l.close()
	l.files = append(l.files, root)
	if cs := spec.Process.ConsoleSize; cs != nil && l.width == 0 && l.height == 0 {
		l.width, l.height = uint16(cs.Width), uint16(cs.Height)
	}
	if err := resolveUser(root, spec.Process, b.User); err != nil {
		return nil, err
	}
	if oci != nil {
		if l.oci, err = r.ociCommand(oci, b.ID, "create", ""); err != nil {
			return nil, err
		}
	}
	shimFiles, header, err := l.streams(spec.Process.Terminal, b.OpenStdin)
	if err != nil {
		return nil, err
	}
	if b.StdinOnce {
		header.Flags |= wire.StdinOnce
	}
	if b.LateUnmount && oci == nil {
		header.Flags |= wire.LateUnmount
	}
	if err := inCgroup(); err != nil {
		return nil, err
	}
	compile := l.compileInit
	if oci != nil {
		compile = l.compileCreate
	}
	if err := compile(cg); err != nil {
		return nil, err
	}
	t = newTask(r, record{
		Version: recordVersion, ID: b.ID, BootID: r.bootID, Cgroup: cg, Process: spec.Process,
		Linux: recordedLinux(spec), Annotations: spec.Annotations, OpenStdin: b.OpenStdin, OCI: oci,
	})
	if err := t.rec.write(dir); err != nil {
		return nil, err
	}
	if err := r.launch(ctx, t, l, b, header, shimFiles); err != nil {
		return nil, err
	}
	if oci != nil {
		if _, err := r.runOCI(ctx, oci, b.ID, "start", nil); err != nil {
			undo, cancel := cleanupContext(ctx)
			defer cancel()
			return nil, errors.Join(err, t.Delete(undo))
		}
	}
	r.serving.Go(r.devs.fill)
	for _, w := range l.warnings {
		r.log.WarnContext(ctx, "container started with a restriction", "container_id", b.ID, "what", w)
	}
	return t, nil
}

// awaitUnmount waits until an earlier container of that ID, which has been deleted, holds no mounts any more.
func (r *Runtime) awaitUnmount(ctx context.Context, id string) error {
	r.mu.Lock()
	gone := r.unmounting[id]
	r.mu.Unlock()
	if gone == nil {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("its mounts are not gone yet: %v: %w", ctx.Err(), errdefs.ErrUnavailable)
	}
}

// launch hands the program to a shim and waits until the process has been executed.
func (r *Runtime) launch(ctx context.Context, t *Task, l *launch, b Bundle, header wire.LaunchHeader, shimFiles []*os.File) error {
	dirFile, err := kernel.Open(r.taskDir(b.ID), os.O_RDONLY)
	if err != nil {
		return err
	}
	l.files = append(l.files, dirFile)
	listener, err := kernel.ListenUnix(dirFile, "shim.sock")
	if err != nil {
		return err
	}
	l.files = append(l.files, listener)
	own := []*os.File{listener, dirFile}
	if b.Log.Path != "" {
		logDir, err := kernel.Open(filepath.Dir(b.Log.Path), os.O_RDONLY)
		if err != nil {
			return fmt.Errorf("log: %v: %w", err, errdefs.ErrInvalid)
		}
		l.files = append(l.files, logDir)
		own = append(own, logDir)
		header.Flags |= wire.HasLog
		header.LogName, header.LogMaxBytes, header.LogMaxFiles = filepath.Base(b.Log.Path), uint64(b.Log.MaxBytes), uint32(b.Log.MaxFiles)
	}
	header.ID = b.ID
	program, programFDs := l.b.Program()
	fds := make([]int, 0, len(own)+len(shimFiles)+len(programFDs))
	for _, f := range slices.Concat(own, shimFiles) {
		fds = append(fds, int(f.Fd()))
	}
	fds = append(fds, programFDs...)
	if len(fds) > wire.MaxDescriptors {
		return fmt.Errorf("%d mounts and devices are too many: %w", len(fds), errdefs.ErrInvalid)
	}
	// Connected before the process exists, they wait in the socket's queue.
	for _, a := range b.Attach {
		if err := a.connect(r.taskDir(b.ID)); err != nil {
			return err
		}
	}
	shim, err := r.shims.take(ctx)
	if err != nil {
		return err
	}
	result, pidfd, err := launchCall(ctx, shim.conn, wire.Launch, append(header.Append(nil), program...), fds)
	if err == nil && result.Errno != 0 {
		err = l.failure(l.spec.Process, int(result.Step), syscall.Errno(result.Errno), notesOf(result))
	}
	if err != nil {
		// It may hang in the child's stead, on a file system that does not answer. What it has
		// forked is in the container's cgroup.
		shim.kill()
		return err
	}
	l.warnings = append(l.warnings, l.noteWarnings(result)...)
	t.started(int(result.PID), pidfd)
	t.begin(shim)
	r.mu.Lock()
	r.tasks[b.ID] = t
	r.mu.Unlock()
	for _, a := range b.Attach {
		if err := a.accepted(ctx); err != nil {
			a.fail(err)
			continue
		}
		a.begin()
	}
	return nil
}

// launchCall sends a program and returns what became of it, with the process's pidfd. It has the connection to itself; if ctx ends it closes it.
func launchCall(ctx context.Context, c *conn, t wire.Type, payload []byte, fds []int) (wire.LaunchResult, *os.File, error) {
	stop := context.AfterFunc(ctx, func() { c.net.Close() })
	defer stop()
	if err := c.send(t, 0, payload, fds...); err != nil {
		return wire.LaunchResult{}, nil, err
	}
	m, err := c.receive(nil)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return wire.LaunchResult{}, nil, fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	return launchResult(m)
}

func launchResult(m message) (wire.LaunchResult, *os.File, error) {
	r, err := wire.ParseLaunchResult(m.payload)
	if err != nil || m.Type != wire.Started && m.Type != wire.Failed {
		m.close()
		return r, nil, fmt.Errorf("shim: message %d instead of a result: %w", m.Type, errdefs.ErrUnavailable)
	}
	if m.Type == wire.Failed {
		m.close()
		if r.Errno == 0 {
			r.Errno = uint32(syscall.EIO)
		}
		return r, nil, nil
	}
	r.Errno = 0
	if len(m.files) != 1 {
		m.close()
		return r, nil, fmt.Errorf("shim: no pidfd: %w", errdefs.ErrUnavailable)
	}
	return r, m.files[0], nil
}

func notesOf(r wire.LaunchResult) map[int]syscall.Errno {
	notes := map[int]syscall.Errno{}
	for _, n := range r.Notes {
		notes[int(n.Step)] = syscall.Errno(n.Errno)
	}
	return notes
}

// noteWarnings are the tolerated failures, but for directories of PATH that lacked the command.
func (l *launch) noteWarnings(r wire.LaunchResult) []string {
	var out []string
	for _, n := range r.Notes {
		if !slices.Contains(l.execs, int(n.Step)) {
			out = append(out, fmt.Sprintf("%s: %v", l.b.Explain(int(n.Step)), syscall.Errno(n.Errno)))
		}
	}
	return out
}

// checkBundle refuses what is malformed or unsupported and returns a copy of the specification to work on.
func checkBundle(b Bundle) (*specs.Spec, error) {
	if err := checkID(b.ID); err != nil {
		return nil, err
	}
	if b.Spec == nil || b.Spec.Process == nil || b.Spec.Linux == nil {
		return nil, fmt.Errorf("specification: no process or linux section: %w", errdefs.ErrInvalid)
	}
	if b.Runtime != "" && b.IgnoreCgroups {
		return nil, fmt.Errorf("a container of runtime %s without a cgroup: %w", b.Runtime, errdefs.ErrUnsupported)
	}
	if b.Spec.Hooks != nil && b.Runtime == "" || b.Spec.Linux.IntelRdt != nil || b.Spec.Linux.Personality != nil || len(b.Spec.Linux.TimeOffsets) > 0 {
		return nil, fmt.Errorf("specification: hooks, RDT, personality or time offsets: %w", errdefs.ErrUnsupported)
	}
	spec, process, linux := *b.Spec, *b.Spec.Process, *b.Spec.Linux
	spec.Process, spec.Linux = &process, &linux
	return &spec, nil
}

// cgroupFor names the container's cgroup and completes the device rules.
func (r *Runtime) cgroupFor(b Bundle, s *specs.Spec) *cgroup {
	if b.IgnoreCgroups {
		return nil
	}
	var res specs.LinuxResources
	if s.Linux.Resources != nil {
		res = *s.Linux.Resources
	}
	if res.Devices == nil && needsDeviceRules(s) {
		res.Devices = DefaultDeviceRules()
	}
	s.Linux.Resources = &res
	parent := r.cg.parent
	if p := foreignParent(s, r.cg.parent); p != "" {
		parent = p
	}
	if b.Runtime != "" {
		s.Linux.CgroupsPath = filepath.Join(parent, b.ID)
		return r.cg.everywhere(s.Linux.CgroupsPath)
	}
	return r.cg.newCgroup(filepath.Join(parent, b.ID), &res, res.Devices != nil)
}

// foreignParent is the cgroup below which s wants to be, if that is not ours.
func foreignParent(s *specs.Spec, ours string) string {
	if s.Linux.CgroupsPath == "" {
		return ""
	}
	if parent := filepath.Dir(filepath.Clean("/" + s.Linux.CgroupsPath)); parent != ours && parent != "/" {
		return parent
	}
	return ""
}

// needsDeviceRules: without a user namespace CAP_MKNOD makes any device of the host's. Who has CAP_SYS_ADMIN there as well is
// the host's root anyway.
func needsDeviceRules(s *specs.Spec) bool {
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.UserNamespace {
			return false
		}
	}
	caps := s.Process.Capabilities
	return caps == nil || !slices.Contains(caps.Bounding, "CAP_SYS_ADMIN")
}

// closeLater closes a file whose closing takes its time, while nobody waits.
func (r *Runtime) closeLater(f *os.File) { r.serving.Go(func() { f.Close() }) }

// openRootfs mounts the root file system, detached. What it has no use for afterwards is closed by closing, or at once if that
// is nil.
func openRootfs(b Bundle, s *specs.Spec, ns *namespaces, closing func(*os.File)) (*os.File, error) {
	if len(b.Rootfs.Lowers) > 0 {
		// Device nodes in a layer are of no use (/dev is a mount of its own) and must not be one's.
		f, err := kernel.MountOverlay(kernel.OverlayOptions{
			Lowers: b.Rootfs.Lowers, Top: b.Rootfs.Top, Upper: b.Rootfs.Upper, Work: b.Rootfs.Work, IDMap: ns.userFD(), Attrs: kernel.AttrNoDev,
			Close: closing,
		})
		if err != nil {
			return nil, fmt.Errorf("root file system: %w", err)
		}
		return f, nil
	}
	if s.Root == nil || s.Root.Path == "" {
		return nil, fmt.Errorf("no root file system: %w", errdefs.ErrInvalid)
	}
	f, err := kernel.Bind(kernel.AtCwd, s.Root.Path, kernel.BindOptions{
		Recursive: true, SetAll: kernel.AttrNoDev, Propagation: kernel.PropagatePrivate, IDMap: ns.userFD(),
	})
	if err != nil {
		return nil, fmt.Errorf("root file system: %v: %w", err, errdefs.ErrInvalid)
	}
	return f, nil
}

// streams makes the process's standard streams: its ends in l, the shim's returned in
// the order of the protocol.
func (l *launch) streams(terminal, stdin bool) (shim []*os.File, h wire.LaunchHeader, err error) {
	if l.oci != nil {
		h.Flags |= wire.Made
	}
	if terminal {
		ours, theirs, err := l.consoleSocket()
		if err != nil {
			return nil, h, err
		}
		l.console = theirs
		h.Flags |= wire.TTY
		if stdin {
			h.Flags |= wire.HasStdin
		}
		return []*os.File{ours}, h, nil
	}
	for i := 1; i <= 2; i++ {
		r, w, err := kernel.Pipe()
		if err != nil {
			return nil, h, err
		}
		l.files = append(l.files, r, w)
		l.stdio[i] = w
		shim = append(shim, r)
	}
	if stdin {
		r, w, err := kernel.Pipe()
		if err != nil {
			return nil, h, err
		}
		l.files = append(l.files, r, w)
		l.stdio[0], l.stdinPipe = r, true
		h.Flags |= wire.HasStdin
		return append(shim, w), h, nil
	}
	null, err := kernel.Open(os.DevNull, os.O_RDONLY)
	if err != nil {
		return nil, h, err
	}
	l.files = append(l.files, null)
	l.stdio[0] = null
	return shim, h, nil
}

// consoleSocket is what a terminal's master is sent through: the shim's end, and the process's. An OCI runtime
// connects to a path instead, and there is only the socket that listens.
func (l *launch) consoleSocket() (ours, theirs *os.File, err error) {
	if l.oci == nil {
		if ours, theirs, err = kernel.SocketPair(); err != nil {
			return nil, nil, err
		}
		l.files = append(l.files, ours, theirs)
		return ours, theirs, nil
	}
	dir, err := kernel.Open(l.oci.dir, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	if ours, err = kernel.ListenUnix(dir, l.oci.prefix+"console.sock"); err != nil {
		return nil, nil, err
	}
	l.files = append(l.files, ours)
	return ours, ours, nil
}

const recordVersion = 1

// record is task.json: what an agent needs to adopt a container.
type record struct {
	Version     int
	ID          string
	BootID      string
	Cgroup      *cgroup `json:",omitempty"`
	Process     *specs.Process
	Linux       *specs.Linux
	Annotations map[string]string `json:",omitempty"`
	OpenStdin   bool              `json:",omitempty"`
	// OCI is the container's runtime if that is not ours.
	OCI *ociRecord `json:",omitempty"`
}

// recordedLinux is the part that execs need.
func recordedLinux(s *specs.Spec) *specs.Linux {
	return &specs.Linux{
		Namespaces: s.Linux.Namespaces, UIDMappings: s.Linux.UIDMappings, GIDMappings: s.Linux.GIDMappings, Seccomp: s.Linux.Seccomp,
	}
}

// write needs no fsync: after a crash of the host the container is gone as well.
func (r record) write(dir string) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := kernel.WriteFile(dir+"/task.json", b, os.O_CREATE|os.O_TRUNC); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}
