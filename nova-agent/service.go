package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/compute"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/observe"
	"novaagent/nova-agent/placement"
	"novaagent/nova-agent/rpc"
)

// service is nova-agent as the compute service of a node. Its parts stand in the order
// in which they are opened; they are closed the other way round.
type service struct {
	config *config.Config
	path   string // of the file
	log    *slog.Logger
	level  *slog.LevelVar
	hup    chan os.Signal // SIGHUP

	metrics  *observe.Metrics
	engine   *engine.Engine
	sessions *sessions
	bus      *rpc.Bus
	images   *images
	manager  *compute.Manager
	observer *observe.Server
	docker   *dockerServer
	// Two servers, since newer control planes send what an operation under way waits
	// for to a topic of its own, which is left last.
	main, alt *rpc.Server
}

// runService is the compute service until ctx ends.
func runService(ctx context.Context, args []string) error {
	f := newFlags("run")
	path := f.String("config", defaultConfig, "the configuration `file`")
	if err := parseAll(f, args); err != nil {
		return err
	}
	c, err := loadConfig(*path)
	if err != nil {
		return err
	}
	if err := checkConfig(*path, c); err != nil {
		return err
	}
	tuneMemory()
	surviveBrokenLog()
	s := &service{config: c, path: *path, hup: make(chan os.Signal, 1)}
	signal.Notify(s.hup, syscall.SIGHUP)
	defer signal.Stop(s.hup)
	s.log, s.level = newLogger(c.Log)
	if exposed, err := config.Exposed(*path); err != nil {
		return err
	} else if exposed {
		s.log.Warn("the configuration has passwords and everybody may read it; chmod 600", "file", *path)
	}
	s.log.Info("nova-agent starts", "version", version, "host", c.Host, "state_dir", c.StateDir)
	err = s.open(ctx)
	if err == nil {
		err = s.serve(ctx)
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it was told to end while it started
	}
	return errors.Join(err, s.close())
}

// open makes all parts. Nothing waits for another machine yet.
func (s *service) open(ctx context.Context) (err error) {
	c, log := s.config, s.log
	s.metrics = observe.NewMetrics(version)
	if s.engine, err = engine.Open(ctx, engineOptions(c, log)); err != nil {
		if errors.Is(err, errdefs.ErrConflict) {
			return fmt.Errorf("another nova-agent runs with this state_dir; stop it first: %w", err)
		}
		return err
	}
	if s.sessions, err = newSessions(c, log); err != nil {
		return err
	}
	if s.bus, err = rpc.New(rpcOptions(c, log, s.metrics)); err != nil {
		return err
	}
	client := conductor.New(s.bus, c.Host)
	ports, err := neutron.New(neutronOptions(c, s.sessions, client, log))
	if err != nil {
		return err
	}
	if s.images, err = newImages(c, s.sessions, s.engine, s.metrics, log); err != nil {
		return err
	}
	o := computeOptions(c, log, s.metrics)
	o.Conductor, o.Engine, o.Neutron, o.Images = client, s.engine, ports, s.images
	o.Placement = placement.New(s.sessions.placement, log)
	if s.sessions.cinder != nil {
		o.Volumes = attachments{s.sessions.cinder}
	}
	s.manager = compute.New(o)
	s.gauges()
	if s.observer, err = observe.Serve(s.observeOptions()); err != nil {
		return err
	}
	if c.DockerAPI.Listen != "none" {
		if s.docker, err = serveDocker(&c.DockerAPI, s.engine, log, s.metrics.API); err != nil {
			return err
		}
	}
	return nil
}

// serve takes work until ctx ends.
func (s *service) serve(ctx context.Context) error {
	var routines sync.WaitGroup
	defer routines.Wait()
	serving, ended := context.WithCancel(ctx)
	defer ended()
	starting, started := context.WithCancel(serving)
	defer started()
	routines.Go(func() { s.reload(serving) })
	routines.Go(func() { s.starting(starting) })
	if err := s.manager.Start(ctx); err != nil {
		return err
	}
	var err error
	for _, server := range []struct {
		topic string
		to    **rpc.Server
	}{{"compute", &s.main}, {"compute-alt", &s.alt}} {
		*server.to, err = s.bus.Serve(rpc.ServerOptions{Topics: []string{server.topic}, Host: s.config.Host,
			Endpoints: s.manager.Endpoints(), Workers: s.config.RPC.Workers, Ping: s.config.RPC.Ping})
		if err != nil {
			return err
		}
		if err := (*server.to).Ready(ctx); err != nil {
			return err
		}
	}
	started()
	s.log.Info("nova-agent is ready", "host", s.config.Host, "node", s.config.NodeName)
	s.notify("READY=1\nSTATUS=serving " + s.config.Host)
	routines.Go(func() { s.watchdog(serving) })
	routines.Go(func() {
		s.images.evict(serving, s.config.Glance.EvictInterval.D(), s.config.Glance.EvictAfter.D(), s.log)
	})
	<-ctx.Done()
	return nil
}

// extendBy is how much longer systemd is asked to wait for a start, every third of it.
const extendBy = 90 * time.Second

// starting keeps systemd from giving up a start that waits for the control plane.
func (s *service) starting(ctx context.Context) {
	tick := time.NewTicker(extendBy / 3)
	defer tick.Stop()
	for {
		s.notify(fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d\nSTATUS=waiting for Nova's conductor", extendBy.Microseconds()))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *service) notify(state string) {
	if err := observe.Notify(state); err != nil {
		s.log.Warn("systemd was not told", "state", state, "error", err)
	}
}

// reload reads the configuration again at each SIGHUP and takes over what can change
// while nova-agent runs.
func (s *service) reload(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hup:
		}
		c, err := config.Load(s.path)
		if err != nil {
			s.log.Error("the configuration is not taken over", "error", err)
			continue
		}
		setLevel(s.level, c.Log.Level)
		changed := config.Changed(s.config, c)
		s.log.Info("the log level is taken over; other changes need a restart", "level", c.Log.Level, "changed", strings.Join(changed, " "))
	}
}

// watchdog tells systemd that the process works, as long as its probes say so.
func (s *service) watchdog(ctx context.Context) {
	every := observe.WatchdogInterval()
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := observe.Alive(ctx, s.live(), every/2); err != nil {
			s.log.Error("nova-agent does not work; systemd will restart it unless that ends", "error", err)
			continue
		}
		s.notify("WATCHDOG=1")
	}
}

// live are the probes of the process itself. They ask nobody else: a control plane
// that is away is no reason to restart.
func (s *service) live() []observe.Probe {
	return []observe.Probe{
		{Name: "engine", Test: func(context.Context) error { _, err := s.engine.Snapshot(); return err }},
		{Name: "compute", Test: func(context.Context) error { s.manager.HeldLocks(); return nil }},
	}
}

func (s *service) observeOptions() observe.Options {
	return observe.Options{
		Listen: s.config.Observe.Listen, DebugSocket: s.config.Observe.DebugSocket, Metrics: s.metrics, Logger: s.log,
		Live: s.live(),
		Ready: append(s.live(),
			observe.Probe{Name: "rpc", Test: func(context.Context) error { return s.bus.Healthy() }},
			observe.Probe{Name: "service record", Test: func(context.Context) error { return s.manager.Fresh() }}),
		Debug: map[string]func() any{
			"engine": func() any { return orError(s.engine.Snapshot()) },
			"locks":  func() any { return s.manager.HeldLocks() },
			"rpc":    func() any { return s.bus.State() },
		},
	}
}

func orError[T any](v T, err error) any {
	if err != nil {
		return map[string]string{"error": err.Error()}
	}
	return v
}

// gauges adds what is counted when somebody looks.
func (s *service) gauges() {
	s.metrics.CountContainers(func() map[string]int {
		found := map[string]int{}
		for _, c := range s.engine.List() {
			found[string(c.State)]++
		}
		return found
	})
	s.metrics.Gauge("images", "Images in the cache.", func() float64 { return float64(len(s.engine.Images().List())) })
	s.metrics.Gauge("held_locks", "Instances that something is done to.", func() float64 { return float64(len(s.manager.HeldLocks())) })
	s.metrics.Gauge("open_intents", "Operations whose end is not recorded yet.", func() float64 {
		snapshot, err := s.engine.Snapshot()
		if err != nil {
			return -1
		}
		return float64(len(snapshot.Intents))
	})
	s.metrics.Gauge("rpc_handling", "Messages being handled.", func() float64 { return float64(s.bus.State().Handling) })
	s.metrics.Gauge("rpc_pending_calls", "Calls to Nova that wait for their reply.", func() float64 { return float64(s.bus.State().PendingCalls) })
	s.metrics.CountQueues(func() map[string]bool {
		consumed := map[string]bool{}
		for _, q := range s.bus.State().Queues {
			consumed[q.Name] = q.Consuming
		}
		return consumed
	})
}

// close ends everything, in the time that operations under way are granted.
func (s *service) close() error {
	s.notify("STOPPING=1\nSTATUS=waiting for operations")
	if s.log != nil {
		s.log.Info("nova-agent ends")
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.config.Compute.ShutdownGrace.D())
	defer cancel()
	var errs []error
	if s.main != nil {
		errs = append(errs, s.main.Stop(ctx))
	}
	if s.manager != nil {
		if err := s.manager.Drain(ctx); err != nil {
			s.log.Warn("what is still under way is settled by the next start", "error", err)
		}
	}
	if s.alt != nil {
		errs = append(errs, s.alt.Stop(ctx))
	}
	if s.manager != nil {
		s.manager.Close()
	}
	if s.images != nil {
		errs = append(errs, s.images.bridge.Close())
	}
	if s.bus != nil {
		errs = append(errs, s.bus.Close())
	}
	if s.docker != nil {
		errs = append(errs, s.docker.Close())
	}
	if s.observer != nil {
		errs = append(errs, s.observer.Close())
	}
	if s.sessions != nil {
		s.sessions.close()
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	return errors.Join(errs...)
}
