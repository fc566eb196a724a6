package imagebridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// Session speaks to OpenStack as some user. *keystone.User and
// *keystone.Session are sessions.
type Session interface {
	// Endpoint is the base URL of a service.
	Endpoint(ctx context.Context, serviceType string) (string, error)
	// Do sends a request with the user's token. It fails only if there is no
	// answer.
	Do(req *http.Request) (*http.Response, error)
}

const (
	// maxRecordBytes bounds the answer to a GET of an image's record.
	maxRecordBytes = 1 << 20
	// maxErrorBytes of an error's text are shown.
	maxErrorBytes = 300
	// maxRetryAfter bounds the wait that a server can ask for.
	maxRetryAfter = 30 * time.Second
)

// url is the address of something of an image.
func (b *Bridge) url(ctx context.Context, s Session, id, suffix string) (string, error) {
	base := b.opts.Endpoint
	if base == "" {
		var err error
		if base, err = s.Endpoint(ctx, "image"); err != nil {
			return "", faultf(Unavailable, "Glance's address: %v: %w", err, errdefs.ErrUnavailable)
		}
	}
	base = strings.TrimSuffix(strings.TrimSuffix(base, "/"), "/v2")
	return base + "/v2/images/" + id + suffix, nil
}

// show reads an image's record.
func (b *Bridge) show(ctx context.Context, s Session, id string) (Record, error) {
	rec := Record{ID: id}
	raw, err := retry(ctx, b.opts, func(ctx context.Context) ([]byte, error) {
		ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
		defer cancel()
		resp, err := b.get(ctx, s, id, "", 0)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, statusFault(resp)
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, maxRecordBytes+1))
		if err != nil {
			return nil, lost(err)
		}
		if len(raw) > maxRecordBytes || !json.Valid(raw) {
			return nil, faultf(Unavailable, "Glance's answer is no JSON of a sensible size: %w", errdefs.ErrUnavailable)
		}
		return raw, nil
	})
	if err != nil {
		return rec, err
	}
	if rec, err = parseRecord(raw); err != nil {
		return Record{ID: id}, faultf(Unavailable, "Glance's answer: %v: %w", err, errdefs.ErrUnavailable)
	}
	if rec.ID != id {
		return Record{ID: id}, faultf(Unavailable, "Glance answers with image %.40q: %w", rec.ID, errdefs.ErrUnavailable)
	}
	return rec, nil
}

// delete deletes an image and its data.
func (b *Bridge) delete(ctx context.Context, s Session, id string) error {
	_, err := retry(ctx, b.opts, func(ctx context.Context) (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, b.opts.Timeout)
		defer cancel()
		resp, err := b.send(ctx, s, http.MethodDelete, id, "", 0)
		if err != nil {
			return struct{}{}, err
		}
		defer resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusNoContent, http.StatusOK, http.StatusNotFound, http.StatusGone:
			return struct{}{}, nil
		}
		return struct{}{}, statusFault(resp)
	})
	return err
}

// get asks for an image's record or, with the suffix /file, its data from an
// offset on.
func (b *Bridge) get(ctx context.Context, s Session, id, suffix string, offset int64) (*http.Response, error) {
	return b.send(ctx, s, http.MethodGet, id, suffix, offset)
}

func (b *Bridge) send(ctx context.Context, s Session, method, id, suffix string, offset int64) (*http.Response, error) {
	url, err := b.url(ctx, s, id, suffix)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, faultf(Unavailable, "Glance's address: %v: %w", err, errdefs.ErrUnavailable)
	}
	// The size and checksum are of the plain bytes.
	req.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
	}
	resp, err := s.Do(req)
	if err != nil {
		return nil, lost(err)
	}
	return resp, nil
}

// lost is a connection that failed, or was never made.
func lost(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return faultf(Unavailable, "Glance does not answer: %v: %w", err, errdefs.ErrUnavailable)
}

// again is a refusal that may be over soon.
type again struct {
	error
	after time.Duration // as the server asked; 0 if it did not
}

func (a *again) Unwrap() error { return a.error }

// statusFault makes an error of an answer other than success.
func statusFault(resp *http.Response) error {
	text := shortText(resp.Body)
	switch c := resp.StatusCode; {
	case c == http.StatusNotFound, c == http.StatusGone:
		return faultf(NotFound, "Glance has no such image: %w", errdefs.ErrNotFound)
	case c == http.StatusUnauthorized, c == http.StatusForbidden:
		return faultf(Forbidden, "Glance refuses to give it out (%s)%s: %w", resp.Status, text, errdefs.ErrInvalid)
	case c == http.StatusTooManyRequests, c >= 500:
		err := faultf(Unavailable, "Glance answers %s%s: %w", resp.Status, text, errdefs.ErrUnavailable)
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return &again{err, min(time.Duration(max(seconds, 0))*time.Second, maxRetryAfter)}
	default:
		return faultf(Unavailable, "Glance answers %s%s: %w", resp.Status, text, errdefs.ErrUnavailable)
	}
}

// shortText is the beginning of an error's page, on one line.
func shortText(r io.Reader) string {
	raw, _ := io.ReadAll(io.LimitReader(r, maxErrorBytes)) // it is only a hint
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(raw), "?")), " ")
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %q", text)
}

// retry does f again while it fails for want of an answer, with growing pauses.
func retry[T any](ctx context.Context, o Options, f func(context.Context) (T, error)) (T, error) {
	for n := 0; ; n++ {
		v, err := f(ctx)
		if err == nil || ctx.Err() != nil || n >= o.Retries || !errors.Is(err, errdefs.ErrUnavailable) {
			return v, err
		}
		if perr := pause(ctx, o, n, err); perr != nil {
			return v, err
		}
	}
}

// pause waits before attempt n+1, as long as the server that caused err asks.
func pause(ctx context.Context, o Options, n int, err error) error {
	d := o.Backoff << min(n, 6)
	var a *again
	if errors.As(err, &a) && a.after > 0 {
		d = a.after
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
