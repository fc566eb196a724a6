package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/opencontainers/go-digest"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// prepare makes everything t needs besides its process, or what is missing of
// it: after a reboot that is all there is of it in the kernel. The caller holds t's lock.
func (e *Engine) prepare(ctx context.Context, t *tracked, fresh bool) error {
	rec := e.record(t)
	files := func() error {
		if err := e.prepareFiles(ctx, t, fresh); err != nil {
			return err
		}
		e.step("create.files", t.id)
		return nil
	}
	network := func() error { return e.prepareNetwork(ctx, t) }
	if t.spare != nil && len(rec.Spec.Endpoints) == 0 {
		// What there is to do takes less time than another thread takes to wake up.
		if err := errors.Join(files(), network()); err != nil {
			return err
		}
	} else if err := both(files, network); err != nil {
		return err
	}
	if rec.BootID != e.bootID {
		if err := e.amend(t, lazy, func(c *Container) { c.BootID = e.bootID }); err != nil {
			return err
		}
	}
	t.prepared = true
	return nil
}

// both runs f beside g. A panic in either is an error.
func both(f, g func() error) error {
	done := make(chan error, 1)
	go func() { done <- guarded(f) }()
	return errors.Join(guarded(g), <-done)
}

func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}

// prepareNetwork makes the namespaces and plugs the endpoints.
func (e *Engine) prepareNetwork(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	dir := e.nsDir(rec.ID)
	ready := t.spare != nil
	_, shared := rec.Spec.NetworkMode.Shared()
	switch {
	case shared:
		return nil
	case rec.IDsOf != "" && rec.Spec.NetworkMode != NetworkHost:
		if err := e.prepareShared(rec); err != nil {
			return err
		}
	case ready:
		if err := kernel.PinNamespaces(dir, t.spare.user, t.spare.net); err != nil {
			return err
		}
	case !rec.IDs.IsZero():
		if err := kernel.CreateNamespaces(dir, idMap(rec.IDs)); err != nil {
			return fmt.Errorf("namespaces: %w", err)
		}
	case rec.Spec.NetworkMode != NetworkHost:
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("namespaces: %w", err)
		}
		if _, err := e.network.NewNamespace(e.netPath(rec.ID)); err != nil {
			return err
		}
	default:
		return nil
	}
	e.step("create.namespaces", rec.ID)
	var err error
	switch path := e.netPath(rec.ID); {
	case rec.Spec.NetworkMode == NetworkEndpoints && len(rec.Spec.Endpoints) > 0:
		err = e.network.Plug(ctx, path, rec.Spec.Endpoints)
	case !ready:
		err = kernel.LoopbackUp(path) // what join adds comes with the start
	}
	if err != nil {
		return err
	}
	e.step("create.network", rec.ID)
	return nil
}

// prepareFiles makes the container's directory. Fresh means that nothing is there yet.
func (e *Engine) prepareFiles(ctx context.Context, t *tracked, fresh bool) error {
	rec := e.record(t)
	dir := e.containerDir(rec.ID)
	if fresh {
		e.takeFrame(dir)
	}
	if err := mkdirs(dir, filepath.Join(dir, logDir)); err != nil {
		return err
	}
	layer := dir
	if rec.Spec.Resources.DiskBytes > 0 {
		kind, err := e.prepareQuota(ctx, rec)
		if err != nil {
			return fmt.Errorf("disk quota: %w", err)
		}
		if kind != rec.Quota {
			if err := e.amend(t, lazy, func(c *Container) { c.Quota = kind }); err != nil {
				return err
			}
			rec = e.record(t)
		}
		layer = diskDir(dir)
	}
	if err := mkdirs(filepath.Join(layer, "work")); err != nil {
		return err
	}
	if err := e.makeUpper(ctx, rec, filepath.Join(layer, "upper")); err != nil {
		return err
	}
	if err := e.writeEtc(rec, dir); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return writeRecord(dir, rec)
}

// makeUpper makes the top of the overlay. The root directory the container sees is this one,
// so it gets its owner and the mode of the image's.
func (e *Engine) makeUpper(ctx context.Context, rec *Container, upper string) error {
	if _, err := os.Lstat(upper); err == nil {
		return nil
	}
	lowers, err := e.lowers(ctx, rec)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o755)
	if len(lowers) > 0 {
		info, err := os.Stat(lowers[0])
		if err != nil {
			return fmt.Errorf("image %s: %v: %w", rec.ImageDigest, err, errdefs.ErrUnavailable)
		}
		mode = info.Mode().Perm() | info.Mode()&os.ModeSticky
	}
	// Beside and renamed, so that a crash leaves none with the wrong owner.
	half := upper + ".new"
	if err := mkdirs(half); err != nil {
		return err
	}
	err = errors.Join(os.Chown(half, int(rec.IDs.Start), int(rec.IDs.Start)), os.Chmod(half, mode))
	if err == nil {
		err = os.Rename(half, upper)
	}
	if err != nil {
		return fmt.Errorf("writable layer: %w", err)
	}
	return nil
}

// lowers are the read-only layers, top first.
func (e *Engine) lowers(ctx context.Context, rec *Container) ([]string, error) {
	if rec.Spec.Rootfs != "" {
		return []string{rec.Spec.Rootfs}, nil
	}
	return e.images.Lowers(ctx, digestOf(rec.ImageDigest))
}

// digestOf is d as a digest; it was one when it was recorded.
func digestOf(d string) digest.Digest { return digest.Digest(d) }

func mkdirs(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("container directory: %w", fileError(err))
		}
	}
	return nil
}

const (
	// recordFile holds the copy of a record from which a lost database is rebuilt.
	recordFile = "record.json"
	recordMode = 0o600
	// logDir holds the container's output.
	logDir = "log"
)

func writeRecord(dir string, rec *Container) error {
	data, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("copy of the record: %w", err)
	}
	return writeFile(filepath.Join(dir, recordFile), data, recordMode, store.Range{})
}

// writeFile writes a file whose loss in a power cut does no harm, owned by the root of r. Over a file of the same length it
// writes in place, which is the fastest.
func writeFile(path string, data []byte, mode os.FileMode, r store.Range) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, mode)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Truncate(int64(len(data))))
		if !r.IsZero() {
			err = errors.Join(err, f.Chown(int(r.Start), int(r.Start)))
		}
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return fmt.Errorf("container directory: %w", fileError(err))
	}
	return nil
}
