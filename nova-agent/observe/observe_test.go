package observe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"novaagent/engine/errdefs"
)

// TestServe: metrics, health, readiness and the debug socket, and nothing runs on
// after Close.
func TestServe(t *testing.T) {
	defer goleak.VerifyNone(t)
	m := NewMetrics("test")
	m.CountContainers(func() map[string]int { return map[string]int{"running": 3} })
	m.Gauge("open_intents", "Operations under way.", func() float64 { return 2 })
	m.Handled("build_and_run_instance", time.Second, nil)
	m.Called("object_action", time.Millisecond, errors.New("x"))
	m.Connected(true)
	m.Built("active", time.Second)
	m.Image(true)
	m.Image(false)
	m.ImageFailed()
	m.ImageBytes(1000)
	m.Heartbeat(nil)
	m.API("GET", "/version", 200, time.Millisecond)
	m.Operated("stop_instance", time.Second, nil)
	m.Ran("update_available_resource", time.Second, errors.New("x"))
	m.CountQueues(func() map[string]bool { return map[string]bool{"compute": true, "compute.h": false} })
	ready := errors.New("not yet")
	socket := filepath.Join(t.TempDir(), "debug.sock")
	address := freeAddress(t)
	s, err := Serve(Options{Listen: address, DebugSocket: socket, Metrics: m, Logger: slog.New(slog.DiscardHandler),
		Live:  []Probe{{"process", func(context.Context) error { return nil }}},
		Ready: []Probe{{"rpc", func(context.Context) error { return ready }}},
		Debug: map[string]func() any{"intents": func() any { return []string{"build x"} }}})
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()

	status, text := get(t, http.DefaultClient, "http://"+address+"/metrics")
	for _, want := range []string{
		`nova_agent_info{version="test"} 1`, `nova_agent_containers{state="running"} 3`, `nova_agent_open_intents 2`,
		`nova_agent_rpc_handled_seconds_count{method="build_and_run_instance",result="ok"} 1`,
		`nova_agent_rpc_called_seconds_count{method="object_action",result="error"} 1`,
		`nova_agent_rpc_connected 1`, `nova_agent_build_seconds_count{result="active"} 1`,
		`nova_agent_image_requests_total{result="hit"} 1`, `nova_agent_image_requests_total{result="error"} 1`, `nova_agent_image_downloaded_bytes_total 1000`,
		`nova_agent_heartbeats_total{result="ok"} 1`, `nova_agent_rpc_queue_consumed{queue="compute"} 1`, `nova_agent_rpc_queue_consumed{queue="compute.h"} 0`,
		`nova_agent_docker_api_seconds_count{method="GET",route="/version",status="200"} 1`,
		`nova_agent_operation_seconds_count{operation="stop_instance",result="ok"} 1`,
		`nova_agent_periodic_task_seconds_count{result="error",task="update_available_resource"} 1`, "process_resident_memory_bytes",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if status != 200 {
		t.Errorf("metrics: %d", status)
	}
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (nova_agent_\w+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(page), found[1]) {
			t.Errorf("docs/observability.md lacks %s", found[1])
		}
	}
	if status, _ = get(t, http.DefaultClient, "http://"+address+"/healthz"); status != 200 {
		t.Errorf("healthz: %d", status)
	}
	if status, text = get(t, http.DefaultClient, "http://"+address+"/readyz"); status != 503 || !strings.Contains(text, "not yet") {
		t.Errorf("readyz: %d %s", status, text)
	}
	ready = nil
	if status, _ = get(t, http.DefaultClient, "http://"+address+"/readyz"); status != 200 {
		t.Errorf("readyz: %d", status)
	}
	debug := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer debug.CloseIdleConnections()
	if _, text = get(t, debug, "http://debug/debug/intents"); !strings.Contains(text, "build x") {
		t.Errorf("debug: %s", text)
	}
	if status, _ = get(t, debug, "http://debug/debug/pprof/goroutine?debug=1"); status != 200 {
		t.Errorf("pprof: %d", status)
	}
}

// TestHostileNames: a sender cannot fill the memory with the names of methods that
// nobody has, nor make a metric panic.
func TestHostileNames(t *testing.T) {
	m := NewMetrics("test")
	m.Handled("\xff\xfe", time.Second, nil)
	m.Handled("a\nb", time.Second, nil)
	for i := range 10_000 {
		m.Handled(fmt.Sprintf("method%d", i), time.Second, nil)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if n := len(f.GetMetric()); n > manyNames+1 {
			t.Errorf("%s has %d series", f.GetName(), n)
		}
	}
}

// TestAlive: a probe that fails and one that hangs are both told, in time.
func TestAlive(t *testing.T) {
	defer goleak.VerifyNone(t)
	ok := Probe{"ok", func(context.Context) error { return nil }}
	if err := Alive(t.Context(), []Probe{ok}, time.Minute); err != nil {
		t.Error(err)
	}
	bad := Probe{"engine", func(context.Context) error { return errors.New("no database") }}
	if err := Alive(t.Context(), []Probe{ok, bad}, time.Minute); err == nil || err.Error() != "engine: no database" {
		t.Errorf("got %v", err)
	}
	stop := make(chan struct{})
	hangs := Probe{"compute", func(context.Context) error { <-stop; return nil }}
	if err := Alive(t.Context(), []Probe{hangs}, time.Millisecond); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	close(stop)
}

// TestListenerFaults: what cannot be opened is refused, and what was opened before is closed.
func TestListenerFaults(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, o := range []Options{
		{Listen: "127.0.0.1:notaport"},
		{Listen: freeAddress(t), DebugSocket: filepath.Join(t.TempDir(), "no", "such", "dir.sock")},
	} {
		o.Metrics, o.Logger = NewMetrics("test"), slog.New(slog.DiscardHandler)
		if _, err := Serve(o); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestNotify: what systemd would receive.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := l.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", path+"-gone")
	if err := Notify("READY=1"); err == nil {
		t.Error("nobody listens, and no error")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Notify("READY=1"); err != nil {
		t.Errorf("without systemd: %v", err)
	}
	t.Setenv("WATCHDOG_USEC", "30000000")
	if got := WatchdogInterval(); got != 15*time.Second {
		t.Errorf("watchdog every %v, want 15s", got)
	}
	t.Setenv("WATCHDOG_PID", "1")
	if got := WatchdogInterval(); got != 0 {
		t.Errorf("watchdog every %v for another process", got)
	}
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
