package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"novaagent/engine/shim/wire"
)

// Streams are a client's ends. Nil ones are not connected. With a terminal all
// output is on Stdout.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

func (s Streams) mask() uint8 {
	var m uint8
	if s.Stdin != nil {
		m |= wire.StreamStdin
	}
	if s.Stdout != nil {
		m |= wire.StreamStdout
	}
	if s.Stderr != nil {
		m |= wire.StreamStderr
	}
	return m
}

// Attachment is one client of a container's streams. Named in Bundle.Attach it
// sees the output from the first byte on; else Task.Connect connects it.
//
// A client that doesn't read holds up the container, as a slow terminal does, for at
// most half a minute; then it is disconnected.
type Attachment struct {
	streams Streams

	mu   sync.Mutex
	conn *conn         // guarded by mu
	err  error         // guarded by mu, final once done is closed
	done chan struct{} // closed when no more output comes
	once sync.Once
}

// NewAttachment makes an attachment that is not connected yet.
func NewAttachment(s Streams) *Attachment {
	return &Attachment{streams: s, done: make(chan struct{})}
}

// connect asks for the streams; the shim may answer later.
func (a *Attachment) connect(dir string) error {
	c, err := dialQueued(dir)
	if err != nil {
		return err
	}
	if err := c.send(wire.Attach, a.streams.mask(), nil); err != nil {
		c.net.Close()
		return err
	}
	a.mu.Lock()
	a.conn = c
	a.mu.Unlock()
	return nil
}

// accepted reads the shim's answers to connect.
func (a *Attachment) accepted(ctx context.Context) error {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { c.net.Close() })
	defer stop()
	if _, err := c.welcome(); err != nil {
		return err
	}
	m, err := c.receive(nil)
	if err != nil {
		return err
	}
	return doneError(m)
}

// begin copies until the output ends.
func (a *Attachment) begin() {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	go func() {
		_, err := copyOutput(c, a.streams, nil)
		a.finish(err)
	}()
	if a.streams.Stdin != nil {
		go copyInput(c, a.streams.Stdin)
	}
}

// copyOutput writes Output messages to s until the end; onExit is told an exec's exit, which comes last.
func copyOutput(c *conn, s Streams, onExit func(wire.Exit)) (exited bool, err error) {
	buf := make([]byte, wire.MaxData)
	for {
		m, err := c.receive(buf)
		if err != nil {
			return false, err
		}
		m.close()
		switch m.Type {
		case wire.Output:
			w := s.Stdout
			if m.Arg == wire.StreamStderr {
				w = s.Stderr
			}
			if w == nil {
				continue
			}
			if _, err := w.Write(m.payload); err != nil {
				return false, fmt.Errorf("attach: client: %w", err)
			}
		case wire.OutputEnd:
			if onExit == nil {
				return false, nil
			}
		case wire.Exited:
			e, err := wire.ParseExit(m.payload)
			if err != nil {
				return false, err
			}
			if onExit != nil {
				onExit(e)
				return true, nil
			}
		}
	}
}

// copyInput sends what r gives. It ends with r or the connection; a reader that blocks for
// ever keeps it, which is the reader's owner's affair.
func copyInput(c *conn, r io.Reader) {
	buf := make([]byte, wire.MaxData)
	for {
		n, err := r.Read(buf)
		if n > 0 && c.send(wire.Input, 0, buf[:n]) != nil {
			return
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				c.send(wire.InputEnd, 0, nil) // the shim is gone: so is the input's goal
			}
			return
		}
	}
}

// finish ends the attachment with err, once.
func (a *Attachment) finish(err error) {
	a.once.Do(func() {
		if isEOF(err) {
			// The container was deleted, or the shim died: Task.Wait tells more.
			err = nil
		}
		a.mu.Lock()
		a.err = err
		if a.conn != nil {
			a.conn.net.Close()
		}
		a.mu.Unlock()
		close(a.done)
	})
}

func (a *Attachment) fail(err error) { a.finish(fmt.Errorf("attach: %w", err)) }

// Wait returns when the output has ended (nil), ctx is done or a write to the
// client has failed. The client is disconnected then.
func (a *Attachment) Wait(ctx context.Context) error {
	select {
	case <-a.done:
	case <-ctx.Done():
		a.finish(ctx.Err())
		<-a.done
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Attach copies between the container and s until the output ends, ctx
// is done or the client leaves. Several clients may attach at a time.
func (t *Task) Attach(ctx context.Context, s Streams) error {
	a := NewAttachment(s)
	if err := t.Connect(ctx, a); err != nil {
		return err
	}
	return a.Wait(ctx)
}

// Connect connects a: no output that is written after it has returned is missed.
func (t *Task) Connect(ctx context.Context, a *Attachment) error {
	if _, err := t.control(); err != nil {
		a.fail(err)
		return fmt.Errorf("container %s: attach: %w", t.rec.ID, err)
	}
	if err := a.connect(t.r.taskDir(t.rec.ID)); err != nil {
		a.fail(err)
		return fmt.Errorf("container %s: attach: %w", t.rec.ID, err)
	}
	if err := a.accepted(ctx); err != nil {
		a.fail(err)
		return fmt.Errorf("container %s: attach: %w", t.rec.ID, err)
	}
	a.begin()
	return nil
}
