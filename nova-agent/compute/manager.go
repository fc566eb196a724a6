package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/store"
	"novaagent/logging"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/placement"
	"novaagent/nova-agent/rpc"
)

// Images brings Glance's images here.
type Images interface {
	// Ensure makes the layers of an image be here and returns its manifest's digest.
	// ErrNotFound: Glance has none. ErrInvalid: it is no image that can run, with the
	// reason. ErrUnavailable: Glance does not answer.
	// maxBytes bounds what it may take, packed and unpacked; 0 is no bound.
	Ensure(ctx context.Context, id string, meta json.RawMessage, maxBytes int64) (digest string, err error)
	// Delete deletes the record in Glance of a snapshot that will not be made; nil
	// if there is none.
	Delete(ctx context.Context, id string) error
}

// Volumes gives up attachments of Cinder volumes, which nova-agent cannot use.
type Volumes interface {
	// DeleteAttachment is nil if there is none.
	DeleteAttachment(ctx context.Context, id string) error
}

// Options configure a Manager.
type Options struct {
	Host     string // CONF.host
	NodeName string // hypervisor_hostname
	MyIP     string
	StateDir string // holds the file compute_id
	// Version of this program, major*1,000,000 + minor*1,000 + patch.
	Version int64
	// ServiceVersion is advertised as nova-compute's; 0 picks it.
	ServiceVersion int

	ReservedCPUs, ReservedMemoryMB, ReservedDiskMB     int
	CPURatio, RAMRatio, DiskRatio                      float64 // 0: not configured
	InitialCPURatio, InitialRAMRatio, InitialDiskRatio float64
	VIFPluggingTimeout                                 time.Duration // 0: do not wait
	VIFPluggingIsFatal                                 bool
	MaxConcurrentBuilds                                int // 0: no limit
	ResumeGuests                                       bool
	ShutdownTimeout                                    time.Duration
	ReportInterval, UpdateInterval, PowerInterval      time.Duration
	HealInterval, RunningDeletedInterval, BuildTimeout time.Duration
	LogBytes                                           int64
	LogFiles                                           int

	Conductor *conductor.Client
	Engine    *engine.Engine
	Neutron   *neutron.Client
	Placement *placement.Client
	Images    Images
	Volumes   Volumes // nil: attachments are left to Nova
	Logger    *slog.Logger
	Observe   Observer
	// Step, if set, is called with each name in Steps when it is reached.
	Step func(name string)
}

// Observer has the functions that are told what happened; each may be nil.
type Observer struct {
	Built     func(outcome string, took time.Duration)
	Operated  func(operation string, took time.Duration, err error)
	Ran       func(task string, took time.Duration, err error)
	Heartbeat func(err error)
}

// Steps are the names that Options.Step is called with, in order. A process that ends at any
// of them leaves what the next start can finish or take back.
var Steps = []string{
	"build.begun", "build.recorded", "build.claimed", "build.allocated", "build.created", "build.plugged", "build.started", "build.active",
	"delete.begun", "delete.removed", "delete.deallocated", "delete.saved", "delete.freed", "delete.done",
}

// Manager is the compute service of a host.
type Manager struct {
	opts      Options
	log       *slog.Logger
	conductor *conductor.Client
	engine    *engine.Engine
	neutron   *neutron.Client
	placement *placement.Client
	db        *store.DB

	locks   *lockMap // by instance UUID
	waiters *waiters
	builds  chan struct{} // places for builds; nil: no limit
	tracker *tracker
	direct  direct // of the tracker's updates alone
	service *service
	late    lateEvents
	aligner aligner
	toHeal  []string // of the periodic task alone
	began   time.Time

	ctx      context.Context // of the goroutines; ends with Close
	cancel   context.CancelFunc
	routines sync.WaitGroup
	work     sync.WaitGroup // operations under way, which Drain waits for
}

// New makes a Manager; Start begins its work.
func New(o Options) *Manager {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{
		opts: o, log: o.Logger, conductor: o.Conductor, engine: o.Engine, neutron: o.Neutron, placement: o.Placement,
		db: o.Engine.DB(), locks: newLockMap(), waiters: newWaiters(),
	}
	if o.MaxConcurrentBuilds > 0 {
		m.builds = make(chan struct{}, o.MaxConcurrentBuilds)
	}
	m.tracker, m.direct.engine = newTracker(m), o.Engine
	m.service = &service{m: m}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Start settles what an earlier process left, brings the service record, the compute
// node and Placement up to date and begins the periodic work. It waits for a conductor
// as long as ctx does. Messages may be served when it has returned.
func (m *Manager) Start(ctx context.Context) error {
	ctx = m.admin(ctx)
	m.began = time.Now()
	if err := m.service.waitForConductor(ctx); err != nil {
		return err
	}
	if err := m.tracker.identify(ctx); err != nil {
		return err
	}
	if err := m.reconcile(ctx); err != nil {
		return err
	}
	if err := m.service.register(ctx); err != nil {
		return err
	}
	if err := m.tracker.update(ctx, true); err != nil {
		return fmt.Errorf("compute node %s: %w", m.opts.NodeName, err)
	}
	m.routine("power events", m.followEvents)
	m.startPeriodic()
	return nil
}

// Drain waits until the operations under way have ended, or ctx has.
func (m *Manager) Drain(ctx context.Context) error {
	done := make(chan struct{})
	go func() { m.work.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("operations are still under way: %w", context.Cause(ctx))
	}
}

// Close ends the periodic work and whatever is still under way, and waits for it. What an
// operation had begun is settled by the next Start.
func (m *Manager) Close() {
	m.cancel()
	m.waiters.close()
	m.work.Wait()
	m.routines.Wait()
}

// HeldLocks names the instances that something is done to.
func (m *Manager) HeldLocks() []string { return m.locks.held() }

// admin is a context for the agent's own work: an administrator without a project, so
// that Nova finds an instance's latest action by itself.
func (m *Manager) admin(ctx context.Context) context.Context {
	rc := rpc.NewAdminContext()
	return logging.With(rpc.WithRequestContext(ctx, rc), logging.Request(rc.RequestID()))
}

// routine runs f until Close. A panic in it is logged and ends it alone.
func (m *Manager) routine(what string, f func(ctx context.Context)) {
	m.routines.Go(func() {
		defer m.survive(m.ctx, what)
		f(m.ctx)
	})
}

// background runs an operation whose message has been answered already. Its context
// carries ctx's values and ends with Close.
func (m *Manager) background(ctx context.Context, what string, f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(m.ctx, cancel)
	m.work.Go(func() {
		defer cancel()
		defer stop()
		defer m.survive(ctx, what)
		f(ctx)
	})
}

// guarded makes an error of a panic in f, so that an operation which meets a bug of ours ends as
// one that failed: with a fault, and with what it made taken back.
func (m *Manager) guarded(ctx context.Context, what string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			m.log.ErrorContext(ctx, "panic", "in", what, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error in %s: %v", what, p)
		}
	}()
	return f()
}

func (m *Manager) survive(ctx context.Context, what string) {
	if p := recover(); p != nil {
		m.log.ErrorContext(ctx, "panic", "in", what, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
	}
}

// step marks a step of a build or delete.
func (m *Manager) step(ctx context.Context, name string) {
	m.log.DebugContext(ctx, "step", "step", name)
	if m.opts.Step != nil {
		m.opts.Step(name)
	}
}

// power is the state of an instance's container.
func (m *Manager) power(uuid string) power {
	c, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return powerNoState // there is none
	}
	return powerState(c.State)
}

// cleanupTimeout bounds what is undone after an operation failed or its caller left.
const cleanupTimeout = 2 * time.Minute

// cleanup is a context for undoing: it outlives ctx.
func cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
}

// removeContainer asks for absence of an instance's container and files.
func (m *Manager) removeContainer(ctx context.Context, uuid string) error {
	err := m.engine.Remove(ctx, containerID(uuid), engine.RemoveOptions{Force: true})
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	return m.removeFiles(uuid)
}
