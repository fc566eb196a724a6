package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

// subscription consumes one queue for as long as it runs: it declares the queue
// and consumes it again after a lost connection, a closed channel, a deleted
// queue, a consumer that the broker cancelled. It has an AMQP channel of its
// own, so that a refused declaration disturbs no other queue.
type subscription struct {
	link     *link
	queue    queueSpec
	prefetch int
	log      *slog.Logger
	// deliver gets the messages one at a time and settles each (ack, reject).
	// When ctx ends it may leave a message unsettled: the broker keeps it.
	deliver func(ctx context.Context, d amqp.Delivery)

	mu       sync.Mutex
	channel  *amqp.Channel // nil unless consuming
	since    time.Time     // of consuming
	changed  chan struct{} // closed and replaced when channel changes
	busy     bool          // inside deliver
	lastErr  error
	consumed int64 // offset of the next message of a stream
}

func newSubscription(link *link, queue queueSpec, prefetch int, deliver func(context.Context, amqp.Delivery)) *subscription {
	return &subscription{
		link: link, queue: queue, prefetch: prefetch, deliver: deliver,
		log: link.options.Logger.With("queue", queue.name), changed: make(chan struct{}), consumed: -1,
	}
}

// run consumes until ctx ends, and then gives unsettled messages back.
func (s *subscription) run(ctx context.Context) {
	const firstPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	pause := firstPause
	for {
		session, err := s.link.session(ctx)
		if err != nil {
			return // ctx ended
		}
		began := time.Now()
		err = s.consume(ctx, session)
		if ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.lastErr = err
		s.mu.Unlock()
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		select {
		case <-session.done: // the link has logged that
			continue
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		s.log.WarnContext(ctx, "consuming was interrupted", "err", err)
		pause = min(2*pause, maxPause)
	}
}

// consume declares and consumes until something ends it.
func (s *subscription) consume(ctx context.Context, session *session) error {
	declarer := &declarer{conn: session.conn, log: s.log}
	ch, err := declarer.declare(ctx, s.queue)
	if err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
	}
	defer func() { _ = ch.Close() }()
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	// Per consumer, not per channel: quorum queues refuse a global limit.
	if err := ch.Qos(s.prefetch, 0, false); err != nil {
		return fmt.Errorf("prefetch: %v: %w", err, errdefs.ErrUnavailable)
	}
	args := s.queue.consumeArgs
	if s.queue.stream {
		args = amqp.Table{"x-stream-offset": "last"}
		if s.consumed >= 0 {
			args["x-stream-offset"] = s.consumed
		}
	}
	deliveries, err := ch.Consume(s.queue.name, "", false, false, false, false, args)
	if err != nil {
		return fmt.Errorf("consume: %v: %w", err, errdefs.ErrUnavailable)
	}
	s.set(ch)
	defer s.set(nil)
	s.log.DebugContext(ctx, "consuming")
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				select {
				case reason := <-closes:
					if reason != nil {
						return fmt.Errorf("channel closed: %v: %w", reason, errdefs.ErrUnavailable)
					}
				case <-time.After(100 * time.Millisecond):
				}
				return fmt.Errorf("the broker cancelled the consumer: %w", errdefs.ErrUnavailable)
			}
			if offset, ok := d.Headers["x-stream-offset"].(int64); ok {
				s.consumed = offset + 1
			}
			s.setBusy(true)
			s.deliver(ctx, d)
			s.setBusy(false)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *subscription) set(ch *amqp.Channel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channel = ch
	s.since = time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *subscription) setBusy(busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = busy
}

// consuming says since when messages come; false if they do not now.
func (s *subscription) consuming() (since time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.channel != nil
}

// ready waits until messages come. ErrUnavailable if ctx ends first.
func (s *subscription) ready(ctx context.Context) error {
	for {
		s.mu.Lock()
		ch, changed := s.channel, s.changed
		s.mu.Unlock()
		if ch != nil {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			s.mu.Lock()
			lastErr := s.lastErr
			s.mu.Unlock()
			if up, _, _, _, linkErr := s.link.status(); !up && linkErr != nil {
				lastErr = linkErr
			}
			if lastErr != nil {
				return fmt.Errorf("queue %s: %w", s.queue.name, lastErr)
			}
			return fmt.Errorf("queue %s: not declared yet: %w", s.queue.name, errdefs.ErrUnavailable)
		}
	}
}

// restart drops the channel if it is the one that was consuming since, so that
// the queue is declared and consumed anew. A subscription that waits for a
// free worker is left alone.
func (s *subscription) restart(since time.Time) bool {
	s.mu.Lock()
	ch := s.channel
	if s.busy || ch == nil || !s.since.Equal(since) {
		ch = nil
	}
	s.mu.Unlock()
	if ch == nil {
		return false
	}
	_ = ch.Close()
	return true
}
