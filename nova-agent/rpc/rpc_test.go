package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

func TestCalls(t *testing.T) {
	var handled, called atomic.Int32
	o := testOptions(t, broker(t).URL("rabbit"))
	o.Observe.OnHandled = func(string, time.Duration, error) { handled.Add(1) }
	o.Observe.OnCalled = func(string, time.Duration, error) { called.Add(1) }
	bus := newBus(t, o)
	name := topic()
	serve(t, bus, ServerOptions{Topics: []string{name}, Ping: true, Endpoints: []Endpoint{
		{Version: "5.13", Methods: map[string]Handler{
			"which": func(context.Context, *Request) (any, error) { return "5.13", nil },
		}},
		{Namespace: "baseapi", Version: "1.1", Methods: map[string]Handler{"ping": echo}},
	}}, map[string]Handler{
		"echo":  echo,
		"which": func(context.Context, *Request) (any, error) { return "6.1", nil },
		"none":  func(context.Context, *Request) (any, error) { return nil, nil },
		"big":   func(context.Context, *Request) (any, error) { return strings.Repeat("x", 3<<20), nil },
		"nova": func(context.Context, *Request) (any, error) {
			return nil, fmt.Errorf("looking: %w", NovaException("InstanceNotFound", "Instance %s could not be found.", "x"))
		},
		"plain":   func(context.Context, *Request) (any, error) { return nil, errors.New("plain") },
		"panics":  func(context.Context, *Request) (any, error) { panic("boom") },
		"no_json": func(context.Context, *Request) (any, error) { return func() {}, nil },
		"context": func(ctx context.Context, _ *Request) (any, error) { return RequestContextFrom(ctx), nil },
		"relays": func(ctx context.Context, _ *Request) (any, error) {
			return bus.Call(ctx, Target{Topic: name, Version: "6.0"}, "nova", nil)
		},
	})
	ctx := timeout(t)
	target := Target{Topic: name, Server: "c1", Version: "6.0"}

	t.Run("results", func(t *testing.T) {
		for _, tt := range []struct {
			target Target
			method string
			want   string
		}{
			{target, "echo", `{"a": [1, {"b": null}], "s": "<ü>"}`},
			{Target{Topic: name, Version: "6.1"}, "echo", `{"a": [1, {"b": null}], "s": "<ü>"}`},
			{Target{Topic: name, Version: "5.0"}, "which", `"5.13"`},
			{target, "which", `"6.1"`},
			{target, "none", `null`},
			{Target{Topic: name, Namespace: "baseapi", Version: "1.0"}, "ping", `{"a": [1, {"b": null}], "s": "<ü>"}`},
			{Target{Topic: name}, "oslo_rpc_server_ping", `"pong"`},
		} {
			got, err := bus.Call(ctx, tt.target, tt.method, map[string]any{"a": []any{1, map[string]any{"b": nil}}, "s": "<ü>"})
			if err != nil {
				t.Errorf("%s of %s: %v", tt.method, tt.target, err)
				continue
			}
			wantJSON(t, got, tt.want)
		}
		if got, err := bus.Call(ctx, target, "big", nil); err != nil || len(got) != 3<<20+2 {
			t.Errorf("big: %d bytes, %v", len(got), err)
		}
	})

	t.Run("failures", func(t *testing.T) {
		for _, tt := range []struct {
			target                 Target
			method, module, class_ string
			text                   string
		}{
			{target, "nova", "nova.exception", "InstanceNotFound", "looking: Instance x could not be found."},
			{target, "relays", "nova.exception", "InstanceNotFound", "looking: Instance x could not be found."},
			{target, "plain", "builtins", "RuntimeError", "plain"},
			{target, "panics", "builtins", "RuntimeError", "panics: internal error: boom"},
			{target, "no_json", "builtins", "TypeError", "no_json: result is not serializable: json: unsupported type: func()"},
			{target, "missing", "oslo_messaging.rpc.dispatcher", "NoSuchMethod", "Endpoint does not support RPC method missing"},
			{target, "_private", "oslo_messaging.rpc.dispatcher", "NoSuchMethod", "Endpoint does not support RPC method _private"},
			{Target{Topic: name, Version: "6.2"}, "echo", "oslo_messaging.rpc.dispatcher", "UnsupportedVersion",
				"Endpoint does not support RPC version 6.2. Attempted method: echo"},
			{Target{Topic: name}, "echo", "oslo_messaging.rpc.dispatcher", "NoSuchMethod", // of the ping endpoint, which is 1.0
				"Endpoint does not support RPC method echo"},
			{Target{Topic: name, Version: "six"}, "echo", "oslo_messaging.rpc.dispatcher", "UnsupportedVersion",
				"Endpoint does not support RPC version six. Attempted method: echo"},
			{Target{Topic: name, Namespace: "other", Version: "6.0"}, "echo", "oslo_messaging.rpc.dispatcher", "UnsupportedVersion",
				"Endpoint does not support RPC version 6.0. Attempted method: echo"},
		} {
			_, err := bus.Call(ctx, tt.target, tt.method, nil)
			var remote *RemoteError
			if !errors.As(err, &remote) {
				t.Errorf("%s of %s: got %v", tt.method, tt.target, err)
				continue
			}
			if remote.Module != tt.module || remote.Class != tt.class_ || remote.Message != tt.text {
				t.Errorf("%s of %s: got %+v", tt.method, tt.target, remote)
			}
			if !IsRemote(err, "Other", tt.class_) || IsRemote(err, "Other") || !IsRemote(err) {
				t.Errorf("IsRemote of %v", err)
			}
		}
	})

	t.Run("the context travels", func(t *testing.T) {
		var values map[string]json.RawMessage
		sent := `{"request_id": "req-1", "user_id": "u", "roles": ["member"], "is_admin": false, "auth_token": "secret",
			"unknown_key": {"deep": [1.50, 123456789012345678901234567890]}}`
		if err := json.Unmarshal([]byte(sent), &values); err != nil {
			t.Fatal(err)
		}
		got, err := bus.Call(WithRequestContext(ctx, NewRequestContext(values)), target, "context", nil)
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, got, sent)
		if !strings.Contains(string(got), "123456789012345678901234567890") {
			t.Errorf("the number has changed: %s", got)
		}
		if got, err = bus.Call(ctx, target, "context", nil); err != nil {
			t.Fatal(err)
		}
		rc := new(RequestContext)
		if err := json.Unmarshal(got, rc); err != nil || !rc.IsAdmin() || !strings.HasPrefix(rc.RequestID(), "req-") {
			t.Errorf("the default context is %s (%v)", got, err)
		}
	})

	t.Run("no time", func(t *testing.T) {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := bus.Call(short, Target{Topic: "nobody-" + name}, "x", nil)
		var late *TimeoutError
		if !errors.As(err, &late) || !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "no queue") {
			t.Errorf("a call to nobody: %v", err)
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := bus.Call(cancelled, target, "echo", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled call: %v", err)
		}
		if _, err := bus.Call(ctx, target, "echo", map[string]any{"f": func() {}}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("an argument that is not JSON: %v", err)
		}
	})
	if handled.Load() == 0 || called.Load() <= handled.Load() {
		t.Errorf("observed: %d handled, %d called", handled.Load(), called.Load())
	}
	if err := bus.Healthy(); err != nil {
		t.Error(err)
	}
}

func TestCastAndFanout(t *testing.T) {
	url := broker(t).URL("rabbit")
	bus, other := newBus(t, testOptions(t, url)), newBus(t, testOptions(t, url))
	name := topic()
	got := make(chan string, 10)
	for i, b := range []*Bus{bus, other} {
		host := fmt.Sprintf("c%d", i+1)
		serve(t, b, ServerOptions{Topics: []string{name}, Host: host}, map[string]Handler{
			"hello": func(_ context.Context, req *Request) (any, error) {
				if req.IsCall {
					t.Error("a cast is no call")
				}
				got <- host + string(req.Args["n"])
				return nil, errors.New("nobody learns of this")
			},
		})
	}
	ctx := timeout(t)
	target := Target{Topic: name, Server: "c2", Version: "6.0"}
	if err := bus.Cast(ctx, target, "hello", map[string]any{"n": 1}); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "c21" {
		t.Errorf("got %s", s)
	}
	target.Server = ""
	if err := bus.Fanout(ctx, target, "hello", map[string]any{"n": 2}); err != nil {
		t.Fatal(err)
	}
	if a, b := <-got, <-got; a == b {
		t.Errorf("the fanout came twice to %s", a)
	}
	if err := bus.Fanout(ctx, Target{Topic: "nobody-" + name}, "hello", nil); err != nil {
		t.Errorf("a fanout to nobody: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := bus.Cast(short, Target{Topic: "nobody-" + name}, "hello", nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a cast to nobody: %v", err)
	}
}

// A long call is kept alive by the server's signs of life, and given up when
// they stop although its timeout is far.
func TestCallMonitor(t *testing.T) {
	t.Parallel()
	o := testOptions(t, broker(t).URL("rabbit"))
	o.CallTimeout = 2 * time.Second
	bus := newBus(t, o)
	name := topic()
	release := make(chan struct{})
	serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{
		"slow": func(ctx context.Context, _ *Request) (any, error) {
			<-release
			return "done", nil
		},
	})
	ctx := timeout(t)
	began := time.Now()
	time.AfterFunc(3*time.Second, func() { close(release) }) // longer than the period
	got, err := bus.CallMonitored(ctx, Target{Topic: name, Version: "6.0"}, "slow", nil)
	if err != nil || string(got) != `"done"` {
		t.Errorf("after %v: %s, %v", time.Since(began), got, err)
	}

	// A queue whose consumer never answers.
	ch := broker(t).Channel(t)
	mute := topic()
	if _, err := ch.QueueDeclare(mute, false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(mute, mute, "nova", false, nil); err != nil {
		t.Fatal(err)
	}
	_, err = bus.CallMonitored(ctx, Target{Topic: mute}, "slow", nil)
	var late *TimeoutError
	if !errors.As(err, &late) || !strings.Contains(err.Error(), "no sign of life") {
		t.Errorf("a silent server: %v", err)
	}
	if ctx.Err() != nil {
		t.Error("the silence was noticed at the call's own end only")
	}
}

func TestDuplicateIsDropped(t *testing.T) {
	b := broker(t)
	bus := newBus(t, testOptions(t, b.URL("rabbit")))
	name := topic()
	got := make(chan string, 10)
	serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{
		"hello": func(_ context.Context, req *Request) (any, error) {
			got <- string(req.Args["n"])
			return nil, nil
		},
	})
	ch := b.Channel(t)
	for _, m := range []struct{ id, n string }{{"a", "1"}, {"a", "1"}, {"b", "2"}, {"a", "1"}, {"c", "3"}} {
		publishRaw(t, ch, name, fmt.Sprintf(`{"method":"hello","version":"6.0","args":{"n":%s},"_unique_id":%q}`, m.n, m.id))
	}
	seen := map[string]int{}
	for range 3 {
		seen[<-got]++
	}
	if seen["1"] != 1 || seen["2"] != 1 || seen["3"] != 1 || len(got) != 0 {
		t.Errorf("got %v and %d more", seen, len(got))
	}
}

// publishRaw puts message, in an envelope, into the queue of a topic.
func publishRaw(t testing.TB, ch *amqp.Channel, queue, message string) {
	t.Helper()
	body, err := sealEnvelope([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	publishBody(t, ch, queue, amqp.Publishing{Body: body})
}

func publishBody(t testing.TB, ch *amqp.Channel, queue string, p amqp.Publishing) {
	t.Helper()
	p.ContentType, p.ContentEncoding = "application/json", "utf-8"
	if err := ch.Publish("", queue, true, false, p); err != nil {
		t.Fatal(err)
	}
}

// Messages that no decent service sends are thrown away; the server goes on.
func TestHostileMessages(t *testing.T) {
	b := broker(t)
	o := testOptions(t, b.URL("rabbit"))
	o.MaxBody = 1 << 20
	bus := newBus(t, o)
	name := topic()
	serve(t, bus, ServerOptions{Topics: []string{name}, Workers: 2}, map[string]Handler{"echo": echo})
	ch := b.Channel(t)
	victim := topic() // a service's queue whose name is forged as reply queue
	if _, err := ch.QueueDeclare(victim, false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for what, body := range map[string]string{
		"empty":             ``,
		"not JSON":          `hello`,
		"binary":            "\xff\xfe\x00",
		"array":             `[1,2]`,
		"null":              `null`,
		"number":            `1e999`,
		"version 99.0":      `{"oslo.version":"99.0","oslo.message":"{\"method\":\"echo\"}"}`,
		"version 2.1":       `{"oslo.version":"2.1","oslo.message":"{\"method\":\"echo\"}"}`,
		"version number":    `{"oslo.version":2.0,"oslo.message":"{}"}`,
		"message object":    `{"oslo.version":"2.0","oslo.message":{"method":"echo"}}`,
		"message not JSON":  `{"oslo.version":"2.0","oslo.message":"{"}`,
		"message array":     `{"oslo.version":"2.0","oslo.message":"[]"}`,
		"no method":         `{"oslo.version":"2.0","oslo.message":"{\"args\":{}}"}`,
		"method number":     `{"oslo.version":"2.0","oslo.message":"{\"method\":7}"}`,
		"args array":        `{"oslo.version":"2.0","oslo.message":"{\"method\":\"echo\",\"args\":[]}"}`,
		"deep envelope":     deep,
		"deep message":      `{"oslo.version":"2.0","oslo.message":` + string(mustJSON(`{"method":"echo","version":"6.0","args":`+deep+`}`)) + `}`,
		"larger than limit": `{"oslo.version":"2.0","oslo.message":"` + strings.Repeat(" ", 2<<20) + `"}`,
		"much larger":       strings.Repeat("x", 100<<20),
		"no reply queue":    `{"method":"echo","version":"6.0","_msg_id":"1"}`,
		"forged":            `{"method":"echo","version":"6.0","_msg_id":"1","_reply_q":"` + victim + `"}`,
		"long name":         `{"method":"echo","version":"6.0","_msg_id":"1","_reply_q":"reply_` + strings.Repeat("x", 300) + `"}`,
	} {
		publishBody(t, ch, name+".c1", amqp.Publishing{Body: []byte(body), MessageId: what})
	}
	// A zlib bomb: 20 MB of zeros.
	publishBody(t, ch, name, amqp.Publishing{Body: zeros(t, 20<<20), Headers: amqp.Table{"compression": "application/x-gzip"}})
	publishBody(t, ch, name, amqp.Publishing{Body: []byte("x"), Headers: amqp.Table{"compression": "application/x-lzma"}})

	target := Target{Topic: name, Server: "c1", Version: "6.0"}
	if _, err := bus.Call(timeout(t), target, "echo", nil); err != nil {
		t.Fatal(err)
	}
	// What came before on the same queue has been settled: nothing is left to deliver.
	eventually(t, "queues are empty", func() bool {
		for _, queue := range []string{name, name + ".c1"} {
			if q, err := ch.QueueDeclarePassive(queue, false, false, false, false, nil); err != nil || q.Messages != 0 {
				return false
			}
		}
		return true
	})
	if q, err := ch.QueueDeclarePassive(victim, false, true, false, false, nil); err != nil || q.Messages != 0 {
		t.Errorf("the victim's queue: %+v, %v", q, err)
	}
	// A message without envelope, and a compressed one, are fine.
	if st := bus.State(); st.Handling != 0 {
		t.Errorf("state: %+v", st)
	}
	if err := bus.Healthy(); err != nil {
		t.Error(err)
	}
}

// Messages that no worker is free for stay in the broker.
func TestWorkersAreBounded(t *testing.T) {
	b := broker(t)
	o := testOptions(t, b.URL("rabbit"))
	o.Rabbit.Prefetch = 1
	bus := newBus(t, o)
	name := topic()
	release := make(chan struct{})
	var now, most, done atomic.Int32
	serve(t, bus, ServerOptions{Topics: []string{name}, Workers: 3}, map[string]Handler{
		"work": func(context.Context, *Request) (any, error) {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			<-release
			now.Add(-1)
			done.Add(1)
			return nil, nil
		},
	})
	for range 20 {
		if err := bus.Cast(timeout(t), Target{Topic: name, Version: "6.0"}, "work", nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all workers work", func() bool { return now.Load() == 3 })
	ch := b.Channel(t)
	eventually(t, "the rest waits in the broker", func() bool {
		q, err := ch.QueueDeclarePassive(name, false, false, false, false, nil)
		return err == nil && q.Messages == 20-3-1 // one is on its way to a worker
	})
	close(release)
	eventually(t, "all is done", func() bool { return done.Load() == 20 })
	if most.Load() != 3 {
		t.Errorf("%d at a time", most.Load())
	}
}

// Stop lets handlers finish, deletes the fanout queue, keeps the host's queue, and
// leaves what it did not take for the next start.
func TestStop(t *testing.T) {
	b := broker(t)
	bus, client := newBus(t, testOptions(t, b.URL("rabbit"))), newBus(t, testOptions(t, b.URL("rabbit")))
	name := topic()
	release, started := make(chan struct{}), make(chan struct{}, 1)
	s := serve(t, bus, ServerOptions{Topics: []string{name}, Workers: 1}, map[string]Handler{
		"work": func(context.Context, *Request) (any, error) {
			started <- struct{}{}
			<-release
			return "finished", nil
		},
	})
	target := Target{Topic: name, Server: "c1", Version: "6.0"}
	result := make(chan string, 1)
	go func() {
		got, err := client.Call(timeout(t), target, "work", nil)
		result <- fmt.Sprint(string(got), err)
	}()
	<-started
	for range 3 {
		if err := client.Cast(timeout(t), target, "work", nil); err != nil {
			t.Fatal(err)
		}
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop(timeout(t)) }()
	eventually(t, "nothing is consumed", func() bool {
		for _, q := range bus.State().Queues[1:] {
			if q.Consuming {
				return false
			}
		}
		return true
	})
	close(release)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if got := <-result; got != `"finished"<nil>` {
		t.Errorf("the running call: %s", got)
	}
	ch := b.Channel(t)
	if q, err := ch.QueueDeclarePassive(name+".c1", false, false, false, false, nil); err != nil || q.Messages != 3 {
		t.Errorf("the host's queue: %+v, %v", q, err)
	}
	for _, sub := range s.subscriptions {
		if strings.Contains(sub.queue.name, "_fanout_") {
			if _, err := b.Channel(t).QueueDeclarePassive(sub.queue.name, false, false, false, false, nil); err == nil {
				t.Errorf("%s is still there", sub.queue.name)
			}
		}
	}
	// The next start gets them.
	var got atomic.Int32
	serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{
		"work": func(context.Context, *Request) (any, error) { got.Add(1); return nil, nil },
	})
	eventually(t, "the next server gets the casts", func() bool { return got.Load() == 3 })
}

// A handler that does not end is cancelled when Stop's context ends.
func TestStopCancels(t *testing.T) {
	bus := newBus(t, testOptions(t, broker(t).URL("rabbit")))
	name := topic()
	started := make(chan struct{})
	s := serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{
		"work": func(ctx context.Context, _ *Request) (any, error) {
			close(started)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	if err := bus.Cast(timeout(t), Target{Topic: name, Version: "6.0"}, "work", nil); err != nil {
		t.Fatal(err)
	}
	<-started
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func zeros(t *testing.T, n int) []byte {
	t.Helper()
	return deflate(t, make([]byte, n))
}
