// Package logging makes structured logs carry what they are about: the request
// ID and the instance UUID travel in the context, and each record written
// with that context has them.
//
// The doors (RPC server, HTTP server, periodic tasks) put the attributes in with
// With; everybody else logs through a *slog.Logger and passes the context.
package logging

import (
	"context"
	"log/slog"
	"slices"
)

type attrsKey struct{}

// With returns a context whose log records carry attrs besides those that ctx
// already has. A later attribute replaces an earlier one of the same key.
func With(ctx context.Context, attrs ...slog.Attr) context.Context {
	old := from(ctx)
	merged := make([]slog.Attr, 0, len(old)+len(attrs))
	for _, a := range old {
		if !slices.ContainsFunc(attrs, func(b slog.Attr) bool { return b.Key == a.Key }) {
			merged = append(merged, a)
		}
	}
	return context.WithValue(ctx, attrsKey{}, append(merged, attrs...))
}

// Request is the attribute of a request ID, "req-<uuid>" as OpenStack writes it.
func Request(id string) slog.Attr { return slog.String("request_id", id) }

// Instance is the attribute of an instance's UUID.
func Instance(uuid string) slog.Attr { return slog.String("instance_uuid", uuid) }

// Container is the attribute of a container's ID, 64 hex digits.
func Container(id string) slog.Attr { return slog.String("container_id", id) }

func from(ctx context.Context) []slog.Attr {
	attrs, _ := ctx.Value(attrsKey{}).([]slog.Attr)
	return attrs
}

// Handler adds the attributes of a record's context to it and passes it on.
type Handler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h Handler) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(from(ctx)...)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h Handler) WithGroup(name string) slog.Handler { return Handler{h.Handler.WithGroup(name)} }
