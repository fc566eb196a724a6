package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime/seccomp"
	"novaagent/engine/runtime/shimbin"
	"novaagent/engine/shim/wire"
)

// Options configure a Runtime.
type Options struct {
	// RunDir holds sockets, exit records and what is needed to adopt running
	// containers. It is made with mode 0700; it may be on a tmpfs, since nothing in
	// it is of use after a reboot.
	RunDir string
	// CgroupParent is the cgroup, in every hierarchy, under which the containers'
	// and the shims' cgroups are made, e.g. "/nova-agent".
	CgroupParent string
	// WarmShims is how many idle shims are kept ready; 0 means 2.
	WarmShims int
	// Shim is the shim's executable; nil means the embedded one.
	Shim []byte
	// OCI are the OCI runtimes that a Bundle can name.
	OCI map[string]OCI
	// Logger is told what no caller waits for: a shim that died, a limit that could not
	// be set. Nil discards.
	Logger *slog.Logger
}

// Runtime starts containers and adopts those that an earlier Runtime started.
type Runtime struct {
	runDir string
	bootID string
	log    *slog.Logger
	oci    map[string]OCI
	cg     *hierarchies
	shims  *shimPool
	devs   *devPool

	// mayRaiseLimits: the agent has CAP_SYS_RESOURCE.
	mayRaiseLimits bool
	lastCapability int
	// masked are the paths that patterns in masked paths stand for on this host.
	masked sync.Map
	// serving are the goroutines that listen to a shim, and reap it, close a mount, or make the next /dev.
	serving sync.WaitGroup

	mu      sync.Mutex
	tasks   map[string]*Task           // guarded by mu
	filters map[uint64]*seccomp.Filter // guarded by mu: the default profile by bounding set
	closed  bool                       // guarded by mu
	// unmounting are the IDs of deleted containers whose shim has not answered yet: it may hold their
	// mounts. The channel is closed when it has. Guarded by mu.
	unmounting map[string]<-chan struct{}
}

// New prepares RunDir and the cgroups and starts the warm shims.
func New(o Options) (*Runtime, error) {
	r := &Runtime{
		runDir: o.RunDir, log: o.Logger, oci: o.OCI,
		mayRaiseLimits: kernel.HasCapability(kernel.CapSysResource), lastCapability: kernel.LastCapability(),
		tasks: map[string]*Task{}, filters: map[uint64]*seccomp.Filter{}, unmounting: map[string]<-chan struct{}{},
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if o.WarmShims == 0 {
		o.WarmShims = 2
	}
	for _, dir := range []string{r.runDir, r.tasksDir(), filepath.Join(r.runDir, "shim")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("runtime: %w", err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, fmt.Errorf("runtime: %w", err)
		}
	}
	var err error
	if r.bootID, err = kernel.BootID(); err != nil {
		return nil, err
	}
	if r.cg, err = findHierarchies(o.CgroupParent); err != nil {
		return nil, err
	}
	if o.Shim == nil {
		if o.Shim, err = shimbin.Program(); err != nil {
			return nil, err
		}
	}
	if r.devs, err = newDevPool(); err != nil {
		return nil, err
	}
	r.shims, err = newShimPool(filepath.Join(r.runDir, "shim"), o.Shim, r.cg, o.WarmShims, r.log)
	if err != nil {
		return nil, errors.Join(err, r.cg.removeShims(0))
	}
	return r, nil
}

// Close lets go of all tasks, whose containers go on running, and ends the idle shims. The
// cgroup parent goes if nothing is left in it.
func (r *Runtime) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	tasks := make([]*Task, 0, len(r.tasks))
	for _, t := range r.tasks {
		tasks = append(tasks, t)
	}
	r.mu.Unlock()
	for _, t := range tasks {
		t.release()
	}
	r.serving.Wait()
	r.devs.close()
	r.shims.close()
	// Containers that go on running have shims that do so, too.
	ids, err := r.IDs()
	var patience time.Duration
	if len(ids) == 0 {
		patience = 2 * time.Second
	}
	err = errors.Join(err, r.cg.removeShims(patience))
	r.cg.removeParent()
	return err
}

// IDs lists the containers that have a directory in RunDir, whatever their state.
func (r *Runtime) IDs() ([]string, error) {
	entries, err := os.ReadDir(r.tasksDir())
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if validID.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Remove removes all traces of id: running or not, known or half made. Nil means that
// there are none.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	t, err := r.Load(ctx, id)
	if err == nil {
		return t.Delete(ctx)
	}
	if !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	if err := r.removeRecorded(ctx, id); err != nil {
		return fmt.Errorf("container %s: remove: %w", id, err)
	}
	return r.removeTraces(ctx, id, r.cg.everywhere(filepath.Join(r.cg.parent, id)))
}

// removeRecorded removes what the record of a container that did not come to be tells of: its cgroup, which may be
// elsewhere than ours, and what an OCI runtime has made.
func (r *Runtime) removeRecorded(ctx context.Context, id string) error {
	var rec record
	b, err := os.ReadFile(filepath.Join(r.taskDir(id), "task.json"))
	if err != nil || json.Unmarshal(b, &rec) != nil || rec.BootID != r.bootID {
		return nil
	}
	if rec.Cgroup != nil {
		rec.Cgroup.h = r.cg
		err = rec.Cgroup.kill()
	}
	if rec.OCI != nil {
		err = errors.Join(err, r.deleteOCI(ctx, rec.OCI, id))
	}
	if rec.Cgroup != nil {
		err = errors.Join(err, rec.Cgroup.remove(ctx))
	}
	return err
}

// InitProgram is the path of a program that, called as docker-init, is a minimal process 1.
func (r *Runtime) InitProgram() string { return r.shims.path }

// removeTraces removes what a container leaves in the file systems.
func (r *Runtime) removeTraces(ctx context.Context, id string, cg *cgroup) error {
	var err error
	if cg != nil {
		err = cg.remove(ctx)
	}
	err = errors.Join(err, r.removeOCIState(id))
	// A shim that no record could be read for: it ends only if it is told to.
	if c, _, dialErr := dial(r.taskDir(id)); dialErr == nil {
		err = errors.Join(err, c.send(wire.Quit, 0, nil), c.net.Close())
	}
	// The directory is what makes it known: it goes last, and stays if a process is left.
	if err == nil {
		err = removeDir(r.taskDir(id))
	}
	if err != nil {
		return fmt.Errorf("container %s: remove: %w", id, err)
	}
	return nil
}

// removeDir removes a task's directory, which holds files only.
func removeDir(dir string) error {
	for _, name := range []string{"/shim.sock", "/exit", "/task.json", "/exit.new"} {
		if err := syscall.Unlink(dir + name); err != nil && err != syscall.ENOENT {
			return &os.PathError{Op: "remove", Path: dir + name, Err: err}
		}
	}
	err := syscall.Rmdir(dir)
	if err == syscall.ENOTEMPTY { // an OCI runtime's files
		return os.RemoveAll(dir)
	}
	if err != nil && err != syscall.ENOENT {
		return &os.PathError{Op: "remove", Path: dir, Err: err}
	}
	return nil
}

func (r *Runtime) tasksDir() string         { return filepath.Join(r.runDir, "tasks") }
func (r *Runtime) taskDir(id string) string { return filepath.Join(r.runDir, "tasks", id) }

// task returns a known task, or nil.
func (r *Runtime) task(id string) *Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks[id]
}

var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$`)

func checkID(id string) error {
	if !validID.MatchString(id) || id == shimsCgroup {
		return fmt.Errorf("container id %q: %w", id, errdefs.ErrInvalid)
	}
	return nil
}
