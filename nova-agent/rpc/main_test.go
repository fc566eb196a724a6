package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"novaagent/tests/rabbit"
)

// sharedBroker is started by the first test that needs it.
var sharedBroker = sync.OnceValues(func() (*rabbit.Broker, error) {
	return rabbit.New(rabbit.Options{TLS: true})
})

var brokerUsed bool

func TestMain(m *testing.M) {
	code := m.Run()
	if brokerUsed {
		if b, err := sharedBroker(); err == nil {
			if err := b.Close(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// broker is the package's RabbitMQ.
func broker(t testing.TB) *rabbit.Broker {
	t.Helper()
	rabbit.Need(t)
	brokerUsed = true
	b, err := sharedBroker()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// patience bounds every wait of a test; it is only used up by a failure.
const patience = 40 * time.Second

func timeout(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// testOptions are quick to retry and let the test's output show the log.
func testOptions(t testing.TB, url string) Options {
	o := DefaultOptions()
	o.TransportURL = url
	o.Rabbit.RetryInterval = 100 * time.Millisecond
	o.Rabbit.RetryBackoff = 100 * time.Millisecond
	o.Rabbit.RetryMax = 500 * time.Millisecond
	o.Rabbit.ReconnectDelay = 50 * time.Millisecond
	o.Logger = slog.New(slog.NewTextHandler(testWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	return o
}

// testWriter logs to t while the test runs.
func testWriter(t testing.TB) io.Writer {
	w := &logWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

type logWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func newBus(t testing.TB, o Options) *Bus {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// serve runs a server of one endpoint, version 6.1, and waits until it is ready.
func serve(t testing.TB, b *Bus, o ServerOptions, methods map[string]Handler) *Server {
	t.Helper()
	if o.Host == "" {
		o.Host = "c1"
	}
	o.Endpoints = append(o.Endpoints, Endpoint{Version: "6.1", Methods: methods})
	s, err := b.Serve(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(timeout(t)); err != nil {
		t.Fatal(err)
	}
	return s
}

// topic returns a topic that no other test uses.
func topic() string { return "t" + newID()[:12] }

// echo returns its arguments.
func echo(_ context.Context, req *Request) (any, error) { return req.Args, nil }

// eventually waits until f is true.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("never came true: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func wantJSON(t testing.TB, got json.RawMessage, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal(got, &g); err != nil {
		t.Fatalf("%s: %v", got, err)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(g) != fmt.Sprint(w) {
		t.Errorf("got %s, want %s", got, want)
	}
}
