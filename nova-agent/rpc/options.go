package rpc

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// Options configure a Bus. Start from DefaultOptions: some fields have a
// meaning at zero (a heartbeat of 0 is "none"), as the options of
// oslo.messaging do.
type Options struct {
	// TransportURL is nova.conf's transport_url:
	// rabbit://user:pass@host:port[,user:pass@host2:port2]/vhost?option=value.
	// Options in its query override Rabbit, as in oslo.messaging.
	TransportURL string

	// Exchange is control_exchange, the topic exchange of calls and casts.
	Exchange string

	// Name is shown by "rabbitmqctl list_connections" and is part of the queue
	// names when Rabbit.QueueManager is set.
	Name string

	// Hostname is part of the queue names when Rabbit.QueueManager is set.
	Hostname string

	// CallTimeout is rpc_response_timeout: how long Call waits for a reply
	// when its context has no deadline, and the call-monitor period of
	// CallMonitored.
	CallTimeout time.Duration

	// LongCallTimeout is long_rpc_timeout: how long CallMonitored waits when
	// its context has no deadline.
	LongCallTimeout time.Duration

	// PublishTimeout bounds how long a Cast or a Fanout waits for a broker
	// that takes the message, when its context has no deadline.
	PublishTimeout time.Duration

	// MaxBody is the largest message body, in bytes, that is accepted. A larger
	// one is thrown away while it is read and never held in memory.
	MaxBody int64

	// WatchdogInterval is how often a Server sends itself a message through
	// each of its own queues, and consumes anew when it does not arrive. 0 is never.
	WatchdogInterval time.Duration

	Rabbit Rabbit

	// Logger takes the package's logs; nil is slog.Default().
	Logger *slog.Logger

	Observe Observer
}

// Observer has the functions that a Bus calls so that somebody can count. Each
// may be nil. They run on the goroutine that did the work and must not block.
type Observer struct {
	// OnHandled is called when a handler has ended, before its reply is sent.
	OnHandled func(method string, took time.Duration, err error)
	// OnCalled is called when a Call, CallMonitored, Cast or Fanout has ended.
	OnCalled func(method string, took time.Duration, err error)
	// OnState is called when the bus becomes connected and when it stops being so.
	OnState func(connected bool)
}

// Rabbit is the part of [oslo_messaging_rabbit] that matters to a client. The
// name of the option stands beside each field; meanings are those of
// oslo_messaging/_drivers/impl_rabbit.py. The flags of queues must be the
// same in every service that shares a broker: RabbitMQ refuses (406) a
// declaration that differs.
type Rabbit struct {
	TLS               bool   // ssl
	TLSCAFile         string // ssl_ca_file; without it the broker's certificate is not verified
	TLSCertFile       string // ssl_cert_file
	TLSKeyFile        string // ssl_key_file
	TLSVersion        string // ssl_version: the lowest that is accepted; "" is TLS 1.2
	TLSVerifyHostname bool   // ssl_enforce_hostname_verification; only with TLSCAFile

	LoginMethod string        // rabbit_login_method: AMQPLAIN, PLAIN or EXTERNAL
	Heartbeat   time.Duration // heartbeat_timeout_threshold; under a second the broker decides

	RetryInterval  time.Duration // rabbit_retry_interval: pause after the first round of failed connects
	RetryBackoff   time.Duration // rabbit_retry_backoff: how much longer each following pause is
	RetryMax       time.Duration // rabbit_interval_max: the longest pause
	ReconnectDelay time.Duration // kombu_reconnect_delay: a connect after a loss waits a random part of it

	// kombu_missing_consumer_retry_timeout: how long a reply is retried whose
	// queue does not exist.
	MissingReplyQueueTimeout time.Duration

	Durable    bool // amqp_durable_queues
	AutoDelete bool // amqp_auto_delete
	HA         bool // rabbit_ha_queues

	Quorum                bool  // rabbit_quorum_queue; implies Durable
	QuorumDeliveryLimit   int64 // rabbit_quorum_delivery_limit
	QuorumMaxMemoryLength int64 // rabbit_quorum_max_memory_length (rabbit_quroum_… in Zed)
	QuorumMaxMemoryBytes  int64 // rabbit_quorum_max_memory_bytes (rabbit_quroum_… in Zed)

	TransientQuorum  bool          // rabbit_transient_quorum_queue: reply and fanout queues too
	TransientTTL     time.Duration // rabbit_transient_queues_ttl; 0 is no x-expires
	StreamFanout     bool          // rabbit_stream_fanout: one stream per topic in place of fanout queues
	QueueManager     bool          // use_queue_manager: the same queue names after a restart
	CancelOnFailover bool          // enable_cancel_on_failover

	// rabbit_qos_prefetch_count: messages that the broker may send ahead on
	// one queue. 0 is unlimited in oslo.messaging; here it is the package's own
	// bound, since messages wait in memory.
	Prefetch int
}

// DefaultOptions are the defaults of oslo.messaging and Nova, without a
// transport URL.
func DefaultOptions() Options {
	return Options{
		Exchange:         "nova",
		Name:             "nova-agent",
		CallTimeout:      60 * time.Second,
		LongCallTimeout:  30 * time.Minute,
		PublishTimeout:   60 * time.Second,
		MaxBody:          32 << 20,
		WatchdogInterval: time.Minute,
		Rabbit: Rabbit{
			LoginMethod:              "AMQPLAIN",
			Heartbeat:                60 * time.Second,
			RetryInterval:            time.Second,
			RetryBackoff:             2 * time.Second,
			RetryMax:                 30 * time.Second,
			ReconnectDelay:           time.Second,
			MissingReplyQueueTimeout: 60 * time.Second,
			TransientTTL:             30 * time.Minute,
		},
	}
}

// defaultPrefetch bounds what waits in memory for a free worker, per queue. A
// message is acknowledged before it is handled, so a few in flight keep the
// broker busy.
const defaultPrefetch = 4

// check completes o and refuses what cannot work, with ErrInvalid.
func (o *Options) check() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("rpc options: "+format+": %w", append(args, errdefs.ErrInvalid)...)
	}
	switch {
	case o.Exchange == "":
		return invalid("no exchange")
	case o.CallTimeout <= 0 || o.LongCallTimeout <= 0 || o.PublishTimeout <= 0:
		return invalid("a timeout that is not positive")
	case o.MaxBody <= 0:
		return invalid("max body %d", o.MaxBody)
	case o.WatchdogInterval < 0:
		return invalid("a negative watchdog interval")
	}
	r := &o.Rabbit
	switch {
	case r.Quorum && r.HA:
		return invalid("rabbit_quorum_queue and rabbit_ha_queues exclude each other")
	case r.TransientQuorum && r.HA:
		return invalid("rabbit_transient_quorum_queue and rabbit_ha_queues exclude each other")
	case r.Heartbeat < 0 || r.RetryInterval < 0 || r.RetryBackoff < 0 || r.RetryMax < 0 || r.ReconnectDelay < 0 ||
		r.MissingReplyQueueTimeout < 0 || r.TransientTTL < 0 || r.Prefetch < 0:
		return invalid("a negative number in [oslo_messaging_rabbit]")
	case r.StreamFanout && (!r.TransientQuorum || r.Prefetch == 0):
		return invalid("rabbit_stream_fanout needs rabbit_transient_quorum_queue and rabbit_qos_prefetch_count > 0")
	}
	switch strings.ToUpper(r.LoginMethod) {
	case "AMQPLAIN", "PLAIN", "EXTERNAL":
		r.LoginMethod = strings.ToUpper(r.LoginMethod)
	default:
		return invalid("rabbit_login_method %q", r.LoginMethod)
	}
	if r.RetryInterval == 0 {
		r.RetryInterval = time.Second
	}
	if r.Prefetch == 0 {
		r.Prefetch = defaultPrefetch
	}
	if o.Name == "" {
		o.Name = "nova-agent"
	}
	if r.QueueManager && o.Hostname == "" {
		return invalid("use_queue_manager needs a host name")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// durable is the D of queue and exchange declarations.
func (r *Rabbit) durable() bool { return r.Durable || r.Quorum }
