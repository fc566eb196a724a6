package rpc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// RequestContext is who asks and in which request: the _context_* keys of a
// message. Keys that this code does not know are kept as they came and sent
// on. It is immutable: methods that change something return a copy.
//
// Forward the context of a request unchanged in everything done for it: Nova
// looks instance actions up by its request ID (CONTRACT: request_id is a
// foreign key in effect).
//
// Source: nova/context.py, RequestContext.to_dict and from_dict.
type RequestContext struct {
	values map[string]json.RawMessage // without the prefix
}

// NewAdminContext is the context of the agent's own work: an administrator
// without user, project and token, with a request ID of its own.
func NewAdminContext() *RequestContext {
	c := &RequestContext{values: make(map[string]json.RawMessage, 12)}
	for key, value := range map[string]any{
		"is_admin":        true, // null would make the receiver evaluate policy
		"user_id":         nil,
		"project_id":      nil,
		"roles":           []string{},
		"read_deleted":    "no",
		"request_id":      "req-" + newUUID(),
		"timestamp":       time.Now().UTC().Format("2006-01-02T15:04:05.000000"),
		"service_catalog": []any{},
		"auth_token":      nil,
	} {
		c.values[key] = mustJSON(value)
	}
	return c
}

// NewRequestContext makes a context of a dictionary whose keys have no
// _context_ prefix. The values are kept verbatim.
func NewRequestContext(values map[string]json.RawMessage) *RequestContext {
	return &RequestContext{values: maps.Clone(values)}
}

// Elevated is the same request with an administrator's rights: same request
// ID, token and catalogue (nova/context.py, elevated).
func (c *RequestContext) Elevated() *RequestContext {
	roles := c.Roles()
	admin := false
	for _, role := range roles {
		admin = admin || role == "admin"
	}
	if !admin {
		roles = append(roles, "admin")
	}
	return c.With("is_admin", true).With("roles", roles)
}

// ReadDeleted is the same context with read_deleted set to "no", "yes" or
// "only".
func (c *RequestContext) ReadDeleted(mode string) *RequestContext {
	return c.With("read_deleted", mode)
}

// With is a copy of c in which key (without prefix) has a value. It panics on
// a value that JSON cannot express, which is a bug of the caller.
func (c *RequestContext) With(key string, value any) *RequestContext {
	next := &RequestContext{values: maps.Clone(c.values)}
	if next.values == nil {
		next.values = make(map[string]json.RawMessage, 1)
	}
	next.values[key] = mustJSON(value)
	return next
}

// Get returns the JSON of a key (without prefix), nil if there is none.
func (c *RequestContext) Get(key string) json.RawMessage {
	if c == nil {
		return nil
	}
	return c.values[key]
}

// text returns a key that holds a string; "" if it is absent, null or
// something else.
func (c *RequestContext) text(key string) string {
	var s string
	if json.Unmarshal(c.Get(key), &s) != nil {
		return ""
	}
	return s
}

// RequestID is "req-<uuid>"; "" if there is none.
func (c *RequestContext) RequestID() string { return c.text("request_id") }

// GlobalRequestID is the request ID of the service that started the chain.
func (c *RequestContext) GlobalRequestID() string { return c.text("global_request_id") }

// UserID is the user's Keystone ID.
func (c *RequestContext) UserID() string { return c.text("user_id") }

// ProjectID is the project's Keystone ID; "" for the agent's own work.
func (c *RequestContext) ProjectID() string { return c.text("project_id") }

// AuthToken is the user's Keystone token. It may have expired. Never log it.
func (c *RequestContext) AuthToken() string { return c.text("auth_token") }

// UserName is the user's name; "" if the sender left it out.
func (c *RequestContext) UserName() string { return c.text("user_name") }

// ProjectName is the project's name; "" if the sender left it out.
func (c *RequestContext) ProjectName() string { return c.text("project_name") }

// IsAdmin says whether the sender marked the context as an administrator's.
func (c *RequestContext) IsAdmin() bool {
	var b bool
	return json.Unmarshal(c.Get("is_admin"), &b) == nil && b
}

// Roles are the user's roles; the slice is the caller's own.
func (c *RequestContext) Roles() []string {
	var roles []string
	if json.Unmarshal(c.Get("roles"), &roles) != nil {
		return nil
	}
	return roles
}

// MarshalJSON gives the dictionary without prefix. It holds the user's token.
func (c *RequestContext) MarshalJSON() ([]byte, error) {
	if c == nil || c.values == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(c.values)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *RequestContext) UnmarshalJSON(data []byte) error {
	values := make(map[string]json.RawMessage)
	if err := json.Unmarshal(data, &values); err != nil {
		return fmt.Errorf("request context: %w", err)
	}
	c.values = values
	return nil
}

// String tells only what may be told: no token, no catalogue.
func (c *RequestContext) String() string {
	return fmt.Sprintf("request %s user %s project %s", c.RequestID(), c.UserID(), c.ProjectID())
}

// GoString keeps the token out of %#v.
func (c *RequestContext) GoString() string { return c.String() }

// LogValue keeps the token out of logs.
func (c *RequestContext) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("request_id", c.RequestID()),
		slog.String("user_id", c.UserID()),
		slog.String("project_id", c.ProjectID()))
}

type contextKey struct{}

// WithRequestContext returns a context whose calls and casts are sent in rc's
// name.
func WithRequestContext(ctx context.Context, rc *RequestContext) context.Context {
	return context.WithValue(ctx, contextKey{}, rc)
}

// RequestContextFrom returns the request context that ctx carries: in a handler
// the caller's. nil if there is none; calls are then made with a new admin
// context.
func RequestContextFrom(ctx context.Context) *RequestContext {
	rc, _ := ctx.Value(contextKey{}).(*RequestContext)
	return rc
}

func mustJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rpc: request context value: %v", err))
	}
	return raw
}

// newUUID returns a random UUID in its 36 character form.
func newUUID() string {
	b := randomBytes()
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newID returns 32 hex digits: a _unique_id, a _msg_id, the end of a queue's name.
func newID() string { return fmt.Sprintf("%x", randomBytes()) }

func randomBytes() []byte {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}
