package main

import (
	"syscall"
	"unsafe"

	"novaagent/engine/shim/wire"
)

// keptExecs is how many ended execs are remembered, for an agent that was away when they ended.
const keptExecs = 64

// process is the container's first process or an exec.
type process struct {
	s    *shim
	id   string
	main bool

	pid, pidfd int
	mounts     int // the mount namespace, see keepMounts; -1: not kept
	ended      bool
	exit       wire.Exit

	tty       bool
	stdin     int // -1: none
	stdinOnce bool
	bound     bool    // it ends with the connection that started it
	blocked   []*conn // whose input waits for stdin

	out, err *stream // err is nil with a terminal
	log      *logger // nil: none
	clients  []*conn
	// finished: clients have been told that the output has ended.
	finished bool
}

// begin makes the main loop wait for p's output.
func (p *process) begin() {
	for _, st := range []*stream{p.out, p.err} {
		if st != nil {
			p.s.watch(st.fd, syscall.EPOLLIN, st)
		}
	}
}

func (p *process) status() wire.Status {
	st := wire.Status{Version: wire.Version}
	if p == nil {
		return st
	}
	st.State, st.PID = wire.Running, uint32(p.pid)
	if p.ended {
		st.State, st.Exit = wire.Ended, p.exit
	}
	if p.log != nil {
		st.LostBytes = p.log.lostTotal
	}
	return st
}

// ready is called when the pidfd tells that the process has ended.
func (p *process) ready(uint32) { p.s.reap(p.pid) }

// hasEnded is told p's wait status. Everything it has written is in the log before anybody
// learns that it ended.
func (p *process) hasEnded(ws syscall.WaitStatus) {
	p.ended = true
	p.s.drop(p.pidfd)
	p.exit = wire.Exit{Status: uint32(ws), At: clock(clockRealtime)}
	p.closeStdin()
	p.drain()
	if p.main {
		p.s.recordExit(p.exit)
		told := false
		for _, c := range append([]*conn(nil), p.s.conns...) {
			if c.proc == nil && c.greeted {
				c.send(wire.Exited, 0, p.exit.Append(nil))
				told = told || c.fd >= 0
			}
		}
		if !told {
			// An agent that has been told has a database of its own.
			p.s.syncExit()
		}
		p.dropMounts()
	}
	p.s.trimExecs()
}

// keepMounts lets p's mount namespace outlive it. The kernel would unmount everything before anybody
// hears of the end: that waits for RCU grace periods, and for the disk, since an overlay syncs the whole
// file system under it. It is in vain if p has ended already.
func (p *process) keepMounts() {
	path := append(appendInt([]byte("/proc/"), int64(p.pid)), "/ns/mnt"...)
	if fd, err := syscall.Open(string(path), syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err == nil {
		p.mounts = fd
	}
}

// dropMounts unmounts what keepMounts has kept.
func (p *process) dropMounts() {
	if p.mounts >= 0 {
		syscall.Close(p.mounts)
		p.mounts = -1
	}
}

// trimExecs forgets the oldest ended execs.
func (s *shim) trimExecs() {
	ended := 0
	for _, p := range s.execs {
		if p.ended && p.finished {
			ended++
		}
	}
	for i := 0; i < len(s.execs) && ended > keptExecs; i++ {
		if p := s.execs[i]; p.ended && p.finished {
			s.execs = append(s.execs[:i], s.execs[i+1:]...)
			ended--
			i--
		}
	}
}

// attach adds a client. It gets the output from now on.
func (p *process) attach(c *conn, streams uint8) {
	c.proc, c.streams = p, streams
	p.clients = append(p.clients, c)
	if p.finished {
		c.send(wire.OutputEnd, 0, nil)
	}
}

// kill ends an exec and what it has started, unless that has left its process group.
func (p *process) kill() {
	if !p.ended { // not reaped yet: the pid is still its own
		syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}

func (p *process) detach(c *conn) {
	if p.bound && c.owner {
		p.kill()
	}
	for i, o := range p.clients {
		if o == c {
			p.clients = append(p.clients[:i], p.clients[i+1:]...)
			break
		}
	}
	for i, o := range p.blocked {
		if o == c {
			p.blocked = append(p.blocked[:i], p.blocked[i+1:]...)
			break
		}
	}
	if p.stdinOnce && c.streams&wire.StreamStdin != 0 && len(c.input) == 0 {
		p.closeStdin()
	}
	p.resume()
}

// feed writes a client's input to stdin.
func (p *process) feed(c *conn, data []byte) {
	for len(data) > 0 && p.stdin >= 0 && len(p.blocked) == 0 {
		n, err := write(p.stdin, data)
		if err == syscall.EAGAIN {
			break
		}
		if err != nil {
			p.closeStdin()
			return
		}
		data = data[n:]
	}
	if len(data) == 0 || p.stdin < 0 {
		return
	}
	c.input = append([]byte(nil), data...)
	p.blocked = append(p.blocked, c)
	c.interest()
	p.s.watch(p.stdin, syscall.EPOLLOUT, stdinReady{p})
}

// stdinReady continues with input that had to wait.
type stdinReady struct{ p *process }

func (r stdinReady) ready(events uint32) {
	p := r.p
	for len(p.blocked) > 0 {
		c := p.blocked[0]
		n, err := write(p.stdin, c.input)
		if err == syscall.EAGAIN {
			return
		}
		if err != nil {
			p.closeStdin()
			return
		}
		if c.input = c.input[n:]; len(c.input) == 0 {
			p.blocked = p.blocked[1:]
			p.unblock(c)
		}
		if p.stdin < 0 {
			return
		}
	}
	if events&(syscall.EPOLLERR|syscall.EPOLLHUP) != 0 {
		p.closeStdin()
		return
	}
	syscall.EpollCtl(p.s.epoll, syscall.EPOLL_CTL_DEL, p.stdin, nil)
	p.s.handlers[p.stdin] = nil
}

// unblock reads on from a client whose input has been taken.
func (p *process) unblock(c *conn) {
	c.input = nil
	if c.fd >= 0 {
		c.interest()
		c.ready(syscall.EPOLLIN)
	}
}

// inputEnd is a client's end of file. It closes stdin if that is what the client's
// end means; an attached terminal is never closed so.
func (p *process) inputEnd(c *conn) {
	if p.stdinOnce && !p.tty {
		p.closeStdin()
	}
	c.streams &^= wire.StreamStdin
}

func (p *process) closeStdin() {
	if p.stdin < 0 {
		return
	}
	p.s.drop(p.stdin)
	p.stdin = -1
	blocked := p.blocked
	p.blocked = nil
	for _, c := range blocked {
		p.unblock(c)
	}
}

func (p *process) resize(width, height uint16) syscall.Errno {
	if p == nil {
		return syscall.ENOENT
	}
	if !p.tty || p.out == nil || p.out.fd < 0 {
		return syscall.ENOTTY
	}
	size := [4]uint16{height, width}
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(p.out.fd), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	return errno
}
