package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// fillDir is beside _data what becomes it when it is whole.
const fillDir = "_new"

// fill gives an empty volume what the image has at m's target, and its owner and mode. top is what the
// container will see of the volume. The caller holds the volume's lock.
func (e *Engine) fill(ctx context.Context, rec *Container, v *Volume, m Mount, top *os.File, view *imageView) error {
	dst, err := kernel.OpenInRoot(top, ".", syscall.O_RDONLY|syscall.O_DIRECTORY)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil // the subpath is a file
	}
	if err != nil {
		return fmt.Errorf("volume %s: %w", v.Name, err)
	}
	defer dst.Close()
	if _, err := dst.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err // it has something
	}
	src, err := view.open(ctx, m.Target)
	if err != nil || src == nil {
		return err
	}
	defer src.Close()
	// A volume that nobody else may have mounted is exchanged as a whole, so that a crash leaves it
	// empty or full. No other container can come to have it before its lock is free.
	others := len(e.VolumeUsers(v.Name)) > 1
	if others || len(v.Options) > 0 || m.Volume.Subpath != "" {
		_, err = kernel.CopyTree(ctx, src, dst)
	} else {
		err = e.fillBeside(ctx, v, src)
	}
	if err != nil {
		return fmt.Errorf("volume %s: copy what the image has at %s: %w", v.Name, m.Target, fileError(err))
	}
	return nil
}

func (e *Engine) fillBeside(ctx context.Context, v *Volume, src *os.File) (err error) {
	beside := filepath.Join(e.volumeDir(v.Name), fillDir)
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(beside))
		}
	}()
	if err := os.Mkdir(beside, 0o700); err != nil {
		return err
	}
	dst, err := os.Open(beside)
	if err != nil {
		return err
	}
	defer dst.Close()
	files, err := kernel.CopyTree(ctx, src, dst)
	if err != nil {
		return err
	}
	if files {
		// A rename can reach the disk before what the files contain.
		if err := kernel.SyncFS(beside); err != nil {
			return err
		}
	}
	// Not os.Rename, which refuses to replace a directory. The kernel does, if it is empty.
	return syscall.Rename(beside, e.VolumePath(v.Name))
}

// imageView is the root file system that a container that was never started would see, mounted
// nowhere and read-only when the first volume needs it.
type imageView struct {
	engine *Engine
	rec    *Container
	root   *os.File
}

func (v *imageView) close() {
	if v.root != nil {
		v.root.Close()
	}
}

// open opens the directory target, or returns nil if there is none. Links of the image are followed
// as in the container: nothing outside of it can be reached.
func (v *imageView) open(ctx context.Context, target string) (*os.File, error) {
	if v.root == nil {
		lowers, err := v.engine.lowers(ctx, v.rec)
		if err != nil {
			return nil, err
		}
		// The upper directory is empty yet. An overlay without one that is written to needs two.
		lowers = append([]string{v.engine.rootfs(v.rec, nil).Upper}, lowers...)
		v.root, err = kernel.MountOverlay(kernel.OverlayOptions{
			Lowers: lowers, IDMap: -1, Attrs: kernel.AttrReadOnly | kernel.AttrNoDev | kernel.AttrNoSuid | kernel.AttrNoExec,
		})
		if err != nil {
			return nil, fmt.Errorf("image: %w", err)
		}
	}
	dir, err := kernel.OpenInRoot(v.root, target, syscall.O_RDONLY|syscall.O_DIRECTORY)
	switch {
	case err == nil:
		return dir, nil
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ELOOP):
		return nil, fmt.Errorf("cannot mount volume over existing file, file exists %s: %w", printable(target), errdefs.ErrInvalid)
	}
	return nil, fmt.Errorf("image: %w", err)
}
