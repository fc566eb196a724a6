package registry

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
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"novaagent/engine/errdefs"
)

const (
	// maxDocument bounds every answer that is no blob.
	maxDocument = 8 << 20
	// tries is how often a request is made that a busy registry turns away, with pauses that double.
	tries      = 4
	firstPause = 200 * time.Millisecond
	// longestPause is how long Retry-After is obeyed; who asks for more gets an error.
	longestPause = 15 * time.Second
)

// transport is what all requests to a host go through. It ends those to which nothing comes, bounds what comes,
// and repeats those that can be.
type transport struct {
	next    http.RoundTripper
	timeout time.Duration
}

// newTransport makes the connections of an operation to one host.
func newTransport(config *tls.Config, timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(timeout, 30*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   min(timeout, 15*time.Second),
		ResponseHeaderTimeout: timeout,
		ExpectContinueTimeout: 5 * time.Second,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       time.Minute,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // digests are of what is sent
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return nil, fmt.Errorf("registry leads to a URL of scheme %.20q: %w", r.URL.Scheme, errdefs.ErrInvalid)
	}
	pause := firstPause
	for try := 1; ; try++ {
		resp, err := t.once(r)
		wait, again := retryAfter(resp, err, pause)
		if !again || try == tries || r.Body != nil && r.Body != http.NoBody {
			return resp, err
		}
		if resp != nil {
			resp.Body.Close()
		}
		select {
		case <-time.After(wait):
			pause *= 2
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

// retryAfter tells whether a request may be made again, and when.
func retryAfter(resp *http.Response, err error, pause time.Duration) (time.Duration, bool) {
	if err != nil {
		var op *net.OpError
		// Nobody is there, or not the one that is wanted.
		if errors.As(err, &op) && op.Op == "dial" || errors.Is(err, context.Canceled) {
			return 0, false
		}
		return pause, errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &op)
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
	default:
		return 0, false
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		pause = max(pause, time.Duration(min(max(seconds, 0), 3600))*time.Second)
	}
	return pause, pause <= longestPause
}

func (t *transport) once(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := t.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	b := &body{ReadCloser: resp.Body, cancel: cancel, timeout: t.timeout, left: -1}
	if !ofBlob(r) {
		b.left = maxDocument
	}
	resp.Body = b
	return resp, nil
}

// ofBlob tells whether a request is for a blob, which is bounded by its size, or a redirect of one.
func ofBlob(r *http.Request) bool {
	for r.Response != nil && r.Response.Request != nil {
		r = r.Response.Request
	}
	return strings.Contains(r.URL.Path, "/blobs/")
}

// body is an answer being read.
type body struct {
	io.ReadCloser
	cancel  context.CancelFunc
	timeout time.Duration
	left    int64 // negative is no limit
	silent  atomic.Bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	idle := time.AfterFunc(b.timeout, func() {
		b.silent.Store(true)
		b.cancel()
	})
	n, err := b.ReadCloser.Read(p)
	idle.Stop()
	if b.silent.Load() && err != nil && err != io.EOF {
		return n, fmt.Errorf("registry sent nothing for %s: %w", b.timeout, errdefs.ErrUnavailable)
	}
	if b.left >= 0 {
		if b.left -= int64(n); b.left < 0 {
			return 0, fmt.Errorf("registry's answer is longer than %d bytes: %w", maxDocument, errdefs.ErrInvalid)
		}
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}

// tlsConfig is how a registry's certificate is checked, and what it is shown.
func (c *Client) tlsConfig(host string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // an operator's choice
	if c.opts.CertsDir == "" || strings.ContainsAny(host, "/\x00") || host == ".." {
		return config, nil
	}
	dir := filepath.Join(c.opts.CertsDir, host)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return nil, fmt.Errorf("certificates of registry %s: %v: %w", host, err, errdefs.ErrUnavailable)
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(path) {
		case ".crt":
			pem, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("authority of registry %s: %v: %w", host, err, errdefs.ErrUnavailable)
			}
			if config.RootCAs == nil {
				// Beside the system's, as with Docker.
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					config.RootCAs = x509.NewCertPool()
				}
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no certificate in PEM form: %w", path, errdefs.ErrUnavailable)
			}
		case ".cert":
			pair, err := tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key")
			if err != nil {
				return nil, fmt.Errorf("client certificate for registry %s: %v: %w", host, err, errdefs.ErrUnavailable)
			}
			config.Certificates = append(config.Certificates, pair)
		case ".key":
			if _, err := os.Stat(strings.TrimSuffix(path, ".key") + ".cert"); err != nil {
				return nil, fmt.Errorf("%s has no certificate beside it, in a file that ends in .cert: %w", path, errdefs.ErrUnavailable)
			}
		}
	}
	return config, nil
}
