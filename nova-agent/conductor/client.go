package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// Caller carries messages. *rpc.Bus is one.
type Caller interface {
	// Call waits for the answer. A failure of the other side is a *rpc.RemoteError.
	Call(ctx context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error)
	// CallMonitored is Call for what may take long.
	CallMonitored(ctx context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error)
	// Cast returns when the broker has the message.
	Cast(ctx context.Context, target rpc.Target, method string, args map[string]any) error
	// Fanout is Cast to every server of the topic.
	Fanout(ctx context.Context, target rpc.Target, method string, args map[string]any) error
}

// Client asks nova-conductor.
type Client struct {
	caller  Caller
	host    string
	replica bool
}

// New returns a client that speaks for host, CONF.host of this node.
func New(caller Caller, host string) *Client { return &Client{caller: caller, host: host} }

// Host is the name that the client speaks for.
func (c *Client) Host() string { return c.host }

// Replica returns a client whose list queries may be answered by a replica of the
// database that lags behind (use_slave), as Nova's periodic tasks do.
func (c *Client) Replica() *Client {
	r := *c
	r.replica = true
	return &r
}

// target of conductor's own methods. Every release has version 3.0.
func target() rpc.Target { return rpc.Target{Topic: "conductor", Version: "3.0"} }

// Ping waits for any conductor to answer. Its error is ErrUnavailable if none does
// within the time of ctx.
func (c *Client) Ping(ctx context.Context) error {
	const arg = "1.21 GigaWatts" // as Nova's
	raw, err := c.caller.Call(ctx, rpc.Target{Topic: "conductor", Namespace: "baseapi", Version: "1.0"}, "ping", map[string]any{"arg": arg})
	if err != nil {
		return failed("ping", err)
	}
	var pong struct{ Service, Arg string }
	if err := json.Unmarshal(raw, &pong); err != nil || pong.Arg != arg {
		return fmt.Errorf("conductor: ping: %q is no answer: %w", raw, errdefs.ErrInvalid)
	}
	return nil
}

// Decode reads an object as objects.Decode does. One that came in a version that
// we can't read is sent to conductor to be rewritten; the error is ErrUnsupported
// if that does not help.
func (c *Client) Decode(ctx context.Context, raw json.RawMessage) (objects.Object, error) {
	o, err := objects.Decode(raw)
	var version *objects.VersionError
	if !errors.As(err, &version) {
		return o, err
	}
	older, err := c.Backport(ctx, raw)
	if err != nil {
		return nil, err
	}
	return objects.Decode(older)
}

// DecodeKnown is Decode, but as strict as Nova is: an object with a newer minor
// version than ours, or within which there is one, is rewritten too, so that no
// field is left that we don't know.
func (c *Client) DecodeKnown(ctx context.Context, raw json.RawMessage) (objects.Object, error) {
	o, err := c.Decode(ctx, raw)
	if err != nil || objects.Newer(o) == nil {
		return o, err
	}
	older, err := c.Backport(ctx, raw)
	if err != nil {
		return nil, err
	}
	return objects.Decode(older)
}

// Backport has conductor rewrite an object in the versions that we read. ErrInvalid
// if raw is not an object, ErrUnsupported if we have no struct for it.
func (c *Client) Backport(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	var object struct {
		Name string `json:"nova_object.name"`
	}
	if err := json.Unmarshal(raw, &object); err != nil || object.Name == "" {
		return nil, fmt.Errorf("conductor: backport: not an object: %w", errdefs.ErrInvalid)
	}
	versions := objects.Manifest(object.Name)
	if versions == nil {
		return nil, fmt.Errorf("conductor: backport %s: no version of it is known here: %w", object.Name, errdefs.ErrUnsupported)
	}
	older, err := c.caller.Call(ctx, target(), "object_backport_versions", map[string]any{
		"objinst": raw, "object_versions": versions,
	})
	if err != nil {
		return nil, failed("backport "+object.Name, err)
	}
	return older, nil
}

type (
	args   []any
	kwargs map[string]any
)

// classAction calls a method of an object's class.
func (c *Client) classAction(ctx context.Context, name, method string, a args, k kwargs) (json.RawMessage, error) {
	if a == nil {
		a = args{}
	}
	if k == nil {
		k = kwargs{}
	}
	raw, err := c.caller.Call(ctx, target(), "object_class_action_versions", map[string]any{
		"objname": name, "objmethod": method, "object_versions": objects.Manifest(name),
		"args": a, "kwargs": k,
	})
	if err != nil {
		return nil, failed(name+"."+method, err)
	}
	return raw, nil
}

// replicable adds what says that a replica may answer.
func (c *Client) replicable(k kwargs) kwargs {
	if c.replica {
		if k == nil {
			k = kwargs{}
		}
		k["use_slave"] = true
	}
	return k
}

// attrs are the expected_attrs of a query; nil is Nova's default.
func attrs(names []string) kwargs {
	if names == nil {
		return nil
	}
	return kwargs{"expected_attrs": names}
}

// get is classAction for methods that return a T. Null is ErrNotFound.
func get[T any, P interface {
	*T
	objects.Object
}](ctx context.Context, c *Client, method string, a args, k kwargs) (P, error) {
	name := P(new(T)).ObjectName()
	raw, err := c.classAction(ctx, name, method, a, k)
	if err != nil {
		return nil, err
	}
	o, err := objects.As[T, P](raw)
	if err != nil {
		return nil, fmt.Errorf("conductor: %s.%s: answer: %w", name, method, err)
	}
	if o == nil {
		return nil, fmt.Errorf("conductor: %s.%s: %w", name, method, errdefs.ErrNotFound)
	}
	return o, nil
}

// objectAction calls a method of o and merges what it changed into o. On error o is
// as before. The method's own result is returned.
func (c *Client) objectAction(ctx context.Context, o objects.Object, method string, a args, k kwargs) (json.RawMessage, error) {
	if a == nil {
		a = args{}
	}
	if k == nil {
		k = kwargs{}
	}
	action := o.ObjectName() + "." + method
	primitive, err := o.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("conductor: %s: %w", action, err)
	}
	raw, err := c.caller.Call(ctx, target(), "object_action", map[string]any{
		"objinst": json.RawMessage(primitive), "objmethod": method, "args": a, "kwargs": k,
	})
	if err != nil {
		return nil, failed(action, err)
	}
	var answer [2]json.RawMessage
	if err := json.Unmarshal(raw, &answer); err != nil || answer[0] == nil {
		return nil, fmt.Errorf("conductor: %s: the answer is not updates and a result: %w", action, errdefs.ErrInvalid)
	}
	if err := objects.ApplyUpdates(o, answer[0]); err != nil {
		return nil, fmt.Errorf("conductor: %s: %w", action, err)
	}
	return answer[1], nil
}

// act is objectAction for methods without arguments or result.
func (c *Client) act(ctx context.Context, o objects.Object, method string) error {
	_, err := c.objectAction(ctx, o, method, nil, nil)
	return err
}
