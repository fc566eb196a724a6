package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// Rename gives a container another name. ErrConflict: it is taken.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	if name == "" {
		return fmt.Errorf("Neither old nor new names may be empty: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	old := e.record(t).Spec.Name
	if name == old {
		return fmt.Errorf("Renaming a container with the same name as its current name: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	if err := checkName(name); err != nil {
		return fmt.Errorf("Error when allocating new name: %w", err) //nolint:staticcheck // Docker's words
	}
	e.mu.Lock()
	id, taken := e.names[name]
	if !taken {
		e.names[name] = t.id
	}
	e.mu.Unlock()
	if taken {
		return fmt.Errorf("Error when allocating new name: %w", nameTaken(name, id)) //nolint:staticcheck // Docker's words
	}
	err = e.amend(t, synced, func(c *Container) { c.Spec.Name = name })
	gone := old
	if err != nil {
		gone = name
	}
	e.mu.Lock()
	delete(e.names, gone)
	e.mu.Unlock()
	if err == nil {
		e.emit(t, ActionRename, func(ev *Event) { ev.Details = map[string]string{"oldName": "/" + old} })
	}
	return err
}

// Changes are what Update changes.
type Changes struct {
	Resources Resources
	Restart   RestartPolicy
	// Front replaces Spec.Front unless nil.
	Front []byte
}

// Update changes a container's limits, at once if it runs, and its restart policy. The disk
// quota can't be changed.
func (e *Engine) Update(ctx context.Context, ref string, ch Changes) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	next := *e.record(t)
	if ch.Resources.DiskBytes != next.Spec.Resources.DiskBytes {
		return fmt.Errorf("container %s: the disk quota cannot be changed: %w", short(t.id), errdefs.ErrUnsupported)
	}
	next.Spec.Resources, next.Spec.Restart = ch.Resources, ch.Restart
	if ch.Front != nil {
		next.Spec.Front = ch.Front
	}
	if err := next.Spec.validate(); err != nil {
		return err
	}
	if next.State.Live() {
		task, err := t.process()
		if err != nil {
			return err
		}
		limits, err := linuxResources(&next)
		if err != nil {
			return err
		}
		if err := task.Update(ctx, limits); err != nil {
			return taskError(t.id, "update", err)
		}
	}
	err = e.amend(t, synced, func(c *Container) { c.Spec = next.Spec })
	if err == nil {
		e.emit(t, ActionUpdate, nil)
	}
	return err
}

// SetEndpoints makes endpoints those of a container: new ones are plugged, changed ones are
// brought up to date and missing ones are unplugged, while it runs or not. It repairs drift, too.
func (e *Engine) SetEndpoints(ctx context.Context, ref string, endpoints []network.Endpoint) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.record(t)
	if rec.Spec.NetworkMode != NetworkEndpoints {
		return fmt.Errorf("container %s has network mode %s: %w", short(t.id), rec.Spec.NetworkMode, errdefs.ErrConflict)
	}
	if rec.State == Removing {
		return fmt.Errorf("container %s is %s: %w", short(t.id), rec.State, errdefs.ErrConflict)
	}
	next := rec.Spec
	next.Endpoints = endpoints
	if err := next.validate(); err != nil {
		return err
	}
	var leaving []network.Endpoint
	for _, old := range rec.Spec.Endpoints {
		if !slices.ContainsFunc(endpoints, func(n network.Endpoint) bool { return n.ID == old.ID }) {
			leaving = append(leaving, old)
		}
	}
	// Both lists are recorded until the leaving ones are gone, so that a crash
	// between leaves nothing that Remove would not find.
	all := slices.Concat(endpoints, leaving)
	if err := e.amend(t, synced, func(c *Container) { c.Spec.Endpoints = all }); err != nil {
		return err
	}
	if rec.BootID == e.bootID {
		err = errors.Join(
			e.network.Unplug(ctx, e.netPath(t.id), leaving),
			e.network.Plug(ctx, e.netPath(t.id), endpoints))
		if err != nil {
			return fmt.Errorf("container %s: endpoints: %w", short(t.id), err)
		}
	}
	if err := e.amend(t, synced, func(c *Container) { c.Spec.Endpoints = endpoints }); err != nil {
		return err
	}
	return e.writeEtc(e.record(t), e.containerDir(t.id))
}
