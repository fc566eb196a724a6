package engine

import (
	"context"
	"sync"
	"time"
)

const (
	// eventsKept is how many events are remembered for replay.
	eventsKept = 1024
	// eventsBehind is how many a subscriber may be behind before it is dropped.
	eventsBehind = 4096
)

// eventLog remembers the latest events and passes new ones on.
type eventLog struct {
	mu   sync.Mutex
	seq  uint64
	ring []Event // oldest first, at most eventsKept
	subs map[*subscription]struct{}
}

type subscription struct {
	queue  []Event // guarded by eventLog.mu
	wake   chan struct{}
	behind bool // guarded by eventLog.mu
	until  time.Time
}

func newEventLog() *eventLog { return &eventLog{subs: map[*subscription]struct{}{}} }

func (l *eventLog) emit(ev Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	ev.Seq = l.seq
	if len(l.ring) == eventsKept {
		l.ring = append(l.ring[:0:0], l.ring[eventsKept/4:]...)
	}
	l.ring = append(l.ring, ev)
	for s := range l.subs {
		if len(s.queue) >= eventsBehind {
			s.behind = true
		} else {
			s.queue = append(s.queue, ev)
		}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Subscribe is SubscribeUntil without an end.
func (e *Engine) Subscribe(ctx context.Context, since time.Time) <-chan Event {
	return e.SubscribeUntil(ctx, since, time.Time{})
}

// SubscribeUntil returns a channel of the events from since to until: those remembered, if one of the
// two is not zero, and then the new ones. No event between is
// missed. The channel is closed when the time until has come, if it is not zero, when
// ctx ends, when the engine closes, and when the receiver falls too far behind.
func (e *Engine) SubscribeUntil(ctx context.Context, since, until time.Time) <-chan Event {
	l := e.events
	s := &subscription{wake: make(chan struct{}, 1), until: until}
	l.mu.Lock()
	if !since.IsZero() || !until.IsZero() {
		for _, ev := range l.ring {
			if !ev.Time.Before(since) {
				s.queue = append(s.queue, ev)
			}
		}
	}
	if len(s.queue) > 0 {
		s.wake <- struct{}{}
	}
	l.subs[s] = struct{}{}
	l.mu.Unlock()
	out := make(chan Event)
	if !e.spawn("events", "", func(engine context.Context) { l.feed(ctx, engine, s, out) }) {
		close(out)
	}
	return out
}

// Subscribers is how many subscriptions to events there are.
func (e *Engine) Subscribers() int {
	e.events.mu.Lock()
	defer e.events.mu.Unlock()
	return len(e.events.subs)
}

// feed passes s's queue on. It ends with the subscriber's context or the engine's.
func (l *eventLog) feed(ctx, engine context.Context, s *subscription, out chan<- Event) {
	defer close(out)
	defer func() {
		l.mu.Lock()
		delete(l.subs, s)
		l.mu.Unlock()
	}()
	var end <-chan time.Time
	if !s.until.IsZero() {
		timer := time.NewTimer(time.Until(s.until))
		defer timer.Stop()
		end = timer.C
	}
	for ended := false; !ended; {
		select {
		case <-s.wake:
		case <-end:
			ended = true // after what is queued
		case <-ctx.Done():
			return
		case <-engine.Done():
			return
		}
		l.mu.Lock()
		queue, behind := s.queue, s.behind
		s.queue = nil
		l.mu.Unlock()
		for _, ev := range queue {
			if !s.until.IsZero() && ev.Time.After(s.until) {
				return
			}
			select {
			case out <- ev:
			case <-ctx.Done():
				return
			case <-engine.Done():
				return
			}
		}
		if behind {
			return
		}
	}
}

// emit tells of something that happened to t, after move has made it visible.
func (e *Engine) emit(t *tracked, action Action, detail func(*Event)) {
	rec := e.record(t)
	ev := Event{
		Time: time.Now(), Kind: KindContainer, Action: action,
		ID: rec.ID, Name: rec.Spec.Name, Owner: rec.Spec.Owner, Image: firstOf(rec.Spec.ImageName, rec.Spec.Image),
		State: rec.State, Labels: rec.Spec.Labels,
	}
	if detail != nil {
		detail(&ev)
	}
	e.events.emit(ev)
}

// Tell is for what only a front door sees: that something was done with the container that ref finds, if it is still
// there. Details are as those of Event.
func (e *Engine) Tell(ref string, action Action, details map[string]string) {
	if t, err := e.find(ref); err == nil {
		e.emit(t, action, func(ev *Event) { ev.Details = details })
	}
}

// TellImage is Tell for images; id and name are what the event says.
func (e *Engine) TellImage(action Action, id, name string, labels map[string]string) {
	e.events.emit(Event{Time: time.Now(), Kind: KindImage, Action: action, ID: id, Name: name, Labels: labels})
}

// TellPrune tells that objects of a kind that nobody used were removed, and how many bytes that gave.
func (e *Engine) TellPrune(kind Kind, reclaimed uint64) {
	e.events.emit(Event{Time: time.Now(), Kind: kind, Action: ActionPrune, Reclaimed: reclaimed})
}
