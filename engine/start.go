package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// Start runs a container's process; it returns once that has been executed. What a
// reboot took is made again first. changed is false, without error, if it runs already.
//
// ErrInvalid: the command, user or working directory is wrong; Container.Error keeps the reason.
// ErrConflict: it is paused, being removed or being restarted.
func (e *Engine) Start(ctx context.Context, ref string) (changed bool, err error) {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return false, err
	}
	defer unlock()
	if e.record(t).State == Running {
		return false, nil
	}
	t.attempt = 0
	err = e.start(ctx, t, func(c *Container) { c.StoppedByUser, c.Restarts = false, 0 })
	return err == nil, err
}

// Run is Create and Start. If the start fails the container is removed again.
func (e *Engine) Run(ctx context.Context, spec Spec) (Container, error) {
	c, err := e.create(ctx, spec, lazy)
	if err != nil {
		return Container{}, err
	}
	// The disk is waited for while the process starts.
	err = both(
		func() error { return e.db.Sync() },
		func() error { _, err := e.Start(ctx, c.ID); return err },
	)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return Container{}, errors.Join(err, e.removeIfThere(undo, c.ID))
	}
	return e.Inspect(c.ID)
}

// start does Start's work. The caller holds t's lock; change is applied to the record
// of the running container.
func (e *Engine) start(ctx context.Context, t *tracked, change func(*Container)) error {
	rec := e.record(t)
	if err := checkMove(t.id, rec.State, Running); err != nil || rec.State == Paused {
		return errors.Join(err, conflictIf(rec.State == Paused, "cannot start a paused container, try unpause instead"))
	}
	// A client that leaves halfway must not leave half a container.
	ctx = context.WithoutCancel(ctx)
	began := time.Now().UTC() // before: a process may have ended when launch returns
	if err := e.launch(ctx, t); err != nil {
		e.dropWaiting(t)
		return e.startFailed(t, err)
	}
	t.waiting = nil
	task := t.task
	err := e.move(t, Running, lazy, func(c *Container) {
		c.PID, c.Started, c.Error, c.Exit, c.Published = task.PID(), began, "", Exit{}, t.published
		change(c)
	})
	if err != nil {
		t.task = nil
		return errors.Join(err, task.Delete(ctx), e.unpublish(ctx, t.id), e.leave(ctx, t))
	}
	e.watch(t, task)
	e.watchHealth(t, true)
	e.forwardLog(t)
	e.compressLog(t)
	e.emitMounts(t, ActionMount)
	e.emit(t, ActionStart, nil)
	e.step("start.done", t.id)
	return nil
}

// launch prepares what is missing and runs the process.
func (e *Engine) launch(ctx context.Context, t *tracked) (err error) {
	if !t.prepared {
		if err := e.prepare(ctx, t, false); err != nil {
			return err
		}
	}
	e.step("start.prepared", t.id)
	e.endAccesses(t, accessGrace)
	if err := e.checkForward(ctx, e.record(t)); err != nil {
		return err
	}
	if err := e.checkShared(e.record(t)); err != nil {
		return err
	}
	if err := e.join(ctx, t); err != nil {
		return errors.Join(err, e.leave(ctx, t))
	}
	e.step("start.joined", t.id)
	if err := e.execute(ctx, t); err != nil {
		return errors.Join(err, e.unmountPlugins(ctx, t), e.unpublish(ctx, t.id), e.leave(ctx, t))
	}
	return nil
}

// execute mounts t's volumes of plug-ins, publishes its ports and runs its process. After an error all of that is to be undone.
func (e *Engine) execute(ctx context.Context, t *tracked) error {
	if err := e.mountPlugins(ctx, t); err != nil {
		return err
	}
	bundle, held, err := e.bundle(ctx, t)
	defer held.close()
	if err != nil {
		return err
	}
	rec := e.record(t)
	if t.published, err = e.publish(ctx, rec, rec.Spec.Ports); err != nil {
		return err
	}
	if len(t.published) > 0 { // the copy of the record has what is chosen as well
		copied := *rec
		copied.Published = t.published
		if err := writeRecord(e.containerDir(t.id), &copied); err != nil {
			return err
		}
	}
	t.traces = true
	task, err := e.runtime.Start(ctx, bundle)
	if err != nil {
		return err
	}
	t.task = task
	e.step("start.process", t.id)
	return nil
}

// startFailed records why a start failed; the state stays what it was.
func (e *Engine) startFailed(t *tracked, cause error) error {
	code := 128
	if errors.Is(cause, errdefs.ErrInvalid) {
		code = exitCodeOf(cause)
	}
	err := e.amend(t, lazy, func(c *Container) {
		c.Error, c.Exit, c.Finished = cause.Error(), Exit{Code: code}, time.Now().UTC()
	})
	rec := e.record(t)
	if rec.Spec.AutoRemove && rec.State != Restarting {
		e.spawn("remove", t.id, func(context.Context) { e.autoRemove(t) })
	}
	return errors.Join(fmt.Errorf("start container %s: %w", rec.Spec.Name, cause), err)
}

// exitCodeOf is the shell's code for a command that can't be run.
func exitCodeOf(err error) int {
	switch text := err.Error(); {
	case strings.Contains(text, "not found"), strings.Contains(text, "no such file"):
		return 127
	case strings.Contains(text, "permission denied"), strings.Contains(text, "not executable"), strings.Contains(text, "is a directory"):
		return 126
	}
	return 128
}

func conflictIf(yes bool, format string, args ...any) error {
	if !yes {
		return nil
	}
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrConflict)...)
}

// bundle is what the runtime needs to know of t. The files are to be closed, also after an
// error, once the process has started.
func (e *Engine) bundle(ctx context.Context, t *tracked) (runtime.Bundle, heldFiles, error) {
	rec := e.record(t)
	oci, err := e.ociRuntime(rec.Spec.Runtime)
	if err != nil {
		return runtime.Bundle{}, nil, err
	}
	lowers, err := e.lowers(ctx, rec)
	if err != nil {
		return runtime.Bundle{}, nil, err
	}
	spec, held, err := e.ociSpec(ctx, rec)
	if err != nil {
		return runtime.Bundle{}, held, err
	}
	b := runtime.Bundle{
		ID:        rec.ID,
		Spec:      spec,
		Runtime:   oci,
		Rootfs:    e.rootfs(rec, lowers),
		User:      rec.Process.User,
		OpenStdin: rec.Spec.OpenStdin,
		// With a terminal the client's end is not the program's end of file.
		StdinOnce:   rec.Spec.StdinOnce && !rec.Spec.TTY,
		LateUnmount: len(rec.Mounts) == 0 && rec.Spec.Resources.DiskBytes == 0,
		Width:       t.width,
		Height:      t.height,
	}
	for _, a := range t.waiting {
		b.Attach = append(b.Attach, a.client)
	}
	if rec.Spec.Log.Driver != LogNone {
		b.Log = runtime.Log{
			Path:     e.logPath(rec.ID),
			MaxBytes: orDefault(rec.Spec.Log.MaxBytes, DefaultLogBytes),
			MaxFiles: orDefault(rec.Spec.Log.MaxFiles, DefaultLogFiles),
		}
	}
	return b, held, nil
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}
