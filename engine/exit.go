package engine

import (
	"context"
	"errors"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// exitSyncDelay is how long the record of an exit may wait for company on its way to the disk.
const exitSyncDelay = 20 * time.Millisecond

// watch waits for the end of t's process in a goroutine of its own. The caller holds t's lock.
func (e *Engine) watch(t *tracked, task *runtime.Task) {
	e.spawn("watch", t.id, func(ctx context.Context) {
		select {
		case <-task.Done():
		case <-ctx.Done():
			return
		}
		unlock, err := e.lockContainer(ctx, t.id)
		if err != nil {
			return // the engine closes; the next one finds the exit
		}
		then := func() func() {
			defer unlock() // also if it panics
			return e.reap(ctx, t, task)
		}()
		if then != nil {
			then()
		}
	})
}

// reap records how task ended and clears up after it, unless somebody did. The caller holds t's
// lock, and calls the function that is returned, if any, without it.
func (e *Engine) reap(ctx context.Context, t *tracked, task *runtime.Task) (then func()) {
	if t.task != task {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	// Done is closed or the task was killed, so this doesn't block for long.
	end, err := task.Wait(ctx)
	if err != nil {
		e.log.Error("a container's exit is not known", "container_id", t.id, "error", err)
		end = runtime.Exit{Code: 255, Lost: true, At: time.Now()}
	}
	exit := exitOf(end)
	rec := e.record(t)
	to, delay := Stopped, time.Duration(0)
	if rec.wantsRestart(exit) {
		if end.At.Sub(rec.Started) >= restartSettled {
			t.attempt = 0
		}
		to, delay = Restarting, restartDelay(t.attempt)
		t.attempt++
	}
	t.task = nil
	e.unwatchHealth(t)
	e.ended(ctx, t) // before anybody hears of it: its ports are free then
	e.observe(t, to, lazy, func(c *Container) {
		c.Exit, c.Finished, c.PID = exit, end.At.UTC(), 0
	})
	e.dropExecs(t.id)
	if exit.OOMKilled {
		e.emit(t, ActionOOM, nil)
	}
	e.emit(t, ActionDie, func(ev *Event) { ev.Exit, ev.Ran = exit, max(0, end.At.Sub(rec.Started)) })
	e.emitMounts(t, ActionUnmount)

	// The shim's record of the exit goes with the task. Ours survives the agent already, and
	// is on the disk in a moment; a power cut before that makes the exit a lost one. It is not sent there at
	// once: a removal that follows would have to wait for two writes of the disk instead of one.
	if !rec.Spec.AutoRemove {
		durable := e.db.Barrier()
		e.spawn("sync", t.id, func(closing context.Context) {
			select {
			case <-time.After(exitSyncDelay):
			case <-closing.Done():
			}
			if err := durable(); err != nil {
				e.log.Error("a container's exit is not on the disk", "container_id", t.id, "error", err)
			}
		})
	}
	if err := task.Delete(ctx); err != nil {
		e.log.Error("clearing up after a container's process", "container_id", t.id, "error", err)
	} else {
		t.traces = false
	}
	switch {
	case to == Restarting:
		return func() { e.restartLater(t, delay) }
	case rec.Spec.AutoRemove:
		return func() { e.autoRemove(t) }
	}
	return nil
}

// ended takes back what a container has while it runs.
func (e *Engine) ended(ctx context.Context, t *tracked) {
	if err := e.unpublish(ctx, t.id); err != nil {
		e.log.Error("taking back the ports of a container that has ended", "container_id", t.id, "error", err)
	}
	if err := e.unmountPlugins(ctx, t); err != nil {
		e.log.Error("taking back the volumes of a container that has ended", "container_id", t.id, "error", err)
	}
	if err := e.leave(ctx, t); err != nil {
		e.log.Error("taking a container that has ended out of its networks", "container_id", t.id, "error", err)
	}
}

func exitOf(x runtime.Exit) Exit {
	return Exit{Code: x.Code, Signal: syscall.Signal(x.Signal), OOMKilled: x.OOMKilled, Lost: x.Lost}
}

// autoRemove removes a container that asked for it, now that it has ended.
func (e *Engine) autoRemove(t *tracked) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), undoTimeout)
	defer cancel()
	if err := e.removeIfThere(ctx, t.id); err != nil {
		e.log.Error("removing a container that has ended", "container_id", t.id, "error", err)
	}
}

// removeIfThere removes a container that somebody else may have removed.
func (e *Engine) removeIfThere(ctx context.Context, id string) error {
	err := e.Remove(ctx, id, RemoveOptions{Force: true, Volumes: true})
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}
