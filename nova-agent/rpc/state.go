package rpc

import (
	"fmt"
	"time"

	"novaagent/engine/errdefs"
)

// State is a Bus at one moment, for people and health checks.
type State struct {
	Connected    bool         `json:"connected"` // both connections are up
	Blocked      string       `json:"blocked,omitempty"`
	Brokers      []string     `json:"brokers"` // connected to, at most two
	Since        time.Time    `json:"since"`   // of the last change of a connection
	Queues       []QueueState `json:"queues"`
	PendingCalls int          `json:"pending_calls"`
	Handling     int          `json:"handling"`
	LastError    string       `json:"last_error,omitempty"`
}

// QueueState is one queue that the bus should consume.
type QueueState struct {
	Name      string    `json:"name"`
	Consuming bool      `json:"consuming"`
	Since     time.Time `json:"since"`
	LastError string    `json:"last_error,omitempty"`
}

// State tells how the bus is.
func (b *Bus) State() State {
	st := State{Connected: true, PendingCalls: b.replies.pending()}
	for _, l := range []*link{b.consume, b.publish} {
		up, blocked, broker, since, err := l.status()
		st.Connected = st.Connected && up
		if up {
			st.Brokers = append(st.Brokers, broker)
		}
		if blocked {
			st.Blocked = err.Error()
		}
		if since.After(st.Since) {
			st.Since = since
		}
		if err != nil {
			st.LastError = err.Error()
		}
	}
	subs := []*subscription{b.replies.subscription}
	b.mu.Lock()
	for s := range b.servers {
		subs = append(subs, s.subscriptions...)
		s.mu.Lock()
		st.Handling += len(s.running)
		s.mu.Unlock()
	}
	b.mu.Unlock()
	for _, sub := range subs {
		q := QueueState{Name: sub.queue.name}
		q.Since, q.Consuming = sub.consuming()
		sub.mu.Lock()
		if sub.lastErr != nil && !q.Consuming {
			q.LastError = sub.lastErr.Error()
		}
		sub.mu.Unlock()
		st.Queues = append(st.Queues, q)
	}
	return st
}

// Healthy returns nil if messages can be sent and every queue is consumed, and
// otherwise what is wrong (ErrUnavailable).
func (b *Bus) Healthy() error {
	st := b.State()
	switch {
	case !st.Connected:
		return fmt.Errorf("rpc: not connected: %s: %w", st.LastError, errdefs.ErrUnavailable)
	case st.Blocked != "":
		return fmt.Errorf("rpc: %s: %w", st.Blocked, errdefs.ErrUnavailable)
	}
	for _, q := range st.Queues {
		if !q.Consuming {
			return fmt.Errorf("rpc: queue %s is not consumed: %s: %w", q.Name, q.LastError, errdefs.ErrUnavailable)
		}
	}
	return nil
}
