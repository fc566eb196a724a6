package placement

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"novaagent/engine/errdefs"
)

const (
	timeout   = time.Minute
	maxAnswer = 16 << 20
	// conflicts is how often a change is tried against concurrent ones
	// (report.py retries four times).
	conflicts = 4
)

// Session is the identity that asks: the [placement] service user. keystone.Session
// is one.
type Session interface {
	Endpoint(ctx context.Context, serviceType string) (string, error)
	Do(req *http.Request) (*http.Response, error)
}

// Client talks to Placement. It is safe for concurrent use.
type Client struct {
	session Session
	log     *slog.Logger

	mu    sync.Mutex // guards known
	known map[string]bool
}

// New makes a client.
func New(session Session, log *slog.Logger) *Client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Client{session: session, log: log, known: map[string]bool{}}
}

// refusal is an answer with another status than 2xx.
type refusal struct {
	status int
	code   string // "placement.concurrent_update", …
	detail string
}

func (r *refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.detail) }

// Unwrap gives a refusal its kind.
func (r *refusal) Unwrap() error {
	switch {
	case r.status == http.StatusNotFound:
		return errdefs.ErrNotFound
	case r.status == http.StatusConflict:
		return errdefs.ErrConflict
	case r.status >= 500 || r.status == http.StatusTooManyRequests || r.status == http.StatusUnauthorized:
		return errdefs.ErrUnavailable
	}
	return errdefs.ErrInvalid
}

func isStatus(err error, status int) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == status
}

// concurrent tells whether somebody else changed the same object meanwhile.
func concurrent(err error) bool {
	var r *refusal
	return errors.As(err, &r) && r.status == http.StatusConflict && r.code != "placement.inventory.inuse"
}

// call sends one request at a microversion. into may be nil.
func (c *Client) call(ctx context.Context, method, path, microversion string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	base, err := c.session.Endpoint(ctx, "placement")
	if err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("placement: %s %s: %v: %w", method, path, err, errdefs.ErrInvalid)
		}
		payload = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, payload)
	if err != nil {
		return fmt.Errorf("placement: %s %s: %v: %w", method, path, err, errdefs.ErrInvalid)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("OpenStack-API-Version", "placement "+microversion)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.session.Do(req)
	if err != nil {
		return fmt.Errorf("placement: %s %s: %w", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("placement: %s %s: %v: %w", method, path, err, errdefs.ErrUnavailable)
	}
	if len(text) > maxAnswer {
		return fmt.Errorf("placement: %s %s: an answer of more than %d bytes: %w", method, path, maxAnswer, errdefs.ErrUnavailable)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("placement: %s %s: %w", method, path, refusalOf(resp.StatusCode, text))
	}
	if into == nil || len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("placement: %s %s: the answer: %v: %w", method, path, err, errdefs.ErrUnavailable)
	}
	return nil
}

func refusalOf(status int, text []byte) *refusal {
	r := &refusal{status: status, detail: fmt.Sprintf("%.300s", text)}
	var answer struct {
		Errors []struct{ Code, Detail string }
	}
	if json.Unmarshal(text, &answer) == nil && len(answer.Errors) > 0 {
		r.code, r.detail = answer.Errors[0].Code, answer.Errors[0].Detail
	}
	return r
}
