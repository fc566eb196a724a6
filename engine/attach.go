package engine

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// Streams are a client's ends of a process's standard streams. Nil ones are not
// connected. With a terminal all output is on Stdout.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Attachment is a client of a container's streams.
type Attachment struct {
	client *runtime.Attachment
	t      *tracked
	e      *Engine
	// ended is closed when a container it waits for will not start.
	ended chan struct{}
}

// Attach connects s to a container: to its process if it runs, else to the next one, of which
// it then sees the output from the first byte on. It returns once no output can be missed.
// ErrConflict: the container is being removed.
func (e *Engine) Attach(ctx context.Context, ref string, s Streams) (*Attachment, error) {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer unlock()
	rec := e.record(t)
	if !rec.Spec.OpenStdin {
		s.Stdin = nil
	}
	a := &Attachment{client: runtime.NewAttachment(runtime.Streams(s)), t: t, e: e, ended: make(chan struct{})}
	switch {
	case rec.State == Removing || rec.State == Creating:
		return nil, fmt.Errorf("container %s is %s: %w", short(t.id), rec.State, errdefs.ErrConflict)
	case rec.State.Live():
		task, err := t.process()
		if err != nil {
			return nil, err
		}
		if err := task.Connect(ctx, a.client); err != nil {
			return nil, taskError(t.id, "attach", err)
		}
	default:
		t.waiting = append(t.waiting, a)
	}
	e.emit(t, ActionAttach, nil)
	return a, nil
}

// Wait returns nil when the process's output has ended and been passed on, or when the
// start it waited for has failed; an error when ctx ends or a write to the client fails.
// It disconnects.
func (a *Attachment) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	started := a.e.spawn("attach", a.t.id, func(engine context.Context) {
		select {
		case <-stop:
			return
		case <-a.ended:
		case <-engine.Done():
		}
		cancel()
	})
	if !started {
		cancel()
	}
	err := a.client.Wait(ctx)
	select {
	case <-a.ended:
		return nil
	default:
	}
	a.forget()
	return err
}

// forget takes a off the list of those that wait for a start.
func (a *Attachment) forget() {
	unlock, err := a.e.lockContainer(a.e.ctx, a.t.id)
	if err != nil {
		return
	}
	defer unlock()
	for i, w := range a.t.waiting {
		if w == a {
			a.t.waiting = append(a.t.waiting[:i:i], a.t.waiting[i+1:]...)
			return
		}
	}
}

// dropWaiting ends those that wait for a start that will not be. The caller holds t's lock.
func (e *Engine) dropWaiting(t *tracked) {
	for _, a := range t.waiting {
		close(a.ended)
	}
	t.waiting = nil
}

// Resize sets the size of a container's terminal, in characters; of the next one
// if it does not run. Without a terminal it does nothing.
func (e *Engine) Resize(ctx context.Context, ref string, width, height uint16) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	t.width, t.height = width, height
	rec := e.record(t)
	if !rec.State.Live() || !rec.Spec.TTY {
		return nil
	}
	task, err := t.process()
	if err != nil {
		return err
	}
	if err := task.Resize(ctx, width, height); err != nil {
		return taskError(t.id, "resize", err)
	}
	e.emit(t, ActionResize, func(ev *Event) {
		ev.Details = map[string]string{"height": strconv.Itoa(int(height)), "width": strconv.Itoa(int(width))}
	})
	return nil
}
