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

// ExecSpec is a further process in a running container. What it doesn't say is as the
// first process has it.
type ExecSpec struct {
	Args    []string
	Env     []string
	WorkDir string
	User    string
	TTY     bool
	// OpenStdin connects standard input; else the process reads end of file.
	OpenStdin bool
	// Privileged gives all capabilities of the container's user namespace.
	Privileged bool
	// Width and Height are the terminal's first size in characters, if not 0.
	Width, Height uint16
	// Bound ends the process when the agent does.
	Bound bool
	// Front is opaque to the engine.
	Front any
}

// ExecInfo tells of an exec.
type ExecInfo struct {
	ID          string
	ContainerID string
	Spec        ExecSpec
	Running     bool
	// Ended says that Exit is meaningful; a process that could not be started has ended
	// with 126 or 127.
	Ended bool
	Exit  Exit
	PID   int
}

// execution is an exec. Engine.mu guards all but id, container and done.
type execution struct {
	info     ExecInfo
	started  bool
	process  *runtime.Exec
	finished time.Time
	done     chan struct{} // closed when the process has ended
}

const (
	// execsKept is how long an exec that has ended can be inspected.
	execsKept = 5 * time.Minute
	// maxExecs bounds the execs of all containers that are remembered.
	maxExecs = 16384
)

// ExecCreate notes a process to be run in a container by ExecStart. ErrConflict: the container does not run.
func (e *Engine) ExecCreate(ctx context.Context, ref string, spec ExecSpec) (id string, err error) {
	if len(spec.Args) == 0 || spec.Args[0] == "" {
		return "", fmt.Errorf("No exec command specified: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	for _, text := range append(append([]string{spec.WorkDir, spec.User}, spec.Args...), spec.Env...) {
		if strings.ContainsRune(text, 0) || len(text) > maxTextBytes {
			return "", fmt.Errorf("exec: %s has a NUL or is longer than %d bytes: %w", printable(text), maxTextBytes, errdefs.ErrInvalid)
		}
	}
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := e.execPossible(t); err != nil {
		return "", err
	}
	x := &execution{
		info: ExecInfo{ID: NewID(), ContainerID: t.id, Spec: spec},
		done: make(chan struct{}),
	}
	e.mu.Lock()
	for old, o := range e.execs {
		if !o.finished.IsZero() && time.Since(o.finished) > execsKept {
			delete(e.execs, old)
		}
	}
	full := len(e.execs) >= maxExecs
	if !full {
		e.execs[x.info.ID] = x
	}
	e.mu.Unlock()
	if full {
		return "", fmt.Errorf("container %s: more than %d execs: %w", short(t.id), maxExecs, errdefs.ErrUnavailable)
	}
	e.emit(t, ActionExecCreate, func(ev *Event) { ev.ExecID, ev.Command = x.info.ID, strings.Join(spec.Args, " ") })
	return x.info.ID, nil
}

func (e *Engine) execPossible(t *tracked) error {
	rec := e.record(t)
	if rec.State == Paused {
		return fmt.Errorf("Container %s is paused, unpause the container before exec: %w", rec.Spec.Name, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	if rec.State != Running {
		return fmt.Errorf("container %s is not running: %w", t.id, errdefs.ErrConflict)
	}
	return nil
}

// ExecStart runs an exec's process with s as its streams; it returns once the process has
// been executed. ErrConflict: it was started before, or the container does not run any more.
// ErrInvalid: the command, user or directory is wrong.
func (e *Engine) ExecStart(ctx context.Context, id string, s Streams) error {
	x, t, err := e.execByID(id)
	if err != nil {
		return err
	}
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return err
	}
	defer unlock()
	if err := e.execPossible(t); err != nil {
		return err
	}
	task, err := t.process()
	if err != nil {
		return err
	}
	e.mu.Lock()
	again := x.started
	x.started = true
	spec := x.info.Spec
	e.mu.Unlock()
	if again {
		return fmt.Errorf("exec %s has already run: %w", short(id), errdefs.ErrConflict)
	}
	if !spec.OpenStdin {
		s.Stdin = nil
	}
	process, err := task.Exec(ctx, runtime.ExecSpec{
		ID: id, Args: spec.Args, Env: spec.Env, WorkDir: spec.WorkDir, User: spec.User,
		TTY: spec.TTY, Width: spec.Width, Height: spec.Height,
		OpenStdin: spec.OpenStdin, Privileged: spec.Privileged, Bound: spec.Bound,
	}, runtime.Streams(s))
	if err != nil {
		code := 126
		if errors.Is(err, errdefs.ErrInvalid) {
			code = min(exitCodeOf(err), 127)
		}
		e.execEnded(x, Exit{Code: code})
		return taskError(t.id, "exec", err)
	}
	e.mu.Lock()
	x.process, x.info.Running, x.info.PID = process, true, process.PID()
	e.mu.Unlock()
	e.emit(t, ActionExecStart, func(ev *Event) { ev.ExecID, ev.Command = id, strings.Join(spec.Args, " ") })
	e.spawn("exec", t.id, func(engine context.Context) {
		end, err := process.Wait(engine)
		if engine.Err() != nil {
			return
		}
		if err != nil {
			e.log.Error("an exec's exit is not known", "container_id", t.id, "exec_id", id, "error", err)
			end = runtime.Exit{Code: 255, Lost: true}
		}
		if e.execEnded(x, exitOf(end)) {
			e.emit(t, ActionExecDie, func(ev *Event) { ev.ExecID, ev.Exit = id, exitOf(end) })
		}
	})
	return nil
}

// execEnded records the end of x, and returns false if it had ended already.
func (e *Engine) execEnded(x *execution, exit Exit) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if x.info.Ended {
		return false
	}
	x.info.Running, x.info.Ended, x.info.Exit, x.finished = false, true, exit, time.Now()
	close(x.done)
	return true
}

// ExecWait waits until an exec's process has ended and its output has been passed on.
func (e *Engine) ExecWait(ctx context.Context, id string) (Exit, error) {
	e.mu.RLock()
	x := e.execs[id]
	e.mu.RUnlock()
	if x == nil {
		return Exit{}, noExec(id)
	}
	select {
	case <-x.done:
	case <-ctx.Done():
		return Exit{}, fmt.Errorf("exec %s: wait: %v: %w", short(id), context.Cause(ctx), errdefs.ErrUnavailable)
	case <-e.ctx.Done():
		return Exit{}, fmt.Errorf("exec %s: wait: the engine is closing: %w", short(id), errdefs.ErrUnavailable)
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return x.info.Exit, nil
}

// Exec runs a process in a container to its end.
func (e *Engine) Exec(ctx context.Context, ref string, spec ExecSpec, s Streams) (Exit, error) {
	id, err := e.ExecCreate(ctx, ref, spec)
	if err != nil {
		return Exit{}, err
	}
	if err := e.ExecStart(ctx, id, s); err != nil {
		return Exit{}, err
	}
	return e.ExecWait(ctx, id)
}

// ExecInspect tells of an exec.
func (e *Engine) ExecInspect(id string) (ExecInfo, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	x := e.execs[id]
	if x == nil {
		return ExecInfo{}, noExec(id)
	}
	return x.info, nil
}

// ExecIDs are the execs of a container that have not ended.
func (e *Engine) ExecIDs(containerID string) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var ids []string
	for id, x := range e.execs {
		if x.info.ContainerID == containerID && x.info.Running {
			ids = append(ids, id)
		}
	}
	return ids
}

// ExecResize sets the size of an exec's terminal, in characters. ErrConflict: it does not run.
func (e *Engine) ExecResize(ctx context.Context, id string, width, height uint16) error {
	e.mu.Lock()
	x := e.execs[id]
	var process *runtime.Exec
	if x != nil {
		process = x.process
		if !x.started { // the first size
			x.info.Spec.Width, x.info.Spec.Height = width, height
		}
	}
	e.mu.Unlock()
	switch {
	case x == nil:
		return noExec(id)
	case process == nil:
		return nil
	}
	return process.Resize(ctx, width, height)
}

func (e *Engine) execByID(id string) (*execution, *tracked, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	x := e.execs[id]
	if x == nil {
		return nil, nil, noExec(id)
	}
	t := e.containers[x.info.ContainerID]
	if t == nil {
		return nil, nil, noExec(id)
	}
	return x, t, nil
}

// dropExecs forgets those of a container whose process has ended; the kernel ended theirs with it.
func (e *Engine) dropExecs(containerID string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, x := range e.execs {
		if x.info.ContainerID == containerID && !x.started {
			delete(e.execs, id)
		}
	}
}

func noExec(id string) error {
	return fmt.Errorf("No such exec instance: %s: %w", printable(id), errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
}
