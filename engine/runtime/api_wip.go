package runtime

import (
	"context"
	"io"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
)

// New prepares RunDir and starts the warm shims.
func New(o Options) (*Runtime, error) { return nil, errdefs.ErrUnsupported }

// Runtime starts containers and adopts those that an earlier Runtime started.
type Runtime struct{}

// Close lets go of all tasks; containers go on running. It ends the warm shims.
func (r *Runtime) Close() error { return nil }

// Start runs b's process and returns once it has been executed.
// errdefs.ErrInvalid: the executable, working directory or user is wrong.
// errdefs.ErrConflict: b.ID exists.
func (r *Runtime) Start(ctx context.Context, b Bundle) (*Task, error) {
	return nil, errdefs.ErrUnsupported
}

// Load adopts a container that an earlier Runtime started; errdefs.ErrNotFound if there is none.
// If its shim died, what is left of the container is killed and Wait tells Lost.
func (r *Runtime) Load(ctx context.Context, id string) (*Task, error) {
	return nil, errdefs.ErrUnsupported
}

// IDs lists the containers that have a directory in RunDir, whatever their state.
func (r *Runtime) IDs() ([]string, error) { return nil, nil }

// Remove removes all traces of id, running or not, known or half made. Nil means: not there.
func (r *Runtime) Remove(ctx context.Context, id string) error { return nil }

// Task is a container's first process and everything below it.
type Task struct{}

func (t *Task) ID() string                                                      { return "" }
func (t *Task) PID() int                                                        { return 0 }
func (t *Task) Done() <-chan struct{}                                           { return nil }
func (t *Task) Wait(ctx context.Context) (Exit, error)                          { return Exit{}, nil }
func (t *Task) Signal(ctx context.Context, sig syscall.Signal) error            { return nil }
func (t *Task) KillAll(ctx context.Context) error                               { return nil }
func (t *Task) Pause(ctx context.Context) error                                 { return nil }
func (t *Task) Resume(ctx context.Context) error                                { return nil }
func (t *Task) Update(ctx context.Context, r *specs.LinuxResources) error       { return nil }
func (t *Task) Stats(ctx context.Context) (Stats, error)                        { return Stats{}, nil }
func (t *Task) PIDs(ctx context.Context) ([]int, error)                         { return nil, nil }
func (t *Task) Exec(ctx context.Context, s ExecSpec, st Streams) (*Exec, error) { return nil, nil }

// Attach copies between the container and s until the container's output ends, ctx
// is done or the client leaves. Several clients may attach at a time.
func (t *Task) Attach(ctx context.Context, s Streams) error { return nil }

// Connect is Attach that returns once a is connected: no output that is written later is missed.
func (t *Task) Connect(ctx context.Context, a *Attachment) error { return nil }

func (t *Task) Resize(ctx context.Context, width, height uint16) error { return nil }
func (t *Task) CloseStdin(ctx context.Context) error                   { return nil }

// Delete ends whatever runs and removes all that Start made. Idempotent.
func (t *Task) Delete(ctx context.Context) error { return nil }

// Streams are a client's ends. Nil ones are not connected. With a TTY all
// output is on Stdout.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Attachment is one client of a container's streams. Named in Bundle.Attach it sees the output from the first
// byte on; else Task.Connect connects it.
type Attachment struct{}

// NewAttachment makes an attachment that is not connected yet.
func NewAttachment(s Streams) *Attachment { return nil }

// Wait returns when the output has ended (nil), ctx is done or a write to the client failed. It disconnects.
func (a *Attachment) Wait(ctx context.Context) error { return nil }

// Exec is a process that was started by Task.Exec.
type Exec struct{}

func (e *Exec) ID() string                                             { return "" }
func (e *Exec) PID() int                                               { return 0 }
func (e *Exec) Wait(ctx context.Context) (Exit, error)                 { return Exit{}, nil }
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error   { return nil }
func (e *Exec) Resize(ctx context.Context, width, height uint16) error { return nil }
func (e *Exec) CloseStdin(ctx context.Context) error                   { return nil }
