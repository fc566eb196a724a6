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
	p := &process{s: s, id: h.ID, main: true, stdin: -1, mounts: -1}
	if h.Flags&wire.HasLog != 0 {
		p.log = newLogger(fds[0], h.LogName, int64(h.LogMaxBytes), int(h.LogMaxFiles))
		fds = fds[1:]
	}
	own, fds := cut(h, fds)
	l, err := fork.LoadInto(s.memory, program, fds)
	if err != nil {
		return false
	}
	result, pidfd := p.fork(l, h, own, s.stateDir)
	s.memory = l.Reclaim()
	if result.Errno != 0 {
		closeAll(fds)
		c.send(wire.Failed, 0, result.Append(nil))
		return true
	}
	if h.Flags&wire.LateUnmount != 0 {
		p.keepMounts()
	}
	s.init = p
	short := h.ID
	if len(short) > 10 {
		short = short[:10]
	}
	c.sendFD(wire.Started, 0, result.Append(nil), pidfd)
	closeAll(fds)
	writeProc("/proc/self/comm", "shim-"+short)
	// The main loop learns at once of the end; waitForChildren is for what a pidfd does not tell.
	p.pidfd = pidfd
	s.watch(pidfd, syscall.EPOLLIN, p)
	// Clients that were connected beforehand see the first byte.
	s.watch(s.listener, syscall.EPOLLIN, acceptor{s})
	s.accept()
	p.begin()
	if s.waiting {
		s.hasForked()
	} else {
		s.waiting = true
		go s.waitForChildren()
	}
	return true
}

// exec starts a further process. The connection is its from now on.
func (c *conn) exec(payload []byte, fds []int) bool {
	s := c.s
	h, program, err := wire.ParseLaunch(payload)
	if err != nil || c.proc != nil || c.starting || s.init == nil || s.taken(h.ID) || len(fds) < h.Descriptors(false) {
		return false
	}
	own, fds := cut(h, fds)
	l, err := fork.Load(program, fds)
	if err != nil {
		return false
	}
	s.starting = append(s.starting, h.ID)
	c.starting = true
	stateDir := s.stateDir
	go func() {
		p := &process{s: s, id: h.ID, stdin: -1, mounts: -1, stdinOnce: true, bound: h.Flags&wire.Bound != 0}
		result, pidfd := p.fork(l, h, own, stateDir)
		l.Free()
		closeAll(fds)
		s.later(func() { c.execStarted(p, result, pidfd) })
	}()
	return true
}

// execStarted takes over an exec that was forked, or not.
func (c *conn) execStarted(p *process, result wire.LaunchResult, pidfd int) {
	s := c.s
	for i, id := range s.starting {
		if id == p.id {
			s.starting = append(s.starting[:i], s.starting[i+1:]...)
			break
		}
	}
	if result.Errno != 0 {
		c.send(wire.Failed, 0, result.Append(nil))
		return
	}
	s.execs = append(s.execs, p)
	if c.fd >= 0 {
		c.proc, c.owner, c.streams = p, true, wire.StreamStdin|wire.StreamStdout|wire.StreamStderr
		p.clients = append(p.clients, c)
	} else if p.bound {
		p.kill()
	}
	c.sendFD(wire.Started, 0, result.Append(nil), pidfd)
	p.pidfd = pidfd
	s.watch(pidfd, syscall.EPOLLIN, p)
	p.begin()
	s.hasForked()
}

// taken tells whether an exec is called id.
func (s *shim) taken(id string) bool {
	for _, other := range s.starting {
		if other == id {
			return true
		}
	}
	return s.find(id) != nil
}

// cut separates a message's descriptors into the process's streams and the program's.
func cut(h wire.LaunchHeader, fds []int) (own, program []int) {
	h.Flags &^= wire.HasLog
	n := h.Descriptors(false)
	return fds[:n], fds[n:]
}

// fork runs the program and sets up p's streams. It consumes own. It may run
// on any goroutine: it touches nothing but its arguments.
func (p *process) fork(l *fork.Loaded, h wire.LaunchHeader, own []int, stateDir int) (result wire.LaunchResult, pidfd int) {
	r := l.Run()
	if r.Failed == fork.None && h.Flags&wire.Made != 0 {
		r = p.made(r.PID, stateDir)
	}
	result = wire.LaunchResult{PID: int32(r.PID), Step: int32(r.Failed), Errno: uint32(r.Errno)}
	for _, n := range r.Notes {
		result.Notes = append(result.Notes, wire.Note{Step: int32(n.Step), Errno: int32(n.Errno)})
	}
	if r.Failed != fork.None {
		closeAll(own)
		return result, -1
	}
	p.pid = r.PID
	p.tty = h.Flags&wire.TTY != 0
	p.stdinOnce = p.stdinOnce || h.Flags&wire.StdinOnce != 0
	// Nobody has waited for the process yet, so that its pid is still its own.
	pidfd, err := pidfdOpen(r.PID)
	if err != nil {
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
		return result, pidfd
	}
	master := receiveMaster(own[0], h.Flags&wire.Made != 0)
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
	return result, pidfd
}
