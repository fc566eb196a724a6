package engine

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
)

// NoGrace asks Stop and Restart for the container's own grace.
const NoGrace = time.Duration(-1 << 62)

// Stop ends a container's first process: sig now (the container's stop signal if 0),
// SIGKILL after grace. A negative grace waits for ever, NoGrace stands for
// Spec.StopGrace. It returns once the process is reaped, and returns changed false,
// without error, if the container does not run. The restart policy is out of force until the next Start.
//
// Docker answers 304 for that case (POST /containers/{id}/stop); Nova treats it as
// success (nova/compute/manager.py, stop_instance).
func (e *Engine) Stop(ctx context.Context, ref string, sig syscall.Signal, grace time.Duration) (changed bool, err error) {
	t, exits, err := e.askToStop(ctx, ref, sig)
	if err != nil || t == nil {
		return false, err
	}
	rec := e.record(t)
	if err := e.waitExit(ctx, t, exits, resolveGrace(rec, grace)); err != nil {
		return false, err
	}
	e.emit(t, ActionStop, nil)
	return true, nil
}

func resolveGrace(rec *Container, grace time.Duration) time.Duration {
	if grace != NoGrace {
		return grace
	}
	if rec.Spec.StopGrace != 0 {
		return rec.Spec.StopGrace
	}
	return DefaultStopGrace
}

// askToStop sends the stop signal and returns how many runs had ended before. t is
// nil if the container does not run.
func (e *Engine) askToStop(ctx context.Context, ref string, sig syscall.Signal) (t *tracked, exits uint64, err error) {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	rec := e.record(t)
	switch rec.State {
	case Restarting:
		err := e.move(t, Stopped, synced, func(c *Container) { c.StoppedByUser = true })
		return nil, 0, err
	case Running, Paused:
	default:
		return nil, 0, nil
	}
	// Before the signal: the exit must not find the restart policy in force.
	if err := e.amend(t, lazy, func(c *Container) { c.StoppedByUser = true }); err != nil {
		return nil, 0, err
	}
	e.mu.RLock()
	exits = t.exits
	e.mu.RUnlock()
	if sig == 0 {
		sig = rec.Process.StopSignal
	}
	if err := e.signal(ctx, t, sig); errors.Is(err, errdefs.ErrConflict) {
		return t, exits, nil // it has just ended by itself
	} else if err != nil {
		return nil, 0, err
	}
	if rec.State == Paused {
		// The signal is delivered when the processes are thawed.
		if err := e.unpause(ctx, t); err != nil {
			return nil, 0, err
		}
	}
	return t, exits, nil
}

// waitExit waits until t's current run has ended, with SIGKILL after grace.
func (e *Engine) waitExit(ctx context.Context, t *tracked, exits uint64, grace time.Duration) error {
	var expired <-chan time.Time
	if grace >= 0 {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		expired = timer.C
	}
	for {
		e.mu.RLock()
		ended, changed := t.exits != exits || t.gone, t.changed
		e.mu.RUnlock()
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-expired:
			expired = nil
			if err := e.killAll(ctx, t, exits); err != nil {
				return err
			}
		case <-e.ctx.Done():
			return fmt.Errorf("container %s: waiting for it to stop: the engine is closing: %w", short(t.id), errdefs.ErrUnavailable)
		case <-ctx.Done():
			return fmt.Errorf("container %s: waiting for it to stop: %v: %w", short(t.id), context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
}

// killAll kills every process of t's current run.
func (e *Engine) killAll(ctx context.Context, t *tracked, exits uint64) error {
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return err
	}
	defer unlock()
	e.mu.RLock()
	ended := t.exits != exits || t.gone
	e.mu.RUnlock()
	if ended || t.task == nil {
		return nil
	}
	if err := t.task.KillAll(ctx); err != nil {
		return fmt.Errorf("container %s: kill: %w", short(t.id), err)
	}
	return nil
}

// Kill sends sig to a container's first process. ErrConflict: it does not run.
// SIGKILL and the stop signal put the restart policy out of force, as Docker does.
func (e *Engine) Kill(ctx context.Context, ref string, sig syscall.Signal) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	rec := e.record(t)
	if rec.State == Restarting && sig == syscall.SIGKILL {
		return e.move(t, Stopped, synced, func(c *Container) { c.StoppedByUser = true })
	}
	if !rec.State.Live() {
		return fmt.Errorf("container %s is not running: %w", t.id, errdefs.ErrConflict)
	}
	if sig == syscall.SIGKILL || sig == rec.Process.StopSignal {
		if err := e.amend(t, lazy, func(c *Container) { c.StoppedByUser = true }); err != nil {
			return err
		}
	}
	if err := e.signal(ctx, t, sig); err != nil {
		return err
	}
	if rec.State == Paused && sig == syscall.SIGKILL {
		return e.unpause(ctx, t)
	}
	return nil
}

// signal sends sig to the first process and tells of it. The caller holds t's lock.
func (e *Engine) signal(ctx context.Context, t *tracked, sig syscall.Signal) error {
	task, err := t.process()
	if err != nil {
		return err
	}
	if err := task.Signal(ctx, sig); err != nil {
		return taskError(t.id, fmt.Sprintf("signal %d", sig), err)
	}
	e.emit(t, ActionKill, func(ev *Event) { ev.Signal = int(sig) })
	return nil
}

// Restart stops a container, if it runs, and starts it again. It holds for paused ones too.
func (e *Engine) Restart(ctx context.Context, ref string, sig syscall.Signal, grace time.Duration) error {
	t, err := e.find(ref)
	if err != nil {
		return err
	}
	if _, err := e.Stop(ctx, t.id, sig, grace); err != nil {
		return err
	}
	if _, err := e.Start(ctx, t.id); err != nil {
		return err
	}
	e.emit(t, ActionRestart, nil)
	return nil
}

// Pause freezes all processes of a running container. ErrConflict: it does not run, or is paused.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	switch e.record(t).State {
	case Running:
	case Paused:
		return fmt.Errorf("Container %s is already paused: %w", t.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	case Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running: %w", t.id, errdefs.ErrConflict)
	default:
		return fmt.Errorf("container %s is not running: %w", t.id, errdefs.ErrConflict)
	}
	task, err := t.process()
	if err != nil {
		return err
	}
	if err := task.Pause(ctx); err != nil {
		return taskError(t.id, "pause", err)
	}
	if err := e.move(t, Paused, lazy, nil); err != nil {
		return err
	}
	e.unwatchHealth(t)
	e.emit(t, ActionPause, nil)
	return nil
}

// Unpause lets a paused container go on. ErrConflict: it is not paused.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	if rec := e.record(t); rec.State != Paused {
		return fmt.Errorf("Container %s is not paused: %w", t.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	return e.unpause(ctx, t)
}

func (e *Engine) unpause(ctx context.Context, t *tracked) error {
	task, err := t.process()
	if err != nil {
		return err
	}
	if err := task.Resume(ctx); err != nil {
		return taskError(t.id, "unpause", err)
	}
	if err := e.move(t, Running, lazy, nil); err != nil {
		return err
	}
	e.watchHealth(t, false)
	e.emit(t, ActionUnpause, nil)
	return nil
}
