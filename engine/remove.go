package engine

import (
	"context"
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/engine/store"
)

// RemoveOptions say how to remove.
type RemoveOptions struct {
	// Force kills the container first if it runs.
	Force bool
	// Volumes takes its anonymous volumes along, but for those that another container has.
	Volumes bool
}

// Remove takes a container away with everything it had: process, endpoints,
// namespaces, files, id range, record. If a step fails the container stays, in state
// Removing, and Remove may be called again. A power cut in the first milliseconds after it may bring the
// container back as it was, or have the next engine complete the removal; see emptyTrash.
//
// ErrConflict: it runs, and Force was not asked for.
func (e *Engine) Remove(ctx context.Context, ref string, o RemoveOptions) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	rec := e.record(t)
	switch {
	case rec.State == Restarting && o.Force:
		e.observe(t, Stopped, lazy, func(c *Container) { c.StoppedByUser = true })
	case rec.State == Paused && !o.Force:
		return fmt.Errorf("cannot remove container %q: container is paused and must be unpaused first: %w", "/"+rec.Spec.Name, errdefs.ErrConflict)
	case rec.State == Restarting, rec.State.Live() && !o.Force:
		return fmt.Errorf("cannot remove container %q: container is %s: stop the container before removing or force remove: %w",
			"/"+rec.Spec.Name, rec.State, errdefs.ErrConflict)
	case rec.State.Live():
		if err := e.endNow(ctx, t); err != nil {
			return err
		}
	}
	if err := e.move(t, Removing, lazy, func(c *Container) {
		c.Error, c.RemoveVolumes = "", c.RemoveVolumes || o.Volumes
	}); err != nil {
		return err
	}
	e.step("remove.recorded", t.id)
	if err := e.purge(ctx, t); err != nil {
		err = fmt.Errorf("remove container %s: %w", rec.Spec.Name, err)
		return errors.Join(err, e.amend(t, lazy, func(c *Container) { c.Error = err.Error() }))
	}
	e.emit(t, ActionDestroy, nil)
	return nil
}

// endNow kills t's processes and records the exit. The caller holds t's lock.
func (e *Engine) endNow(ctx context.Context, t *tracked) error {
	if err := e.amend(t, lazy, func(c *Container) { c.StoppedByUser = true }); err != nil {
		return err
	}
	task := t.task
	if task == nil { // purge kills what its cgroup holds
		e.lost(t)
		return nil
	}
	if err := task.KillAll(ctx); err != nil {
		return fmt.Errorf("container %s: kill: %w", short(t.id), err)
	}
	wait, cancel := context.WithTimeout(ctx, undoTimeout)
	defer cancel()
	select {
	case <-task.Done():
	case <-wait.Done():
		return fmt.Errorf("container %s: a process of it does not die: %w", short(t.id), errdefs.ErrUnavailable)
	}
	e.reap(ctx, t, task) // whatever it wants done afterwards is being done
	return nil
}

// purge undoes build, however far it came. The caller holds t's lock. Nil means
// that nothing of the container is left, but for what emptyTrash deletes.
func (e *Engine) purge(ctx context.Context, t *tracked) error {
	e.dropWaiting(t)
	e.endAccesses(t, 0)
	e.endLog(t, forwardGrace)
	t.prepared = false
	if err := e.purgeProcess(ctx, t); err != nil {
		return err
	}
	if err := e.unmountPlugins(ctx, t); err != nil {
		// A plug-in that is gone for good must not keep the container.
		e.log.Error("taking back the volumes of a container that is removed", "container_id", t.id, "error", err)
	}
	e.step("remove.process", t.id)
	if err := e.purgeNetwork(ctx, t); err != nil {
		return err
	}
	if err := e.purgeFiles(ctx, t.id); err != nil {
		return err
	}
	if rec := e.record(t); rec.RemoveVolumes || rec.State == Creating {
		if err := e.purgeVolumes(ctx, rec); err != nil {
			return err
		}
	}
	e.step("remove.volumes", t.id)
	// Its id range stays taken until the files are gone.
	if err := store.DeleteLazy(e.db, kindContainer, t.id); err != nil {
		return err
	}
	e.emptyTrash(t.id)
	e.images.Release(t.id)
	e.mu.Lock()
	delete(e.containers, t.id)
	if e.names[t.rec.Spec.Name] == t.id {
		delete(e.names, t.rec.Spec.Name)
	}
	t.gone = true
	if t.rec.Spec.AutoRemove && t.exits > 0 {
		e.departLocked(t)
	}
	close(t.changed)
	t.changed = make(chan struct{})
	e.mu.Unlock()
	if t.rec.IDsOf != "" {
		e.emptyTrash(t.rec.IDsOf) // it may have waited for this one
	}
	e.step("remove.done", t.id)
	return nil
}

func (e *Engine) purgeProcess(ctx context.Context, t *tracked) error {
	if t.task != nil {
		if err := t.task.Delete(ctx); err != nil {
			return fmt.Errorf("process: %w", err)
		}
		t.task = nil
	}
	if t.traces {
		if err := e.runtime.Remove(ctx, t.id); err != nil {
			return fmt.Errorf("process: %w", err)
		}
		t.traces = false
	}
	e.dropExecs(t.id)
	return nil
}

func (e *Engine) purgeNetwork(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	if err := e.leave(ctx, t); err != nil {
		return err
	}
	if len(rec.Spec.Endpoints) > 0 {
		if err := e.network.Unplug(ctx, e.netPath(t.id), rec.Spec.Endpoints); err != nil {
			return err
		}
	}
	e.step("remove.network", rec.ID)
	return nil
}

func (e *Engine) purgeFiles(ctx context.Context, id string) error {
	dir := e.containerDir(id)
	if err := e.purgeQuota(ctx, dir); err != nil {
		return fmt.Errorf("disk quota: %w", err)
	}
	if err := e.discard(dir, id); err != nil {
		return fmt.Errorf("files: %w", err)
	}
	e.step("remove.files", id)
	return nil
}
