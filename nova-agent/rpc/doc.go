// Package rpc speaks oslo.messaging's RPC over RabbitMQ (AMQP 0-9-1) as
// oslo.messaging 14 (Zed) and later do it. It carries messages and knows no
// Nova: a server is a table of handlers, a client a name and arguments.
//
// Start reading at Bus in bus.go (Call, Cast, Fanout, Serve) and Server in
// server.go (receive, handle, Stop). What is below them:
//
//	link.go          a connection that comes back; wire.go dials and bounds it
//	subscription.go  a queue that stays consumed; topology.go declares it
//	publisher.go     a message until the broker has confirmed it
//	replies.go       the replies to our calls
//	reply.go         our replies to others, and signs of life
//	message.go       envelopes and messages; errors.go failures
//	watchdog.go      finds queues that only seem to be consumed
//
// A bus has two connections: one consumes, one publishes, since a broker with an
// alarm stops reading from connections that publish. Each queue, and each
// message on its way out, has an AMQP channel to itself.
//
// What is held in memory is bounded: a message by Options.MaxBody, messages
// ahead of a free worker by Rabbit.Prefetch per queue, requests by
// ServerOptions.Workers, replies on their way by a number and a size.
//
// Locks guard single fields and are never held while another is taken, with
// one exception: Bus.mu before Server.mu. Nothing is left on disk; in the
// broker the queues TOPIC and TOPIC.HOST stay, and the reply queue until it
// expires.
//
// To add an option of [oslo_messaging_rabbit]: a field of Rabbit, its line in
// TransportURL.apply, and docs/rpc.md.
package rpc
