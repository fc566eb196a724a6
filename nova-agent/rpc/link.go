package rpc

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

// session is one AMQP connection while it lives.
type session struct {
	conn   *amqp.Connection
	broker string
	done   chan struct{} // closed when the connection is gone

	mu        sync.Mutex
	unblocked chan struct{} // open while the broker blocks publishers; else nil
	reason    string        // of the block
}

// blocked returns a channel that is closed when the broker takes messages again;
// nil if it does now.
func (s *session) blocked() (until <-chan struct{}, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unblocked == nil {
		return nil, ""
	}
	return s.unblocked, s.reason
}

func (s *session) setBlocked(b amqp.Blocking) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Active {
		if s.unblocked == nil {
			s.unblocked = make(chan struct{})
		}
		s.reason = b.Reason
		return
	}
	if s.unblocked != nil {
		close(s.unblocked)
		s.unblocked = nil
	}
}

// link keeps one connection to one of the brokers. A broker with a memory or
// disk alarm stops reading from connections that publish, so messages are
// consumed on one link and published on another.
type link struct {
	purpose string // "consume", "publish"
	options *Options
	url     *TransportURL
	tls     *tls.Config
	log     *slog.Logger
	onState func(up bool)

	mu      sync.Mutex
	current *session
	changed chan struct{} // closed and replaced when current changes
	lastErr error
	since   time.Time // of the present state
}

func newLink(purpose string, options *Options, url *TransportURL, tls *tls.Config, onState func(bool)) *link {
	return &link{
		purpose: purpose, options: options, url: url, tls: tls, onState: onState,
		log:     options.Logger.With("link", purpose),
		changed: make(chan struct{}), since: time.Now(),
	}
}

// session waits for a live connection. ErrUnavailable, with the reason, if ctx
// ends first.
func (l *link) session(ctx context.Context) (*session, error) {
	for {
		l.mu.Lock()
		s, changed := l.current, l.changed
		l.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if _, _, _, _, lastErr := l.status(); lastErr != nil {
				return nil, fmt.Errorf("no broker: %w", lastErr)
			}
			return nil, fmt.Errorf("no broker: not connected yet: %w", errdefs.ErrUnavailable)
		}
	}
}

func (l *link) set(s *session) {
	l.mu.Lock()
	l.current = s
	l.since = time.Now()
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	l.onState(s != nil)
}

func (l *link) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastErr = err
}

// shortLived is a session so short that the next connect waits as after a
// failed one: a broker that accepts and closes at once must not be hammered.
const shortLived = 5 * time.Second

// run connects, and connects again, until ctx ends. The brokers are tried in
// turn after a shuffle. After each round of failures the pause grows by
// RetryBackoff, from RetryInterval to RetryMax (impl_rabbit.py,
// ensure_connection; kombu pauses per round, not per broker).
func (l *link) run(ctx context.Context) {
	hosts := append([]TransportHost(nil), l.url.Hosts...)
	if len(hosts) == 0 {
		hosts = []TransportHost{{}}
	}
	rand.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	r := &l.options.Rabbit
	pause, tried := r.RetryInterval, 0
	wait := func() bool {
		if tried%len(hosts) != 0 {
			return ctx.Err() == nil
		}
		ok := sleep(ctx, pause)
		pause = min(pause+r.RetryBackoff, max(r.RetryMax, r.RetryInterval))
		return ok
	}
	for ctx.Err() == nil {
		host := hosts[tried%len(hosts)]
		conn, err := l.dial(ctx, host)
		if err != nil {
			tried++
			l.fail(err)
			if ctx.Err() == nil {
				l.log.WarnContext(ctx, "cannot connect to the broker", "err", err)
			}
			if !wait() {
				return
			}
			continue
		}
		began := time.Now()
		l.log.InfoContext(ctx, "connected to the broker", "broker", host.Address())
		err = l.live(ctx, conn, host.Address())
		l.fail(err)
		if ctx.Err() != nil {
			return
		}
		l.log.WarnContext(ctx, "lost the broker", "err", err)
		tried++
		if time.Since(began) < shortLived {
			if !wait() {
				return
			}
			continue
		}
		// All agents of a cloud lose a broker at the same moment; they come
		// back spread over the delay.
		pause, tried = r.RetryInterval, tried%len(hosts)
		if d := r.ReconnectDelay; d > 0 && !sleep(ctx, rand.N(d)) {
			return
		}
	}
}

// live shows conn to the users of the link until it is lost or ctx ends, and
// closes it. It returns why.
func (l *link) live(ctx context.Context, conn *amqp.Connection, broker string) error {
	s := &session{conn: conn, broker: broker, done: make(chan struct{})}
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 16))
	l.set(s)
	defer func() {
		l.set(nil)
		close(s.done)
	}()
	for {
		select {
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			s.setBlocked(b)
			if b.Active {
				l.log.WarnContext(ctx, "the broker takes no messages", "reason", b.Reason)
			} else {
				l.log.InfoContext(ctx, "the broker takes messages again")
			}
		case reason := <-closes:
			_ = conn.Close() // waits for nothing: it is closed
			if reason == nil {
				return fmt.Errorf("broker %s: connection closed: %w", broker, errdefs.ErrUnavailable)
			}
			return fmt.Errorf("broker %s: %v: %w", broker, reason, errdefs.ErrUnavailable)
		case <-ctx.Done():
			_ = conn.CloseDeadline(time.Now().Add(2 * time.Second))
			return fmt.Errorf("broker %s: this side closed: %w", broker, errdefs.ErrUnavailable)
		}
	}
}

// status is what State tells of a link.
func (l *link) status() (up, blocked bool, broker string, since time.Time, lastErr error) {
	l.mu.Lock()
	s := l.current
	since, lastErr = l.since, l.lastErr
	l.mu.Unlock()
	if s == nil {
		return false, false, "", since, lastErr
	}
	until, reason := s.blocked()
	if until != nil {
		lastErr = fmt.Errorf("broker %s takes no messages: %s: %w", s.broker, reason, errdefs.ErrUnavailable)
		return true, true, s.broker, since, lastErr
	}
	return true, false, s.broker, since, nil
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
