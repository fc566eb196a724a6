package main

import (
	"syscall"

	"novaagent/engine/kernel/fork"
	"novaagent/engine/shim/wire"
)

// launch starts the container. The reply is sent once its process has been executed.
func (c *conn) launch(payload []byte, fds []int) bool {
	s := c.s
	h, program, err := wire.ParseLaunch(payload)
	if err != nil || s.init != nil || len(fds) < h.Descriptors(true) {
		return false
	}
	s.listener, s.stateDir, fds = fds[0], fds[1], fds[2:]
	p := &process{s: s, id: h.ID, main: true, stdin: -1, pidfd: -1}
	if h.Flags&wire.HasLog != 0 {
		p.log = newLogger(fds[0], h.LogName, int64(h.LogMaxBytes), int(h.LogMaxFiles))
		fds = fds[1:]
	}
	result, ok := s.fork(p, h, program, fds)
	if !ok {
		return false
	}
	if result.Errno != 0 {
		c.send(wire.Failed, 0, result.Append(nil))
		return true
	}
	s.init = p
	short := h.ID
	if len(short) > 10 {
		short = short[:10]
	}
	writeProc("/proc/self/comm", "shim-"+short)
	c.sendFD(wire.Started, 0, result.Append(nil), p.pidfd)
	// Clients that were connected beforehand see the first byte.
	s.watch(s.listener, syscall.EPOLLIN, acceptor{s})
	s.accept()
	p.begin()
	return true
}

// exec starts a further process. The connection is its from now on.
func (c *conn) exec(payload []byte, fds []int) bool {
	s := c.s
	h, program, err := wire.ParseLaunch(payload)
	if err != nil || c.proc != nil || s.init == nil || s.find(h.ID) != nil || len(fds) < h.Descriptors(false) {
		return false
	}
	p := &process{s: s, id: h.ID, stdin: -1, pidfd: -1, started: false}
	p.stdinOnce = true
	s.execs = append(s.execs, p)
	c.proc, c.owner, c.streams = p, true, wire.StreamStdin|wire.StreamStdout|wire.StreamStderr
	// The program is copied: the connection's buffer is used again.
	program = append([]byte(nil), program...)
	go func() {
		result, ok := s.fork(p, h, program, fds)
		s.later(func() {
			if !ok || result.Errno != 0 {
				s.forget(p)
				c.proc = nil
				if ok {
					c.send(wire.Failed, 0, result.Append(nil))
				} else {
					c.close()
				}
				return
			}
			if c.fd >= 0 {
				p.clients = append(p.clients, c)
			}
			c.sendFD(wire.Started, 0, result.Append(nil), p.pidfd)
			p.begin()
		})
	}()
	return true
}

// fork runs the program and sets up p's descriptors. It consumes fds, and returns
// false for a malformed message. It may run on any goroutine: it touches nothing but p.
func (s *shim) fork(p *process, h wire.LaunchHeader, program []byte, fds []int) (wire.LaunchResult, bool) {
	var own []int
	n := h.Descriptors(false)
	if h.Flags&wire.HasLog != 0 {
		n--
	}
	own, fds = fds[:n], fds[n:]
	defer closeAll(fds)
	l, err := fork.Load(program, fds)
	if err != nil {
		closeAll(own)
		return wire.LaunchResult{}, false
	}
	r := l.Run()
	result := wire.LaunchResult{PID: int32(r.PID), Step: int32(r.Failed), Errno: uint32(r.Errno)}
	for _, n := range r.Notes {
		result.Notes = append(result.Notes, wire.Note{Step: int32(n.Step), Errno: int32(n.Errno)})
	}
	if r.Failed != fork.None {
		closeAll(own)
		return result, true
	}
	p.pid = r.PID
	p.tty = h.Flags&wire.TTY != 0
	p.stdinOnce = p.stdinOnce || h.Flags&wire.StdinOnce != 0
	if p.pidfd, err = pidfdOpen(r.PID); err != nil {
		syscall.Kill(r.PID, syscall.SIGKILL)
	}
	if !p.tty {
		p.out = &stream{p: p, fd: own[0], id: wire.StreamStdout}
		p.err = &stream{p: p, fd: own[1], id: wire.StreamStderr}
		syscall.SetNonblock(own[0], true)
		syscall.SetNonblock(own[1], true)
		if h.Flags&wire.HasStdin != 0 {
			p.stdin = own[2]
			syscall.SetNonblock(p.stdin, true)
		}
		return result, true
	}
	var b [1]byte
	_, master, _ := recv(own[0], b[:], nil)
	syscall.Close(own[0])
	if len(master) > 0 {
		p.out = &stream{p: p, fd: master[0], id: wire.StreamStdout}
		syscall.SetNonblock(master[0], true)
		if h.Flags&wire.HasStdin != 0 {
			// A descriptor of its own, so that epoll can wait for both directions.
			if fd, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(master[0]), syscall.F_DUPFD_CLOEXEC, 3); errno == 0 {
				p.stdin = int(fd)
			}
		}
	}
	return result, true
}

func (s *shim) forget(p *process) {
	for i, o := range s.execs {
		if o == p {
			s.execs = append(s.execs[:i], s.execs[i+1:]...)
			return
		}
	}
}
