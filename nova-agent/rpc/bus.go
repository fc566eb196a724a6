package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"novaagent/engine/errdefs"
)

// Target says who a message is for.
type Target struct {
	Topic     string // "conductor"
	Server    string // a host; "" is any server of the topic
	Namespace string // "compute_task"; "" is the null namespace
	Version   string // "3.0"; "" is not sent, which means "1.0"
}

func (t Target) String() string {
	s := t.Topic
	if t.Server != "" {
		s += "." + t.Server
	}
	if t.Namespace != "" {
		s += " " + t.Namespace
	}
	return s
}

// key is the target's routing key in the topic exchange.
func (t Target) key() string {
	if t.Server != "" {
		return t.Topic + "." + t.Server
	}
	return t.Topic
}

// Bus is a client of one broker (or of one cluster of brokers). It connects and
// connects again by itself until it is closed. All methods may be called from
// any goroutine.
type Bus struct {
	options  Options
	log      *slog.Logger
	topology topology

	consume, publish *link
	publisher        *publisher
	replies          *replies

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	stateMu   sync.Mutex
	linksUp   int
	connected bool

	mu      sync.Mutex
	closed  bool
	servers map[*Server]bool
}

var (
	errSilent = errors.New("no sign of life from the server")
	errClosed = fmt.Errorf("the bus is closed: %w", errdefs.ErrUnavailable)
	errEmpty  = fmt.Errorf("the body is empty, or larger than the limit: %w", errdefs.ErrInvalid)
)

// New checks the options and starts to connect. It does not wait for the
// broker: a call made meanwhile waits within its own timeout. ErrInvalid.
func New(options Options) (*Bus, error) {
	url, err := ParseTransportURL(options.TransportURL)
	if err != nil {
		return nil, err
	}
	if url.Transport != "rabbit" && url.Transport != "kombu" {
		return nil, fmt.Errorf("transport_url: transport %q, only rabbit is spoken: %w", url.Transport, errdefs.ErrUnsupported)
	}
	unknown, err := url.apply(&options.Rabbit)
	if err != nil {
		return nil, err
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	tls, err := tlsConfig(&options.Rabbit)
	if err != nil {
		return nil, err
	}
	for _, name := range unknown {
		options.Logger.Warn("an option in transport_url has no effect here", "option", name)
	}
	b := &Bus{options: options, log: options.Logger, servers: make(map[*Server]bool)}
	b.topology = topology{&b.options}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.consume = newLink("consume", &b.options, url, tls, b.linkState)
	b.publish = newLink("publish", &b.options, url, tls, b.linkState)
	b.publisher = newPublisher(b.publish, b.log)
	b.replies = newReplies(b.consume, b.topology.replyQueue(), options.MaxBody, b.log)
	b.wg.Go(func() { b.consume.run(b.ctx) })
	b.wg.Go(func() { b.publish.run(b.ctx) })
	b.wg.Go(func() { b.replies.subscription.run(b.ctx) })
	b.publisher.start(b.ctx)
	return b, nil
}

// Call asks a server and returns the result's JSON ("null" for None).
//
// It waits until ctx's deadline, or for Options.CallTimeout. While the broker
// is away it keeps waiting: a request that the broker did not confirm is sent
// again with the same _unique_id. Errors: *RemoteError if the other side
// failed; *TimeoutError (ErrUnavailable); ErrInvalid for arguments that are
// not JSON; ctx's own error if it was cancelled.
func (b *Bus) Call(ctx context.Context, target Target, method string, args map[string]any) (json.RawMessage, error) {
	return b.call(ctx, target, method, args, b.options.CallTimeout, 0)
}

// CallMonitored is Call for methods that may take long. The server sends a sign
// of life twice per Options.CallTimeout; the call ends when none came for that
// long, or at ctx's deadline (default Options.LongCallTimeout).
func (b *Bus) CallMonitored(ctx context.Context, target Target, method string, args map[string]any) (json.RawMessage, error) {
	return b.call(ctx, target, method, args, b.options.LongCallTimeout, max(b.options.CallTimeout, time.Second))
}

func (b *Bus) call(ctx context.Context, target Target, method string, args map[string]any, timeout, monitor time.Duration) (result json.RawMessage, err error) {
	began := time.Now()
	defer func() { b.called(method, began, err) }()
	parent := ctx
	ctx, done := b.bound(ctx, timeout)
	defer done()
	deadline, _ := ctx.Deadline()

	msgID := newID()
	request := outgoingRequest{
		target: target, method: method, args: args, uniqueID: newID(), context: requestContext(ctx),
		call: &callFields{msgID: msgID, replyQ: b.replies.subscription.queue.name, monitor: int(monitor / time.Second)},
	}
	body, err := request.encode()
	if err != nil {
		return nil, fmt.Errorf("call %s of %s: %w", method, target, err)
	}
	w := b.replies.expect(msgID)
	defer b.replies.forget(msgID)
	// The reply queue must exist before somebody can reply.
	err = b.replies.subscription.ready(ctx)
	if err == nil {
		// Mandatory, unlike in oslo.messaging: a server that has not declared
		// its queue again after a restart of the broker gets the request
		// nevertheless. Receivers can't tell the difference.
		err = b.publisher.publishRouted(ctx, &message{
			exchange: b.topology.topic(), key: target.key(), mandatory: true, expires: deadline, body: body,
		})
	}
	if err == nil {
		result, err = b.replies.wait(ctx, w, monitor)
	}
	var remote *RemoteError
	switch {
	case err == nil || errors.As(err, &remote):
		return result, err
	case errors.Is(err, errdefs.ErrInvalid):
		return nil, fmt.Errorf("call %s of %s: %w", method, target, err)
	case b.ctx.Err() != nil:
		return nil, fmt.Errorf("call %s of %s: %w", method, target, errClosed)
	case errors.Is(parent.Err(), context.Canceled):
		return nil, fmt.Errorf("call %s of %s: %w", method, target, context.Canceled)
	}
	reason := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		reason = "no reply"
	}
	return nil, &TimeoutError{Target: target, Method: method, Reason: reason}
}

// Cast sends a message that nobody answers. It returns once the broker has put
// it in a queue, or with ErrUnavailable when it could not within ctx's deadline
// or Options.PublishTimeout.
func (b *Bus) Cast(ctx context.Context, target Target, method string, args map[string]any) error {
	return b.send(ctx, "cast", target, method, args, &message{
		exchange: b.topology.topic(), key: target.key(), mandatory: true,
	})
}

// Fanout sends a message to every server of target.Topic; that there may be none
// is no error. Otherwise as Cast.
func (b *Bus) Fanout(ctx context.Context, target Target, method string, args map[string]any) error {
	return b.send(ctx, "fanout", target, method, args, &message{exchange: b.topology.fanoutTo(target.Topic)})
}

func (b *Bus) send(ctx context.Context, verb string, target Target, method string, args map[string]any, m *message) (err error) {
	began := time.Now()
	defer func() { b.called(method, began, err) }()
	parent := ctx
	ctx, done := b.bound(ctx, b.options.PublishTimeout)
	defer done()
	request := outgoingRequest{target: target, method: method, args: args, uniqueID: newID(), context: requestContext(ctx)}
	if m.body, err = request.encode(); err == nil {
		err = b.publisher.publishRouted(ctx, m)
	}
	switch {
	case err == nil:
		return nil
	case b.ctx.Err() != nil:
		err = errClosed
	case errors.Is(parent.Err(), context.Canceled):
		err = context.Canceled
	}
	return fmt.Errorf("%s %s to %s: %w", verb, method, target, err)
}

// bound gives ctx a deadline if it has none, and ends it with the bus.
func (b *Bus) bound(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, timeout)
	}
	stop := context.AfterFunc(b.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// requestContext is the context to send in; never nil.
func requestContext(ctx context.Context) *RequestContext {
	if rc := RequestContextFrom(ctx); rc != nil {
		return rc
	}
	return NewAdminContext()
}

func (b *Bus) called(method string, began time.Time, err error) {
	if f := b.options.Observe.OnCalled; f != nil {
		f(method, time.Since(began), err)
	}
}

// linkState follows both links; the bus is connected when both are.
func (b *Bus) linkState(up bool) {
	b.stateMu.Lock()
	defer b.stateMu.Unlock()
	if up {
		b.linksUp++
	} else {
		b.linksUp--
	}
	if connected := b.linksUp == 2; connected != b.connected {
		b.connected = connected
		if f := b.options.Observe.OnState; f != nil {
			f(connected)
		}
	}
}

// Connected waits until the bus is connected and can receive replies.
// ErrUnavailable, with the reason, if ctx ends first.
func (b *Bus) Connected(ctx context.Context) error {
	if _, err := b.publish.session(ctx); err != nil {
		return err
	}
	return b.replies.subscription.ready(ctx)
}

// Close stops all servers at once (Server.Stop without patience), fails pending
// calls with ErrUnavailable, closes the connections and waits for every
// goroutine of the bus, but not for a handler that ignores its context.
func (b *Bus) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	servers := make([]*Server, 0, len(b.servers))
	for s := range b.servers {
		servers = append(servers, s)
	}
	b.mu.Unlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, s := range servers {
		errs = append(errs, s.Stop(now))
	}
	b.cancel()
	b.publisher.wg.Wait()
	b.wg.Wait()
	for _, s := range servers {
		s.takers.Wait()
	}
	return errors.Join(errs...)
}
