package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"novaagent/engine/errdefs"
)

// Condition is what Wait waits for.
type Condition string

const (
	// WaitNotRunning is met at once by a container that does not run.
	WaitNotRunning Condition = "not-running"
	// WaitNextExit: a run ends after the call, even one that hasn't begun.
	WaitNextExit Condition = "next-exit"
	// WaitRemoved: the container is gone.
	WaitRemoved Condition = "removed"
)

// Waiter waits for a condition, counted from when it was made.
type Waiter struct {
	e         *Engine
	t         *tracked
	condition Condition
	exits     uint64
}

// keptDeparted is how many containers that have removed themselves are remembered. Clients start such a container and ask
// for its exit afterwards; with an engine that takes its time with removals they are never late.
const keptDeparted = 64

// departLocked remembers t, which has removed itself. The caller holds Engine.mu.
func (e *Engine) departLocked(t *tracked) {
	e.departed = append(e.departed, t)
	if len(e.departed) > keptDeparted {
		e.departed = slices.Delete(e.departed, 0, 1)
	}
}

// Waiter begins to wait: what happens after its return is seen by Waiter.Wait. By its ID one of the latest containers that
// have removed themselves is found, too.
func (e *Engine) Waiter(ref string, condition Condition) (*Waiter, error) {
	switch condition {
	case WaitNotRunning, WaitNextExit, WaitRemoved:
	default:
		return nil, fmt.Errorf("invalid condition: %q: %w", string(condition), errdefs.ErrInvalid)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, err := e.findLocked(ref)
	if i := slices.IndexFunc(e.departed, func(t *tracked) bool { return t.id == ref }); err != nil && i >= 0 {
		t, err = e.departed[i], nil
	}
	if err != nil {
		return nil, err
	}
	return &Waiter{e: e, t: t, condition: condition, exits: t.exits}, nil
}

// Wait returns how the container's latest run ended once the condition is met.
// ErrUnavailable: ctx ended, or the engine closes. An error that removing it by itself
// met is returned with the exit.
func (w *Waiter) Wait(ctx context.Context) (Exit, error) {
	for {
		w.e.mu.RLock()
		exit, met, err := w.check()
		changed := w.t.changed
		w.e.mu.RUnlock()
		if met {
			return exit, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Exit{}, fmt.Errorf("container %s: wait: %v: %w", short(w.t.id), context.Cause(ctx), errdefs.ErrUnavailable)
		case <-w.e.ctx.Done():
			return Exit{}, fmt.Errorf("container %s: wait: the engine is closing: %w", short(w.t.id), errdefs.ErrUnavailable)
		}
	}
}

// check says whether the condition is met. The caller holds Engine.mu.
func (w *Waiter) check() (Exit, bool, error) {
	rec := w.t.rec
	exit := rec.Exit
	if w.t.exits > 0 {
		exit = w.t.last
	}
	switch {
	case w.t.gone:
		return exit, true, nil
	case w.condition == WaitRemoved:
		if rec.State == Removing && rec.Error != "" {
			return exit, true, errors.New(rec.Error)
		}
		return exit, false, nil
	case w.condition == WaitNextExit:
		return exit, w.t.exits != w.exits, nil
	}
	return exit, !rec.State.Live() && rec.State != Restarting, nil
}

// Wait is Waiter and its Wait in one call.
func (e *Engine) Wait(ctx context.Context, ref string, condition Condition) (Exit, error) {
	w, err := e.Waiter(ref, condition)
	if err != nil {
		return Exit{}, err
	}
	return w.Wait(ctx)
}
