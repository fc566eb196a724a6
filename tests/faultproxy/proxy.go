package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is one way to break some requests.
type Fault struct {
	Method string // "" is any
	Path   string // part of path and query; "" is any
	Skip   int    // the first Skip matching requests go through
	Times  int    // how many are broken after that; 0 is all of them
	Do     Action
}

// Request is one that arrived, broken or not.
type Request struct {
	Method string
	Path   string // with the query
	Header http.Header
	Body   []byte
	Broken bool
}

// Proxy forwards to one service. It is safe for concurrent use.
type Proxy struct {
	target    *url.URL
	transport *http.Transport
	address   string

	mu     sync.Mutex // guards the following
	server *http.Server
	served chan struct{}
	up     context.Context // ends with Down: hanging requests give up
	end    context.CancelFunc
	faults []*fault
	seen   []Request
}

type fault struct {
	Fault
	matched int
}

// New starts a proxy to target, a base URL, that ends with the test.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: u, transport: &http.Transport{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	p.serve(l)
	t.Cleanup(func() {
		p.Down()
		p.transport.CloseIdleConnections()
	})
	return p
}

// URL is the proxy's base URL, with the path of the target's.
func (p *Proxy) URL() string { return "http://" + p.address + strings.TrimSuffix(p.target.Path, "/") }

// Fail breaks requests from now on. The first fault that matches a request and is
// not used up counts.
func (p *Proxy) Fail(faults ...Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range faults {
		p.faults = append(p.faults, &fault{Fault: f})
	}
}

// Heal forgets all faults and all requests seen.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults, p.seen = nil, nil
}

// Seen lists the requests since the start or the last Heal, in the order of their arrival.
func (p *Proxy) Seen() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.seen...)
}

// Down stops listening and ends every connection: the next one is refused.
func (p *Proxy) Down() {
	p.mu.Lock()
	server, served, end := p.server, p.served, p.end
	p.server = nil
	p.mu.Unlock()
	if server == nil {
		return
	}
	end()
	// Connections are cut, which is the point; there is nothing to report.
	_ = server.Close()
	<-served
}

// Up listens again, on the same port.
func (p *Proxy) Up(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	p.serve(l)
}

func (p *Proxy) serve(l net.Listener) {
	server, served := &http.Server{Handler: http.HandlerFunc(p.handle), ReadHeaderTimeout: time.Minute}, make(chan struct{})
	p.mu.Lock()
	p.server, p.served = server, served
	p.up, p.end = context.WithCancel(context.Background())
	p.mu.Unlock()
	go func() {
		defer close(served)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener is ours alone
		}
	}()
}

func (p *Proxy) handle(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	path := r.URL.RequestURI()
	act, up := p.choose(r.Method, path, r.Header, body)
	x := &Exchange{p: p, w: w, r: r, body: body, down: up.Done()}
	if act == nil {
		act = Forward()
	}
	act(x)
}

func (p *Proxy) choose(method, path string, header http.Header, body []byte) (Action, context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var chosen Action
	for _, f := range p.faults {
		if f.Method != "" && f.Method != method || !strings.Contains(path, f.Path) {
			continue
		}
		f.matched++
		n := f.matched - f.Skip
		if n > 0 && (f.Times == 0 || n <= f.Times) {
			chosen = f.Do
			break
		}
	}
	p.seen = append(p.seen, Request{method, path, header.Clone(), body, chosen != nil})
	return chosen, p.up
}

// ask sends the request to the service and returns the whole answer.
func (p *Proxy) ask(r *http.Request, body []byte) (*http.Response, []byte, error) {
	u := *p.target
	u.Path, u.RawPath, u.RawQuery = r.URL.Path, r.URL.RawPath, r.URL.RawQuery
	req, err := http.NewRequestWithContext(r.Context(), r.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = r.Header.Clone()
	resp, err := p.transport.RoundTrip(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, text, err
}
