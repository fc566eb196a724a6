package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// Exec is a process that was started by Task.Exec.
type Exec struct {
	t    *Task
	id   string
	pid  int
	done chan struct{}

	mu    sync.Mutex
	pidfd *os.File // guarded by mu: nil once the process has ended
	exit  Exit     // guarded by mu, final once done is closed
}

// Exec starts a further process in the container and copies between it and streams.
// It returns once the process has been executed.
//
// errdefs.ErrConflict: the container has ended, or the exec's ID is taken; errdefs.ErrInvalid: the executable,
// working directory or user is wrong.
func (t *Task) Exec(ctx context.Context, s ExecSpec, streams Streams) (*Exec, error) {
	e, err := t.exec(ctx, s, streams)
	if err != nil {
		return nil, fmt.Errorf("container %s: exec: %w", t.rec.ID, err)
	}
	return e, nil
}

func (t *Task) exec(ctx context.Context, s ExecSpec, streams Streams) (*Exec, error) {
	if s.ID == "" || len(s.ID) > 255 {
		return nil, fmt.Errorf("id %q: %w", s.ID, errdefs.ErrInvalid)
	}
	pid, target, err := t.first()
	if err != nil {
		return nil, err
	}
	defer target.Close()
	root, err := openRoot(pid, target)
	if err != nil {
		return nil, err
	}
	process, err := t.execProcess(s, root)
	if err != nil {
		root.Close()
		return nil, err
	}
	spec := &specs.Spec{Process: process, Linux: t.rec.Linux, Annotations: t.rec.Annotations}
	if s.Privileged {
		linux := *t.rec.Linux
		linux.Seccomp = nil
		spec.Linux, spec.Annotations = &linux, nil
	}
	l := &launch{r: t.r, id: t.rec.ID, b: kernel.NewBuilder(), spec: spec, ns: recordedNamespaces(t.rec.Linux), root: root, width: s.Width, height: s.Height}
	defer l.close()
	l.files = append(l.files, root)
	if t.rec.OCI != nil {
		if l.oci, err = t.r.ociCommand(t.rec.OCI, t.rec.ID, "exec", s.ID+"."); err != nil {
			return nil, err
		}
		defer l.oci.removeFiles("json", "log", "pid", "console.sock")
	}
	shimFiles, header, err := l.streams(s.TTY, s.OpenStdin)
	if err != nil {
		return nil, err
	}
	if l.oci != nil {
		err = l.compileOCIExec(t.rec.Cgroup)
	} else {
		err = l.compileExec(t.rec.Cgroup, target)
	}
	if err != nil {
		return nil, err
	}
	header.ID = s.ID
	if s.Bound {
		header.Flags |= wire.Bound
	}
	program, programFDs := l.b.Program()
	var fds []int
	for _, f := range shimFiles {
		fds = append(fds, int(f.Fd()))
	}
	fds = append(fds, programFDs...)

	c, _, err := dial(t.r.taskDir(t.rec.ID))
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	result, pidfd, err := launchCall(ctx, c, wire.Exec, append(header.Append(nil), program...), fds)
	if err == nil && result.Errno != 0 {
		err = l.failure(process, int(result.Step), syscall.Errno(result.Errno), notesOf(result))
	}
	if err != nil {
		c.net.Close()
		return nil, err
	}
	for _, w := range append(l.warnings, l.noteWarnings(result)...) {
		t.r.log.WarnContext(ctx, "exec started with a restriction", "container_id", t.rec.ID, "what", w)
	}
	e := &Exec{t: t, id: s.ID, pid: int(result.PID), pidfd: pidfd, done: make(chan struct{})}
	go e.serve(c, streams)
	if streams.Stdin != nil && s.OpenStdin {
		go copyInput(c, streams.Stdin)
	}
	return e, nil
}

// compileExec appends the steps of a process that joins the container.
func (l *launch) compileExec(cg *cgroup, target *os.File) error {
	if err := l.enterCgroup(cg); err != nil {
		return err
	}
	if err := l.hostSteps(l.spec.Process); err != nil {
		return err
	}
	var flags uintptr
	for kind := range l.ns.has {
		flags |= namespaceFlags[kind]
	}
	// All at once, by the process itself: no path of /proc that could be another's by now.
	l.b.Setns(l.b.FD(int(target.Fd())), flags, "the container's namespaces")
	if l.ns.has[specs.UserNamespace] {
		l.b.BecomeRootOf()
	}
	if l.ns.pid {
		l.b.Fork()
	}
	l.b.JoinSessionKeyring("nova-agent-" + l.id).TolerateAll()
	var terminal *kernel.Ref
	if l.console != nil {
		ptmx, _ := l.b.Open("/dev/pts/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK)
		u := l.spec.Process.User
		slave := l.b.Terminal(ptmx, l.b.FD(int(l.console.Fd())), u.UID, u.GID, l.width, l.height)
		terminal = &slave
	}
	return l.finish(l.spec.Process, terminal)
}

// recordedNamespaces says which namespaces a running container has.
func recordedNamespaces(linux *specs.Linux) *namespaces {
	n := &namespaces{has: map[specs.LinuxNamespaceType]bool{}}
	for _, ns := range linux.Namespaces {
		n.has[ns.Type] = true
	}
	n.pid = n.has[specs.PIDNamespace]
	return n
}

// openRoot opens the root directory of the process target, whose pid it is while target is alive.
func openRoot(pid int, target *os.File) (*os.File, error) {
	root, err := kernel.OpenPath(fmt.Sprintf("/proc/%d/root", pid))
	if err == nil && kernel.ProcessAlive(target) {
		return root, nil
	}
	if err == nil {
		root.Close()
	}
	return nil, fmt.Errorf("the container has ended: %w", errdefs.ErrConflict)
}

// execProcess derives the exec's process from the container's.
func (t *Task) execProcess(s ExecSpec, root *os.File) (*specs.Process, error) {
	p := *t.rec.Process
	p.Args, p.Terminal, p.ConsoleSize = s.Args, s.TTY, nil
	p.Env = mergeEnv(t.rec.Process.Env, s.Env)
	if s.WorkDir != "" {
		p.Cwd = s.WorkDir
	}
	if s.User != "" {
		p.User.AdditionalGids = nil
		p.Env = slices.DeleteFunc(p.Env, func(e string) bool {
			return strings.HasPrefix(e, "HOME=") && !slices.Contains(s.Env, e)
		})
	}
	if s.Privileged {
		all := capabilityList(1<<(t.r.lastCapability+1) - 1)
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	} else if p.Capabilities != nil {
		// A further process never has more than the first (CVE-2022-29162).
		caps := *p.Capabilities
		caps.Inheritable, caps.Ambient = nil, nil
		p.Capabilities = &caps
	}
	if err := resolveUser(root, &p, s.User); err != nil {
		return nil, err
	}
	return &p, nil
}

// mergeEnv adds variables, which replace those of the same name.
func mergeEnv(base, add []string) []string {
	out := slices.Clone(base)
	for _, e := range add {
		name, _, _ := strings.Cut(e, "=")
		i := slices.IndexFunc(out, func(o string) bool { return strings.HasPrefix(o, name+"=") })
		if i >= 0 {
			out[i] = e
		} else {
			out = append(out, e)
		}
	}
	return out
}

// serve copies output until the exit is told.
func (e *Exec) serve(c *conn, s Streams) {
	exited, err := copyOutput(c, s, func(x wire.Exit) { e.end(exitFrom(x, nil)) })
	if !exited && !isEOF(err) && !errors.Is(err, os.ErrClosed) {
		// The client has gone; the process is heard to its end.
		exited, _ = copyOutput(c, Streams{}, func(x wire.Exit) { e.end(exitFrom(x, nil)) })
	}
	c.net.Close()
	if !exited {
		e.end(Exit{Code: 255, Lost: true, At: time.Now(), Reason: "the connection to the container's shim was lost"})
	}
}

func (e *Exec) end(x Exit) {
	e.mu.Lock()
	e.exit = x
	e.pidfd.Close()
	e.pidfd = nil
	e.mu.Unlock()
	close(e.done)
}

// ID is the exec's.
func (e *Exec) ID() string { return e.id }

// PID is the process's id on the host.
func (e *Exec) PID() int { return e.pid }

// Done is closed when the process has ended and its output is copied.
func (e *Exec) Done() <-chan struct{} { return e.done }

// Wait returns how the process ended, once it has and its output is copied.
func (e *Exec) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-e.done:
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.exit, nil
	case <-ctx.Done():
		return Exit{}, ctx.Err()
	}
}

// Signal sends sig to the process. errdefs.ErrNotFound: it has ended.
func (e *Exec) Signal(ctx context.Context, sig syscall.Signal) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pidfd == nil {
		return fmt.Errorf("exec %s: signal: it has ended: %w", e.id, errdefs.ErrNotFound)
	}
	if err := kernel.SignalProcess(e.pidfd, sig); err != nil {
		return fmt.Errorf("exec %s: %w", e.id, err)
	}
	return nil
}

// Kill ends the process and its process group.
func (e *Exec) Kill() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.pidfd == nil {
		return nil
	}
	if err := kernel.KillGroup(e.pidfd); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("exec %s: kill: %w", e.id, err)
	}
	return nil
}

// Resize sets the terminal's size in characters.
func (e *Exec) Resize(ctx context.Context, width, height uint16) error {
	return e.t.ask(ctx, wire.Resize, wire.ResizeRequest{Width: width, Height: height, ID: e.id}.Append(nil), "resize exec "+e.id)
}

// CloseStdin closes standard input: the process reads end of file.
func (e *Exec) CloseStdin(ctx context.Context) error {
	return e.t.ask(ctx, wire.CloseStdin, []byte(e.id), "close stdin of exec "+e.id)
}
