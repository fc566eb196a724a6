package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

// lanes is how many messages may be on their way to the broker at a time. Each
// lane has an AMQP channel of its own and one message on it, so that a
// returned message, a refusal and a confirm can only mean that one.
const lanes = 16

// retryUnroutable is the pause before a message is sent again whose queue does
// not exist (amqpdriver.py, AMQPIncomingMessage.reply).
const retryUnroutable = 250 * time.Millisecond

// errUnroutable: the broker has no queue for the message.
var errUnroutable = errors.New("no queue takes the message")

// message is something to publish.
type message struct {
	exchange  exchangeSpec // its zero value is the default exchange
	key       string
	mandatory bool      // an unroutable message is an error
	expires   time.Time // sent as the message's time to live; zero is none
	body      []byte
}

// publisher sends messages and waits for the broker's confirm.
type publisher struct {
	link *link
	log  *slog.Logger
	jobs chan *job
	wg   sync.WaitGroup
}

type job struct {
	ctx     context.Context
	message *message
	result  chan error // of room for one
}

func newPublisher(link *link, log *slog.Logger) *publisher {
	return &publisher{link: link, log: log, jobs: make(chan *job)}
}

// start runs the lanes until ctx ends; wg.Wait waits for them.
func (p *publisher) start(ctx context.Context) {
	for range lanes {
		p.wg.Go(func() { (&lane{publisher: p}).run(ctx) })
	}
}

// publish returns nil once the broker has confirmed m. Until then, and while ctx
// lasts, it sends m again whenever the connection was lost or the broker
// refused it; the receiver knows a repeat by its _unique_id. errUnroutable;
// ErrInvalid if the broker will never take m; ErrUnavailable when ctx ends.
//
// A message may still go out shortly after ctx has ended.
func (p *publisher) publish(ctx context.Context, m *message) error {
	j := &job{ctx: ctx, message: m, result: make(chan error, 1)}
	select {
	case p.jobs <- j:
	case <-ctx.Done():
		return p.gaveUp()
	}
	select {
	case err := <-j.result:
		return err
	case <-ctx.Done():
		select { // both may be ready: the truth wins
		case err := <-j.result:
			return err
		default:
			return p.gaveUp()
		}
	}
}

// publishRouted is publish for a message whose queue may be about to be
// declared, as after a restart of the broker: it retries while ctx lasts.
func (p *publisher) publishRouted(ctx context.Context, m *message) error {
	for {
		err := p.publish(ctx, m)
		if !errors.Is(err, errUnroutable) {
			return err
		}
		if !sleep(ctx, retryUnroutable) {
			return fmt.Errorf("publish %s: %v: %w", m.key, err, errdefs.ErrUnavailable)
		}
	}
}

// gaveUp tells why a message could not be sent in time.
func (p *publisher) gaveUp() error {
	up, blocked, _, _, lastErr := p.link.status()
	switch {
	case lastErr != nil && (!up || blocked):
		return fmt.Errorf("publish: %w", lastErr)
	case !up:
		return fmt.Errorf("publish: not connected: %w", errdefs.ErrUnavailable)
	}
	return fmt.Errorf("publish: the broker did not confirm in time: %w", errdefs.ErrUnavailable)
}

// lane is one goroutine of the publisher with its channel.
type lane struct {
	*publisher
	session  *session
	channel  *amqp.Channel
	returns  chan amqp.Return
	closes   chan *amqp.Error
	declared map[string]bool // exchanges, on this channel
}

func (l *lane) run(ctx context.Context) {
	for {
		select {
		case j := <-l.jobs:
			jobCtx, cancel := context.WithCancel(j.ctx)
			stop := context.AfterFunc(ctx, cancel)
			j.result <- l.send(jobCtx, j.message)
			stop()
			cancel()
		case <-ctx.Done():
			return
		}
	}
}

// send sends m until it is confirmed, refused for good, or ctx ends.
func (l *lane) send(ctx context.Context, m *message) error {
	pause := 50 * time.Millisecond
	for {
		err := l.try(ctx, m)
		if err == nil || errors.Is(err, errUnroutable) || errors.Is(err, errdefs.ErrInvalid) {
			return err
		}
		l.log.DebugContext(ctx, "publish failed", "key", m.key, "err", err)
		if !sleep(ctx, pause) {
			return err
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// try sends m once.
func (l *lane) try(ctx context.Context, m *message) error {
	fail := func(step string, err error) error {
		l.forget()
		return fmt.Errorf("publish: %s: %v: %w", step, err, errdefs.ErrUnavailable)
	}
	s, err := l.link.session(ctx)
	if err != nil {
		return err
	}
	if until, reason := s.blocked(); until != nil {
		select {
		case <-until:
		case <-s.done:
		case <-ctx.Done():
			return fmt.Errorf("publish: broker %s takes no messages: %s: %w", s.broker, reason, errdefs.ErrUnavailable)
		}
	}
	if err := l.open(s); err != nil {
		return fail("open a channel", err)
	}
	if m.exchange.name != "" && !l.declared[m.exchange.name] {
		if err := l.declare(ctx, s, m.exchange); err != nil {
			return fail("declare exchange "+m.exchange.name, err)
		}
	}
	publishing := amqp.Publishing{
		ContentType:     "application/json",
		ContentEncoding: "utf-8",
		DeliveryMode:    amqp.Persistent,
		Body:            m.body,
	}
	if !m.expires.IsZero() {
		publishing.Expiration = strconv.FormatInt(max(1, time.Until(m.expires).Milliseconds()), 10)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("publish: %v: %w", ctx.Err(), errdefs.ErrUnavailable)
	}
	confirm, err := l.channel.PublishWithDeferredConfirm(m.exchange.name, m.key, m.mandatory, false, publishing)
	if err != nil {
		return fail("send", err)
	}
	// Not bounded by ctx: the channel is of no use before the broker has
	// spoken, and a lost connection ends the wait.
	<-confirm.Done()
	if confirm.Acked() {
		select {
		case r, ok := <-l.returns:
			if ok {
				return fmt.Errorf("%w: %s", errUnroutable, r.ReplyText)
			}
		default:
		}
		return nil
	}
	select {
	case reason, ok := <-l.closes:
		if ok && reason.Code == amqp.PreconditionFailed {
			l.forget() // the message is larger than the broker's maximum
			return fmt.Errorf("publish: %s: %w", reason.Reason, errdefs.ErrInvalid)
		}
		if ok {
			return fail("send", reason)
		}
	default:
	}
	return fail("send", errors.New("not confirmed"))
}

// open makes the lane's channel one of session s.
func (l *lane) open(s *session) error {
	if l.session == s && l.channel != nil && !l.channel.IsClosed() {
		return nil
	}
	l.forget()
	channel, err := s.conn.Channel()
	if err != nil {
		return err
	}
	if err := channel.Confirm(false); err != nil {
		_ = channel.Close()
		return err
	}
	l.session, l.channel, l.declared = s, channel, map[string]bool{}
	l.returns = channel.NotifyReturn(make(chan amqp.Return, 1))
	l.closes = channel.NotifyClose(make(chan *amqp.Error, 1))
	return nil
}

// forget closes the channel, so that the next message starts on a new one.
func (l *lane) forget() {
	if l.channel != nil && !l.channel.IsClosed() {
		_ = l.channel.Close()
	}
	l.session, l.channel, l.declared = nil, nil, nil
}

// declare declares an exchange the way its consumers do. Where that differs
// from what exists, the exchange is used as it is.
func (l *lane) declare(ctx context.Context, s *session, e exchangeSpec) error {
	for _, step := range e.fallbacks() {
		if err := l.open(s); err != nil {
			return err
		}
		err := step.declare(l.channel)
		if err == nil {
			l.declared[e.name] = true
			return nil
		}
		if !isCode(err, amqp.PreconditionFailed) || step.last {
			return err
		}
		l.log.WarnContext(ctx, "the exchange exists with other flags; compare [oslo_messaging_rabbit] of all services",
			"exchange", e.name, "err", err)
		l.forget()
	}
	return nil
}

// isCode says whether err is the broker's refusal of that code.
func isCode(err error, code int) bool {
	var refusal *amqp.Error
	return errors.As(err, &refusal) && refusal.Code == code
}
