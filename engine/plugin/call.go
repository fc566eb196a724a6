package plugin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"novaagent/engine/errdefs"
)

const (
	// mediaType is the version of the protocol.
	mediaType = "application/vnd.docker.plugins.v1.2+json"
	// patience is how long a plug-in that does not listen yet is waited for, as after a reboot.
	patience = 5 * time.Second
	// callTimeout bounds one call.
	callTimeout = 2 * time.Minute
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 20
)

// ErrNoMethod: the plug-in does not have the method.
var ErrNoMethod = errors.New("no such method")

// Plugin is a plug-in that has told what it implements.
type Plugin struct {
	Name       string
	Implements []string
	address    address
}

// Get asks the plug-in of that name what it implements.
//
// ErrNotFound: there is none, or it is not of that kind; ErrUnavailable: it does not answer.
func (f Finder) Get(ctx context.Context, name, kind string) (*Plugin, error) {
	a, err := f.find(name)
	if err != nil {
		return nil, err
	}
	p := &Plugin{Name: name, address: a}
	var answer struct{ Implements []string }
	if err := p.Call(ctx, "Plugin.Activate", nil, &answer); err != nil {
		return nil, err
	}
	p.Implements = answer.Implements
	if !slices.Contains(p.Implements, kind) {
		return nil, fmt.Errorf("plugin %q does not implement %s: %w", name, kind, errdefs.ErrNotFound)
	}
	return p, nil
}

// Call sends in as JSON to a method, as VolumeDriver.Create, and reads the answer into out. An error that the
// plug-in tells is returned as it is.
//
// ErrUnavailable: it does not answer, or nonsense; ErrNoMethod.
func (p *Plugin) Call(ctx context.Context, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body := []byte{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("plugin %q: %s: %w", p.Name, method, err)
		}
	}
	transport, scheme, err := p.transport()
	if err != nil {
		return fmt.Errorf("plugin %q: %w", p.Name, err)
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, scheme+"://plugin/"+method, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("plugin %q: %s: %w", p.Name, method, err)
	}
	req.Header.Set("Accept", mediaType)
	req.Header.Set("Content-Type", mediaType)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("plugin %q: %s: %v: %w", p.Name, method, err, errdefs.ErrUnavailable)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("plugin %q: %s: %v: %w", p.Name, method, err, errdefs.ErrUnavailable)
	}
	var told struct{ Err string }
	_ = json.Unmarshal(answer, &told) // an answer need not have one
	switch {
	case told.Err != "":
		return fmt.Errorf("plugin %q: %s: %s", p.Name, method, told.Err)
	case resp.StatusCode == http.StatusNotFound:
		return fmt.Errorf("plugin %q: %s: %w", p.Name, method, ErrNoMethod)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("plugin %q: %s: status %s: %.500q: %w", p.Name, method, resp.Status, answer, errdefs.ErrUnavailable)
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("plugin %q: %s: its answer is no JSON: %v: %w", p.Name, method, err, errdefs.ErrUnavailable)
	}
	return nil
}

// transport makes a connection of its own for each call.
func (p *Plugin) transport() (t *http.Transport, scheme string, err error) {
	t = &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, p.address.network, p.address.at)
		},
	}
	files := p.address.tls
	if files == nil {
		return t, "http", nil
	}
	host, _, _ := net.SplitHostPort(p.address.at)
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: files.InsecureSkipVerify}
	if files.CAFile != "" {
		pem, err := os.ReadFile(files.CAFile)
		if err != nil {
			return nil, "", err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("%s holds no certificate in PEM: %w", files.CAFile, errdefs.ErrInvalid)
		}
	}
	if files.CertFile != "" || files.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			return nil, "", err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	t.TLSClientConfig = config
	return t, "https", nil
}

// dial connects, for a while also to what does not listen yet.
func dial(ctx context.Context, network, at string) (net.Conn, error) {
	end := time.Now().Add(patience)
	for wait := 10 * time.Millisecond; ; wait *= 2 {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, at)
		if err == nil || time.Now().Add(wait).After(end) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}
