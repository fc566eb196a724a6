package rpc

import (
	"context"
	"encoding/json"
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

// Server takes messages until Stop.
type Server struct{}

// Ready waits until every queue is declared and consumed.
func (s *Server) Ready(ctx context.Context) error { return nil }

// Stop takes no more messages, waits for the running handlers and their
// replies, and deletes the fanout queue. TOPIC.Host stays: messages wait there
// for the next start. When ctx ends first, the handlers' contexts are
// cancelled, and an error (ErrUnavailable) names those that still run.
func (s *Server) Stop(ctx context.Context) error { return nil }
