package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func TestRunWaitRemove(t *testing.T) {
	e := newEngine(t)
	c := mustRun(t, e, spec(t, "echo out; echo err >&2; exit 7"))
	exit := mustWait(t, e, c.ID)
	if exit.Code != 7 || exit.Lost || exit.Signal != 0 {
		t.Errorf("exit %+v", exit)
	}
	c = mustInspect(t, e, c.ID)
	if c.State != engine.Stopped || c.PID != 0 || c.Exit.Code != 7 || c.Started.IsZero() || c.Finished.Before(c.Started) {
		t.Errorf("after the exit: %+v", c)
	}
	got := map[string]string{}
	err := e.Logs(testContext(t), c.ID, engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1}, func(l engine.LogLine) error {
		got[l.Stream] += string(l.Text)
		return nil
	})
	if err != nil || got["stdout"] != "out\n" || got["stderr"] != "err\n" {
		t.Errorf("logs %v, %v", got, err)
	}
	if err := e.Remove(testContext(t), c.ID, engine.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Inspect(c.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("after the removal: %v", err)
	}
}

// TestOperationsByState plays each operation in each state; want is the kind of error, nil for success.
func TestOperationsByState(t *testing.T) {
	e := newEngine(t)
	ops := map[string]func(ctx context.Context, id string) error{
		"start": func(ctx context.Context, id string) error { _, err := e.Start(ctx, id); return err },
		"stop": func(ctx context.Context, id string) error {
			_, err := e.Stop(ctx, id, syscall.SIGKILL, time.Minute)
			return err
		},
		"kill":    func(ctx context.Context, id string) error { return e.Kill(ctx, id, syscall.SIGKILL) },
		"pause":   e.Pause,
		"unpause": e.Unpause,
		"restart": func(ctx context.Context, id string) error { return e.Restart(ctx, id, syscall.SIGKILL, time.Minute) },
		"remove":  func(ctx context.Context, id string) error { return e.Remove(ctx, id, engine.RemoveOptions{}) },
		"force remove": func(ctx context.Context, id string) error {
			return e.Remove(ctx, id, engine.RemoveOptions{Force: true})
		},
		"exec": func(ctx context.Context, id string) error {
			_, err := e.Exec(ctx, id, engine.ExecSpec{Args: []string{"true"}}, engine.Streams{})
			return err
		},
		"stats": func(ctx context.Context, id string) error { _, err := e.Stats(ctx, id); return err },
		"top":   func(ctx context.Context, id string) error { _, err := e.PIDs(ctx, id); return err },
	}
	conflict := errdefs.ErrConflict
	for _, tt := range []struct {
		state engine.State
		want  map[string]error
	}{
		{engine.Created, map[string]error{"kill": conflict, "pause": conflict, "unpause": conflict, "exec": conflict, "stats": conflict, "top": conflict}},
		{engine.Running, map[string]error{"unpause": conflict, "remove": conflict}},
		{engine.Paused, map[string]error{"start": conflict, "pause": conflict, "remove": conflict, "exec": conflict}},
		{engine.Stopped, map[string]error{"kill": conflict, "pause": conflict, "unpause": conflict, "exec": conflict, "stats": conflict, "top": conflict}},
	} {
		for name, op := range ops {
			t.Run(string(tt.state)+"/"+name, func(t *testing.T) {
				t.Parallel()
				ctx := testContext(t)
				c, err := e.Create(ctx, spec(t, "exec sleep 1000"))
				if err != nil {
					t.Fatal(err)
				}
				err = bring(ctx, e, c.ID, tt.state)
				if err != nil {
					t.Fatal(err)
				}
				if err := op(ctx, c.ID); !errors.Is(err, tt.want[name]) {
					t.Errorf("got %v, want %v", err, tt.want[name])
				}
				if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
					t.Error(err)
				}
			})
		}
	}
}

// bring brings a created container into a state.
func bring(ctx context.Context, e *engine.Engine, id string, s engine.State) error {
	if s == engine.Created {
		return nil
	}
	if _, err := e.Start(ctx, id); err != nil {
		return err
	}
	switch s {
	case engine.Paused:
		return e.Pause(ctx, id)
	case engine.Stopped:
		_, err := e.Stop(ctx, id, syscall.SIGKILL, time.Minute)
		return err
	}
	return nil
}

func TestStop(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	for _, tt := range []struct {
		name   string
		script string
		grace  time.Duration
		code   int
	}{
		{"obeys", "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done", time.Minute, 3},
		{"is killed after the grace", "trap '' TERM; echo ready; while :; do sleep 0.05; done", 50 * time.Millisecond, 137},
		{"has no grace", "trap '' TERM; echo ready; while :; do sleep 0.05; done", 0, 137},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := mustRun(t, e, spec(t, tt.script))
			waitLog(t, e, c.ID, "ready")
			changed, err := e.Stop(ctx, c.ID, 0, tt.grace)
			if err != nil || !changed {
				t.Fatalf("stop: %v, %v", changed, err)
			}
			if c := mustInspect(t, e, c.ID); c.State != engine.Stopped || c.Exit.Code != tt.code {
				t.Errorf("%s, %+v", c.State, c.Exit)
			}
			if changed, err := e.Stop(ctx, c.ID, 0, tt.grace); err != nil || changed {
				t.Errorf("stopped again: %v, %v", changed, err)
			}
		})
	}
	t.Run("a paused one", func(t *testing.T) {
		c := mustRun(t, e, spec(t, "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"))
		waitLog(t, e, c.ID, "ready")
		if err := e.Pause(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Stop(ctx, c.ID, 0, time.Minute); err != nil {
			t.Fatal(err)
		}
		if c := mustInspect(t, e, c.ID); c.Exit.Code != 3 {
			t.Errorf("%+v", c.Exit)
		}
	})
}

func TestPauseStopsTime(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	c := mustRun(t, e, spec(t, "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"))
	waitLog(t, e, c.ID, "3\n")
	if err := e.Pause(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	before := output(t, e, c.ID)
	if after := output(t, e, c.ID); after != before {
		// One line may have been on its way to the log.
		if again := output(t, e, c.ID); again != after {
			t.Errorf("a paused container writes")
		}
	}
	if err := e.Unpause(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	next := strings.Count(before, "\n") + 5
	waitLog(t, e, c.ID, fmt.Sprintf("%d\n", next))
}

func TestStartTwiceAndAgain(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	c := mustRun(t, e, spec(t, "echo run >> /count; cat /count; exec sleep 1000"))
	waitLog(t, e, c.ID, "run\n")
	if changed, err := e.Start(ctx, c.ID); err != nil || changed {
		t.Errorf("started twice: %v, %v", changed, err)
	}
	if err := e.Restart(ctx, c.ID, syscall.SIGKILL, 0); err != nil {
		t.Fatal(err)
	}
	// The writable layer and the log go on.
	waitLog(t, e, c.ID, "run\nrun\nrun\n")
}

func TestStartFailures(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	for _, tt := range []struct {
		name   string
		change func(*engine.Spec)
		code   int
		text   string
	}{
		{"no such command", func(s *engine.Spec) { s.Args = []string{"/no/such"} }, 127, "/no/such"},
		{"not in the path", func(s *engine.Spec) { s.Args = []string{"nosuch"} }, 127, "nosuch"},
		{"not executable", func(s *engine.Spec) { s.Args = []string{"/etc/passwd"} }, 126, "/etc/passwd"},
		{"a directory", func(s *engine.Spec) { s.Args = []string{"/etc"} }, 126, "/etc"},
		{"no such user", func(s *engine.Spec) { s.User = "nobodyhere" }, 0, "nobodyhere"},
		{"a uid too large", func(s *engine.Spec) { s.User = "4294967296" }, 0, "4294967296"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(t, "true")
			tt.change(&s)
			c, err := e.Create(ctx, s)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.Start(ctx, c.ID)
			if !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("start: %v", err)
			}
			c = mustInspect(t, e, c.ID)
			if c.State != engine.Created || c.Error == "" || tt.code != 0 && c.Exit.Code != tt.code {
				t.Errorf("after the failed start: %s, %q, %+v", c.State, c.Error, c.Exit)
			}
			// Run leaves nothing of it.
			before := len(e.List())
			if _, err := e.Run(ctx, s); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("run: %v", err)
			}
			if after := len(e.List()); after != before {
				t.Errorf("run left a container")
			}
		})
	}
}

func TestAutoRemove(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "exit 5")
	s.AutoRemove = true
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	w, err := e.Waiter(c.ID, engine.WaitRemoved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	if exit, err := w.Wait(ctx); err != nil || exit.Code != 5 {
		t.Errorf("%+v, %v", exit, err)
	}
	// Who comes too late learns of it all the same.
	if exit, err := e.Wait(ctx, c.ID, engine.WaitNotRunning); err != nil || exit.Code != 5 {
		t.Errorf("afterwards: %+v, %v", exit, err)
	}
	if _, err := e.Inspect(c.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestRestartPolicies(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	for _, tt := range []struct {
		policy engine.RestartPolicy
		script string
		runs   int // 0: until it is stopped
	}{
		{engine.RestartPolicy{Mode: engine.RestartNo}, "exit 1", 1},
		{engine.RestartPolicy{Mode: engine.RestartOnFailure, MaxRetries: 2}, "exit 1", 3},
		{engine.RestartPolicy{Mode: engine.RestartOnFailure}, "exit 0", 1},
		{engine.RestartPolicy{Mode: engine.RestartAlways}, "exit 0", 0},
		{engine.RestartPolicy{Mode: engine.RestartUnlessStopped}, "exit 1", 0},
	} {
		t.Run(string(tt.policy.Mode)+" "+tt.script, func(t *testing.T) {
			t.Parallel()
			s := spec(t, "echo run; "+tt.script)
			s.Restart = tt.policy
			c := mustRun(t, e, s)
			if tt.runs == 0 {
				waitLog(t, e, c.ID, "run\nrun\nrun\n")
				if _, err := e.Stop(ctx, c.ID, 0, engine.NoGrace); err != nil {
					t.Fatal(err)
				}
			}
			mustWait(t, e, c.ID)
			got := strings.Count(output(t, e, c.ID), "run\n")
			if tt.runs != 0 && got != tt.runs {
				t.Errorf("it ran %d times, want %d", got, tt.runs)
			}
			if c := mustInspect(t, e, c.ID); c.State != engine.Stopped || tt.runs != 0 && c.Restarts != tt.runs-1 {
				t.Errorf("%s after %d restarts", c.State, c.Restarts)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	e := newEngine(t)
	ctx, cancel := context.WithCancel(testContext(t))
	begin := time.Now()
	stream := e.Subscribe(ctx, time.Time{})
	c := mustRun(t, e, spec(t, "exit 3"))
	mustWait(t, e, c.ID)
	if err := e.Remove(ctx, c.ID, engine.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	want := []engine.Action{engine.ActionCreate, engine.ActionStart, engine.ActionDie, engine.ActionDestroy}
	seq := uint64(0)
	for _, action := range want {
		ev := <-stream
		if ev.Action != action || ev.ID != c.ID || ev.Seq <= seq {
			t.Errorf("got %+v, want %s", ev, action)
		}
		if action == engine.ActionDie && ev.Exit.Code != 3 {
			t.Errorf("exit %+v", ev.Exit)
		}
		seq = ev.Seq
	}
	replay := e.Subscribe(ctx, begin)
	for _, action := range want {
		if ev := <-replay; ev.Action != action {
			t.Errorf("replayed %+v, want %s", ev, action)
		}
	}
	cancel()
	for range stream {
	}
	for range replay {
	}
}

func TestWaitConditions(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	c, err := e.Create(ctx, spec(t, "exit 4"))
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := e.Wait(ctx, c.ID, engine.WaitNotRunning); err != nil || exit.Code != 0 {
		t.Errorf("a created one does not run: %+v, %v", exit, err)
	}
	next, err := e.Waiter(c.ID, engine.WaitNextExit)
	if err != nil {
		t.Fatal(err)
	}
	removed, err := e.Waiter(c.ID, engine.WaitRemoved)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := next.Wait(short); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("the wait ended with %v", err)
	}
	if _, err := e.Start(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	if exit, err := next.Wait(ctx); err != nil || exit.Code != 4 {
		t.Errorf("next exit: %+v, %v", exit, err)
	}
	if err := e.Remove(ctx, c.ID, engine.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if exit, err := removed.Wait(ctx); err != nil || exit.Code != 4 {
		t.Errorf("removed: %+v, %v", exit, err)
	}
	if _, err := e.Waiter("nothere", engine.WaitRemoved); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no such container: %v", err)
	}
	if _, err := e.Waiter(c.ID, "sometime"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("no such condition: %v", err)
	}
}

func TestParallel(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			s := spec(t, fmt.Sprintf("echo %d; exit %d", i, i))
			c, err := e.Run(ctx, s)
			if err != nil {
				t.Error(err)
				return
			}
			exit, err := e.Wait(ctx, c.ID, engine.WaitNotRunning)
			if err != nil || exit.Code != i {
				t.Errorf("%d: %+v, %v", i, exit, err)
			}
			text, err := e.LogTail(ctx, c.ID, -1)
			if err != nil || text != fmt.Sprintf("%d\n", i) {
				t.Errorf("%d: wrote %q, %v", i, text, err)
			}
			if err := e.Remove(ctx, c.ID, engine.RemoveOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestRacingOperations lets operations on one container meet; each must either work or be a conflict.
func TestRacingOperations(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	for range 5 {
		c, err := e.Create(ctx, spec(t, "sleep 1000"))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for _, op := range []func() error{
			func() error { _, err := e.Start(ctx, c.ID); return err },
			func() error { _, err := e.Start(ctx, c.ID); return err },
			func() error { _, err := e.Stop(ctx, c.ID, syscall.SIGKILL, 0); return err },
			func() error { return e.Kill(ctx, c.ID, syscall.SIGKILL) },
			func() error { return e.Pause(ctx, c.ID) },
			func() error { return e.Restart(ctx, c.ID, syscall.SIGKILL, 0) },
			func() error { return e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}) },
			func() error { return e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}) },
		} {
			wg.Go(func() {
				err := op()
				if err != nil && !errors.Is(err, errdefs.ErrConflict) && !errors.Is(err, errdefs.ErrNotFound) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, err := e.Inspect(c.ID); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("it is still there: %v", err)
		}
	}
}
