package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

func TestMoves(t *testing.T) {
	states := []State{Creating, Created, Running, Paused, Stopped, Restarting, Removing}
	for _, from := range states {
		if _, ok := moves[from]; !ok {
			t.Errorf("no moves from %s", from)
		}
		// What runs must be stopped before it goes.
		if from.Live() && slices.Contains(moves[from], Removing) {
			t.Errorf("a %s container is removed", from)
		}
		for _, to := range moves[from] {
			if !slices.Contains(states, to) {
				t.Errorf("%s moves to %q", from, to)
			}
			if err := checkMove("x", from, to); err != nil {
				t.Error(err)
			}
		}
	}
	if err := checkMove("x", Paused, Removing); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("paused to removing: %v", err)
	}
}

func TestResolve(t *testing.T) {
	image := ocispec.ImageConfig{
		Entrypoint: []string{"/entry"}, Cmd: []string{"one", "two"}, Env: []string{"A=image", "B=image", "PATH=/image"},
		User: "daemon", WorkingDir: "work", StopSignal: "SIGQUIT",
	}
	for _, tt := range []struct {
		name  string
		spec  Spec
		image ocispec.ImageConfig
		args  []string
	}{
		{"all of the image", Spec{}, image, []string{"/entry", "one", "two"}},
		{"own arguments", Spec{Args: []string{"x"}}, image, []string{"/entry", "x"}},
		{"own entrypoint", Spec{Entrypoint: []string{"/mine"}}, image, []string{"/mine"}},
		{"both", Spec{Entrypoint: []string{"/mine"}, Args: []string{"x"}}, image, []string{"/mine", "x"}},
		{"no entrypoint", Spec{NoEntrypoint: true, Args: []string{"x"}}, image, []string{"x"}},
		{"nothing", Spec{}, ocispec.ImageConfig{}, nil},
		{"no entrypoint and no arguments", Spec{NoEntrypoint: true}, image, nil},
		{"an empty command", Spec{Args: []string{""}}, ocispec.ImageConfig{}, nil},
		{"a NUL in the image", Spec{}, ocispec.ImageConfig{Cmd: []string{"a\x00"}}, nil},
		{"a stop signal that is none", Spec{}, ocispec.ImageConfig{Cmd: []string{"a"}, StopSignal: "SIGNONE"}, nil},
	} {
		p, err := tt.spec.resolve("0123456789abcdef", tt.image)
		if tt.args == nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("%s: %v, %v", tt.name, p.Args, err)
			}
			continue
		}
		if err != nil || !slices.Equal(p.Args, tt.args) {
			t.Errorf("%s: %v, %v, want %v", tt.name, p.Args, err, tt.args)
		}
	}
	s := Spec{Env: []string{"A=mine", "B", "C=", "NONE"}, TTY: true}
	p, err := s.resolve("0123456789abcdef", image)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=/image", "HOSTNAME=0123456789ab", "TERM=xterm", "A=mine", "C="}
	if !slices.Equal(p.Env, want) || p.User != "daemon" || p.WorkDir != "/work" || p.StopSignal != syscall.SIGQUIT {
		t.Errorf("%+v, want the environment %v", p, want)
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "SIGTERM": syscall.SIGTERM, "sigkill": syscall.SIGKILL, "9": 9, "64": 64, "IOT": syscall.SIGABRT,
		"RTMIN": 34, "SIGRTMIN+3": 37, "RTMAX": 64, "RTMAX-1": 63,
		"": 0, "0": 0, "-1": 0, "65": 0, "SIG": 0, "SIGNOTHING": 0, "RTMIN+31": 0, "RTMIN-1": 0, "RTMAX+1": 0,
	} {
		got, err := ParseSignal(text)
		if got != want || (err == nil) != (want != 0) || err != nil && !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestRestartDelay(t *testing.T) {
	last := time.Duration(0)
	for attempt := range 40 {
		d := restartDelay(attempt)
		if d < last || d > restartMost {
			t.Errorf("attempt %d waits %s after %s", attempt, d, last)
		}
		last = d
	}
	if restartDelay(0) != restartFirst || last != restartMost {
		t.Errorf("from %s to %s", restartDelay(0), last)
	}
}

func TestKeyedLocks(t *testing.T) {
	var locks keyedLocks
	synctest.Test(t, func(t *testing.T) {
		unlock, err := locks.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		// Another key is free; the same one waits as long as its context.
		other, err := locks.lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := locks.lock(ctx, "a"); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("a lock that is held: %v", err)
		}
		if keys := locks.keys(); !slices.Equal(keys, []string{"a"}) {
			t.Errorf("held: %v", keys)
		}
		unlock()
		if keys := locks.keys(); len(keys) != 0 {
			t.Errorf("held: %v", keys)
		}
		var inside, count atomic.Int32
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				unlock, err := locks.lock(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				time.Sleep(time.Millisecond)
				count.Add(1)
				inside.Add(-1)
				unlock()
			})
		}
		wg.Wait()
		if count.Load() != 20 {
			t.Errorf("%d had the lock", count.Load())
		}
	})
}

func TestEventLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Engine{events: newEventLog()}
		var cancel context.CancelFunc
		e.ctx, cancel = context.WithCancel(t.Context())
		for range 3 * eventsKept {
			e.events.emit(Event{Time: time.Now(), Action: ActionCreate})
			time.Sleep(time.Millisecond)
		}
		if n := len(e.events.ring); n > eventsKept {
			t.Errorf("%d events are kept", n)
		}
		// Replay, then the end that was asked for.
		first := e.events.ring[0].Time
		n, seq := 0, uint64(0)
		for ev := range e.SubscribeUntil(t.Context(), first, time.Now().Add(time.Second)) {
			if n++; n > 1 && ev.Seq != seq+1 {
				t.Errorf("event %d follows %d", ev.Seq, seq)
			}
			seq = ev.Seq
		}
		if n != len(e.events.ring) {
			t.Errorf("%d events were replayed of %d", n, len(e.events.ring))
		}
		// So does an end that has come alone replay.
		n = 0
		for range e.SubscribeUntil(t.Context(), time.Time{}, first) {
			n++
		}
		if n != 1 {
			t.Errorf("%d events were replayed until the first", n)
		}
		// One who does not receive is dropped, and holds nobody up.
		slow := e.Subscribe(t.Context(), time.Time{})
		for range 2*eventsBehind + 10 {
			e.events.emit(Event{Time: time.Now()})
		}
		n = 0
		for range slow {
			n++
		}
		if n > 2*eventsBehind {
			t.Errorf("the slow one got %d events", n)
		}
		open := e.Subscribe(t.Context(), time.Time{})
		cancel()
		for range open {
		}
		e.closing = true
		for range e.Subscribe(t.Context(), time.Time{}) {
		}
		e.routines.Wait()
	})
}

func TestCapabilities(t *testing.T) {
	base := []string{"CAP_CHOWN", "CAP_KILL"}
	for _, tt := range []struct {
		sec  Security
		want []string
	}{
		{Security{}, base},
		{Security{CapAdd: []string{"net_admin"}}, []string{"CAP_CHOWN", "CAP_KILL", "CAP_NET_ADMIN"}},
		{Security{CapDrop: []string{"CAP_KILL"}}, []string{"CAP_CHOWN"}},
		{Security{CapDrop: []string{"ALL"}, CapAdd: []string{"SYS_TIME"}}, []string{"CAP_SYS_TIME"}},
		{Security{System: true}, append(slices.Clone(base), systemCaps...)},
	} {
		got, err := capabilities(base, &tt.sec)
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%+v: %v, %v", tt.sec, got, err)
		}
	}
	all, err := capabilities(base, &Security{CapAdd: []string{"ALL"}, CapDrop: []string{"SYS_ADMIN"}})
	if err != nil || slices.Contains(all, "CAP_SYS_ADMIN") || len(all) < 30 {
		t.Errorf("all but one: %v, %v", all, err)
	}
	if _, err := capabilities(base, &Security{CapDrop: []string{"MAGIC"}}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an unknown one: %v", err)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{"plain name": "plain name", "a\nb": `"a\nb"`, "\x1b[31m": `"\x1b[31m"`} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %s", in, got)
		}
	}
	if got := printable(fmt.Sprintf("%01000d", 0)); len(got) > 210 {
		t.Errorf("%d bytes are shown", len(got))
	}
}

func FuzzParseSignal(f *testing.F) {
	f.Add("SIGRTMIN+3")
	f.Fuzz(func(t *testing.T, text string) {
		if sig, err := ParseSignal(text); err == nil && (sig < 1 || sig > 64) {
			t.Errorf("%q is %d", text, sig)
		}
	})
}

// TestReachableDNS: a container on the bridge gets the servers that it can reach, or Docker's.
func TestReachableDNS(t *testing.T) {
	for _, tt := range []struct{ host, want []string }{
		{[]string{"127.0.0.53", "192.0.2.1", "2001:db8::1", "nonsense"}, []string{"192.0.2.1"}},
		{[]string{"127.0.0.53"}, []string{"8.8.8.8", "8.8.4.4"}},
		{nil, []string{"8.8.8.8", "8.8.4.4"}},
	} {
		if got := reachableDNS(slices.Clone(tt.host)); !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.host, got, tt.want)
		}
	}
}
