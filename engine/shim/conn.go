package main

import (
	"syscall"

	"novaagent/engine/shim/wire"
)

const (
	// stallLimit is for how long an attached client may hold up the container's
	// output by not reading, in nanoseconds.
	stallLimit = 30e9
	// maxPending bounds what is kept for a client that doesn't read its replies.
	maxPending = 256 << 10
)

// conn is a connection from an agent.
type conn struct {
	s  *shim
	fd int

	greeted bool
	// proc is the process whose streams this connection carries, or nil for a control connection; streams is a set of
	// wire.Stream*.
	proc    *process
	streams uint8
	// starting is set on a connection that has asked for an exec, owner once that runs.
	starting, owner bool

	// The message being read.
	header  [wire.HeaderSize]byte
	have    int // bytes of header and payload read so far
	payload []byte
	large   bool // payload is a mapping
	fds     []int

	// pending is what the socket did not take yet; since is when it last took something.
	pending []byte
	since   int64

	// input is data that the process's standard input did not take yet.
	input []byte
}

func (s *shim) addConn(fd int) bool {
	syscall.SetNonblock(fd, true)
	c := &conn{s: s, fd: fd}
	if !s.watch(fd, syscall.EPOLLIN|epollRdHup, c) {
		return false
	}
	s.conns = append(s.conns, c)
	return true
}

func (c *conn) ready(events uint32) {
	if events&syscall.EPOLLOUT != 0 && !c.flush() {
		return
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLHUP|syscall.EPOLLERR|epollRdHup) == 0 {
		return
	}
	// While input waits nothing more is read; a peer that has gone is noticed by
	// the write that follows.
	for c.input == nil && c.fd >= 0 {
		if !c.readMore() {
			return
		}
	}
	if c.fd >= 0 && events&(syscall.EPOLLHUP|syscall.EPOLLERR) != 0 {
		c.close()
	}
}

// readMore reads one part of a message. It returns false when nothing is left to
// read.
func (c *conn) readMore() bool {
	var n int
	var err error
	if c.have < wire.HeaderSize {
		n, c.fds, err = recv(c.fd, c.header[c.have:], c.fds)
	} else {
		n, err = read(c.fd, c.payload[c.have-wire.HeaderSize:])
	}
	if err == syscall.EAGAIN {
		return false
	}
	if err != nil || n <= 0 {
		c.close()
		return false
	}
	c.have += n
	if c.have < wire.HeaderSize {
		return true
	}
	h, err := wire.ParseHeader(c.header[:])
	if err != nil {
		c.close()
		return false
	}
	if c.have == wire.HeaderSize && h.Length > 0 {
		if !c.room(int(h.Length)) {
			c.close()
			return false
		}
	}
	if c.have < wire.HeaderSize+int(h.Length) {
		return true
	}
	payload, fds := c.payload[:h.Length], c.fds
	c.have, c.fds = 0, nil
	ok := c.handle(h, payload, fds)
	c.dropLarge()
	if !ok {
		closeAll(fds)
		c.close()
	}
	return ok
}

// room makes payload n bytes long. A large one, a program, is a mapping that is given back: the collector
// is off.
func (c *conn) room(n int) bool {
	if n <= wire.MaxData {
		if cap(c.payload) < n {
			c.payload = make([]byte, n)
		}
		c.payload = c.payload[:n]
		return true
	}
	large, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		return false
	}
	c.payload, c.large = large, true
	return true
}

func (c *conn) dropLarge() {
	if c.large {
		syscall.Munmap(c.payload)
		c.payload, c.large = nil, false
	}
}

// send queues a message and writes what the socket takes.
func (c *conn) send(t wire.Type, arg uint8, payload []byte) {
	c.sendFD(t, arg, payload, -1)
}

// sendFD sends a message with a descriptor, if that is not negative.
func (c *conn) sendFD(t wire.Type, arg uint8, payload []byte, fd int) {
	b := wire.Header{Length: uint32(len(payload)), Type: t, Arg: arg}.Append(make([]byte, 0, wire.HeaderSize+len(payload)))
	c.transmit(append(b, payload...), fd)
}

// transmit writes a whole message; what the socket does not take is copied.
func (c *conn) transmit(b []byte, fd int) {
	if c.fd < 0 {
		return
	}
	if len(c.pending) == 0 {
		var n int
		var err error
		if fd >= 0 {
			n, err = syscall.SendmsgN(c.fd, b, syscall.UnixRights(fd), nil, msgNoSignal)
		} else {
			n, err = write(c.fd, b)
		}
		if err != nil && err != syscall.EAGAIN {
			c.close()
			return
		}
		if n == len(b) {
			return
		}
		b = b[max(n, 0):]
		c.since = clock(clockMonotonic)
	}
	if len(c.pending)+len(b) > maxPending {
		c.close()
		return
	}
	c.pending = append(c.pending, b...)
	c.interest()
}

// flush writes pending data. It returns false if the connection is gone.
func (c *conn) flush() bool {
	for len(c.pending) > 0 {
		n, err := write(c.fd, c.pending)
		if err == syscall.EAGAIN {
			return true
		}
		if err != nil {
			c.close()
			return false
		}
		c.since = clock(clockMonotonic)
		c.pending = c.pending[n:]
	}
	c.pending = nil
	c.interest()
	if c.proc != nil {
		c.proc.resume()
	}
	return c.fd >= 0
}

// interest tells epoll what c waits for.
func (c *conn) interest() {
	var ev uint32
	if c.input == nil {
		ev |= syscall.EPOLLIN | epollRdHup
	}
	if len(c.pending) > 0 {
		ev |= syscall.EPOLLOUT
	}
	c.s.watch(c.fd, ev, c)
}

func (c *conn) close() {
	if c.fd < 0 {
		return
	}
	s := c.s
	s.drop(c.fd)
	c.fd = -1
	c.pending = nil
	c.dropLarge()
	closeAll(c.fds)
	for i, o := range s.conns {
		if o == c {
			s.conns = append(s.conns[:i], s.conns[i+1:]...)
			break
		}
	}
	if p := c.proc; p != nil {
		c.proc = nil
		p.detach(c)
	}
	// An idle shim is of no use without the agent that started it.
	if s.init == nil && len(s.conns) == 0 {
		s.quit = true
	}
}

// timeout is epoll_wait's, in milliseconds: for ever unless a client is behind.
func (s *shim) timeout() int {
	for _, c := range s.conns {
		if len(c.pending) > 0 {
			return 1000
		}
	}
	return -1
}

// dropStalled closes connections that have held up output for too long.
func (s *shim) dropStalled() {
	for i := 0; i < len(s.conns); i++ {
		if c := s.conns[i]; len(c.pending) > 0 && clock(clockMonotonic)-c.since > stallLimit {
			c.close()
			i--
		}
	}
}

// handle answers one message. It returns false if the connection is to be closed; the
// descriptors are then closed by the caller.
func (c *conn) handle(h wire.Header, payload []byte, fds []int) bool {
	s := c.s
	if !c.greeted {
		if _, err := wire.ParseUint32(payload); h.Type != wire.Hello || err != nil {
			return false
		}
		c.greeted = true
		c.send(wire.Welcome, 0, s.init.status().Append(nil))
		return true
	}
	switch h.Type {
	case wire.Launch:
		return c.launch(payload, fds)
	case wire.Exec:
		return c.exec(payload, fds)
	}
	if len(fds) > 0 {
		return false
	}
	switch h.Type {
	case wire.Attach:
		if s.init == nil || c.proc != nil {
			return false
		}
		c.send(wire.Done, 0, wire.AppendUint32(nil, 0))
		s.init.attach(c, h.Arg)
	case wire.Input:
		if c.proc == nil || c.streams&wire.StreamStdin == 0 {
			return false
		}
		c.proc.feed(c, payload)
	case wire.InputEnd:
		if c.proc == nil {
			return false
		}
		c.proc.inputEnd(c)
	case wire.Resize:
		r, err := wire.ParseResize(payload)
		if err != nil {
			return false
		}
		c.done(s.find(r.ID).resize(r.Width, r.Height))
	case wire.CloseStdin:
		p := s.find(string(payload))
		if p == nil {
			c.done(syscall.ENOENT)
			break
		}
		p.closeStdin()
		c.done(0)
	case wire.ExecStatus:
		p := s.find(string(payload))
		if p == nil {
			c.done(syscall.ENOENT)
			break
		}
		c.send(wire.Welcome, 0, p.status().Append(nil))
	case wire.Quit:
		c.done(0)
		s.quit = true
		return false
	case wire.Reset:
		errno := s.reset(c)
		c.done(errno)
		if errno != 0 {
			s.quit = true
			return false
		}
	default:
		return false
	}
	return true
}

func (c *conn) done(errno syscall.Errno) {
	c.send(wire.Done, 0, wire.AppendUint32(nil, uint32(errno)))
}

// find returns the exec called id, or the container's process if id is empty.
func (s *shim) find(id string) *process {
	if id == "" {
		return s.init
	}
	for _, p := range s.execs {
		if p.id == id {
			return p
		}
	}
	return nil
}
