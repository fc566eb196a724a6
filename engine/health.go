package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// Healthcheck is a command that tells, by its exit code, whether a container works: 0 if so. It runs in the
// container as its user, at intervals. Zero fields have Docker's defaults (moby's daemon/health.go).
type Healthcheck struct {
	Args     []string
	Interval time.Duration `json:",omitempty"` // from the end of a probe to the next; DefaultHealthInterval
	// Timeout ends a probe, which has failed then; DefaultHealthTimeout.
	Timeout time.Duration `json:",omitempty"`
	// StartPeriod is how long after the start failures don't count while no probe has succeeded.
	StartPeriod time.Duration `json:",omitempty"`
	// StartInterval replaces Interval in the start period; DefaultHealthStartInterval.
	StartInterval time.Duration `json:",omitempty"`
	// Retries is how many failures in a row make the container unhealthy; DefaultHealthRetries.
	Retries int `json:",omitempty"`
}

// Defaults of Healthcheck's fields.
const (
	DefaultHealthInterval      = 30 * time.Second
	DefaultHealthTimeout       = 30 * time.Second
	DefaultHealthStartInterval = 5 * time.Second
	DefaultHealthRetries       = 3
)

const (
	minHealthInterval = time.Millisecond
	// healthKept is how many results Health.Log has, healthOutput how much each keeps of the output.
	healthKept   = 5
	healthOutput = 4096
)

// HealthStatus is what the latest probes say.
type HealthStatus string

const (
	HealthStarting  HealthStatus = "starting"
	Healthy         HealthStatus = "healthy"
	Unhealthy       HealthStatus = "unhealthy" // also of a container that has ended or is paused
	healthStatusFmt              = "health_status: %s"
)

// Health is the state of a container with a Healthcheck.
type Health struct {
	Status        HealthStatus
	FailingStreak int            `json:",omitempty"`
	Log           []HealthResult `json:",omitempty"` // the latest, oldest first
}

// HealthResult is the outcome of one probe.
type HealthResult struct {
	Start, End time.Time
	// ExitCode is the command's, or -1 if it could not be run or took too long.
	ExitCode int
	Output   string
}

func (h *Healthcheck) validate() error {
	if h == nil {
		return nil
	}
	if len(h.Args) == 0 || h.Args[0] == "" {
		return errors.New("the health check has no command")
	}
	for _, f := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if f.d != 0 && f.d < minHealthInterval {
			return fmt.Errorf("%s in Healthcheck cannot be less than %s", f.name, minHealthInterval)
		}
	}
	if h.Retries < 0 {
		return errors.New("Retries in Healthcheck cannot be negative") //nolint:staticcheck // Docker's words
	}
	return nil
}

// ended is h of a container that has ended.
func (h *Health) ended() *Health {
	if h == nil {
		return nil
	}
	next := *h
	next.Status = Unhealthy // as Docker, for want of news
	return &next
}

// monitor is what probes one run of a container.
type monitor struct{ stop context.CancelFunc }

// watchHealth begins to probe t, whose process runs, and forgets what an earlier run's probes found if fresh. The
// caller holds t's lock.
func (e *Engine) watchHealth(t *tracked, fresh bool) {
	check := e.record(t).Spec.Health
	if check == nil {
		return
	}
	if fresh {
		e.showHealth(t, func(h *Health) { h.Status, h.FailingStreak = HealthStarting, 0 })
	}
	ctx, cancel := context.WithCancel(e.ctx)
	m := &monitor{stop: cancel}
	t.monitor = m
	e.spawn("health", t.id, func(context.Context) {
		defer cancel()
		e.probeAtIntervals(ctx, t, m, check)
	})
}

// unwatchHealth ends the probes of t. The caller holds t's lock.
func (e *Engine) unwatchHealth(t *tracked) {
	if t.monitor == nil {
		return
	}
	t.monitor.stop()
	t.monitor = nil
	e.showHealth(t, func(h *Health) { *h = *h.ended() })
}

// showHealth changes the health that t's record shows. A change that is not recorded is lost with the agent only.
func (e *Engine) showHealth(t *tracked, change func(*Health)) {
	next := *e.record(t)
	old := HealthStatus("")
	health := Health{}
	if next.Health != nil {
		health, old = *next.Health, next.Health.Status
	}
	change(&health)
	next.Health = &health
	if health.Status != old {
		if err := e.put(&next, lazy); err != nil {
			e.log.Error("a container's health was not recorded", "container_id", t.id, "health", health.Status, "error", err)
		}
	}
	e.show(t, &next)
}

func (e *Engine) probeAtIntervals(ctx context.Context, t *tracked, m *monitor, check *Healthcheck) {
	timer := time.NewTimer(e.untilProbe(t, check))
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		result := e.probe(ctx, t, check)
		if ctx.Err() != nil || !e.noteProbe(ctx, t, m, check, result) {
			return
		}
		timer.Reset(e.untilProbe(t, check))
	}
}

// untilProbe is how long to wait for the next probe.
func (e *Engine) untilProbe(t *tracked, check *Healthcheck) time.Duration {
	if inStartPeriod(e.record(t), check) {
		return orDefault(check.StartInterval, DefaultHealthStartInterval)
	}
	return orDefault(check.Interval, DefaultHealthInterval)
}

func inStartPeriod(rec *Container, check *Healthcheck) bool {
	return (rec.Health == nil || rec.Health.Status == HealthStarting) && time.Since(rec.Started) < check.StartPeriod
}

// probe runs the command once. What it says means nothing if ctx has ended.
func (e *Engine) probe(ctx context.Context, t *tracked, check *Healthcheck) HealthResult {
	out := &cutBuffer{}
	result := HealthResult{Start: time.Now().UTC(), ExitCode: -1}
	timeout := orDefault(check.Timeout, DefaultHealthTimeout)
	within, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	exit, err := e.runProbe(ctx, within, t.id, ExecSpec{Args: check.Args, Bound: true}, Streams{Stdout: out, Stderr: out})
	result.End = time.Now().UTC()
	switch text := out.String(); {
	case within.Err() != nil:
		result.Output = fmt.Sprintf("Health check exceeded timeout (%s)", timeout)
		if text != "" {
			result.Output += ": " + text
		}
	case err != nil:
		result.Output = err.Error()
	default:
		result.ExitCode, result.Output = exit.Code, text
	}
	return result
}

// runProbe is Exec, but that it kills the process when within ends, and that nobody can look at it afterwards.
func (e *Engine) runProbe(ctx, within context.Context, containerID string, spec ExecSpec, s Streams) (Exit, error) {
	id, err := e.ExecCreate(within, containerID, spec)
	if err != nil {
		return Exit{}, err
	}
	defer e.forgetExec(id)
	if err := e.ExecStart(within, id, s); err != nil {
		return Exit{}, err
	}
	exit, err := e.ExecWait(within, id)
	if err == nil {
		return exit, nil
	}
	if err := e.execKill(id); err != nil {
		return Exit{}, err
	}
	return e.ExecWait(ctx, id)
}

// noteProbe takes a probe's result into the record. It returns false if m does not watch t any more.
func (e *Engine) noteProbe(ctx context.Context, t *tracked, m *monitor, check *Healthcheck, result HealthResult) bool {
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return false
	}
	defer unlock()
	if t.monitor != m {
		return false
	}
	rec := e.record(t)
	before := rec.Health.Status
	forgiven := inStartPeriod(rec, check)
	e.showHealth(t, func(h *Health) {
		h.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-healthKept+1):]), result)
		switch {
		case result.ExitCode == 0:
			h.Status, h.FailingStreak = Healthy, 0
		case !forgiven:
			if h.FailingStreak++; h.FailingStreak >= orDefault(check.Retries, DefaultHealthRetries) {
				h.Status = Unhealthy
			}
		}
	})
	if after := e.record(t).Health.Status; after != before {
		e.emit(t, Action(fmt.Sprintf(healthStatusFmt, after)), nil)
	}
	return true
}

// cutBuffer keeps the beginning of what is written to it.
type cutBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
	cut bool         // guarded by mu
}

func (b *cutBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := healthOutput - b.buf.Len()
	b.cut = b.cut || len(p) > room
	b.buf.Write(p[:min(len(p), room)])
	return len(p), nil
}

func (b *cutBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut {
		return b.buf.String() + "..."
	}
	return b.buf.String()
}

// forgetExec drops an exec that nobody asks for.
func (e *Engine) forgetExec(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.execs, id)
}

// execKill ends an exec's process, and its process group. Nil: it has ended.
func (e *Engine) execKill(id string) error {
	e.mu.RLock()
	x := e.execs[id]
	var process *runtime.Exec
	if x != nil {
		process = x.process
	}
	e.mu.RUnlock()
	if x == nil {
		return noExec(id)
	}
	if process == nil {
		return fmt.Errorf("exec %s does not run: %w", short(id), errdefs.ErrConflict)
	}
	return process.Kill()
}
