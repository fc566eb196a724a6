package compute

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"novaagent/engine/errdefs"
)

func plugged(instance, port string) eventKey { return eventKey{instance, eventVIFPlugged, port} }

func TestWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiters()
		e := w.expect([]eventKey{plugged("i", "p1"), plugged("i", "p2")})
		if w.deliver(plugged("i", "p3"), eventCompleted) || w.deliver(plugged("j", "p1"), eventCompleted) {
			t.Error("somebody waits for an event that nobody expects")
		}
		if !w.deliver(plugged("i", "p2"), eventCompleted) {
			t.Error("nobody waits for an event that is expected")
		}
		if w.deliver(plugged("i", "p2"), eventCompleted) {
			t.Error("an event comes twice")
		}
		done := make(chan error, 1)
		go func() { done <- e.wait(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("it waits for one of two: %v", err)
		default:
		}
		w.deliver(plugged("i", "p1"), eventCompleted)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(w.slots) != 0 {
			t.Errorf("left: %v", w.slots)
		}
	})
}

func TestWaitersFail(t *testing.T) {
	for name, end := range map[string]func(*waiters, context.CancelFunc){
		"a failed event":   func(w *waiters, _ context.CancelFunc) { w.deliver(plugged("i", "p"), "failed") },
		"a delete":         func(w *waiters, _ context.CancelFunc) { w.drop("i") },
		"the agent's end":  func(w *waiters, _ context.CancelFunc) { w.close() },
		"the caller's end": func(_ *waiters, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWaiters()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				e := w.expect([]eventKey{plugged("i", "p")})
				other := w.expect([]eventKey{plugged("j", "p")})
				done := make(chan error, 1)
				go func() { done <- e.wait(ctx) }()
				synctest.Wait()
				end(w, cancel)
				if err := <-done; !errors.Is(err, errdefs.ErrUnavailable) {
					t.Errorf("got %v", err)
				}
				other.cancel()
				if len(w.slots) != 0 {
					t.Errorf("left: %v", w.slots)
				}
			})
		})
	}
}

func TestWaitersClosed(t *testing.T) {
	w := newWaiters()
	w.close()
	if err := w.expect([]eventKey{plugged("i", "p")}).wait(t.Context()); err == nil {
		t.Error("it waits for what cannot come")
	}
}

func TestWaitTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWaiters()
		e := w.expect([]eventKey{plugged("i", "p")})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Second, errors.New("too late"))
		defer cancel()
		err := e.wait(ctx)
		if err == nil || reason(err) != "event network-vif-plugged-p: too late" {
			t.Errorf("got %v", err)
		}
	})
}

func TestLateEvents(t *testing.T) {
	var l lateEvents
	if l.put("i") {
		t.Error("an instance is built that is not")
	}
	l.begin("i")
	if !l.put("i") || l.put("j") {
		t.Error("the wrong instance is built")
	}
	if !l.end("i") || l.end("i") {
		t.Error("the change is lost, or comes twice")
	}
}
