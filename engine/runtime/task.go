package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// Task is a container's first process and everything below it.
type Task struct {
	r   *Runtime
	rec record

	done chan struct{} // closed when exit is set

	mu      sync.Mutex
	shim    *client  // guarded by mu: nil if the shim is gone
	pid     int      // guarded by mu
	pidfd   *os.File // guarded by mu
	exit    Exit     // guarded by mu, final once done is closed
	ended   bool     // guarded by mu
	deleted bool     // guarded by mu
	detach  bool     // guarded by mu: the Runtime lets go; a lost connection means nothing
}

func newTask(r *Runtime, rec record) *Task {
	return &Task{r: r, rec: rec, done: make(chan struct{})}
}

// ID is the container's.
func (t *Task) ID() string { return t.rec.ID }

// PID is the process's id on the host. After its end it may be another's.
func (t *Task) PID() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pid
}

// Done is closed when the process has ended.
func (t *Task) Done() <-chan struct{} { return t.done }

// begin starts to listen to the shim.
func (t *Task) begin(c *client) {
	t.mu.Lock()
	t.shim = c
	t.mu.Unlock()
	t.r.serving.Go(func() {
		idle := c.serve(func(e wire.Exit) { t.end(exitFrom(e, t.rec.Cgroup)) })
		t.r.unmounted(t.rec.ID, c.done)
		if idle != nil {
			t.r.shims.put(idle)
			return
		}
		t.shimGone(c)
		c.reap()
	})
}

// started records the process.
func (t *Task) started(pid int, pidfd *os.File) {
	t.mu.Lock()
	t.pid, t.pidfd = pid, pidfd
	t.mu.Unlock()
}

// release lets go of the task without a trace.
func (t *Task) release() {
	t.mu.Lock()
	c := t.shim
	t.detach = true
	t.mu.Unlock()
	if c != nil {
		c.disown()
		<-c.done
	}
	t.mu.Lock()
	if t.pidfd != nil {
		t.pidfd.Close()
		t.pidfd = nil
	}
	t.mu.Unlock()
}

// exitFrom translates a wait status; cg tells whether memory ran out.
func exitFrom(e wire.Exit, cg *cgroup) Exit {
	x := exitOfStatus(syscall.WaitStatus(e.Status))
	x.At = time.Unix(0, e.At)
	if cg != nil && cg.oomKills() > 0 {
		x.OOMKilled = true
	}
	return x
}

func exitOfStatus(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal())}
	}
	return Exit{Code: ws.ExitStatus()}
}

// end sets the exit, once.
func (t *Task) end(x Exit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended, t.exit = true, x
		close(t.done)
	}
}

// shimGone is called when the connection to the shim has ended. If that was not asked for the shim has
// died, and what it looked after must not go on without it: nobody would read
// its output or learn of its end.
func (t *Task) shimGone(c *client) {
	t.mu.Lock()
	if t.shim == c {
		t.shim = nil
	}
	expected := t.detach || t.deleted
	pidfd := t.pidfd
	t.mu.Unlock()
	if expected {
		return
	}
	t.endLost(pidfd)
}

// endLost finds out how the process ended, if it has, and kills what is left.
func (t *Task) endLost(pidfd *os.File) {
	if e, err := readExit(t.r.taskDir(t.rec.ID)); err == nil {
		t.end(exitFrom(e, t.rec.Cgroup))
		return
	}
	x := Exit{Code: 255, Lost: true, At: time.Now(), Reason: "the container's shim died"}
	if pidfd != nil && !kernel.ProcessAlive(pidfd) {
		// It ended by itself; somebody has reaped it, and newer kernels still know.
		if ws, err := kernel.ExitStatus(pidfd); err == nil {
			x = exitOfStatus(ws)
			x.At, x.Reason = time.Now(), "the container's shim died"
		}
	}
	t.r.log.Error("a shim died; its container is killed", "container_id", t.rec.ID, "pid", t.PID())
	if cg := t.rec.Cgroup; cg != nil {
		if err := cg.kill(); err != nil {
			t.r.log.Error("cannot kill a container without shim", "container_id", t.rec.ID, "error", err)
		}
	}
	if pidfd != nil {
		kernel.SignalProcess(pidfd, syscall.SIGKILL) // gone: fine
		kernel.WaitProcess(pidfd, 5000)
	}
	if cg := t.rec.Cgroup; cg != nil && cg.oomKills() > 0 {
		x.OOMKilled = true
	}
	t.end(x)
}

// readExit reads the record that a shim has left.
func readExit(dir string) (wire.Exit, error) {
	b, err := os.ReadFile(filepath.Join(dir, "exit"))
	if err != nil {
		return wire.Exit{}, err
	}
	var e wire.Exit
	if _, err := fmt.Fscanf(bytes.NewReader(b), "status %d at %d\n", &e.Status, &e.At); err != nil {
		return e, fmt.Errorf("exit record: %v: %w", err, errdefs.ErrUnavailable)
	}
	return e, nil
}

// Wait returns how the process ended, once it has. Its output is in the log by then.
func (t *Task) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-t.done:
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Signal sends sig to the first process. errdefs.ErrNotFound: it has ended.
func (t *Task) Signal(ctx context.Context, sig syscall.Signal) error {
	if t.signalOCI(ctx, sig) {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.pidfd == nil {
		return fmt.Errorf("container %s: signal: it has ended: %w", t.rec.ID, errdefs.ErrNotFound)
	}
	if err := kernel.SignalProcess(t.pidfd, sig); err != nil {
		return fmt.Errorf("container %s: %w", t.rec.ID, err)
	}
	return nil
}

// KillAll sends SIGKILL to all processes at a stroke, paused ones, too. Nil if there are none.
func (t *Task) KillAll(ctx context.Context) error {
	if t.rec.Cgroup != nil {
		if err := t.rec.Cgroup.kill(); err != nil {
			return fmt.Errorf("container %s: kill: %w", t.rec.ID, err)
		}
		return nil
	}
	if err := t.Signal(ctx, syscall.SIGKILL); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return nil
}

// Pause stops all processes and returns when they have.
func (t *Task) Pause(ctx context.Context) error {
	if t.rec.OCI != nil {
		return t.pauseOCI(ctx, "pause")
	}
	cg, err := t.freezer()
	if err != nil {
		return err
	}
	if err := cg.freeze(true); err != nil {
		return fmt.Errorf("container %s: pause: %w", t.rec.ID, err)
	}
	if err := cg.awaitFrozen(ctx); err != nil {
		return errors.Join(fmt.Errorf("container %s: pause: %w", t.rec.ID, err), cg.freeze(false))
	}
	return nil
}

// Resume continues all processes.
func (t *Task) Resume(ctx context.Context) error {
	if t.rec.OCI != nil {
		if !t.Paused() { // which a runtime takes for an error
			return nil
		}
		return t.pauseOCI(ctx, "resume")
	}
	cg, err := t.freezer()
	if err != nil {
		return err
	}
	if err := cg.freeze(false); err != nil {
		return fmt.Errorf("container %s: resume: %w", t.rec.ID, err)
	}
	return nil
}

// Paused tells whether the processes are stopped.
func (t *Task) Paused() bool { return t.rec.Cgroup != nil && t.rec.Cgroup.frozen() }

func (t *Task) freezer() (*cgroup, error) {
	select {
	case <-t.done:
		return nil, fmt.Errorf("container %s: it has ended: %w", t.rec.ID, errdefs.ErrConflict)
	default:
	}
	if t.rec.Cgroup == nil {
		return nil, fmt.Errorf("container %s: it has no cgroup: %w", t.rec.ID, errdefs.ErrUnsupported)
	}
	return t.rec.Cgroup, nil
}

// Update changes limits; what r doesn't say stays. errdefs.ErrInvalid: the kernel
// refuses a value.
func (t *Task) Update(ctx context.Context, r *specs.LinuxResources) error {
	cg, err := t.freezer()
	if err != nil {
		return err
	}
	limits := *r
	limits.Devices = nil
	if t.rec.OCI != nil {
		return t.updateOCI(ctx, &limits)
	}
	if err := cg.set(&limits); err != nil {
		return fmt.Errorf("container %s: update: %w", t.rec.ID, err)
	}
	return nil
}

// Namespace opens a namespace of the first process, by its name in /proc/PID/ns. errdefs.ErrConflict: it has ended.
func (t *Task) Namespace(name string) (*os.File, error) {
	pid, target, err := t.first()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", t.rec.ID, err)
	}
	defer target.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	if err == nil && kernel.ProcessAlive(target) {
		return ns, nil
	}
	if err == nil {
		ns.Close()
	}
	return nil, fmt.Errorf("container %s: it has ended: %w", t.rec.ID, errdefs.ErrConflict)
}

// CloneMount clones the mount at path in the container, detached. errdefs.ErrConflict: it has ended, or
// there is nothing.
func (t *Task) CloneMount(path string) (*os.File, error) {
	mnt, err := t.Namespace("mnt")
	if err != nil {
		return nil, err
	}
	defer mnt.Close()
	f, err := kernel.CloneMountOf(mnt, path)
	if err != nil {
		return nil, fmt.Errorf("container %s: %v: %w", t.rec.ID, err, errdefs.ErrConflict)
	}
	return f, nil
}

// PIDs lists all processes, by their ids on the host.
func (t *Task) PIDs(ctx context.Context) ([]int, error) {
	if t.rec.Cgroup == nil {
		return []int{t.PID()}, nil
	}
	pids, err := t.rec.Cgroup.pids()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", t.rec.ID, err)
	}
	return pids, nil
}

// Resize sets the terminal's size in characters. errdefs.ErrConflict: there is no terminal.
func (t *Task) Resize(ctx context.Context, width, height uint16) error {
	return t.ask(ctx, wire.Resize, wire.ResizeRequest{Width: width, Height: height}.Append(nil), "resize")
}

// CloseStdin closes standard input: the process reads end of file.
func (t *Task) CloseStdin(ctx context.Context) error {
	return t.ask(ctx, wire.CloseStdin, nil, "close stdin")
}

func (t *Task) ask(ctx context.Context, typ wire.Type, payload []byte, deed string) error {
	c, err := t.control()
	if err == nil {
		err = c.ask(ctx, typ, payload)
	}
	if err != nil {
		return fmt.Errorf("container %s: %s: %w", t.rec.ID, deed, err)
	}
	return nil
}

func (t *Task) control() (*client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shim == nil {
		return nil, fmt.Errorf("the shim is gone: %w", errdefs.ErrConflict)
	}
	return t.shim, nil
}

// Delete ends whatever runs and removes all that Start made. Nil: it is not there.
func (t *Task) Delete(ctx context.Context) error {
	t.mu.Lock()
	if t.deleted {
		t.mu.Unlock()
		return nil
	}
	c, ended := t.shim, t.ended
	t.mu.Unlock()
	if !ended {
		if err := t.KillAll(ctx); err != nil {
			return err
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return fmt.Errorf("container %s: delete: its processes do not end: %v: %w", t.rec.ID, ctx.Err(), errdefs.ErrUnavailable)
		}
	}
	t.mu.Lock()
	t.deleted = true
	t.mu.Unlock()
	var err error
	if t.rec.OCI != nil {
		err = t.r.deleteOCI(ctx, t.rec.OCI, t.rec.ID)
	}
	// Whatever outlived the first process goes with the cgroup.
	if t.rec.Cgroup != nil {
		err = errors.Join(err, t.rec.Cgroup.remove(ctx))
	}
	if c != nil {
		// Everything is written; its answer is not waited for.
		t.r.unmounts(t.rec.ID, c.done)
		c.dismiss()
	}
	if err == nil {
		err = removeDir(t.r.taskDir(t.rec.ID))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.deleted = false
		return fmt.Errorf("container %s: delete: %w", t.rec.ID, err)
	}
	if t.pidfd != nil {
		t.pidfd.Close()
		t.pidfd = nil
	}
	t.r.forget(t)
	return nil
}

// unmounts notes that a shim may hold the mounts of a deleted container, until done is closed.
func (r *Runtime) unmounts(id string, done <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-done: // unmounted has been called
	default:
		r.unmounting[id] = done
	}
}

// unmounted is told that a shim has answered, or is gone.
func (r *Runtime) unmounted(id string, done <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unmounting[id] == done {
		delete(r.unmounting, id)
	}
}

func (r *Runtime) forget(t *Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[t.rec.ID] == t {
		delete(r.tasks, t.rec.ID)
	}
}

// cleanupTimeout bounds what is done after the caller has gone.
const cleanupTimeout = 30 * time.Second

func cleanupContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}
