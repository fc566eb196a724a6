package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"time"
)

// watchdog makes sure that a queue that seems to be consumed really is: it sends
// a message through each queue that only this process consumes. When one does
// not arrive although the connection lives, the queue is declared and
// consumed anew.
type watchdog struct {
	bus  *Bus
	subs []*subscription

	mu     sync.Mutex
	tokens map[string]chan struct{}
}

// watchdogNamespace marks the watchdog's messages. No service has such an
// endpoint: one that got hold of a message would log that it is not for it.
const watchdogNamespace = "nova-agent.watchdog"

// watchdogTimeout is how long a message may take through the broker and back.
const watchdogTimeout = 20 * time.Second

func newWatchdog(b *Bus, subs []*subscription) *watchdog {
	return &watchdog{bus: b, subs: subs, tokens: make(map[string]chan struct{})}
}

func (w *watchdog) run(ctx context.Context) {
	for sleep(ctx, w.bus.options.WatchdogInterval) {
		for _, sub := range w.subs {
			if sub.queue.own {
				w.check(ctx, sub, watchdogTimeout)
			}
		}
	}
}

// check sends one message through sub and says whether it arrived or could not
// be judged.
func (w *watchdog) check(ctx context.Context, sub *subscription, timeout time.Duration) bool {
	since, ok := sub.consuming()
	if !ok {
		return true // it is being repaired already
	}
	token := newID()
	arrived := w.expect(sub, token)
	defer w.forget(sub, token)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := seal(map[string]any{
		"method": "self_test", "namespace": watchdogNamespace, "args": map[string]any{"token": token}, "_unique_id": newID(),
	})
	if err == nil {
		err = w.bus.publisher.publish(ctx, &message{
			key: sub.queue.name, mandatory: true, expires: time.Now().Add(timeout), body: body,
		})
	}
	if err != nil && ctx.Err() != nil {
		return true // the publishing side's trouble
	}
	if err == nil {
		select {
		case <-arrived:
			return true
		case <-ctx.Done():
		}
	}
	if !sub.restart(since) {
		return true // waiting for a free worker, or renewed meanwhile
	}
	sub.log.WarnContext(ctx, "the queue seemed to be consumed but was not; consuming anew", "err", err)
	return false
}

func (w *watchdog) expect(sub *subscription, token string) <-chan struct{} {
	if sub == w.bus.replies.subscription {
		return w.bus.replies.expect(token).done
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := make(chan struct{})
	w.tokens[token] = c
	return c
}

func (w *watchdog) forget(sub *subscription, token string) {
	if sub == w.bus.replies.subscription {
		w.bus.replies.forget(token)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tokens, token)
}

func (w *watchdog) seen(token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c := w.tokens[token]; c != nil {
		delete(w.tokens, token)
		close(c)
	}
}

// watchdogToken returns the token of a watchdog's message, "" for any other.
func watchdogToken(message []byte) string {
	if len(message) > 1024 || !bytes.Contains(message, []byte(watchdogNamespace)) {
		return ""
	}
	var m struct {
		Namespace string            `json:"namespace"`
		Args      map[string]string `json:"args"`
	}
	if json.Unmarshal(message, &m) != nil || m.Namespace != watchdogNamespace {
		return ""
	}
	return m.Args["token"]
}
