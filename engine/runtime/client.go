package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// message is one message of the shim protocol.
type message struct {
	wire.Header
	payload []byte
	files   []*os.File
}

func (m message) close() {
	for _, f := range m.files {
		f.Close()
	}
}

// conn frames messages on a socket. One goroutine may read while others write.
type conn struct {
	net *net.UnixConn

	mu  sync.Mutex
	buf []byte // guarded by mu
	hdr [wire.HeaderSize]byte
	oob []byte
}

// newConn takes over f, a connected unix socket.
func newConn(f *os.File) (*conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("shim: %w", err)
	}
	return &conn{net: c.(*net.UnixConn)}, nil
}

// dial connects to a container's socket and greets.
func dial(dir string) (*conn, wire.Status, error) {
	c, err := dialQueued(dir)
	if err != nil {
		return nil, wire.Status{}, err
	}
	c.net.SetReadDeadline(time.Now().Add(greetTimeout))
	st, err := c.welcome()
	if err != nil {
		c.net.Close()
		return nil, st, err
	}
	c.net.SetReadDeadline(time.Time{})
	return c, st, nil
}

// dialQueued connects to a container's socket and says hello. The answer may be a while
// in coming: the shim may not listen yet.
func dialQueued(dir string) (*conn, error) {
	d, err := kernel.OpenPath(dir)
	if err != nil {
		return nil, fmt.Errorf("shim: %v: %w", err, errdefs.ErrNotFound)
	}
	defer d.Close()
	// By way of the directory, since a socket's path is limited to 107 bytes.
	n, err := net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(d.Fd()))+"/shim.sock")
	if err != nil {
		return nil, fmt.Errorf("shim: %v: %w", err, errdefs.ErrNotFound)
	}
	c := &conn{net: n.(*net.UnixConn)}
	if err := c.hello(); err != nil {
		c.net.Close()
		return nil, err
	}
	return c, nil
}

// greetTimeout bounds how long a shim may take to answer the first message.
const greetTimeout = 10 * time.Second

func (c *conn) greet() (wire.Status, error) {
	if err := c.hello(); err != nil {
		return wire.Status{}, err
	}
	c.net.SetReadDeadline(time.Now().Add(greetTimeout))
	defer c.net.SetReadDeadline(time.Time{})
	return c.welcome()
}

func (c *conn) hello() error {
	return c.send(wire.Hello, 0, wire.AppendUint32(nil, wire.Version))
}

func (c *conn) welcome() (wire.Status, error) {
	m, err := c.receive(nil)
	if err != nil {
		return wire.Status{}, err
	}
	defer m.close()
	if m.Type != wire.Welcome {
		return wire.Status{}, fmt.Errorf("shim: message %d instead of a welcome: %w", m.Type, errdefs.ErrUnavailable)
	}
	return wire.ParseStatus(m.payload)
}

// send writes one message, with descriptors.
func (c *conn) send(t wire.Type, arg uint8, payload []byte, fds ...int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf = wire.Header{Length: uint32(len(payload)), Type: t, Arg: arg}.Append(c.buf[:0])
	var err error
	if len(fds) > 0 {
		if _, _, err = c.net.WriteMsgUnix(c.buf, syscall.UnixRights(fds...), nil); err == nil {
			_, err = c.net.Write(payload)
		}
	} else {
		c.buf = append(c.buf, payload...)
		_, err = c.net.Write(c.buf)
	}
	if cap(c.buf) > wire.MaxData+wire.HeaderSize {
		c.buf = nil
	}
	if err != nil {
		return fmt.Errorf("shim: send: %v: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// receive reads one message. Its payload may be in buf, if that is large enough.
func (c *conn) receive(buf []byte) (message, error) {
	var m message
	if c.oob == nil {
		c.oob = make([]byte, syscall.CmsgSpace(4*4))
	}
	n, oobn, _, _, err := c.net.ReadMsgUnix(c.hdr[:], c.oob)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return m, fmt.Errorf("shim: %w", err)
	}
	if oobn > 0 {
		if m.files, err = rights(c.oob[:oobn]); err != nil {
			return m, err
		}
	}
	if n < len(c.hdr) {
		if _, err = io.ReadFull(c.net, c.hdr[n:]); err != nil {
			return m, fmt.Errorf("shim: %w", err)
		}
	}
	if m.Header, err = wire.ParseHeader(c.hdr[:]); err != nil {
		m.close()
		return m, fmt.Errorf("shim: %v: %w", err, errdefs.ErrUnavailable)
	}
	if int(m.Length) <= len(buf) {
		m.payload = buf[:m.Length]
	} else {
		m.payload = make([]byte, m.Length)
	}
	if _, err = io.ReadFull(c.net, m.payload); err != nil {
		m.close()
		return m, fmt.Errorf("shim: %w", err)
	}
	return m, nil
}

// rights takes descriptors out of control messages.
func rights(oob []byte) ([]*os.File, error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("shim: control message: %w", err)
	}
	var files []*os.File
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

// client is the control connection to a shim.
type client struct {
	*conn
	// child is the shim's pid if it is a child of this process, to be reaped; guarded by queue.
	child int
	// lives is how many containers the shim has had before.
	lives int

	done chan struct{} // closed once the connection has ended

	queue   sync.Mutex
	waiting []chan message // guarded by queue: who waits for the next replies; nil for that to Reset
	ended   bool           // guarded by queue
}

// newClient greets a shim over f and starts to read from it.
func newClient(f *os.File) (*client, error) {
	c, err := newConn(f)
	if err != nil {
		return nil, err
	}
	if _, err := c.greet(); err != nil {
		c.net.Close()
		return nil, err
	}
	return clientOf(c), nil
}

func clientOf(c *conn) *client { return &client{conn: c, done: make(chan struct{})} }

// serve reads replies and events until the connection ends. onExit is called for
// the end of the container's process. It returns the shim if that is idle again, else nil.
func (c *client) serve(onExit func(wire.Exit)) (idle *client) {
	defer func() {
		c.queue.Lock()
		c.ended = true
		for _, w := range c.waiting {
			if w != nil {
				close(w)
			}
		}
		c.waiting = nil
		c.queue.Unlock()
		if idle == nil {
			c.net.Close()
		}
		close(c.done)
	}()
	for {
		m, err := c.receive(nil)
		if err != nil {
			return nil
		}
		if m.Type == wire.Exited {
			if e, err := wire.ParseExit(m.payload); err == nil {
				onExit(e)
			}
			continue
		}
		c.queue.Lock()
		expected := len(c.waiting) > 0
		var w chan message
		if expected {
			w, c.waiting = c.waiting[0], c.waiting[1:]
		}
		if expected && w == nil && doneError(m) == nil {
			// Whoever still knows this client must not talk to the next container's shim.
			idle = &client{conn: c.conn, child: c.child, lives: c.lives + 1, done: make(chan struct{})}
			c.child, c.ended = 0, true
		}
		c.queue.Unlock()
		if w == nil {
			m.close()
			return idle
		}
		w <- m // has room for one
	}
}

// call sends a request and waits for its reply.
func (c *client) call(ctx context.Context, t wire.Type, payload []byte, fds ...int) (message, error) {
	w := make(chan message, 1)
	c.queue.Lock()
	if c.ended {
		c.queue.Unlock()
		return message{}, fmt.Errorf("shim: it has ended: %w", errdefs.ErrUnavailable)
	}
	c.waiting = append(c.waiting, w)
	// Sent under the lock: replies come in the order of requests.
	err := c.send(t, 0, payload, fds...)
	c.queue.Unlock()
	if err != nil {
		c.net.Close()
		return message{}, err
	}
	select {
	case m, ok := <-w:
		if !ok {
			return message{}, fmt.Errorf("shim: it has ended: %w", errdefs.ErrUnavailable)
		}
		return m, nil
	case <-ctx.Done():
		go func() { // a late reply may bring descriptors
			if m, ok := <-w; ok {
				m.close()
			}
		}()
		return message{}, fmt.Errorf("shim: %v: %w", ctx.Err(), errdefs.ErrUnavailable)
	}
}

// maxLives is how many containers one shim serves. Its garbage collector is off, and a
// fresh one has the least memory.
const maxLives = 64

// dismiss tells the shim to end or, if it is a child of this process, to become idle, without waiting for it.
func (c *client) dismiss() {
	c.queue.Lock()
	defer c.queue.Unlock()
	if c.ended {
		return
	}
	var err error
	if c.child != 0 && c.lives+1 < maxLives {
		c.waiting = append(c.waiting, nil)
		err = c.send(wire.Reset, 0, nil)
	} else {
		c.waiting = append(c.waiting, make(chan message, 1))
		err = c.send(wire.Quit, 0, nil)
	}
	if err != nil {
		c.net.Close() // it has ended already
	}
}

// ask is call for requests that are answered by Done.
func (c *client) ask(ctx context.Context, t wire.Type, payload []byte) error {
	m, err := c.call(ctx, t, payload)
	if err != nil {
		return err
	}
	defer m.close()
	return doneError(m)
}

func doneError(m message) error {
	errno, err := wire.ParseUint32(m.payload)
	switch {
	case m.Type != wire.Done || err != nil:
		return fmt.Errorf("shim: message %d instead of an answer: %w", m.Type, errdefs.ErrUnavailable)
	case errno == 0:
		return nil
	case syscall.Errno(errno) == syscall.ENOENT:
		return fmt.Errorf("shim: %w", errdefs.ErrNotFound)
	case syscall.Errno(errno) == syscall.ENOTTY:
		return fmt.Errorf("shim: there is no terminal: %w", errdefs.ErrConflict)
	}
	return fmt.Errorf("shim: %w", syscall.Errno(errno))
}

// alive tells whether an idle shim still holds its end.
func (c *client) alive() bool {
	raw, err := c.net.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN
		return true
	})
	return err == nil && alive
}

// end lets an idle shim go, and reaps it.
func (c *client) end() {
	c.net.Close()
	c.reap()
}

// kill ends a shim that has started nothing, whatever it is doing, and reaps it.
func (c *client) kill() {
	c.queue.Lock()
	if c.child != 0 {
		syscall.Kill(c.child, syscall.SIGKILL)
	}
	c.queue.Unlock()
	c.end()
}

// reap waits for a shim that is a child of this process and has been let go.
func (c *client) reap() {
	c.queue.Lock()
	pid := c.child
	c.child = 0
	c.queue.Unlock()
	if pid != 0 {
		reapShim(pid)
	}
}

// disown closes the connection to a shim that goes on. It is a child of this process
// until either ends; the goroutine that waits for it is nobody's.
func (c *client) disown() {
	c.queue.Lock()
	pid := c.child
	c.child = 0
	c.queue.Unlock()
	if pid != 0 {
		go reapShim(pid)
	}
	c.net.Close()
}

// isEOF tells whether a connection ended because the shim did, or closed it.
func isEOF(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }
