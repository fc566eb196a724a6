package rpc

import (
	"context"
	"encoding/json"
	"fmt"

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

// Bus is a client of one broker (or of one cluster of brokers). It connects and
// connects again by itself until it is closed. All methods may be called from
// any goroutine.
type Bus struct{ options Options }

// New checks the options and starts to connect. It does not wait for the
// broker: a call made meanwhile waits within its own timeout. ErrInvalid.
func New(options Options) (*Bus, error) {
	if err := options.check(); err != nil {
		return nil, err
	}
	return &Bus{options: options}, nil
}

// Call asks a server and returns the result's JSON ("null" for None).
//
// It waits until ctx's deadline, or for Options.CallTimeout. While the broker
// is away it keeps waiting: a request that the broker did not confirm is sent
// again with the same _unique_id. Errors: *RemoteError if the other side
// failed; *TimeoutError (ErrUnavailable); ErrInvalid for arguments that are
// not JSON; ctx's own error if it was cancelled.
func (b *Bus) Call(ctx context.Context, target Target, method string, args map[string]any) (json.RawMessage, error) {
	return nil, fmt.Errorf("call %s: %w", method, errdefs.ErrUnsupported)
}

// CallMonitored is Call for methods that may take long. The server sends a sign
// of life twice per Options.CallTimeout; the call ends when none came for that
// long, or at ctx's deadline (default Options.LongCallTimeout).
func (b *Bus) CallMonitored(ctx context.Context, target Target, method string, args map[string]any) (json.RawMessage, error) {
	return nil, fmt.Errorf("call %s: %w", method, errdefs.ErrUnsupported)
}

// Cast sends a message that nobody answers. It returns once the broker has put
// it in a queue, or with ErrUnavailable when it could not within ctx's deadline
// or Options.PublishTimeout.
func (b *Bus) Cast(ctx context.Context, target Target, method string, args map[string]any) error {
	return fmt.Errorf("cast %s: %w", method, errdefs.ErrUnsupported)
}

// Fanout sends a message to every server of target.Topic; that there may be none
// is no error. Otherwise as Cast.
func (b *Bus) Fanout(ctx context.Context, target Target, method string, args map[string]any) error {
	return fmt.Errorf("fanout %s: %w", method, errdefs.ErrUnsupported)
}

// Serve starts to take messages and returns at once; see Server.Ready.
// ErrInvalid for options that cannot work.
func (b *Bus) Serve(options ServerOptions) (*Server, error) {
	return nil, fmt.Errorf("serve: %w", errdefs.ErrUnsupported)
}

// Close ends all servers without waiting for their handlers (see Server.Stop),
// fails pending calls with ErrUnavailable, closes the connections and waits
// for every goroutine of the bus.
func (b *Bus) Close() error { return nil }
