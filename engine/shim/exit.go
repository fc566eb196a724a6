package main

import (
	"syscall"

	"novaagent/engine/shim/wire"
)

// recordExit leaves the exit where an agent that is not there now will find it:
// "status <wait status> at <nanoseconds>\n".
func (s *shim) recordExit(e wire.Exit) {
	b := append(make([]byte, 0, 64), "status "...)
	b = appendInt(b, int64(e.Status))
	b = append(b, " at "...)
	b = appendInt(b, e.At)
	b = append(b, '\n')
	fd, err := syscall.Openat(s.stateDir, "exit.new", syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return
	}
	n, err := write(fd, b)
	syscall.Close(fd)
	if err == nil && n == len(b) {
		syscall.Renameat(s.stateDir, "exit.new", s.stateDir, "exit")
	}
}

// syncExit brings the record to stable storage.
func (s *shim) syncExit() {
	fd, err := syscall.Openat(s.stateDir, "exit", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err == nil {
		syscall.Fsync(fd)
		syscall.Close(fd)
	}
	syscall.Fsync(s.stateDir)
}
