package rpc

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// replies receives what comes back: one queue per process, and for each call
// that waits an entry by its _msg_id.
type replies struct {
	subscription *subscription
	maxBody      int64
	log          *slog.Logger

	mu      sync.Mutex
	waiters map[string]*waiter
}

// waiter collects the replies to one call.
type waiter struct {
	alive chan struct{} // of room for one: a reply came that is not the last
	done  chan struct{} // closed after the last one

	// Written before done is closed, by the subscription's goroutine.
	result  json.RawMessage
	failure *RemoteError
}

func newReplies(link *link, queue queueSpec, maxBody int64, log *slog.Logger) *replies {
	r := &replies{maxBody: maxBody, log: log, waiters: make(map[string]*waiter)}
	// Replies are taken at once, so more of them may be under way than requests.
	r.subscription = newSubscription(link, queue, 32, r.receive)
	return r
}

// expect makes msgID known; forget must follow.
func (r *replies) expect(msgID string) *waiter {
	w := &waiter{alive: make(chan struct{}, 1), done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiters[msgID] = w
	return w
}

func (r *replies) forget(msgID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiters, msgID)
}

func (r *replies) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.waiters)
}

// receive handles one message of the reply queue.
func (r *replies) receive(ctx context.Context, d amqp.Delivery) {
	inner, err := openDelivery(&d, r.maxBody)
	var reply *wireReply
	if err == nil {
		if token := watchdogToken(inner); token != "" {
			_ = d.Ack(false)
			r.resolve(&wireReply{MsgID: token, Ending: true})
			return
		}
		reply, err = decodeReply(inner)
	}
	if err != nil {
		r.log.WarnContext(ctx, "a reply that cannot be read was thrown away", "err", err, "bytes", len(d.Body))
		_ = d.Reject(false)
		return
	}
	_ = d.Ack(false) // if that is lost, a repeat finds no waiter
	if !r.resolve(reply) {
		r.log.DebugContext(ctx, "nobody waits for the reply", "msg_id", reply.MsgID)
	}
}

// resolve gives a reply to the call that waits for it. A result may come in a
// reply that is not the last one, as old releases send it: the last result
// that is not null counts.
func (r *replies) resolve(reply *wireReply) bool {
	r.mu.Lock()
	w := r.waiters[reply.MsgID]
	if w != nil && reply.Ending {
		delete(r.waiters, reply.MsgID)
	}
	r.mu.Unlock()
	if w == nil {
		return false
	}
	if reply.Failure != nil && *reply.Failure != "" {
		w.failure = decodeFailure(*reply.Failure)
	}
	if reply.Result != nil && string(reply.Result) != "null" {
		w.result = reply.Result
	}
	if reply.Ending {
		close(w.done)
		return true
	}
	select {
	case w.alive <- struct{}{}:
	default:
	}
	return true
}

// wait waits for the last reply. With a monitor period it ends with
// errSilent when no sign of life came for that long. The time during which this
// side could not hear is not held against the server.
func (r *replies) wait(ctx context.Context, w *waiter, monitor time.Duration) (json.RawMessage, error) {
	var silence <-chan time.Time
	var timer *time.Timer
	if monitor > 0 {
		timer = time.NewTimer(monitor)
		defer timer.Stop()
		silence = timer.C
	}
	for {
		select {
		case <-w.done:
			if w.failure != nil {
				return nil, w.failure
			}
			if w.result == nil {
				return json.RawMessage("null"), nil
			}
			return w.result, nil
		case <-w.alive:
			if timer != nil {
				timer.Reset(monitor)
			}
		case <-silence:
			if since, ok := r.subscription.consuming(); !ok || time.Since(since) < monitor {
				timer.Reset(monitor)
				continue
			}
			return nil, errSilent
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// openDelivery checks a message's size, undoes its compression and opens its
// envelope.
func openDelivery(d *amqp.Delivery, maxBody int64) ([]byte, error) {
	body := d.Body
	if len(body) == 0 {
		return nil, errEmpty
	}
	if method, ok := d.Headers["compression"].(string); ok && method != "" {
		var err error
		if body, err = decompress(body, method, maxBody); err != nil {
			return nil, err
		}
	}
	return openEnvelope(body)
}
