package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
	"novaagent/engine/kernel"
	"novaagent/engine/network"
	"novaagent/engine/plugin"
	"novaagent/engine/runtime"
	"novaagent/engine/store"
)

// Options configure an Engine.
type Options struct {
	// Root holds all that outlives a reboot. It is made with mode 0700.
	Root string
	// RunDir holds what doesn't: sockets and pinned namespaces. It may be on a
	// tmpfs; Root/run if empty.
	RunDir string
	// CgroupParent is the cgroup below which all others are made. If empty it is
	// "/nova-agent-" and a hash of Root, so that engines of different roots don't meet.
	CgroupParent string
	// WarmShims is how many idle shims are kept ready; 0 means 2.
	WarmShims int
	// Shim is the shim's executable; nil means the embedded one.
	Shim []byte
	// Runtimes are OCI runtimes that a Spec can name. DefaultRuntime is one of them, or OwnRuntime if empty: what the
	// Docker door takes for a container that names none.
	Runtimes       map[string]runtime.OCI
	DefaultRuntime string
	// OVSDB is the Unix socket of ovsdb-server; empty means network.Options' default.
	OVSDB string
	// CDISpecDirs replace the default directories of the Container Device Interface.
	CDISpecDirs []string
	// JournalSocket is journald's, for the log driver of that name; empty means logsink.DefaultJournalSocket.
	JournalSocket string
	// Plugins finds plug-ins; nil directories mean Docker's.
	Plugins plugin.Finder
	// Subnets are those that networks get unless one is asked for; nil means Docker's. They are IPv4.
	Subnets []netip.Prefix
	// ImageLimits bound imports; zero fields have defaults.
	ImageLimits image.Limits
	Logger      *slog.Logger
	Hooks       Hooks
}

// Hooks let a test watch the engine, or end it at a chosen step.
type Hooks struct {
	// Step is called after each step named in Steps, with the container's lock held.
	Step func(step, id string)
}

// Engine is an open engine. All methods may be called at the same time.
type Engine struct {
	opts     Options
	log      *slog.Logger
	bootID   string
	lock     *os.File
	db       *store.DB
	images   *image.Store
	runtime  *runtime.Runtime
	network  *network.Manager
	gateways gateways
	cgroup   string
	events   *eventLog
	locks    keyedLocks
	ctx      context.Context // ends with Close; for goroutines of the engine's own
	cancel   context.CancelFunc
	routines sync.WaitGroup

	// volumeLocks come after a container's lock; two are never held together.
	volumeLocks keyedLocks

	spares chan *spare // takes one that is ready
	frames chan string // the names of those that are ready

	mu          sync.RWMutex
	containers  map[string]*tracked
	departed    []*tracked         // guarded by mu: the latest that have removed themselves, see Waiter
	names       map[string]string  // name to ID, those being created included
	volumes     map[string]Volume  // by name
	pluginPaths map[string]string  // of mounted volumes, by name
	networks    map[string]Network // by ID, without those that are always there
	execs       map[string]*execution
	closing     bool
}

// Open opens the engine whose state is under o.Root, making it if it is not there.
// It adopts the containers that run, settles what a crash interrupted, removes
// strays and starts those that a restart policy wants to run.
//
// ErrConflict: another engine has the root open. ErrUnsupported: a newer version wrote it.
func Open(ctx context.Context, o Options) (_ *Engine, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Root, err = filepath.Abs(o.Root); err != nil {
		return nil, fmt.Errorf("engine root: %w", err)
	}
	if o.RunDir == "" {
		o.RunDir = filepath.Join(o.Root, "run")
	}
	if o.CgroupParent == "" {
		o.CgroupParent = "/nova-agent-" + rootMark(o.Root)
	}
	if err := o.checkRuntimes(); err != nil {
		return nil, err
	}
	if o.Plugins.Sockets == nil {
		o.Plugins.Sockets = plugin.DefaultSockets
	}
	if o.Plugins.Specs == nil {
		o.Plugins.Specs = plugin.DefaultSpecs
	}
	e := &Engine{
		opts: o, log: o.Logger, cgroup: o.CgroupParent,
		spares:      make(chan *spare),
		frames:      make(chan string, keptFrames),
		events:      newEventLog(),
		containers:  map[string]*tracked{},
		names:       map[string]string{},
		execs:       map[string]*execution{},
		gateways:    gateways{published: map[string]published{}, opening: true},
		volumes:     map[string]Volume{},
		pluginPaths: map[string]string{},
	}
	if e.opts.Subnets == nil {
		e.opts.Subnets = bridgeSubnets()
	}
	e.volumeLocks.what = "volume"
	// Not ctx: what it starts goes on when Open has returned.
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
		}
	}()
	if err := e.openParts(ctx); err != nil {
		return nil, err
	}
	if err := e.reconcile(ctx); err != nil {
		return nil, err
	}
	e.spawn("spare", "", e.keepSpare)
	return e, nil
}

// rootMark is eight digits that tell the engine of a root from others on the host.
func rootMark(root string) string {
	sum := sha256.Sum256([]byte(root))
	return hex.EncodeToString(sum[:4])
}

// openParts opens what the engine is made of.
func (e *Engine) openParts(ctx context.Context) (err error) {
	for _, dir := range []string{e.opts.Root, e.opts.RunDir, e.containersDir(), e.trashDir(), e.framesDir(), e.volumesDir(), e.nsRoot()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
		}
	}
	if e.lock, err = kernel.LockFile(filepath.Join(e.opts.Root, "lock")); err != nil {
		return fmt.Errorf("engine root %s is in use: %w", e.opts.Root, err)
	}
	if err := errors.Join(e.makeSkeleton(), e.findFrames()); err != nil {
		return err
	}
	if e.bootID, err = kernel.BootID(); err != nil {
		return err
	}
	if e.db, err = store.Open(filepath.Join(e.opts.Root, "state.db"), e.log); err != nil {
		return err
	}
	imageOptions := image.Options{Logger: e.log, Limits: e.opts.ImageLimits}
	if e.images, err = image.Open(ctx, filepath.Join(e.opts.Root, "images"), imageOptions); err != nil {
		return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
	}
	e.network = network.New(network.Options{Logger: e.log, OVSDB: e.opts.OVSDB, Owner: e.mark()})
	e.runtime, err = runtime.New(runtime.Options{
		RunDir:       filepath.Join(e.opts.RunDir, "runtime"),
		CgroupParent: e.cgroup,
		WarmShims:    e.opts.WarmShims,
		Shim:         e.opts.Shim,
		OCI:          e.opts.Runtimes,
		Logger:       e.log,
	})
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return nil
}

// Close lets go of everything and waits for the engine's goroutines. Containers go on running.
func (e *Engine) Close() error {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return nil
	}
	e.closing = true
	e.mu.Unlock()
	e.cancel()
	e.routines.Wait()
	var errs []error
	e.closeAllNames()
	for _, p := range e.gateways.published { // the rules stay: the containers run on
		errs = append(errs, p.close())
	}
	if e.runtime != nil {
		errs = append(errs, e.runtime.Close())
	}
	if e.network != nil {
		errs = append(errs, e.network.Close())
	}
	if e.images != nil {
		errs = append(errs, e.images.Close())
	}
	if e.db != nil {
		errs = append(errs, e.db.Close())
	}
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	return errors.Join(errs...)
}

// Images is the store of images, for the doors and the bridge that fills it.
func (e *Engine) Images() *image.Store { return e.images }

// DB is the node's database, for the records of what is built on the engine.
func (e *Engine) DB() *store.DB { return e.db }

// BootID identifies the host's current boot.
func (e *Engine) BootID() string { return e.bootID }

// Root is the directory that holds the engine's state.
func (e *Engine) Root() string { return e.opts.Root }

// spawn runs f in a goroutine that Close waits for. A panic is logged, and ends f only.
// It returns false, and runs nothing, if the engine is closing.
func (e *Engine) spawn(what, id string, f func(ctx context.Context)) bool {
	e.mu.Lock()
	if e.closing {
		e.mu.Unlock()
		return false
	}
	e.routines.Add(1)
	e.mu.Unlock()
	go func() {
		defer e.routines.Done()
		defer func() {
			if p := recover(); p != nil {
				e.log.Error("panic in the engine", "goroutine", what, "container_id", id,
					"panic", p, "stack", string(debug.Stack()))
			}
		}()
		f(e.ctx)
	}()
	return true
}

// enter notes that an operation begins, which Close waits for, and refuses it if the
// engine is closing: what belongs to a container may be another engine's by then.
func (e *Engine) enter() (leave func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return nil, fmt.Errorf("the engine is closing: %w", errdefs.ErrUnavailable)
	}
	e.routines.Add(1)
	return e.routines.Done, nil
}

// lockContainer takes the lock of the container with that ID.
func (e *Engine) lockContainer(ctx context.Context, id string) (unlock func(), err error) {
	leave, err := e.enter()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", short(id), err)
	}
	release, err := e.locks.lock(ctx, id)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { release(); leave() }, nil
}

// The directories. All are functions of the ID.

func (e *Engine) containersDir() string         { return filepath.Join(e.opts.Root, "containers") }
func (e *Engine) containerDir(id string) string { return filepath.Join(e.containersDir(), id) }
func (e *Engine) volumesDir() string            { return filepath.Join(e.opts.Root, "volumes") }
func (e *Engine) nsRoot() string                { return filepath.Join(e.opts.RunDir, "ns") }
func (e *Engine) nsDir(id string) string        { return filepath.Join(e.nsRoot(), id) }
func (e *Engine) netPath(id string) string      { return filepath.Join(e.nsDir(id), "net") }
func (e *Engine) logPath(id string) string {
	return filepath.Join(e.containerDir(id), logDir, "console.log")
}
