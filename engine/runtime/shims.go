package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// shimsCgroup is the cgroup of all shims, beside the containers'.
const shimsCgroup = "shims"

// shimEnv tunes the shim's Go runtime: no collection until the heap is near the
// limit, which a shim reaches only after very many execs. With more than one processor to give away the
// runtime's monitor looks every 20 us, for 10 ms, whether to take one from who waits in a system call.
var shimEnv = []string{"GOGC=off", "GOMEMLIMIT=6MiB", "GOMAXPROCS=1", "GOTRACEBACK=none"}

// firstFD is above the descriptors that a shim is started with: those replace the agent's of
// the same numbers before the program, which is named by its descriptor, is executed.
const firstFD = 4

// shimPool keeps idle shims ready.
//
// They are started in a mount namespace of their own that holds nothing but an empty tmpfs, proc and
// sysfs: a shim has no use for the host's files, holds none of its mounts
// busy, and a container's mount namespace starts as a copy of three mounts instead of hundreds.
type shimPool struct {
	program *os.File // a read-only mount of the executable
	path    string   // of the executable
	room    *kernel.Room
	cgroups []string // directories
	log     *slog.Logger

	// idle are those that wait for a container, warm of them at least.
	idle chan *client
	warm int
	// taken is told of each that is taken.
	taken chan struct{}
	stop  context.CancelFunc
	done  sync.WaitGroup
}

func newShimPool(dir string, program []byte, h *hierarchies, warm int, log *slog.Logger) (*shimPool, error) {
	p := &shimPool{log: log, idle: make(chan *client, keptShims*warm), warm: warm, taken: make(chan struct{}, 1)}
	var err error
	if p.cgroups, err = h.makeShims(); err != nil {
		return nil, err
	}
	if p.program, p.path, err = extractShim(dir, program); err != nil {
		return nil, err
	}
	if p.room, err = kernel.NewRoom(); err != nil {
		p.program.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	first, err := p.spawn()
	// A process that was forked meanwhile has the descriptor extractShim wrote through until it
	// executes something.
	for end := time.Now().Add(time.Second); errors.Is(err, syscall.ETXTBSY) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
		first, err = p.spawn()
	}
	if err != nil {
		cancel()
		p.room.Close()
		p.program.Close()
		return nil, fmt.Errorf("start a shim: %w", err)
	}
	p.idle <- first
	p.done.Go(func() { p.fill(ctx) })
	return p, nil
}

// extractShim writes the program to dir, named by its content, so that an
// upgrade leaves running ones alone, and returns a read-only mount of it: nobody who gets hold of /proc/<shim>/exe
// can write to it (CVE-2019-5736).
func extractShim(dir string, program []byte) (_ *os.File, path string, err error) {
	sum := sha256.Sum256(program)
	path = filepath.Join(dir, hex.EncodeToString(sum[:16]))
	have, err := os.ReadFile(path)
	if err != nil || sha256.Sum256(have) != sum {
		if err := os.WriteFile(path+".new", program, 0o755); err != nil {
			return nil, "", fmt.Errorf("extract the shim: %w", err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			return nil, "", fmt.Errorf("extract the shim: %w", err)
		}
	}
	// It is also what containers have as their init.
	if err := os.Chmod(path, 0o755); err != nil {
		return nil, "", fmt.Errorf("extract the shim: %w", err)
	}
	old, err := os.ReadDir(dir)
	if err != nil {
		return nil, "", fmt.Errorf("extract the shim: %w", err)
	}
	for _, e := range old {
		if e.Name() != filepath.Base(path) {
			os.Remove(filepath.Join(dir, e.Name())) // its processes keep the inode
		}
	}
	// /run is often mounted noexec.
	f, err := kernel.Bind(kernel.AtCwd, path, kernel.BindOptions{
		Set: kernel.AttrReadOnly | kernel.AttrNoSuid | kernel.AttrNoDev, Clear: kernel.AttrNoExec, Propagation: kernel.PropagatePrivate, IDMap: -1,
	})
	if err != nil {
		return nil, "", fmt.Errorf("extract the shim: %w", err)
	}
	defer f.Close()
	duplicate, err := kernel.Duplicate(f, firstFD)
	return duplicate, path, err
}

const (
	// keptShims is how many times the number of warm shims are kept when they have served.
	keptShims = 4
	// fillDelay is how long a missing shim may take to come back from its container before another is
	// started. A new one costs as much CPU as a short container's life, which would be slowed down by it.
	fillDelay = 100 * time.Millisecond
)

// fill keeps warm shims idle.
func (p *shimPool) fill(ctx context.Context) {
	for {
		var delay <-chan time.Time // for ever
		switch n := len(p.idle); {
		case n == 0:
			if !p.add(ctx) {
				return
			}
			continue
		case n < p.warm:
			delay = time.After(fillDelay)
		}
		select {
		case <-p.taken:
		case <-delay:
			if len(p.idle) < p.warm && !p.add(ctx) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// add starts a shim. It returns false if ctx ends.
func (p *shimPool) add(ctx context.Context) bool {
	c, err := p.spawn()
	if err == nil {
		p.put(c)
		return ctx.Err() == nil
	}
	p.log.ErrorContext(ctx, "cannot start a shim", "error", err)
	select {
	case <-ctx.Done():
		return false
	case <-time.After(time.Second):
		return true
	}
}

// put takes in an idle shim, or lets it go if there are enough.
func (p *shimPool) put(c *client) {
	select {
	case p.idle <- c:
	default:
		c.end()
	}
}

// take returns an idle shim that is alive.
func (p *shimPool) take(ctx context.Context) (*client, error) {
	for {
		select {
		case c := <-p.idle:
			select {
			case p.taken <- struct{}{}:
			default:
			}
			if c.alive() {
				return c, nil
			}
			c.end()
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for a shim: %v: %w", ctx.Err(), errdefs.ErrUnavailable)
		}
	}
}

func (p *shimPool) close() {
	p.stop()
	p.done.Wait()
	for {
		select {
		case c := <-p.idle:
			c.end()
			continue
		default:
		}
		break
	}
	p.room.Close()
	p.program.Close()
}

// spawn starts one shim, in its own session and in the shims' cgroup, and waits for its greeting.
func (p *shimPool) spawn() (*client, error) {
	ours, theirs, err := kernel.SocketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer null.Close()
	var pid int
	p.room.Do(func() {
		fd := null.Fd()
		pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(int(p.program.Fd())), []string{"nova-agent-shim"}, &syscall.ProcAttr{
			Dir: "/", Env: shimEnv, Files: []uintptr{fd, fd, fd, theirs.Fd()}, // below firstFD
			Sys: &syscall.SysProcAttr{Setsid: true},
		})
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("fork: %w", err)
	}
	for _, d := range p.cgroups {
		if err := writeFile(d, "cgroup.procs", strconv.Itoa(pid)); err != nil && !errors.Is(err, syscall.ESRCH) {
			p.log.Warn("cannot put a shim into its cgroup", "error", err)
		}
	}
	c, err := newClient(ours)
	if err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		reapShim(pid)
		return nil, err
	}
	c.child = pid
	return c, nil
}

// reapShim waits for a shim that is a child of this agent.
func reapShim(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// makeShims makes the shims' cgroup in each hierarchy and returns the directories.
func (h *hierarchies) makeShims() ([]string, error) {
	var dirs []string
	for _, m := range h.mounts() {
		d := filepath.Join(m, h.parent, shimsCgroup)
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("cgroups: %w", err)
		}
		if m == h.v1["cpuset"] {
			if err := inheritCpuset(filepath.Dir(d), d); err != nil {
				return nil, err
			}
		}
		dirs = append(dirs, d)
	}
	return dirs, nil
}

// removeShims removes the shims' cgroups if no shim is left. The last ones may be on their way out: patience
// is how long to wait for them.
func (h *hierarchies) removeShims(patience time.Duration) error {
	end := time.Now().Add(patience)
	var errs error
	for _, m := range h.mounts() {
		dir := filepath.Join(m, h.parent, shimsCgroup)
		err := syscall.Rmdir(dir)
		for err == syscall.EBUSY && time.Now().Before(end) {
			time.Sleep(time.Millisecond)
			err = syscall.Rmdir(dir)
		}
		if err != nil && err != syscall.ENOENT && err != syscall.EBUSY {
			errs = errors.Join(errs, fmt.Errorf("cgroups: remove %s: %w", dir, err))
		}
	}
	return errs
}
