package main

import (
	"syscall"
	"unsafe"
)

// wait(2) options and the like that the standard library has no name for.
const (
	pAll         = 0 // P_ALL
	pPID         = 1 // P_PID
	siginfoSize  = 128
	siginfoPID   = 16
	retryReapFor = 1e6 // nanoseconds
)

// waitForChildren tells the main loop of each child that has ended. It runs on a
// goroutine of its own as long as the shim does.
//
// A pidfd would tell of a process's end, but not of all there is to reap: a thread
// of the container's first process that has called ptrace(PTRACE_TRACEME) has
// this shim as its tracer, and its PID namespace cannot end before the
// tracer has waited for the thread. SIGCHLD, which tells of that, is the
// Go runtime's.
func (s *shim) waitForChildren() {
	answer := make(chan bool)
	for {
		var info [siginfoSize]byte
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)),
			syscall.WEXITED|syscall.WNOWAIT|syscall.WALL, 0, 0)
		switch errno {
		case 0:
		case syscall.EINTR:
			continue
		default: // ECHILD
			<-s.forked
			continue
		}
		pid := int(*(*int32)(unsafe.Pointer(&info[siginfoPID])))
		s.later(func() { answer <- s.reap(pid) })
		if !<-answer {
			ts := syscall.NsecToTimespec(retryReapFor)
			syscall.Nanosleep(&ts, nil)
		}
	}
}

// reap waits for a child, process or thread, that has ended, or has stopped as a tracee. It returns false if the child may
// be one that is just being forked: who forks reaps what fails, and tells the pid of what does not.
func (s *shim) reap(pid int) bool {
	p := s.byPID(pid)
	if p == nil && len(s.starting) > 0 {
		return false
	}
	var ws syscall.WaitStatus
	got, err := syscall.Wait4(pid, &ws, syscall.WALL|syscall.WNOHANG, nil)
	if err == nil && got == pid && (ws.Exited() || ws.Signaled()) && p != nil {
		p.hasEnded(ws)
	}
	return true
}

func (s *shim) byPID(pid int) *process {
	if s.init != nil && s.init.pid == pid && !s.init.ended {
		return s.init
	}
	for _, p := range s.execs {
		if p.pid == pid && !p.ended {
			return p
		}
	}
	return nil
}

// hasForked wakes waitForChildren if it has found nobody to wait for.
func (s *shim) hasForked() {
	select {
	case s.forked <- struct{}{}:
	default:
	}
}
