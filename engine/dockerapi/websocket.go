package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"github.com/coder/websocket"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// maxMessage bounds one message of input.
const maxMessage = 1 << 20

// containerAttachWS is containerAttach over a websocket: the streams are raw, output of both in one.
func (s *server) containerAttachWS(r *request) error {
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	if err := attachable(&c); err != nil {
		return err
	}
	keys, err := parseDetachKeys(r.query.Get("detachKeys"))
	if err != nil {
		return err
	}
	if r.Header.Get("Upgrade") == "" {
		return fmt.Errorf("this is a websocket: the request does not ask for an upgrade: %w", errdefs.ErrInvalid)
	}
	// checkBrowser has looked at the origin.
	socket, err := websocket.Accept(r.w, r.Request, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // Accept has answered
	}
	if rec, ok := r.w.(*recorder); ok {
		rec.status = http.StatusSwitchingProtocols
	}
	socket.SetReadLimit(maxMessage)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var reading sync.WaitGroup
	defer func() {
		// Whoever reads from it ends with the connection.
		cancel()
		_ = socket.Close(websocket.StatusNormalClosure, "") // the client may be gone
		_ = socket.CloseNow()
		reading.Wait()
	}()
	kind := websocket.MessageBinary
	if r.version < 28 {
		kind = websocket.MessageText
	}
	in := &messageReader{ctx: ctx, socket: socket, gone: cancel}
	out := messageWriter{ctx, socket, kind}
	var streams engine.Streams
	if r.boolean("stdin", false) && c.Spec.OpenStdin {
		streams.Stdin = in
		if c.Spec.TTY {
			streams.Stdin = &detachReader{in: in, keys: keys, detach: s.detach(c.ID, engine.ActionDetach, nil, cancel), gone: ctx.Done()}
		}
	} else {
		reading.Go(func() { _, _ = io.Copy(io.Discard, in) }) // to see it go
	}
	if r.boolean("stdout", false) {
		streams.Stdout = out
	}
	if r.boolean("stderr", false) && !c.Spec.TTY {
		streams.Stderr = out
	}
	var a *engine.Attachment
	if r.boolean("stream", false) {
		if a, err = s.engine.Attach(ctx, c.ID, streams); err != nil {
			_ = socket.Close(websocket.StatusInternalError, messageOf(err)[:min(100, len(messageOf(err)))])
			return nil
		}
	}
	if r.boolean("logs", false) {
		if err := s.copyLogs(ctx, c.ID, streams); err != nil {
			cancel()
		}
	}
	if a != nil {
		_ = a.Wait(ctx) // ended, detached or gone: all the same to this side
	}
	return nil
}

// messageReader reads messages of either type as a stream.
type messageReader struct {
	ctx    context.Context
	socket *websocket.Conn
	gone   context.CancelFunc
	now    io.Reader // the message being read
}

func (r *messageReader) Read(b []byte) (int, error) {
	for {
		if r.now == nil {
			_, message, err := r.socket.Reader(r.ctx)
			if err != nil {
				r.gone()
				return 0, io.EOF
			}
			r.now = message
		}
		n, err := r.now.Read(b)
		if errors.Is(err, io.EOF) {
			r.now, err = nil, nil
			if n == 0 {
				continue
			}
		}
		return n, err
	}
}

// messageWriter sends each write as a message.
type messageWriter struct {
	ctx    context.Context
	socket *websocket.Conn
	kind   websocket.MessageType
}

func (w messageWriter) Write(b []byte) (int, error) {
	if err := w.socket.Write(w.ctx, w.kind, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// sameOrigin tells whether a websocket's client names as its origin the host that it asks, as clients that
// are no browsers do.
func sameOrigin(r *http.Request) bool {
	origin, err := url.Parse(r.Header.Get("Origin"))
	return err == nil && r.Header.Get("Upgrade") == "websocket" && origin.Host == r.Host && r.Host != ""
}
