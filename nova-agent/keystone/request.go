package keystone

import (
	"context"
	"io"
	"net/http"
)

// requestIDHeader is what OpenStack's services log beside their own IDs.
const requestIDHeader = "X-Openstack-Request-Id"

type requestIDKey struct{}

// WithRequestID makes the requests of ctx carry an OpenStack request ID, so that
// the logs of all services can be read together.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

func setRequestID(req *http.Request) {
	if id, _ := req.Context().Value(requestIDKey{}).(string); id != "" && req.Header.Get(requestIDHeader) == "" {
		req.Header.Set(requestIDHeader, id)
	}
}

// Do sends req as the session's user, and once more with a new token if the first
// was refused with 401. Every answer of the server is returned without error;
// ErrUnavailable if there is none.
func (s *Session) Do(req *http.Request) (*http.Response, error) {
	setRequestID(req)
	token, err := s.Token(req.Context())
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", token)
	resp, err := s.send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !rewind(req) {
		return resp, err
	}
	drain(resp)
	if token, err = s.replace(req.Context(), token); err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", token)
	return s.send(req)
}

// rewind makes a request ready to be sent again, or tells that it cannot be.
func rewind(req *http.Request) bool {
	if req.Body == nil || req.Body == http.NoBody {
		return true
	}
	if req.GetBody == nil {
		return false
	}
	body, err := req.GetBody()
	if err != nil {
		return false
	}
	req.Body = body
	return true
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
// its end. A service token that was refused is replaced once.
func (u *User) Do(req *http.Request) (*http.Response, error) {
	if u.token == "" {
		return u.session.Do(req)
	}
	setRequestID(req)
	req.Header.Set("X-Auth-Token", u.token)
	service := u.session.opts.Service
	if service == nil {
		return u.session.send(req)
	}
	token, err := service.Token(req.Context())
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Service-Token", token)
	resp, err := u.session.send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !rewind(req) {
		return resp, err
	}
	drain(resp)
	if token, err = service.replace(req.Context(), token); err != nil {
		return nil, err
	}
	req.Header.Set("X-Service-Token", token)
	return u.session.send(req)
}

// drain lets the connection be used again.
func drain(resp *http.Response) {
	// What is left of an answer that nobody wants is worth no error.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}
