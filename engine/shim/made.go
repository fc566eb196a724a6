package main

import (
	"syscall"
	"unsafe"

	"novaagent/engine/kernel/fork"
	"novaagent/engine/shim/wire"
)

// made waits for a command that makes p's process, an OCI runtime's, and returns what became of it. The process
// is the shim's child then, which adopts orphans. Like fork it may run on any goroutine.
func (p *process) made(command, stateDir int) fork.Result {
	var ws syscall.WaitStatus
	for {
		_, err := syscall.Wait4(command, &ws, syscall.WALL, nil)
		if err != syscall.EINTR {
			break
		}
	}
	if ws != 0 {
		note := fork.Note{Step: wire.StepCommand, Errno: syscall.Errno(ws)}
		return fork.Result{Failed: wire.StepCommand, Errno: syscall.ECHILD, Notes: []fork.Note{note}}
	}
	name := "pid"
	if !p.main {
		name = p.id + ".pid"
	}
	pid := readNumber(stateDir, name)
	if pid <= 0 || !isChild(pid) {
		return fork.Result{Failed: wire.StepPID, Errno: syscall.ECHILD}
	}
	return fork.Result{PID: pid, Failed: fork.None}
}

// readNumber reads a file that holds a decimal number, 0 if it does not.
func readNumber(dir int, name string) (n int) {
	fd, err := syscall.Openat(dir, name, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0
	}
	var b [10]byte
	got, _ := read(fd, b[:])
	syscall.Close(fd)
	for i := 0; i < got && b[i] >= '0' && b[i] <= '9'; i++ {
		n = 10*n + int(b[i]-'0')
	}
	return n
}

// isChild tells whether pid is a child of this process, alive or not reaped yet.
func isChild(pid int) bool {
	var info [siginfoSize]byte
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pPID, uintptr(pid), uintptr(unsafe.Pointer(&info)),
		syscall.WEXITED|syscall.WNOWAIT|syscall.WNOHANG|syscall.WALL, 0, 0)
	return errno == 0
}

// receiveMaster receives a terminal's master from a connected socket or, if it listens, from whoever has connected
// to it. It is empty if nobody has sent one.
func receiveMaster(socket int, listens bool) []int {
	if listens {
		conn, _, err := syscall.Accept4(socket, syscall.SOCK_CLOEXEC)
		if err != nil {
			return nil
		}
		defer syscall.Close(conn)
		socket = conn
	}
	var b [256]byte // crun sends the terminal's name along
	_, master, _ := recv(socket, b[:], nil)
	return master
}
