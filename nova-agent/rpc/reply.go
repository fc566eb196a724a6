package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"novaagent/engine/errdefs"
)

// minReplyTime is the least time that a reply is tried for, after the handler
// has ended.
const minReplyTime = 60 * time.Second

// replyDeadline is when the caller of a request has given up: the time to live
// of its message is the call's timeout. Without one, a long call's default.
func replyDeadline(received time.Time, expiration string) time.Time {
	ms, err := strconv.ParseInt(expiration, 10, 64)
	if err != nil || ms < 0 || ms > (24*time.Hour).Milliseconds() {
		return received.Add(30 * time.Minute)
	}
	return received.Add(time.Duration(ms) * time.Millisecond)
}

// monitor sends signs of life twice per period for a call whose caller asked
// for them, until the returned function is called, which waits for the last
// one. Failures to send are not the end: the next may get through
// (dispatcher.py, _watchdog, gives up at the first).
func (s *Server) monitor(ctx context.Context, in *incoming) (stop func()) {
	if in.msgID == "" || in.monitor < 2 { // oslo.messaging ignores a period of 1 s, too
		return func() {}
	}
	period := time.Duration(in.monitor) * time.Second / 2
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		for sleep(ctx, period) {
			body, err := encodeReply(in.msgID, json.RawMessage("null"), nil, false)
			if err == nil {
				err = s.sendReply(ctx, in.replyQ, body, period)
			}
			if err != nil && ctx.Err() == nil {
				s.log.DebugContext(ctx, "cannot send a sign of life", "method", in.method, "err", err)
			}
		}
	})
	return func() {
		cancel()
		done.Wait()
	}
}

func (s *Server) sendReply(ctx context.Context, queue string, body []byte, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return s.bus.publisher.publish(ctx, &message{key: queue, mandatory: true, body: body})
}

// encodeReply makes the body of a reply.
func encodeReply(msgID string, result json.RawMessage, failure error, ending bool) ([]byte, error) {
	reply := wireReply{Result: result, Ending: ending, MsgID: msgID, UniqueID: newID()}
	if failure != nil {
		text := encodeFailure(failure)
		reply.Failure = &text
		reply.Result = json.RawMessage("null")
	}
	return seal(reply)
}

// reply answers a call. It tries until the broker has confirmed the reply,
// across lost connections, or the caller has given up. A missing queue is
// retried for MissingReplyQueueTimeout: after a restart of the broker the caller
// declares it again. A queue that stayed missing is remembered, so that the
// calls of a dead client don't each wait for it.
func (s *Server) reply(ctx context.Context, in *incoming, result any, failure error, deadline time.Time, release func()) {
	var raw json.RawMessage
	if failure == nil {
		var err error
		if raw, err = json.Marshal(result); err != nil {
			failure = Builtin("TypeError", "%s: result is not serializable: %v", in.method, err)
		}
	}
	if failure != nil {
		s.logFailure(ctx, in, failure)
	}
	body, err := encodeReply(in.msgID, raw, failure, true)
	if err != nil {
		s.log.ErrorContext(ctx, "cannot encode a reply", "method", in.method, "err", err)
		return
	}
	if s.gone.has(in.replyQ) {
		s.log.WarnContext(ctx, "the caller's reply queue is gone; reply dropped", "method", in.method, "queue", in.replyQ)
		return
	}
	if s.admitReply(len(body)) {
		defer s.dismissReply(len(body))
		release() // the worker is free for the next request
	}
	if min := time.Now().Add(minReplyTime); deadline.Before(min) {
		deadline = min
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err = s.deliverReply(ctx, in.replyQ, body)
	if errors.Is(err, errdefs.ErrInvalid) { // larger than the broker's maximum
		failure = fmt.Errorf("%s: the result of %d bytes cannot be sent: %v", in.method, len(body), err)
		if body, err = encodeReply(in.msgID, nil, failure, true); err == nil {
			err = s.deliverReply(ctx, in.replyQ, body)
		}
	}
	if err != nil {
		s.log.WarnContext(ctx, "a reply was lost", "method", in.method, "queue", in.replyQ, "err", err)
	}
}

func (s *Server) deliverReply(ctx context.Context, queue string, body []byte) error {
	var missingSince, connectedSince time.Time
	for {
		err := s.bus.publisher.publish(ctx, &message{key: queue, mandatory: true, body: body})
		if !errors.Is(err, errUnroutable) {
			return err
		}
		// A new connection may be to a broker that has just started.
		if _, _, _, since, _ := s.bus.publish.status(); !since.Equal(connectedSince) || missingSince.IsZero() {
			connectedSince, missingSince = since, time.Now()
		}
		if time.Since(missingSince) >= s.bus.options.Rabbit.MissingReplyQueueTimeout {
			s.gone.add(queue)
			return err
		}
		if s.gone.has(queue) {
			return err
		}
		if !sleep(ctx, retryUnroutable) {
			return fmt.Errorf("%w until the caller gave up", err)
		}
	}
}

// admitReply says whether a reply may wait without a worker.
func (s *Server) admitReply(size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replying >= maxPendingReplies || s.replyBytes+size > maxPendingReplyBytes {
		return false
	}
	s.replying++
	s.replyBytes += size
	return true
}

func (s *Server) dismissReply(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replying--
	s.replyBytes -= size
}
