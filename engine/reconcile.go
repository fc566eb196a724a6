package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
	"novaagent/engine/store"
)

// settlers is how many containers are settled at a time as the engine opens.
const settlers = 8

// reconcile makes records and kernel agree as the engine opens: it completes what a crash
// interrupted, adopts what runs, and removes what has no record.
func (e *Engine) reconcile(ctx context.Context) error {
	records, err := store.List[*Container](e.db, kindContainer)
	unreadable := err != nil
	if unreadable {
		if records == nil {
			return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
		}
		e.log.Error("records of containers cannot be read; what belongs to them is left alone", "error", err)
	}
	if e.db.Quarantined() != "" {
		e.rebuild(records)
		unreadable = true
	}
	if err := e.reconcileVolumes(); err != nil {
		return err
	}
	if err := e.loadNetworks(); err != nil {
		return err
	}
	var all []*tracked
	for id, rec := range records {
		rec.ID = id
		if rec.Mounts == nil { // made before there were volumes
			rec.Mounts = rec.Spec.Mounts
		}
		t := newTracked(rec)
		e.restoreJoins(t)
		e.containers[id] = t
		e.names[rec.Spec.Name] = id
		all = append(all, t)
	}
	e.settleAll(ctx, all)
	e.openNetworks(ctx)
	// A crash may have come between the end of the bridge's last container and that of the bridge.
	if err := e.closeBridge(ctx); err != nil {
		e.log.Error("removing the bridge network", "error", err)
	}
	if unreadable {
		e.log.Warn("strays are not looked for, since not every container has a record")
	} else if err := e.removeStrays(ctx); err != nil {
		e.log.Error("removing strays", "error", err)
	}
	return nil
}

func (e *Engine) settleAll(ctx context.Context, all []*tracked) {
	var wg sync.WaitGroup
	queue := make(chan *tracked)
	for range min(settlers, len(all)) {
		wg.Go(func() {
			for t := range queue {
				err := guarded(func() error { return e.settle(ctx, t) })
				if err != nil {
					e.log.Error("settling a container", "container_id", t.id, "error", err)
				}
			}
		})
	}
	for _, t := range all {
		queue <- t
	}
	close(queue)
	wg.Wait()
}

// settle brings one container's record and the kernel together.
func (e *Engine) settle(ctx context.Context, t *tracked) error {
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.record(t)
	if rec.State == Creating || rec.State == Removing || e.discarded(t.id) {
		e.log.Info("removing a container that a crash interrupted", "container_id", t.id, "state", rec.State)
		if rec.State.Live() || rec.State == Restarting {
			e.lost(t)
		}
		if rec.State != Removing {
			if err := e.move(t, Removing, lazy, func(c *Container) { c.RemoveVolumes = rec.State == Creating }); err != nil {
				return err
			}
		}
		if err := e.purge(ctx, t); err != nil {
			return errors.Join(err, e.amend(t, lazy, func(c *Container) { c.Error = err.Error() }))
		}
		return nil
	}
	if rec.ImageDigest != "" {
		if err := e.images.Use(digestOf(rec.ImageDigest), t.id); err != nil {
			e.log.Error("a container's image is missing; it cannot be started again", "container_id", t.id, "error", err)
		}
	}
	if rec.BootID == e.bootID {
		err = e.adopt(ctx, t)
	} else {
		err = e.afterReboot(ctx, t)
	}
	if err != nil {
		return err
	}
	e.forwardLog(t)
	e.compressLog(t)
	if !e.record(t).State.Live() {
		if err := e.unmountPlugins(ctx, t); err != nil { // of a start that a crash cut short
			e.log.Error("taking back the volumes of a container that does not run", "container_id", t.id, "error", err)
		}
	}
	return e.applyPolicy(t)
}

// afterReboot notes that the process is gone with the host's earlier boot. Everything else is
// made again by the next start.
func (e *Engine) afterReboot(ctx context.Context, t *tracked) error {
	if rec := e.record(t); rec.State.Live() {
		e.lost(t)
	}
	// If RunDir is not on a tmpfs its files are still there and mean nothing.
	return errors.Join(e.runtime.Remove(ctx, t.id), kernel.RemoveNamespaces(e.nsDir(t.id)))
}

// lost notes that t's process ended and nobody saw how.
func (e *Engine) lost(t *tracked) {
	e.ended(context.Background(), t)
	exit := Exit{Code: 255, Lost: true}
	e.observe(t, Stopped, synced, func(c *Container) {
		c.Exit, c.Finished, c.PID, c.Health = exit, time.Now().UTC(), 0, c.Health.ended()
	})
	e.emit(t, ActionDie, func(ev *Event) { ev.Exit = exit })
	e.emitMounts(t, ActionUnmount)
}

// adopt takes over the process that an earlier engine started, if there is one.
func (e *Engine) adopt(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	task, err := e.runtime.Load(ctx, t.id)
	if errors.Is(err, errdefs.ErrNotFound) {
		if rec.State.Live() {
			e.lost(t)
			return nil
		}
		// A crash may have come before the start of its process. Nobody was told that it is in a network.
		e.mu.Lock()
		t.claims = nil
		e.mu.Unlock()
		return e.leave(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("adopt: %w", err)
	}
	t.task = task
	select {
	case <-task.Done():
		return e.adoptEnded(ctx, t, task)
	default:
	}
	if !rec.State.Live() {
		// The crash came between the start of the process and its record.
		e.observe(t, Running, lazy, func(c *Container) {
			c.PID, c.Started, c.Error, c.Exit = task.PID(), time.Now().UTC(), "", Exit{}
		})
	}
	// Likewise for a pause: what is on record holds.
	if rec.State == Paused {
		err = task.Pause(ctx)
	} else {
		err = task.Resume(ctx)
	}
	if err != nil {
		e.log.Warn("the record of a pause could not be made true", "container_id", t.id, "state", rec.State, "error", err)
	}
	e.adoptJoins(t)
	if rec := e.record(t); len(rec.Published) > 0 {
		if _, err := e.publish(ctx, rec, rec.Published); err != nil {
			e.log.Error("the ports of a container are not published any more", "container_id", t.id, "error", err)
		}
	}
	e.watch(t, task)
	if e.record(t).State == Running {
		e.watchHealth(t, e.record(t).Health == nil)
	}
	return nil
}

// restoreJoins makes t hold what it had in networks when it was recorded, as long as nobody knows
// better. It is called before anything could take its addresses.
func (e *Engine) restoreJoins(t *tracked) {
	rec := t.rec
	if rec.Spec.NetworkMode != NetworkBridge {
		return
	}
	if len(rec.Spec.Networks) == 0 && len(rec.Spec.Endpoints) == 1 && rec.Spec.Endpoints[0].ID == rec.ID {
		// Made when there was one network, and an endpoint in it from the start.
		rec.Spec.Networks = []Join{{Network: BridgeNetworkID, Name: bridgeName, EndpointID: rec.ID}}
	}
	if rec.BootID != e.bootID {
		return
	}
	for _, j := range rec.Spec.Networks {
		if ep, ok := rec.endpoint(&j); ok {
			t.claims = append(t.claims, claim{j.Network, ep})
		}
	}
}

// adoptJoins serves the names of a container that runs on.
func (e *Engine) adoptJoins(t *tracked) {
	if err := e.openNames(t); err != nil {
		e.log.Error("a container has no name service any more", "container_id", t.id, "error", err)
	}
}

// adoptEnded records the exit of a process that ended while no engine watched, unless an engine
// had recorded it and only did not come to clear up.
func (e *Engine) adoptEnded(ctx context.Context, t *tracked, task *runtime.Task) error {
	rec := e.record(t)
	end, err := task.Wait(ctx)
	if err == nil && !rec.State.Live() && rec.Finished.Equal(end.At) {
		t.task = nil
		return task.Delete(ctx)
	}
	if !rec.State.Live() {
		e.observe(t, Running, lazy, func(c *Container) { c.Started, c.Error, c.Exit = end.At.UTC(), "", Exit{} })
	}
	if then := e.reap(ctx, t, task); then != nil {
		e.spawn("adopt", t.id, func(context.Context) { then() })
	}
	return nil
}

// applyPolicy starts a container that its restart policy wants to run. The caller holds t's lock.
func (e *Engine) applyPolicy(t *tracked) error {
	rec := e.record(t)
	switch {
	case rec.State == Restarting:
	case rec.State == Stopped && !rec.Started.IsZero() && rec.wantsStart():
		if err := e.move(t, Restarting, lazy, nil); err != nil {
			return err
		}
	default:
		return nil
	}
	e.restartLater(t, 0)
	return nil
}

// removeStrays removes what bears our mark and has no record.
func (e *Engine) removeStrays(ctx context.Context) error {
	var errs []error
	stray := func(what, id string, remove func() error) {
		if e.containers[id] != nil {
			return
		}
		e.log.Warn("removing a stray", "what", what, "container_id", id)
		if err := remove(); err != nil {
			errs = append(errs, fmt.Errorf("%s of %s: %w", what, id, err))
		}
	}
	ids, err := e.runtime.IDs()
	errs = append(errs, err)
	for _, id := range ids {
		stray("process", id, func() error { return e.runtime.Remove(ctx, id) })
	}
	for _, id := range entries(e.nsRoot()) {
		stray("namespaces", id, func() error { return kernel.RemoveNamespaces(e.nsDir(id)) })
	}
	for _, id := range entries(e.containersDir()) {
		stray("files", id, func() error { return e.purgeFiles(ctx, id) })
	}
	return errors.Join(append(errs, e.reconcileTrash())...)
}

// entries are the names in dir that are container IDs.
func entries(dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var ids []string
	for _, entry := range list {
		if name := entry.Name(); len(name) == 64 && isHex(name) {
			ids = append(ids, name)
		}
	}
	return ids
}

// rebuild adds to records what the copies in the containers' directories say, after the
// database was lost.
func (e *Engine) rebuild(records map[string]*Container) {
	for _, id := range entries(e.containersDir()) {
		if records[id] != nil {
			continue
		}
		rec, err := e.readCopy(id)
		if err == nil {
			err = e.db.Update(func(tx *store.Tx) error {
				if !rec.IDs.IsZero() && rec.IDsOf == "" {
					if err := tx.ClaimRange(id, rec.IDs); err != nil {
						return err
					}
				}
				return tx.Put(kindContainer, id, rec)
			})
		}
		if err != nil {
			e.log.Error("a container's record cannot be rebuilt; its files are left alone", "container_id", id, "error", err)
			continue
		}
		e.log.Warn("a container's record was rebuilt", "container_id", id, "name", rec.Spec.Name)
		records[id] = rec
	}
	names := map[string]bool{}
	for id, rec := range records {
		if names[rec.Spec.Name] {
			rec.Spec.Name = "recovered-" + short(id)
		}
		names[rec.Spec.Name] = true
	}
}

func (e *Engine) readCopy(id string) (*Container, error) {
	data, err := os.ReadFile(filepath.Join(e.containerDir(id), recordFile))
	if err != nil {
		return nil, err
	}
	rec := &Container{}
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, err
	}
	if rec.ID != id {
		return nil, fmt.Errorf("it is of %s: %w", rec.ID, errdefs.ErrInvalid)
	}
	// The copy is as old as the container; adopt finds out whether it runs.
	rec.State = Stopped
	rec.Exit = Exit{Code: 255, Lost: true}
	rec.StoppedByUser = true
	return rec, nil
}
