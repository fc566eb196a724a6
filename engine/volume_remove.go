package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// RemoveVolume deletes a volume and its files.
//
// ErrNotFound; ErrConflict: a container has it, running or not.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	unlock, err := e.lockVolume(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := e.Volume(name); err != nil {
		return err
	}
	// A container's Mounts are seen before it takes the volume's lock to make sure that the
	// volume is there: either it is seen here, or it makes the volume anew.
	if users := e.VolumeUsers(name); len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use - [%s]: %w", name, strings.Join(users, ", "), errdefs.ErrConflict)
	}
	return e.removeVolume(name)
}

// PruneVolumes removes the volumes that no container has and keep does not want, and returns their names and
// the disk space they took.
func (e *Engine) PruneVolumes(ctx context.Context, keep func(Volume) bool) (names []string, bytes int64, err error) {
	for _, v := range e.Volumes() {
		if keep(v) || len(e.VolumeUsers(v.Name)) > 0 {
			continue
		}
		size, err := e.VolumeBytes(ctx, v.Name)
		if err == nil {
			err = e.RemoveVolume(ctx, v.Name)
		}
		switch {
		case err == nil:
			names, bytes = append(names, v.Name), bytes+max(0, size)
		case errors.Is(err, errdefs.ErrNotFound), errors.Is(err, errdefs.ErrConflict): // somebody was faster
		default:
			return names, bytes, err
		}
	}
	return names, bytes, nil
}

// purgeVolumes removes rec's anonymous volumes, but for those that another container has.
func (e *Engine) purgeVolumes(ctx context.Context, rec *Container) error {
	for _, m := range rec.Mounts {
		if m.Type != MountVolume || !m.Volume.Anonymous {
			continue
		}
		if err := e.purgeVolume(ctx, m.Source, rec.ID); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) purgeVolume(ctx context.Context, name, user string) error {
	unlock, err := e.volumeLocks.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if slices.ContainsFunc(e.VolumeUsers(name), func(id string) bool { return id != user }) {
		return nil
	}
	return e.removeVolume(name)
}

// removeVolume makes sure that there is no such volume. The record goes first: Open deletes a directory that
// has none, while a record without its directory would become an empty volume. The
// caller holds the volume's lock.
func (e *Engine) removeVolume(name string) error {
	v, err := e.Volume(name)
	if err != nil {
		return nil
	}
	if v.Driver != "" {
		if err := e.callVolumePlugin(e.ctx, v.Driver, "Remove", volumeCall{Name: name}, nil); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
	}
	return e.forgetVolume(name)
}

// ForgetVolume is RemoveVolume for a volume whose plug-in is gone, or does not have it any more.
func (e *Engine) ForgetVolume(ctx context.Context, name string) error {
	unlock, err := e.lockVolume(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if users := e.VolumeUsers(name); len(users) > 0 {
		return fmt.Errorf("remove %s: volume is in use - [%s]: %w", name, strings.Join(users, ", "), errdefs.ErrConflict)
	}
	return e.forgetVolume(name)
}

// forgetVolume deletes the record and what is here of the volume. The caller holds the volume's lock.
func (e *Engine) forgetVolume(name string) error {
	driver := e.driverOf(name)
	if err := store.Delete(e.db, kindVolume, name); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	e.mu.Lock()
	delete(e.volumes, name)
	e.mu.Unlock()
	e.step("volume.forgotten", name)
	err := e.deleteVolumeDir(name)
	e.events.emit(Event{Time: time.Now(), Kind: KindVolume, Action: ActionDestroy, Volume: name, Driver: driver})
	if err != nil {
		return fmt.Errorf("remove %s: its files: %w", name, err)
	}
	return nil
}

// deleteVolumeDir deletes what is in ROOT/volumes by that name. Nil means that nothing is.
func (e *Engine) deleteVolumeDir(name string) error {
	dir := e.volumeDir(name)
	// Before anything is deleted: below a mount would be somebody else's files.
	if err := kernel.Unmount(e.VolumePath(name)); err != nil {
		return err
	}
	gone := filepath.Join(e.volumesDir(), hiddenVolume+NewID())
	err := os.Rename(dir, gone)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(gone)
}
