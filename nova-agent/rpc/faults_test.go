package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/engine/errdefs"
)

// Calls that are under way when the broker crashes are answered when it is back:
// the request that was not confirmed is sent again, and so is the reply. The
// same for casts: each arrives, and arrives once.
func TestBrokerRestart(t *testing.T) {
	b := broker(t)
	var ups, downs atomic.Int32
	o := testOptions(t, b.URL("rabbit"))
	o.CallTimeout = patience
	o.Observe.OnState = func(up bool) {
		if up {
			ups.Add(1)
		} else {
			downs.Add(1)
		}
	}
	server, client := newBus(t, o), newBus(t, testOptions(t, b.URL("rabbit")))
	name := topic()
	release, started := make(chan struct{}), make(chan struct{}, 1)
	var casts sync.Map
	serve(t, server, ServerOptions{Topics: []string{name}}, map[string]Handler{
		"echo": echo,
		"hold": func(context.Context, *Request) (any, error) {
			started <- struct{}{}
			<-release
			return "held", nil
		},
		"cast": func(_ context.Context, req *Request) (any, error) {
			n, _ := casts.LoadOrStore(string(req.Args["n"]), new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			return nil, nil
		},
	})
	ctx := timeout(t)
	target := Target{Topic: name, Server: "c1", Version: "6.0"}
	var calls sync.WaitGroup
	calls.Go(func() { // taken before the crash, answered after it
		if got, err := client.Call(ctx, target, "hold", nil); err != nil || string(got) != `"held"` {
			t.Errorf("the held call: %s, %v", got, err)
		}
	})
	<-started
	b.Kill()
	close(release) // the reply finds no broker
	const n = 30
	for i := range n { // asked while there is no broker
		calls.Go(func() {
			if got, err := client.Call(ctx, target, "echo", map[string]any{"n": i}); err != nil || string(got) != fmt.Sprintf(`{"n":%d}`, i) {
				t.Errorf("call %d: %s, %v", i, got, err)
			}
		})
		calls.Go(func() {
			if err := client.Cast(ctx, target, "cast", map[string]any{"n": i}); err != nil {
				t.Errorf("cast %d: %v", i, err)
			}
		})
	}
	eventually(t, "the loss is noticed", func() bool { return client.Healthy() != nil && server.Healthy() != nil })
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	calls.Wait()
	eventually(t, "all casts have come", func() bool {
		count := 0
		casts.Range(func(_, v any) bool { count++; return v.(*atomic.Int32).Load() == 1 })
		return count == n
	})
	eventually(t, "both sides are healthy", func() bool { return client.Healthy() == nil && server.Healthy() == nil })
	if ups.Load() != 2 || downs.Load() != 1 {
		t.Errorf("OnState: %d times up, %d times down", ups.Load(), downs.Load())
	}
}

// A broker short of memory takes no messages, but still delivers: publishes
// time out and say why, consuming goes on, and all is well after the alarm.
func TestBlockedBroker(t *testing.T) {
	b := broker(t)
	bus := newBus(t, testOptions(t, b.URL("rabbit")))
	name := topic()
	got := make(chan string, 100)
	release := make(chan struct{})
	serve(t, bus, ServerOptions{Topics: []string{name}, Workers: 1}, map[string]Handler{
		"hello": func(_ context.Context, req *Request) (any, error) {
			<-release
			got <- string(req.Args["n"])
			return "hi", nil
		},
	})
	target := Target{Topic: name, Server: "c1", Version: "6.0"}
	for i := range 10 {
		if err := bus.Cast(timeout(t), target, "hello", map[string]any{"n": i}); err != nil {
			t.Fatal(err)
		}
	}
	b.Ctl(t, "set_vm_memory_high_watermark", "0")
	unblock := sync.OnceFunc(func() { b.Ctl(t, "set_vm_memory_high_watermark", "0.4") })
	t.Cleanup(unblock)
	for i := range 3 { // the first tells the broker to block us
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		err := bus.Cast(ctx, target, "hello", map[string]any{"n": 100 + i})
		cancel()
		if !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("a cast to a blocked broker: %v", err)
		}
		if i == 2 && !strings.Contains(fmt.Sprint(err), "takes no messages") {
			t.Errorf("the reason is missing: %v", err)
		}
	}
	eventually(t, "the state tells", func() bool { return bus.State().Blocked != "" })
	if err := bus.Healthy(); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("healthy: %v", err)
	}
	// More waiting replies and publishes than there are lanes.
	result := make(chan error, 40)
	for range cap(result) {
		go func() {
			_, err := bus.Call(timeout(t), target, "hello", map[string]any{"n": 50})
			result <- err
		}()
	}
	close(release)
	for i := range 10 {
		if n := <-got; n != fmt.Sprint(i) {
			t.Errorf("got %s, want %d", n, i)
		}
	}
	unblock()
	for range cap(result) {
		if err := <-result; err != nil {
			t.Errorf("a call across the alarm: %v", err)
		}
	}
	eventually(t, "healthy again", func() bool { return bus.Healthy() == nil })
}

// A deleted queue or exchange is declared again, and a closed connection opened.
func TestDeletedThings(t *testing.T) {
	b := broker(t)
	bus := newBus(t, testOptions(t, b.URL("rabbit")))
	name := topic()
	s := serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
	ch := b.Channel(t)
	queues := []string{bus.replies.subscription.queue.name}
	for _, sub := range s.subscriptions {
		queues = append(queues, sub.queue.name)
	}
	for _, queue := range queues {
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			t.Fatal(err)
		}
		eventually(t, queue+" is consumed again", func() bool {
			q, err := b.Channel(t).QueueDeclarePassive(queue, false, false, false, false, nil)
			return err == nil && q.Consumers == 1 && bus.Healthy() == nil
		})
	}
	target := Target{Topic: name, Server: "c1", Version: "6.0"}
	if _, err := bus.Call(timeout(t), target, "echo", nil); err != nil {
		t.Error(err)
	}
	// The fanout exchange goes with its last queue or by hand; a fanout makes it anew.
	if err := ch.ExchangeDelete(name+"_fanout", false, false); err != nil {
		t.Fatal(err)
	}
	if err := bus.Fanout(timeout(t), Target{Topic: name}, "echo", nil); err != nil {
		t.Error(err)
	}
	b.Ctl(t, "close_all_connections", "a test")
	if _, err := bus.Call(timeout(t), target, "echo", nil); err != nil {
		t.Error(err)
	}
}

// A queue that is consumed only in our belief is found by the watchdog.
func TestWatchdog(t *testing.T) {
	b := broker(t)
	o := testOptions(t, b.URL("rabbit"))
	o.WatchdogInterval = time.Hour // the test looks itself
	bus := newBus(t, o)
	name := topic()
	s := serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
	if err := bus.Connected(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for _, sub := range s.watched.subs {
		if sub.queue.own && !s.watched.check(timeout(t), sub, patience) {
			t.Errorf("%s: the watchdog barks without reason", sub.queue.name)
		}
	}
	sub := s.subscriptions[1]
	sub.mu.Lock()
	before := sub.since
	sub.mu.Unlock()
	// Messages stop coming and nobody is told: a stranger with a higher priority
	// gets all of them.
	stranger := b.Channel(t)
	if _, err := stranger.Consume(sub.queue.name, "", true, false, false, false, amqp.Table{"x-priority": 10}); err != nil {
		t.Fatal(err)
	}
	if s.watched.check(timeout(t), sub, 300*time.Millisecond) {
		t.Error("the watchdog sleeps")
	}
	if err := stranger.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "consumed again", func() bool {
		since, ok := sub.consuming()
		return ok && since.After(before)
	})
	if !s.watched.check(timeout(t), sub, patience) {
		t.Error("not repaired")
	}
}

// A reply whose queue does not exist is retried, and then the queue is known to
// be gone; one that is declared in time gets its reply.
func TestMissingReplyQueue(t *testing.T) {
	b := broker(t)
	o := testOptions(t, b.URL("rabbit"))
	o.Rabbit.MissingReplyQueueTimeout = 700 * time.Millisecond
	bus := newBus(t, o)
	name := topic()
	s := serve(t, bus, ServerOptions{Topics: []string{name}, Workers: 1}, map[string]Handler{"echo": echo})
	ch := b.Channel(t)
	late := "reply_" + newID()
	ask := func(queue string) {
		publishRaw(t, ch, name, `{"method":"echo","version":"6.0","_msg_id":"m","_reply_q":"`+queue+`"}`)
	}
	ask("reply_dead")
	ask(late)
	if _, err := ch.QueueDeclare(late, false, true, false, false, nil); err != nil {
		t.Fatal(err)
	}
	replies, err := ch.Consume(late, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := openEnvelope((<-replies).Body)
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := decodeReply(inner); err != nil || !reply.Ending || reply.MsgID != "m" || string(reply.Result) != "{}" {
		t.Errorf("got %s, %v", inner, err)
	}
	eventually(t, "the dead queue is known", func() bool { return s.gone.has("reply_dead") })
}

func TestTLS(t *testing.T) {
	t.Parallel()
	b := broker(t)
	url := func(options string) string {
		return fmt.Sprintf("rabbit://guest:guest@127.0.0.1:%d//?ssl=true&ssl_cert_file=%[2]s/client.pem&ssl_key_file=%[2]s/client.key%s",
			b.TLSPort, b.CertDir, options)
	}
	name := topic()
	for _, options := range []string{
		"&ssl_ca_file=" + b.CertDir + "/ca.pem",
		"&ssl_ca_file=" + b.CertDir + "/ca.pem&ssl_enforce_hostname_verification=true&ssl_version=TLSv1_2&rabbit_login_method=PLAIN",
		"", // no CA: not verified
	} {
		bus := newBus(t, testOptions(t, url(options)))
		s := serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{"echo": echo})
		if _, err := bus.Call(timeout(t), Target{Topic: name, Version: "6.0"}, "echo", nil); err != nil {
			t.Errorf("%s: %v", options, err)
		}
		if err := s.Stop(timeout(t)); err != nil {
			t.Error(err)
		}
	}
	// A certificate of another CA, and a wrong name, are refused.
	wrongName := strings.Replace(url("&ssl_enforce_hostname_verification=true&ssl_ca_file="+b.CertDir+"/ca.pem"), "127.0.0.1", "127.0.0.2", 1)
	for what, u := range map[string]string{
		"certificate": url("&ssl_ca_file=" + b.CertDir + "/client.pem"),
		"connect":     wrongName, // nobody listens there
	} {
		bus := newBus(t, testOptions(t, u))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err := bus.Connected(ctx)
		cancel()
		if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, options := range []string{
		"&ssl_ca_file=/nonexistent", "&ssl_ca_file=" + b.CertDir + "/client.key", "&ssl_version=SSLv2", "&ssl=maybe",
	} {
		if _, err := New(testOptions(t, url(options))); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", options, err)
		}
	}
}

// One of two brokers is dead, in either order; wrong credentials are told.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	b := broker(t)
	for range 4 { // the order is random
		bus := newBus(t, testOptions(t, fmt.Sprintf("rabbit://guest:guest@127.0.0.1:1,guest:guest@127.0.0.1:%d/", b.Port)))
		if err := bus.Connected(timeout(t)); err != nil {
			t.Error(err)
		}
	}
	bus := newBus(t, testOptions(t, fmt.Sprintf("rabbit://guest:wrong@127.0.0.1:%d/", b.Port)))
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) // the broker waits 3 s before it refuses
	defer cancel()
	err := bus.Cast(ctx, Target{Topic: "x"}, "x", nil)
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "guest") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
	if st := bus.State(); st.Connected || bus.Healthy() == nil {
		t.Errorf("state: %+v", st)
	}
}

// All kinds of queues work, also together with things that another service has
// declared with other flags.
func TestDeclarations(t *testing.T) {
	b := broker(t)
	ch := b.Channel(t)
	for what, change := range map[string]func(*Options){
		"durable":          func(o *Options) { o.Rabbit.Durable = true },
		"auto-delete":      func(o *Options) { o.Rabbit.AutoDelete = true },
		"ha":               func(o *Options) { o.Rabbit.HA, o.Rabbit.CancelOnFailover = true, true },
		"no ttl":           func(o *Options) { o.Rabbit.TransientTTL = 0 },
		"quorum":           func(o *Options) { o.Rabbit.Quorum, o.Rabbit.QuorumDeliveryLimit = true, 3 },
		"transient quorum": func(o *Options) { o.Rabbit.Quorum, o.Rabbit.TransientQuorum = true, true },
		"stream": func(o *Options) {
			o.Rabbit.Quorum, o.Rabbit.TransientQuorum, o.Rabbit.StreamFanout, o.Rabbit.Prefetch = true, true, true, 10
		},
		"queue manager": func(o *Options) { o.Rabbit.QueueManager, o.Hostname, o.Name = true, "h", "p"+newID() },
		"exchange exists, not durable": func(o *Options) {
			if err := ch.ExchangeDeclare(o.Exchange, "topic", false, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
			o.Rabbit.Durable = true
		},
		"exchange exists, durable": func(o *Options) {
			if err := ch.ExchangeDeclare(o.Exchange, "topic", true, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
		},
		"queue exists, durable": func(o *Options) {
			if _, err := ch.QueueDeclare(o.Exchange, true, false, false, false, nil); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			o := testOptions(t, b.URL("rabbit"))
			o.Exchange = "x" + newID()
			name := o.Exchange
			change(&o)
			bus := newBus(t, o)
			fanouts := make(chan struct{}, 10)
			serve(t, bus, ServerOptions{Topics: []string{name}}, map[string]Handler{
				"echo":   echo,
				"fanout": func(context.Context, *Request) (any, error) { fanouts <- struct{}{}; return nil, nil },
			})
			for _, target := range []Target{{Topic: name, Version: "6.0"}, {Topic: name, Server: "c1", Version: "6.0"}} {
				if _, err := bus.Call(timeout(t), target, "echo", nil); err != nil {
					t.Error(err)
				}
			}
			if err := bus.Fanout(timeout(t), Target{Topic: name, Version: "6.0"}, "fanout", nil); err != nil {
				t.Error(err)
			}
			select {
			case <-fanouts:
			case <-time.After(patience):
				t.Error("the fanout did not come")
			}
			if err := bus.Healthy(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for what, change := range map[string]func(*Options){
		"no URL":           func(o *Options) { o.TransportURL = "" },
		"other transport":  func(o *Options) { o.TransportURL = "kafka://h/" },
		"no exchange":      func(o *Options) { o.Exchange = "" },
		"no timeout":       func(o *Options) { o.CallTimeout = 0 },
		"quorum and ha":    func(o *Options) { o.Rabbit.Quorum, o.Rabbit.HA = true, true },
		"stream alone":     func(o *Options) { o.Rabbit.StreamFanout = true },
		"login":            func(o *Options) { o.Rabbit.LoginMethod = "KERBEROS" },
		"queue manager":    func(o *Options) { o.Rabbit.QueueManager = true },
		"URL option":       func(o *Options) { o.TransportURL += "?heartbeat_timeout_threshold=-1" },
		"another":          func(o *Options) { o.TransportURL += "?rabbit_ha_queues=perhaps" },
		"a third":          func(o *Options) { o.TransportURL += "?rabbit_quorum_delivery_limit=x" },
		"port":             func(o *Options) { o.TransportURL = "rabbit://h:99999/" },
		"negative timeout": func(o *Options) { o.Rabbit.RetryMax = -1 },
	} {
		o := DefaultOptions()
		o.TransportURL = "rabbit://h/"
		change(&o)
		b, err := New(o)
		if !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			_ = b.Close()
		}
	}
	bus := newBus(t, testOptions(t, "rabbit://127.0.0.1:1/"))
	for what, o := range map[string]ServerOptions{
		"no topic": {Host: "c1"}, "no host": {Topics: []string{"t"}}, "workers": {Topics: []string{"t"}, Host: "h", Workers: -1},
		"version": {Topics: []string{"t"}, Host: "h", Endpoints: []Endpoint{{}}},
		"private": {Topics: []string{"t"}, Host: "h", Endpoints: []Endpoint{{Version: "1.0", Methods: map[string]Handler{"_x": echo}}}},
		"long":    {Topics: []string{"t"}, Host: strings.Repeat("h", 255)},
	} {
		if _, err := bus.Serve(o); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
