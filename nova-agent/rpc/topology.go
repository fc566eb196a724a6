package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// What is declared, and with which flags: impl_rabbit.py, declare_topic_consumer,
// declare_fanout_consumer, declare_direct_consumer and _get_queue_arguments.

// exchangeSpec is an exchange to declare.
type exchangeSpec struct {
	name, kind          string // kind: "topic" or "fanout"
	durable, autoDelete bool
}

// queueSpec is a queue to declare, bind and consume.
type queueSpec struct {
	name         string
	exchange     exchangeSpec // name "": the default exchange, no binding
	key          string
	durable      bool
	autoDelete   bool
	args         amqp.Table
	consumeArgs  amqp.Table
	stream       bool
	deleteOnStop bool
	own          bool // only this process consumes it
}

// topology makes the specs for a set of options.
type topology struct{ options *Options }

func (t topology) topic() exchangeSpec {
	r := &t.options.Rabbit
	return exchangeSpec{name: t.options.Exchange, kind: "topic", durable: r.durable(), autoDelete: r.AutoDelete}
}

// fanoutTo is the fanout exchange of a topic as a publisher declares it.
func (t topology) fanoutTo(topic string) exchangeSpec {
	return exchangeSpec{name: topic + "_fanout", kind: "fanout", durable: t.options.Rabbit.TransientQuorum, autoDelete: true}
}

// unique is the part of a transient queue's name that no other process has.
func (t topology) unique() string {
	if t.options.Rabbit.QueueManager {
		// One process of this name runs on a host and it has one bus, so the
		// counter of oslo.messaging's QManager is always 1.
		return t.options.Hostname + ":" + t.options.Name + ":1"
	}
	return newID()
}

func (t topology) topicQueue(key string, own bool) queueSpec {
	r := &t.options.Rabbit
	return queueSpec{
		name: key, exchange: t.topic(), key: key, own: own,
		durable: r.durable(), autoDelete: r.AutoDelete,
		args: t.queueArgs(r.Quorum, false), consumeArgs: t.consumeArgs(),
	}
}

func (t topology) fanoutQueue(topic string) queueSpec {
	r := &t.options.Rabbit
	q := queueSpec{
		name: topic + "_fanout_" + t.unique(), exchange: t.fanoutTo(topic), key: topic, own: true,
		durable: r.TransientQuorum, args: t.queueArgs(r.TransientQuorum, true), consumeArgs: t.consumeArgs(),
		deleteOnStop: !r.QueueManager,
	}
	if r.StreamFanout {
		q.name, q.stream, q.own, q.deleteOnStop = topic+"_fanout", true, false, false
		q.args = amqp.Table{"x-queue-type": "stream"}
		if r.TransientTTL > 0 {
			q.args["x-max-age"] = fmt.Sprintf("%ds", int64(r.TransientTTL.Seconds()))
		}
	}
	return q
}

func (t topology) replyQueue() queueSpec {
	r := &t.options.Rabbit
	return queueSpec{
		name: "reply_" + t.unique(), own: true,
		durable: r.TransientQuorum, args: t.queueArgs(r.TransientQuorum, true), consumeArgs: t.consumeArgs(),
	}
}

func (t topology) queueArgs(quorum, transient bool) amqp.Table {
	r := &t.options.Rabbit
	args := amqp.Table{}
	if r.HA {
		args["x-ha-policy"] = "all"
	}
	if quorum {
		args["x-queue-type"] = "quorum"
		for name, n := range map[string]int64{
			"x-delivery-limit":       r.QuorumDeliveryLimit,
			"x-max-in-memory-length": r.QuorumMaxMemoryLength,
			"x-max-in-memory-bytes":  r.QuorumMaxMemoryBytes,
		} {
			if n > 0 {
				args[name] = n
			}
		}
	}
	if transient && r.TransientTTL > 0 {
		args["x-expires"] = r.TransientTTL.Milliseconds()
	}
	return args
}

func (t topology) consumeArgs() amqp.Table {
	if t.options.Rabbit.CancelOnFailover {
		return amqp.Table{"x-cancel-on-ha-failover": true}
	}
	return nil
}

// exchangeStep is one way to make sure that an exchange exists.
type exchangeStep struct {
	exchangeSpec
	passive, last bool
}

// fallbacks are the ways to declare e, best first: as configured; not durable,
// which oslo.messaging falls back to when another service was first; and as
// it is.
func (e exchangeSpec) fallbacks() []exchangeStep {
	var steps []exchangeStep
	steps = append(steps, exchangeStep{exchangeSpec: e})
	if e.durable {
		transient := e
		transient.durable = false
		steps = append(steps, exchangeStep{exchangeSpec: transient})
	}
	return append(steps, exchangeStep{exchangeSpec: e, passive: true, last: true})
}

func (s exchangeStep) declare(ch *amqp.Channel) error {
	if s.passive {
		return ch.ExchangeDeclarePassive(s.name, s.kind, s.durable, s.autoDelete, false, false, nil)
	}
	return ch.ExchangeDeclare(s.name, s.kind, s.durable, s.autoDelete, false, false, nil)
}

// declarer declares a queue with its exchange and binding. A refusal closes
// the AMQP channel, so each step may need a new one.
type declarer struct {
	conn *amqp.Connection
	log  *slog.Logger
	ch   *amqp.Channel
}

// declare returns the channel on which all of q has been declared.
func (d *declarer) declare(ctx context.Context, q queueSpec) (*amqp.Channel, error) {
	fail := func(step string, err error) (*amqp.Channel, error) {
		d.close()
		return nil, fmt.Errorf("%s: %w", step, err)
	}
	if q.exchange.name != "" {
		for _, step := range q.exchange.fallbacks() {
			err := d.do(step.declare)
			if err == nil {
				if q.durable && !step.durable && q.args["x-queue-type"] == nil {
					q.durable = false // as oslo.messaging does in this case, so that all services agree
				}
				break
			}
			if !isCode(err, amqp.PreconditionFailed) || step.last {
				return fail("declare exchange "+q.exchange.name, err)
			}
			d.warn(ctx, "the exchange exists with other flags", q.exchange.name, err)
		}
	}
	if err := d.declareQueue(ctx, q); err != nil {
		return fail("declare queue "+q.name, err)
	}
	if q.exchange.name != "" {
		bind := func(ch *amqp.Channel) error { return ch.QueueBind(q.name, q.key, q.exchange.name, false, nil) }
		if err := d.do(bind); err != nil {
			return fail("bind queue "+q.name, err)
		}
	}
	if d.ch == nil || d.ch.IsClosed() {
		return fail("declare queue "+q.name, amqp.ErrClosed)
	}
	return d.ch, nil
}

// declareQueue declares q; a queue that exists with other flags is used as it
// is, and one that is stuck on a broker that is down (404) is deleted and made
// anew (Launchpad bug 2068630).
func (d *declarer) declareQueue(ctx context.Context, q queueSpec) error {
	declare := func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(q.name, q.durable, q.autoDelete, false, false, q.args)
		return err
	}
	err := d.do(declare)
	switch {
	case err == nil:
		return nil
	case isCode(err, amqp.NotFound):
		d.warn(ctx, "the queue is stuck on a broker that is down; deleting it", q.name, err)
		_ = d.do(func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(q.name, false, false, false)
			return err
		})
		return d.do(declare)
	case isCode(err, amqp.PreconditionFailed):
		d.warn(ctx, "the queue exists with other flags; using it as it is", q.name, err)
		return d.do(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclarePassive(q.name, q.durable, q.autoDelete, false, false, q.args)
			return err
		})
	}
	return err
}

// do runs one step on an open channel.
func (d *declarer) do(step func(*amqp.Channel) error) error {
	if d.ch == nil || d.ch.IsClosed() {
		ch, err := d.conn.Channel()
		if err != nil {
			return err
		}
		d.ch = ch
	}
	return step(d.ch)
}

func (d *declarer) warn(ctx context.Context, text, object string, err error) {
	d.log.WarnContext(ctx, text+"; compare [oslo_messaging_rabbit] of all services",
		"object", object, "err", strings.TrimSpace(err.Error()))
}

func (d *declarer) close() {
	if d.ch != nil && !d.ch.IsClosed() {
		_ = d.ch.Close()
	}
}
