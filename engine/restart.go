package engine

import (
	"context"
	"time"
)

const (
	restartFirst = 100 * time.Millisecond
	restartMost  = time.Minute
	// restartSettled is how long a run must last for the delay to begin at restartFirst again.
	restartSettled = 10 * time.Second
)

// restartDelay is the wait before the attempt-th restart in a row, counted from 0.
func restartDelay(attempt int) time.Duration {
	return min(restartFirst<<min(attempt, 16), restartMost)
}

// wantsRestart applies c's restart policy to the end of its process.
func (c *Container) wantsRestart(exit Exit) bool {
	if c.StoppedByUser {
		return false
	}
	p := c.Spec.Restart
	switch p.Mode {
	case RestartAlways, RestartUnlessStopped:
		return true
	case RestartOnFailure:
		return exit.Code != 0 && (p.MaxRetries == 0 || c.Restarts < p.MaxRetries)
	}
	return false
}

// wantsStart applies c's restart policy to a container that the engine finds stopped as it opens.
func (c *Container) wantsStart() bool {
	switch c.Spec.Restart.Mode {
	case RestartAlways:
		return true
	case RestartUnlessStopped:
		return !c.StoppedByUser
	}
	return false
}

// restartLater starts t again after delay, unless somebody stops or starts it meanwhile.
func (e *Engine) restartLater(t *tracked, delay time.Duration) {
	e.spawn("restart", t.id, func(ctx context.Context) {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		for {
			e.mu.RLock()
			rec, changed := t.rec, t.changed
			e.mu.RUnlock()
			if rec.State != Restarting {
				return
			}
			select {
			case <-timer.C:
				e.restartNow(ctx, t)
				return
			case <-changed:
			case <-ctx.Done():
				return // stays Restarting, which the next Open sees
			}
		}
	})
}

func (e *Engine) restartNow(ctx context.Context, t *tracked) {
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return
	}
	defer unlock()
	rec := e.record(t)
	if rec.State != Restarting {
		return
	}
	err = e.start(ctx, t, func(c *Container) { c.Restarts++ })
	if err == nil {
		return
	}
	e.log.Warn("restarting a container by its policy failed", "container_id", t.id, "error", err)
	rec = e.record(t)
	if !rec.wantsRestart(rec.Exit) {
		e.observe(t, Stopped, synced, func(*Container) {})
		return
	}
	if err := e.amend(t, lazy, func(c *Container) { c.Restarts++ }); err != nil {
		e.log.Error("counting a restart", "container_id", t.id, "error", err)
	}
	delay := restartDelay(t.attempt)
	t.attempt++
	e.restartLater(t, delay)
}
