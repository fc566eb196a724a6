package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// Files of removed containers are renamed to the trash and deleted in the background: a
// million of them may take minutes. The namespaces go with them: to unmount a pin waits for an RCU
// grace period. A container's id range is given back after that, since
// its files and its user namespace have ids of it; until then it tells the next engine that something is left.
//
// Before that comes the disk: as long as a power cut may undo a removal, the files must be those of the container. Who removes
// does not wait for the disk, and removals close to each other share one write of it.

// trashDelay is how long a removal may wait for company on its way to the disk.
const trashDelay = 20 * time.Millisecond

// trashGrace is how long Close waits for it.
const trashGrace = 5 * time.Second

func (e *Engine) trashDir() string { return filepath.Join(e.opts.Root, "trash") }

// discard moves a container's directory to the trash. Nil means that it is not in its place.
func (e *Engine) discard(dir, id string) error {
	err := os.Rename(dir, filepath.Join(e.trashDir(), id))
	switch {
	case err == nil, errors.Is(err, os.ErrNotExist):
		return nil
	case !errors.Is(err, os.ErrExist):
		return err
	}
	// The trash still has an earlier container of that ID.
	return os.RemoveAll(dir)
}

// emptyTrash deletes what is in the trash of a container and its namespaces once its removal is on the disk, and
// then frees its id range.
func (e *Engine) emptyTrash(id string) {
	removed := e.db.Barrier()
	e.spawn("trash", id, func(closing context.Context) {
		select {
		case <-time.After(trashDelay):
		case <-closing.Done():
		}
		if err := removed(); err != nil {
			e.log.Error("a container's removal is not on the disk; its files stay until the next start", "container_id", id, "error", err)
			return
		}
		// Close lets it come to its end, if that is near.
		ctx, cancel := context.WithCancel(context.WithoutCancel(closing))
		defer cancel()
		defer context.AfterFunc(closing, func() { time.AfterFunc(trashGrace, cancel) })()
		// The lock keeps a new container of the same ID, and with it the range, out.
		unlock, err := e.locks.lock(ctx, id)
		if err != nil {
			return // the next Open does it
		}
		defer unlock()
		if err := e.dispose(ctx, filepath.Join(e.trashDir(), id), id); err != nil {
			e.log.Error("deleting the files of a removed container", "container_id", id, "error", err)
			return
		}
		e.step("trash.files", id)
		e.mu.RLock()
		again := e.containers[id] != nil || e.sharersLocked(id)
		e.mu.RUnlock()
		if again {
			return // the last one that has the range gives it back
		}
		if err := kernel.RemoveNamespaces(e.nsDir(id)); err != nil {
			e.log.Error("removing the namespaces of a removed container", "container_id", id, "error", err)
			return
		}
		e.step("trash.namespaces", id)
		if err := e.db.UpdateLazy(func(tx *store.Tx) error { return tx.ReleaseRange(id) }); err != nil {
			e.log.Error("freeing the id range of a removed container", "container_id", id, "error", err)
		}
	})
}

// dispose deletes the directory of a removed container, or what a frame has no use for.
func (e *Engine) dispose(ctx context.Context, dir, id string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range list {
		if isFrame(entry.Name()) {
			continue
		}
		if err := removeTree(ctx, filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	if e.keepFrame(dir, id) == nil {
		return nil
	}
	return removeTree(ctx, dir)
}

// removeTree is os.RemoveAll that stops between two entries of the first levels when ctx ends.
func removeTree(ctx context.Context, dir string) error {
	const levels = 4
	var walk func(dir string, level int) error
	walk = func(dir string, level int) error {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
		list, err := os.ReadDir(dir)
		if level == 0 || err != nil {
			return os.RemoveAll(dir)
		}
		for _, entry := range list {
			path := filepath.Join(dir, entry.Name())
			if entry.IsDir() {
				err = walk(path, level-1)
			} else {
				err = os.Remove(path)
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			return os.RemoveAll(dir)
		}
		return nil
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return walk(dir, levels)
}

// discarded tells whether a container's files are in the trash: a power cut has undone what was recorded after that.
func (e *Engine) discarded(id string) bool {
	_, err := os.Lstat(e.containerDir(id))
	_, trashErr := os.Lstat(filepath.Join(e.trashDir(), id))
	return errors.Is(err, os.ErrNotExist) && trashErr == nil
}

// reconcileTrash goes on with what an earlier engine left in the trash, and frees ranges whose
// container is gone.
func (e *Engine) reconcileTrash() error {
	ranges, err := e.db.Ranges()
	if err != nil {
		return err
	}
	ids := map[string]bool{}
	for _, id := range entries(e.trashDir()) {
		ids[id] = true
	}
	for id := range ranges {
		if e.containers[id] == nil {
			ids[id] = true
		}
	}
	for id := range ids {
		e.emptyTrash(id)
	}
	return nil
}
