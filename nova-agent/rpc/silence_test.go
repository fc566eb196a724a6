package rpc

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy stands between a bus and the broker and can fall silent: connections stay
// open and nothing gets through, as when a firewall drops all packets.
type proxy struct {
	listener net.Listener
	broker   string

	mu     sync.Mutex
	silent chan struct{} // closed when silence ends; nil while all gets through
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newProxy(t *testing.T, broker string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, broker: broker}
	p.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.setSilent(false)
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.broker)
	if err != nil {
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.mu.Unlock()
	for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
		p.wg.Go(func() {
			defer func() { _ = pair[0].Close(); _ = pair[1].Close() }()
			_, _ = io.Copy(pair[1], &gate{p, pair[0]})
		})
	}
}

// gate holds back what was read during silence.
type gate struct {
	*proxy
	io.Reader
}

func (g *gate) Read(b []byte) (int, error) {
	n, err := g.Reader.Read(b)
	g.mu.Lock()
	silent := g.silent
	g.mu.Unlock()
	if silent != nil {
		<-silent
	}
	return n, err
}

// setSilent starts or ends the silence; at its end the old connections are reset.
func (p *proxy) setSilent(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if on {
		p.silent = make(chan struct{})
		return
	}
	if p.silent != nil {
		close(p.silent)
		p.silent = nil
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.conns = nil
	}
}

// A broker that falls silent is noticed by its missing heartbeats, and a call
// made meanwhile is answered after the silence.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	b := broker(t)
	p := newProxy(t, fmt.Sprintf("127.0.0.1:%d", b.Port))
	o := testOptions(t, fmt.Sprintf("rabbit://guest:guest@%s/?heartbeat_timeout_threshold=2", p.listener.Addr()))
	o.CallTimeout = patience
	bus := newBus(t, o)
	name := topic()
	serve(t, newBus(t, testOptions(t, b.URL("rabbit"))), ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
	if err := bus.Connected(timeout(t)); err != nil {
		t.Fatal(err)
	}
	p.setSilent(true)
	began := time.Now()
	result := make(chan error, 1)
	go func() {
		_, err := bus.Call(timeout(t), Target{Topic: name, Version: "6.0"}, "echo", nil)
		result <- err
	}()
	eventually(t, "the silence is noticed", func() bool { return !bus.State().Connected })
	t.Logf("noticed after %v", time.Since(began))
	p.setSilent(false)
	if err := <-result; err != nil {
		t.Error(err)
	}
}
