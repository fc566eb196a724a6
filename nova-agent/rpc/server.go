package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
	"novaagent/logging"
)

// Handler answers one method. Its context carries the caller's RequestContext
// (RequestContextFrom) and log attributes; it is cancelled when the server's
// stop deadline passes, not when the caller loses patience. The result must be
// expressible in JSON. A panic becomes a failure reply.
type Handler func(ctx context.Context, req *Request) (any, error)

// Request is one message for a handler.
type Request struct {
	Method    string
	Namespace string
	Version   string                     // as sent; "1.0" if absent
	Args      map[string]json.RawMessage // keyword arguments
	IsCall    bool                       // the caller waits for the result
	UniqueID  string                     // the same when a message is delivered twice
}

// Endpoint is a set of methods of one namespace and version. A request is for
// it if the namespace is equal, the major version is equal and the minor
// version not larger.
type Endpoint struct {
	Namespace string
	Version   string // "6.1"
	Methods   map[string]Handler
}

// ServerOptions say what a Server listens to.
type ServerOptions struct {
	// Topics are "compute", and "compute-alt" for 2026.1 and later. For each
	// the server consumes TOPIC, TOPIC.Host and a fanout queue of its own.
	Topics []string
	// Host is nova.conf's host.
	Host      string
	Endpoints []Endpoint
	// Workers is how many messages are handled at a time; 0 is 64. Further ones
	// stay in the broker.
	Workers int
	// Ping answers oslo_rpc_server_ping (rpc_ping_enabled).
	Ping bool
}

// defaultWorkers is executor_thread_pool_size of oslo.messaging.
const defaultWorkers = 64

// Bounds of replies that are still to be delivered after their handlers ended.
// Beyond them a reply keeps its handler's worker.
const (
	maxPendingReplies    = 256
	maxPendingReplyBytes = 64 << 20
)

// stopGrace is how long Stop waits for handlers after it cancelled them.
const stopGrace = 5 * time.Second

// Server takes messages until Stop.
type Server struct {
	bus     *Bus
	options ServerOptions
	log     *slog.Logger

	workers       chan struct{}
	subscriptions []*subscription
	seen          *recentIDs
	gone          *goneQueues
	watched       *watchdog

	consuming   context.Context // ends first: take no more messages
	stopTaking  context.CancelFunc
	working     context.Context // ends second: handlers and replies give up
	stopWorking context.CancelFunc
	takers      sync.WaitGroup // subscriptions and the watchdog
	handlers    sync.WaitGroup

	mu           sync.Mutex
	running      map[*incoming]time.Time
	replying     int
	replyBytes   int
	stopOnce     sync.Once
	stopErr      error
	stopFinished chan struct{}
}

// Serve starts to take messages and returns at once; see Server.Ready.
// ErrInvalid for options that cannot work, ErrUnavailable after Close.
func (b *Bus) Serve(options ServerOptions) (*Server, error) {
	if options.Workers == 0 {
		options.Workers = defaultWorkers
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	if options.Ping {
		options.Endpoints = append(slices.Clone(options.Endpoints), Endpoint{Version: "1.0", Methods: map[string]Handler{
			"oslo_rpc_server_ping": func(context.Context, *Request) (any, error) { return "pong", nil },
		}})
	}
	s := &Server{
		bus: b, options: options, log: b.log,
		workers: make(chan struct{}, options.Workers),
		gone:    newGoneQueues(), running: make(map[*incoming]time.Time), stopFinished: make(chan struct{}),
	}
	base := context.WithoutCancel(b.ctx) // Stop and Close decide, not the bus's context
	s.consuming, s.stopTaking = context.WithCancel(base)
	s.working, s.stopWorking = context.WithCancel(base)
	for _, topic := range options.Topics {
		for _, queue := range []queueSpec{
			b.topology.topicQueue(topic, false),
			b.topology.topicQueue(topic+"."+options.Host, true),
			b.topology.fanoutQueue(topic),
		} {
			s.subscriptions = append(s.subscriptions, newSubscription(b.consume, queue, b.options.Rabbit.Prefetch, s.receive))
		}
	}
	// At least oslo.messaging's 16, and whatever may be redelivered at once when
	// a connection is lost before the broker has read our acknowledgements.
	s.seen = newRecentIDs(max(16, 2*b.options.Rabbit.Prefetch*len(s.subscriptions)))
	s.watched = newWatchdog(b, append(slices.Clone(s.subscriptions), b.replies.subscription))

	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("serve: %w", errClosed)
	}
	b.servers[s] = true
	for _, sub := range s.subscriptions {
		s.takers.Go(func() { sub.run(s.consuming) })
	}
	if b.options.WatchdogInterval > 0 {
		s.takers.Go(func() { s.watched.run(s.consuming) })
	}
	return s, nil
}

func (o *ServerOptions) check() error {
	switch {
	case len(o.Topics) == 0:
		return fmt.Errorf("serve: no topic: %w", errdefs.ErrInvalid)
	case o.Host == "":
		return fmt.Errorf("serve: no host: %w", errdefs.ErrInvalid)
	case o.Workers < 0:
		return fmt.Errorf("serve: %d workers: %w", o.Workers, errdefs.ErrInvalid)
	}
	for _, topic := range o.Topics {
		if topic == "" || len(topic)+len(o.Host)+1 > maxName {
			return fmt.Errorf("serve: topic %q with host %q: %w", topic, o.Host, errdefs.ErrInvalid)
		}
	}
	for _, e := range o.Endpoints {
		if _, err := parseVersion(e.Version); err != nil {
			return fmt.Errorf("serve: endpoint version %q: %w", e.Version, errdefs.ErrInvalid)
		}
		for method := range e.Methods {
			if method == "" || strings.HasPrefix(method, "_") {
				return fmt.Errorf("serve: method %q: no such name is served: %w", method, errdefs.ErrInvalid)
			}
		}
	}
	return nil
}

// Ready waits until every queue is declared and consumed. ErrUnavailable if ctx
// ends first.
func (s *Server) Ready(ctx context.Context) error {
	for _, sub := range s.subscriptions {
		if err := sub.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// receive takes one message off a queue: it is acknowledged before it is
// handled, as oslo.messaging does (amqpdriver.py, RpcAMQPListener), so a crash
// of this process loses it rather than repeating it.
func (s *Server) receive(ctx context.Context, d amqp.Delivery) {
	received := time.Now()
	inner, err := openDelivery(&d, s.bus.options.MaxBody)
	var in *incoming
	if err == nil {
		if token := watchdogToken(inner); token != "" {
			_ = d.Ack(false)
			s.watched.seen(token)
			return
		}
		in, err = decodeRequest(inner)
	}
	if err != nil {
		s.log.WarnContext(ctx, "a message that cannot be read was thrown away",
			"err", err, "bytes", len(d.Body), "exchange", d.Exchange, "key", d.RoutingKey)
		_ = d.Reject(false)
		return
	}
	// A worker first: what nobody can handle now stays in the broker.
	select {
	case s.workers <- struct{}{}:
	case <-ctx.Done():
		return
	}
	release := sync.OnceFunc(func() { <-s.workers })
	if err := d.Ack(false); err != nil {
		// The broker will deliver it again.
		release()
		return
	}
	if !s.seen.add(in.uniqueID) {
		s.log.WarnContext(ctx, "a message that came twice was dropped", "method", in.method, "unique_id", in.uniqueID)
		release()
		return
	}
	s.mu.Lock()
	s.running[in] = received
	s.mu.Unlock()
	deadline := replyDeadline(received, d.Expiration)
	s.handlers.Go(func() {
		defer release()
		s.handle(in, deadline, release)
	})
}

// handle runs the handler of in and sends its reply.
func (s *Server) handle(in *incoming, deadline time.Time, release func()) {
	ctx := WithRequestContext(s.working, in.context)
	if id := in.context.RequestID(); id != "" {
		ctx = logging.With(ctx, logging.Request(id))
	}
	stopMonitor := s.monitor(ctx, in)
	began := time.Now()
	result, err := s.dispatch(ctx, in)
	if f := s.bus.options.Observe.OnHandled; f != nil {
		f(in.method, time.Since(began), err)
	}
	stopMonitor() // before the reply: signs of life must not follow it
	s.mu.Lock()
	delete(s.running, in)
	s.mu.Unlock()
	if in.msgID != "" {
		s.reply(ctx, in, result, err, deadline, release)
	} else if err != nil {
		s.logFailure(ctx, in, err)
	}
}

// logFailure tells what went wrong in a handler. A failure that the handler
// made on purpose is an answer, and the handler's to log.
func (s *Server) logFailure(ctx context.Context, in *incoming, err error) {
	level := slog.LevelWarn
	var failure Failure
	if errors.As(err, &failure) {
		if module, _ := failure.RemoteClass(); module != moduleDispatcher {
			level = slog.LevelDebug
		}
	}
	s.log.Log(ctx, level, "a request failed", "method", in.method, "version", in.version, "err", err)
}

// Stop takes no more messages, waits for the running handlers and their
// replies, and deletes the fanout queue. TOPIC.Host stays: messages wait there
// for the next start. When ctx ends first, the handlers' contexts are
// cancelled, and an error (ErrUnavailable) names those that still run after
// a few seconds. Further calls wait for the first.
func (s *Server) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() {
		s.stopErr = s.stop(ctx)
		close(s.stopFinished)
	})
	<-s.stopFinished
	return s.stopErr
}

func (s *Server) stop(ctx context.Context) error {
	s.stopTaking()
	takersDone := waitChan(&s.takers)
	select {
	case <-takersDone:
	case <-ctx.Done(): // a broker that does not answer; Close of the bus ends it
	}
	handlersDone := waitChan(&s.handlers)
	select {
	case <-handlersDone:
	case <-ctx.Done():
	}
	s.stopWorking()
	var err error
	select {
	case <-handlersDone:
	case <-time.After(stopGrace):
		s.mu.Lock()
		var names []string
		for in := range s.running {
			names = append(names, in.method)
		}
		s.mu.Unlock()
		slices.Sort(names)
		err = fmt.Errorf("stop: still running: %s: %w", strings.Join(names, ", "), errdefs.ErrUnavailable)
	}
	s.deleteTransient(ctx)
	s.bus.mu.Lock()
	delete(s.bus.servers, s)
	s.bus.mu.Unlock()
	return err
}

// deleteTransient deletes the fanout queues, at best effort: they expire.
func (s *Server) deleteTransient(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	session, err := s.bus.consume.session(ctx)
	if err != nil {
		return
	}
	done := make(chan struct{})
	s.bus.wg.Go(func() {
		defer close(done)
		ch, err := session.conn.Channel()
		if err != nil {
			return
		}
		defer func() { _ = ch.Close() }()
		for _, sub := range s.subscriptions {
			if sub.queue.deleteOnStop {
				if _, err := ch.QueueDelete(sub.queue.name, false, false, false); err != nil {
					s.log.DebugContext(ctx, "cannot delete the fanout queue", "queue", sub.queue.name, "err", err)
					return
				}
			}
		}
	})
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// Running lists the methods that are being handled and for how long.
func (s *Server) Running() map[string][]time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string][]time.Duration)
	for in, since := range maps.All(s.running) {
		out[in.method] = append(out[in.method], time.Since(since))
	}
	return out
}

// waitChan is closed when wg is done.
func waitChan(wg *sync.WaitGroup) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	return done
}
