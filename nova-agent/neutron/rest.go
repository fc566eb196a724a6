package neutron

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
)

// maxAnswer bounds what is read of an answer: a thousand ports take about 1.5 MB.
const maxAnswer = 64 << 20

// longestWait is the longest pause that a server's Retry-After is granted.
const longestWait = 10 * time.Second

// rest is Neutron seen by one identity.
type rest struct {
	c       *Client
	session Session
	admin   bool
}

func (r rest) get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return r.do(ctx, http.MethodGet, path, nil, into)
}

// do sends a request and repeats it when the network or an overloaded server is to
// blame. A POST is repeated only if it surely did not arrive.
func (r rest) do(ctx context.Context, method, path string, body, into any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return fmt.Errorf("neutron: %s %s: %v: %w", method, path, err, errdefs.ErrInvalid)
		}
	}
	delay := r.c.opts.RetryDelay
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return fmt.Errorf("neutron: %s %s: %w: %w", method, path, context.Cause(ctx), errdefs.ErrUnavailable)
		}
		wait, err := r.once(ctx, method, path, payload, into)
		if err == nil {
			return nil
		}
		if wait < 0 || attempt >= r.c.opts.Retries || ctx.Err() != nil {
			return translate(err, r.admin)
		}
		// Spread, so that the boots which failed together do not return together.
		pause := max(delay/2+rand.N(delay), wait)
		r.c.log.WarnContext(ctx, "neutron request failed and is repeated", "error", err, "pause", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		delay *= 2
	}
}

// once sends a request a single time. wait is the least pause before a
// repetition; negative if there is no use in one.
func (r rest) once(ctx context.Context, method, path string, payload []byte, into any) (wait time.Duration, err error) {
	if method != http.MethodGet {
		// Neutron finishes what it has begun, whether we listen or not: to undo it
		// we have to know when it has. A caller who gives up waits for that.
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, r.c.opts.Timeout)
	defer cancel()
	base, err := r.session.Endpoint(ctx, "network")
	if err != nil {
		return -1, fmt.Errorf("neutron: its endpoint: %w", err)
	}
	base = strings.TrimSuffix(strings.TrimRight(base, "/"), "/v2.0")
	req, err := http.NewRequestWithContext(ctx, method, base+"/v2.0"+path, bytes.NewReader(payload))
	if err != nil {
		return -1, fmt.Errorf("neutron: %s %s: %v: %w", method, path, err, errdefs.ErrInvalid)
	}
	if payload == nil {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	} else {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	res, err := r.session.Do(req)
	if err != nil {
		return again(method, err), unreachable(method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		// The server acted but its answer was cut off.
		return again(method, err), unreachable(method, path, err)
	}
	if len(text) > maxAnswer {
		return -1, fmt.Errorf("neutron: %s %s: an answer of more than %d bytes: %w", method, path, maxAnswer, errdefs.ErrUnavailable)
	}
	if res.StatusCode/100 != 2 {
		e := apiError(req, path, res, text)
		switch res.StatusCode {
		case http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout:
			if method != http.MethodPost || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests {
				return retryAfter(res), e
			}
		}
		return -1, e
	}
	if into == nil {
		return 0, nil
	}
	if err := decode(text, into); err != nil {
		return again(method, err), fmt.Errorf("neutron: %s %s: an answer that is not what the API promises: %v: %w",
			method, path, err, errdefs.ErrUnavailable)
	}
	return 0, nil
}

// unreachable says that no answer came, keeping a kind that the session gave.
func unreachable(method, path string, err error) error {
	for _, kind := range []error{errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrUnavailable, errdefs.ErrUnsupported} {
		if errors.Is(err, kind) {
			return fmt.Errorf("neutron: %s %s: %w", method, path, err)
		}
	}
	return fmt.Errorf("neutron: %s %s: %w: %w", method, path, err, errdefs.ErrUnavailable)
}

// again tells whether a request that got no answer may be sent again: 0 or -1.
// GET, PUT and DELETE of Neutron's API do the same when done twice; a POST is safe
// only when no connection came about. A server that hangs has had its time.
func again(method string, err error) time.Duration {
	if errors.Is(err, context.Canceled) || errors.Is(err, errdefs.ErrInvalid) {
		return -1
	}
	var op *net.OpError
	if errors.Is(err, syscall.ECONNREFUSED) || (errors.As(err, &op) && op.Op == "dial") {
		return 0
	}
	var slow net.Error
	if method == http.MethodPost || (errors.As(err, &slow) && slow.Timeout()) {
		return -1
	}
	return 0
}

func retryAfter(res *http.Response) time.Duration {
	s, err := strconv.Atoi(res.Header.Get("Retry-After"))
	if err != nil || s < 0 {
		return 0
	}
	return min(time.Duration(s)*time.Second, longestWait)
}

// apiError reads Neutron's error document. Middleware in front of it (keystonemiddleware,
// a proxy) answers in other forms or in HTML: then the status has to do.
func apiError(req *http.Request, path string, res *http.Response, text []byte) *APIError {
	e := &APIError{Method: req.Method, Path: path, Status: res.StatusCode,
		RequestID: res.Header.Get("X-Openstack-Request-Id")}
	var doc struct {
		NeutronError json.RawMessage `json:"NeutronError"`
		Error        struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &doc) != nil {
		e.Message = http.StatusText(res.StatusCode)
		return e
	}
	var full struct{ Type, Message, Detail string }
	if json.Unmarshal(doc.NeutronError, &full) == nil {
		e.Type, e.Message = full.Type, full.Message
	} else if json.Unmarshal(doc.NeutronError, &e.Message) != nil {
		e.Message = doc.Error.Message
	}
	const most = 1000 // of the message: it ends up in an instance's fault
	if len(e.Message) > most {
		e.Message = e.Message[:most]
	}
	return e
}
