package keystone

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"novaagent/engine/errdefs"
)

type requestIDKey struct{}

// WithRequestID makes the requests of ctx carry an OpenStack request ID, so that
// the logs of all services can be read together.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func setRequestID(req *http.Request) {
	if id, _ := req.Context().Value(requestIDKey{}).(string); id != "" && req.Header.Get("X-Openstack-Request-Id") == "" {
		req.Header.Set("X-Openstack-Request-Id", id)
	}
}

// Do sends req as the session's user, and once more with a new token if the first
// was refused with 401. Every answer of the server is returned without error;
// ErrUnavailable if there is none.
func (s *Session) Do(req *http.Request) (*http.Response, error) {
	setRequestID(req)
	for again := true; ; again = false {
		token, err := s.Token(req.Context())
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Auth-Token", token)
		resp, err := s.client.Do(req)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
		}
		repeatable := req.Body == nil || req.GetBody != nil
		if resp.StatusCode != http.StatusUnauthorized || !again || !repeatable {
			return resp, nil
		}
		s.forget(token)
		drain(resp)
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, fmt.Errorf("%s %s: the body cannot be sent again: %w", req.Method, req.URL, err)
			}
			req.Body = body
		}
	}
}

// User is a request's own user, whose token came with the message. There is no
// way to renew it.
type User struct {
	session *Session
	token   string
}

// ForUser returns the identity of token, which finds endpoints in the catalogue of
// s. An empty token stands for s's own user: periodic work has no other.
func (s *Session) ForUser(token string) *User { return &User{session: s, token: token} }

// Token returns the user's token.
func (u *User) Token(ctx context.Context) (string, error) {
	if u.token == "" {
		return u.session.Token(ctx)
	}
	return u.token, nil
}

// Endpoint is Session.Endpoint.
func (u *User) Endpoint(ctx context.Context, serviceType string) (string, error) {
	return u.session.Endpoint(ctx, serviceType)
}

// Do sends req with the user's token, and the service's beside it if the session
// has one to add: with it a service accepts the user's token for some time after
// its end.
func (u *User) Do(req *http.Request) (*http.Response, error) {
	if u.token == "" {
		return u.session.Do(req)
	}
	setRequestID(req)
	req.Header.Set("X-Auth-Token", u.token)
	if service := u.session.opts.Service; service != nil {
		token, err := service.Token(req.Context())
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Service-Token", token)
	}
	resp, err := u.session.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	}
	return resp, nil
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	// What is left of an answer that nobody wants is worth no error.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}
