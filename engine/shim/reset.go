package main

import "syscall"

// reset makes the shim idle again: nothing is left of its container, whose agent asks for it over c.
// To start a Go program costs more than all else in a container's life, so that one shim serves
// several containers, one after the other. It is EBUSY if a process is left.
func (s *shim) reset(c *conn) syscall.Errno {
	if s.init == nil || !s.init.ended || len(s.starting) > 0 {
		return syscall.EBUSY
	}
	for _, p := range s.execs {
		if !p.ended {
			return syscall.EBUSY
		}
	}
	if !noChildren() {
		return syscall.EBUSY
	}
	for _, other := range append([]*conn(nil), s.conns...) {
		if other != c {
			other.close()
		}
	}
	s.init.close()
	for _, p := range s.execs {
		p.close()
	}
	s.drop(s.listener)
	syscall.Close(s.stateDir)
	s.listener, s.stateDir = -1, -1
	s.init, s.execs = nil, nil
	writeProc("/proc/self/comm", idleName)
	return 0
}

// noChildren reaps what has ended, and tells whether nothing else is left.
func noChildren() bool {
	for {
		switch pid, err := syscall.Wait4(-1, nil, syscall.WALL|syscall.WNOHANG, nil); {
		case err == syscall.ECHILD:
			return true
		case err == syscall.EINTR, pid > 0:
		default:
			return false
		}
	}
}

// close closes what an ended process has left open.
func (p *process) close() {
	for _, st := range []*stream{p.out, p.err} {
		if st != nil && st.fd >= 0 {
			p.s.drop(st.fd)
			st.fd = -1
		}
	}
	if l := p.log; l != nil {
		if l.fd >= 0 {
			syscall.Close(l.fd)
		}
		syscall.Close(l.dir)
	}
}
