package main

import (
	"syscall"

	"novaagent/engine/shim/wire"
)

// stream is one of a process's outputs: a pipe or a terminal's master.
type stream struct {
	p  *process
	fd int
	id uint8 // wire.StreamStdout or wire.StreamStderr
	// paused: a client has to catch up before more is read.
	paused bool
	line   []byte // the log's unfinished line
}

// ready reads one chunk, so that the streams and clients take turns.
func (st *stream) ready(uint32) { st.pump() }

// pump reads one chunk and passes it on. It returns false if there is nothing to read now.
func (st *stream) pump() bool {
	p, s := st.p, st.p.s
	if st.fd < 0 || st.paused {
		return false
	}
	n, err := read(st.fd, s.buf[wire.HeaderSize:])
	if err == syscall.EAGAIN {
		return false
	}
	if err != nil || n <= 0 { // a terminal without slaves reads EIO
		st.end()
		return false
	}
	data := s.buf[wire.HeaderSize : wire.HeaderSize+n]
	if p.log != nil {
		p.log.write(st, data)
	}
	if len(p.clients) == 0 {
		return true
	}
	message := s.buf[:wire.HeaderSize+n]
	wire.Header{Length: uint32(n), Type: wire.Output, Arg: st.id}.Append(message[:0])
	for i := 0; i < len(p.clients); i++ {
		c := p.clients[i]
		if c.streams&st.id == 0 {
			continue
		}
		c.transmit(message, -1)
		if c.fd < 0 {
			i-- // it has left the list
		} else if len(c.pending) > 0 {
			st.pause()
		}
	}
	return true
}

// pause stops reading until all clients have caught up: the container then
// waits as it would for a slow terminal, for at most stallLimit.
func (st *stream) pause() {
	if !st.paused {
		st.paused = true
		st.p.s.watch(st.fd, 0, st)
	}
}

// resume reads on if no client is behind.
func (p *process) resume() {
	for _, c := range p.clients {
		if len(c.pending) > 0 {
			return
		}
	}
	for _, st := range []*stream{p.out, p.err} {
		if st != nil && st.paused {
			st.paused = false
			if st.fd >= 0 {
				p.s.watch(st.fd, syscall.EPOLLIN, st)
			}
		}
	}
	if p.ended {
		p.drain()
	}
}

// end closes the stream.
func (st *stream) end() {
	if st.p.log != nil {
		st.p.log.finish(st)
	}
	st.p.s.drop(st.fd)
	st.fd = -1
	if st.p.ended {
		st.p.drain() // the other stream may have more
	}
}

// maxDrained bounds what is read of a stream after the process's end, in chunks: more than its pipe can hold. One
// that has inherited the pipe and lives on could write for ever.
const maxDrained = 2 << 20 / wire.MaxData

// drain reads what is left after the process's end.
func (p *process) drain() {
	for _, st := range []*stream{p.out, p.err} {
		if st != nil {
			for i := 0; i < maxDrained && st.pump(); i++ {
			}
			if p.log != nil && !st.paused {
				p.log.finish(st)
			}
		}
	}
	p.finish()
}

// finish tells the clients that no more output comes, once none is left. A
// process that has inherited the pipe and lives on is read, but not heard.
func (p *process) finish() {
	for _, st := range []*stream{p.out, p.err} {
		if st != nil && st.fd >= 0 && st.paused {
			return
		}
	}
	if p.finished {
		return
	}
	p.finished = true
	for _, c := range append([]*conn(nil), p.clients...) {
		c.send(wire.OutputEnd, 0, nil)
		if c.owner {
			c.send(wire.Exited, 0, p.exit.Append(nil))
		}
		c.streams &^= wire.StreamStdout | wire.StreamStderr
	}
}
