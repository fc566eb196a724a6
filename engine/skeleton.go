package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The skeleton is the lowest layer of every container: the mount points that its mounts need. What
// an image has shows instead. Without it each start would make them in the writable
// layer, where they are slow to make and to delete, and turn up in what is exported and committed.

// skeletonDirs are in the skeleton, besides etc with etcFiles.
var skeletonDirs = []string{"dev", "etc", "proc", "sys"}

func (e *Engine) skeletonDir() string { return filepath.Join(e.opts.Root, "skeleton") }

// makeSkeleton makes what is missing of it.
func (e *Engine) makeSkeleton() error {
	for _, name := range skeletonDirs {
		dir := filepath.Join(e.skeletonDir(), name)
		// Whatever the umask is: this is what the container sees.
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
		}
	}
	for _, name := range etcFiles {
		f, err := os.OpenFile(filepath.Join(e.skeletonDir(), "etc", name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err == nil {
			err = errors.Join(f.Chmod(0o644), f.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
		}
	}
	return nil
}
