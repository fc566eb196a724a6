package rpc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// The real oslo.messaging calls our server.
func TestOsloClient(t *testing.T) {
	t.Parallel()
	needOslo(t)
	url := broker(t).URL("rabbit")
	bus := newBus(t, testOptions(t, url))
	name := topic()
	var mu sync.Mutex
	notes := []json.RawMessage{}
	serve(t, bus, ServerOptions{Topics: []string{name}, Host: "go.host"}, map[string]Handler{
		"echo": echo,
		"context": func(ctx context.Context, _ *Request) (any, error) {
			return RequestContextFrom(ctx), nil
		},
		"note": func(_ context.Context, req *Request) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			notes = append(notes, req.Args["n"])
			return nil, nil
		},
		"notes": func(context.Context, *Request) (any, error) {
			mu.Lock()
			defer mu.Unlock()
			return append([]json.RawMessage{}, notes...), nil
		},
		"slow": func(ctx context.Context, req *Request) (any, error) {
			var seconds float64
			if err := json.Unmarshal(req.Args["seconds"], &seconds); err != nil {
				return nil, err
			}
			sleep(ctx, time.Duration(seconds*float64(time.Second)))
			return "slept", nil
		},
		"not_found": func(context.Context, *Request) (any, error) {
			return nil, NovaException("InstanceNotFound", "Instance x could not be found.")
		},
		"reserved": func(context.Context, *Request) (any, error) {
			e := NovaException("ComputeResourcesUnavailable", "Insufficient compute resources: memory.")
			e.Kwargs = map[string]any{"reason": "memory"}
			return nil, e
		},
		"not_implemented": func(context.Context, *Request) (any, error) {
			return nil, Builtin("NotImplementedError", "no rdp")
		},
		"plain": func(context.Context, *Request) (any, error) { return nil, errors.New("plain") },
	})
	cmd := exec.CommandContext(timeout(t), "/usr/bin/python3", "testdata/oslo_client.py", url, name, "go.host")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, &stderr)
	}
	want := []string{
		`{"step": "call", "same": true}`,
		`{"step": "call any", "same": true}`,
		`{"step": "context", "result": {"request_id": "req-interop", "user_id": "u", "project_id": null, "is_admin": false,
			"roles": ["member"], "something_new": {"a": [1]}}}`,
		`{"step": "big", "length": 1000000}`,
		`{"step": "casts", "notes": [1, 2]}`,
		`{"step": "monitored", "result": "slept", "long": true}`,
		`{"step": "failure", "method": "not_found", "error": "InstanceNotFound_Remote", "module": "nova.exception_Remote",
			"text": "Instance x could not be found.\n", "kwargs": {"code": 404}}`,
		`{"step": "failure", "method": "not_implemented", "error": "NotImplementedError", "module": "builtins",
			"text": "no rdp\n", "kwargs": null}`,
		`{"step": "failure", "method": "plain", "error": "RuntimeError", "module": "builtins", "text": "plain\n", "kwargs": null}`,
		`{"step": "failure", "method": "missing", "error": "RemoteError", "type": "NoSuchMethod",
			"text": "Endpoint does not support RPC method missing"}`,
		`{"step": "failure", "method": "_hidden", "error": "RemoteError", "type": "NoSuchMethod",
			"text": "Endpoint does not support RPC method _hidden"}`,
		`{"step": "failure", "method": "reserved", "error": "ComputeResourcesUnavailable_Remote", "module": "nova.exception_Remote",
			"text": "Insufficient compute resources: memory.\n", "kwargs": {"reason": "memory", "code": 400}}`,
		`{"step": "failure", "method": "version", "error": "RemoteError", "type": "UnsupportedVersion",
			"text": "Endpoint does not support RPC version 6.9. Attempted method: echo"}`,
		`{"step": "done"}`,
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, line := range got {
		if i >= len(want) {
			t.Errorf("more: %s", line)
			continue
		}
		wantJSON(t, json.RawMessage(line), want[i])
	}
	if len(got) < len(want) {
		t.Errorf("only %d lines", len(got))
	}
}

// osloServer runs the real oslo.messaging as a server until the test ends.
func osloServer(t testing.TB, url, topic, host string) {
	t.Helper()
	needOslo(t)
	cmd := exec.CommandContext(timeout(t), "/usr/bin/python3", "testdata/oslo_server.py", url, topic, host)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("oslo server: %v\n%s", err, &stderr)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("oslo server: %q, %v", line, err)
	}
}

// We call the real oslo.messaging.
func TestOsloServer(t *testing.T) {
	t.Parallel()
	url := broker(t).URL("rabbit")
	name := topic()
	osloServer(t, url, name, "py.host")
	o := testOptions(t, url)
	o.CallTimeout = 2 * time.Second
	bus := newBus(t, o)
	ctx := timeout(t)
	target := Target{Topic: name, Server: "py.host", Version: "3.0"}
	args := map[string]any{"a": "h\u00e9llo <&> \U0001f600", "n": nil, "l": []any{1.5, true, map[string]any{}}}
	got, err := bus.Call(ctx, target, "echo", args)
	if err != nil {
		t.Fatal(err)
	}
	wantJSON(t, got, string(mustJSON(args)))

	rc := NewAdminContext().With("something_new", []int{1})
	if got, err = bus.Call(WithRequestContext(ctx, rc), target, "context", nil); err != nil {
		t.Fatal(err)
	}
	var seen map[string]json.RawMessage
	if err := json.Unmarshal(got, &seen); err != nil || string(seen["something_new"]) != "[1]" || string(seen["is_admin"]) != "true" {
		t.Errorf("context: %s", got)
	}
	if got, err = bus.Call(ctx, Target{Topic: name, Namespace: "baseapi", Version: "1.0"}, "ping", map[string]any{"arg": "x"}); err != nil {
		t.Error(err)
	} else {
		wantJSON(t, got, `{"service": "conductor", "arg": "x"}`)
	}
	// 3.5 s is longer than the call timeout; heartbeats come every second.
	if got, err = bus.CallMonitored(ctx, target, "slow", map[string]any{"seconds": 3.5}); err != nil || string(got) != `"slept"` {
		t.Errorf("monitored: %s, %v", got, err)
	}
	if err := bus.Cast(ctx, target, "note", map[string]any{"n": 1}); err != nil {
		t.Error(err)
	}
	if err := bus.Fanout(ctx, target, "note", map[string]any{"n": 2}); err != nil {
		t.Error(err)
	}
	eventually(t, "both notes came", func() bool {
		got, err := bus.Call(ctx, target, "get_notes", nil)
		return err == nil && (string(got) == "[1, 2]" || string(got) == "[2, 1]")
	})
	for _, tt := range []struct{ method, module, class, text string }{
		{"not_found", "nova.exception", "InstanceNotFound", "Instance x could not be found."},
		{"expected", "nova.exception", "ComputeHostNotFound", "Compute host c1 could not be found."},
		{"value_error", "builtins", "ValueError", "('bad', 7)"},
		{"missing", "oslo_messaging.rpc.dispatcher", "NoSuchMethod", "Endpoint does not support RPC method missing"},
	} {
		_, err := bus.Call(ctx, target, tt.method, nil)
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Module != tt.module || remote.Class != tt.class || remote.Message != tt.text || len(remote.Trace) == 0 {
			t.Errorf("%s: %+v", tt.method, err)
		}
	}
	_, err = bus.Call(ctx, target, "not_found", nil)
	var remote *RemoteError
	if errors.As(err, &remote) && string(remote.Kwargs["instance_id"]) != `"x"` {
		t.Errorf("kwargs: %v", remote.Kwargs)
	}
}
