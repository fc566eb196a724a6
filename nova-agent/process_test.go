package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a process is waited for, on a machine that is busy.
const patience = 90 * time.Second

// process is a nova-agent that a test started, and what systemd would hear of it.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	notify *net.UnixConn
	exited chan error

	mu    sync.Mutex // guards the following
	out   bytes.Buffer
	wrote chan struct{} // closed when out grows
}

// Write collects the process's log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wrote)
	p.wrote = make(chan struct{})
	return p.out.Write(b)
}

// logged waits until the log holds a text.
func (p *process) logged(text string) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		found, more := strings.Contains(p.out.String(), text), p.wrote
		p.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-deadline:
			p.t.Fatalf("the log has no %q:\n%s", text, p.log())
		}
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// startProcess runs nova-agent as systemd would, with more variables in its environment.
func startProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	p := newProcess(t, env, args...)
	p.start()
	return p
}

func newProcess(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, notify: notify, exited: make(chan error, 1), wrote: make(chan struct{})}
	p.cmd = exec.Command("nova-agent", args...)
	p.cmd.Env = append(p.cmd.Environ(), append(env, "NOTIFY_SOCKET="+path)...)
	p.cmd.Stderr, p.cmd.Stdout = p, p
	return p
}

func (p *process) start() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		p.exited <- p.cmd.Wait()
		close(p.exited)
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // if the test failed; else it has ended
		for range p.exited {
		}
		_ = p.notify.Close()
		if p.t.Failed() {
			p.t.Logf("log of %v:\n%s", p.cmd.Args, p.log())
		}
	})
}

// expect waits until systemd hears a state.
func (p *process) expect(state string) {
	p.t.Helper()
	if err := p.notify.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, err := p.notify.Read(buf)
		if err != nil {
			p.t.Fatalf("%s was not heard: %v\n%s", state, err, p.log())
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			if line == state {
				return
			}
		}
	}
}

// end stops the process and expects the exit that was asked for.
func (p *process) end() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.wait(0)
}

// wait expects the process to end with a status.
func (p *process) wait(status int) {
	p.t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState.ExitCode(); got != status {
			p.t.Errorf("exit status %d, want %d\n%s", got, status, p.log())
		}
	case <-time.After(patience):
		p.t.Fatalf("the process does not end\n%s", p.log())
	}
}

// unixClient speaks HTTP to a Unix socket.
func unixClient(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
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
