package keystone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"novaagent/engine/errdefs"
)

// maxLogin bounds the answer to a login: a large catalogue takes some 100 KB.
const maxLogin = 8 << 20

func transportFor(t TLS, timeout time.Duration) (http.RoundTripper, error) {
	conf := &tls.Config{InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("keystone: cafile: %v: %w", err, errdefs.ErrInvalid)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("keystone: cafile %s holds no certificate: %w", t.CAFile, errdefs.ErrInvalid)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("keystone: certfile: %v: %w", err, errdefs.ErrInvalid)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	dialer := &net.Dialer{Timeout: min(timeout, 30*time.Second)}
	return &http.Transport{
		TLSClientConfig:       conf,
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: timeout,
		ForceAttemptHTTP2:     true,
	}, nil
}

// refuseOtherHosts keeps a token from following a redirect to somebody else.
func refuseOtherHosts(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// limited ends the answers that are longer than any login's.
type limited struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (l limited) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxLogin), resp.Body}
	}
	return resp, err
}

// send asks once, or again while nobody listens there: such a request has not been
// sent, so that repeating it is safe whatever it does. ErrUnavailable if there is
// no answer.
func (s *Session) send(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	var resp *http.Response
	err := repeat(ctx, func() (again bool, err error) {
		resp, err = s.client.Do(req.WithContext(ctx))
		var dial *net.OpError
		return errors.As(err, &dial) && dial.Op == "dial" && rewind(req), err
	})
	if err != nil {
		cancel(nil)
		return nil, fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
	}
	resp.Body = &body{ReadCloser: resp.Body, timeout: s.opts.Timeout, cancel: cancel,
		stalled: func() bool { return errors.Is(context.Cause(ctx), errStalled) }}
	return resp, nil
}

// errStalled is why a body ends of which nothing came for too long.
var errStalled = errors.New("the rest of the answer does not come")

// body is that of an answer. Each read waits for a bounded time.
type body struct {
	io.ReadCloser
	timeout time.Duration
	cancel  context.CancelCauseFunc // of the request
	stalled func() bool             // whether it was cancelled for errStalled
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.timeout, func() { b.cancel(errStalled) })
	n, err := b.ReadCloser.Read(p)
	timer.Stop()
	if err != nil && b.stalled() {
		err = fmt.Errorf("%w after %s: %w", errStalled, b.timeout, errdefs.ErrUnavailable)
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}
