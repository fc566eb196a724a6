package compute

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"novaagent/engine/errdefs"
)

// The external events that this agent acts on or waits for
// (nova/objects/external_event.py).
const (
	eventNetworkChanged = "network-changed"
	eventVIFPlugged     = "network-vif-plugged"
	eventVIFUnplugged   = "network-vif-unplugged"
	eventVIFDeleted     = "network-vif-deleted"
	eventVolumeExtended = "volume-extended"
	eventPowerUpdate    = "power-update"
)

// eventCompleted is the status of an event that went well; anything else is a failure.
const eventCompleted = "completed"

// eventKey is what an external event is about: the tag is a port or a volume.
type eventKey struct{ instance, name, tag string }

func (k eventKey) String() string { return k.name + "-" + k.tag }

// waiters connects the operations that wait for an external event with the
// RPC call that brings it. Events are not kept: who wants one registers before doing
// what causes it.
type waiters struct {
	mu     sync.Mutex
	closed bool
	slots  map[eventKey][]chan string
}

func newWaiters() *waiters { return &waiters{slots: map[eventKey][]chan string{}} }

// expectation is a set of events that somebody waits for.
type expectation struct {
	w     *waiters
	order []eventKey
	chans map[eventKey]chan string
}

// expect registers for events, all of one instance. The caller calls either wait or
// cancel in the end.
func (w *waiters) expect(keys []eventKey) *expectation {
	e := &expectation{w: w, order: keys, chans: map[eventKey]chan string{}}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		c := make(chan string, 1)
		e.chans[k] = c
		if w.closed {
			c <- "failed"
			continue
		}
		w.slots[k] = append(w.slots[k], c)
	}
	return e
}

// deliver wakes those who wait for the event and says whether there was anybody.
func (w *waiters) deliver(k eventKey, status string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	chans := w.slots[k]
	delete(w.slots, k)
	for _, c := range chans {
		c <- status
	}
	return len(chans) > 0
}

// drop fails all waits of an instance: it is being deleted.
func (w *waiters) drop(instance string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for k, chans := range w.slots {
		if k.instance != instance {
			continue
		}
		for _, c := range chans {
			c <- "failed"
		}
		delete(w.slots, k)
	}
}

// close fails all waits, also those to come.
func (w *waiters) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for k, chans := range w.slots {
		for _, c := range chans {
			c <- "failed"
		}
		delete(w.slots, k)
	}
}

// count is how many events are being waited for.
func (w *waiters) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.slots)
}

// left are the events of an expectation that have not come yet.
func (w *waiters) left(e *expectation) []eventKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	var keys []eventKey
	for _, k := range e.order {
		if slices.Contains(w.slots[k], e.chans[k]) {
			keys = append(keys, k)
		}
	}
	return keys
}

// cancel gives the expectation up.
func (e *expectation) cancel() {
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	for k, mine := range e.chans {
		rest := e.w.slots[k][:0]
		for _, c := range e.w.slots[k] {
			if c != mine {
				rest = append(rest, c)
			}
		}
		if len(rest) == 0 {
			delete(e.w.slots, k)
		} else {
			e.w.slots[k] = rest
		}
	}
}

// wait returns when all events came. An event that failed, or the end of ctx, is
// ErrUnavailable and names the event; the others are given up then.
func (e *expectation) wait(ctx context.Context) error {
	defer e.cancel()
	for _, k := range e.order {
		select {
		case status := <-e.chans[k]:
			if status != eventCompleted {
				return fmt.Errorf("event %s: status %s: %w", k, status, errdefs.ErrUnavailable)
			}
		case <-ctx.Done():
			return fmt.Errorf("event %s: %w: %w", k, context.Cause(ctx), errdefs.ErrUnavailable)
		}
	}
	return nil
}
