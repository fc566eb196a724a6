package main

import (
	"syscall"
	"unsafe"
)

// What the standard syscall package has no name for. The numbers are the same on every
// 64-bit architecture.
const (
	sysPidfdOpen      = 434
	prSetDumpable     = 4
	prSetSubreaper    = 36
	keyctlJoinSession = 1
	epollRdHup        = 0x2000
	msgNoSignal       = 0x4000
	msgCmsgCloexec    = 0x40000000
	clockRealtime     = 0
	clockMonotonic    = 1
)

func pidfdOpen(pid int) (int, error) {
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func clock(id uintptr) int64 {
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func prctl(option, arg uintptr) { syscall.RawSyscall6(syscall.SYS_PRCTL, option, arg, 0, 0, 0, 0) }

// recv reads into b with recvmsg, and appends descriptors that came along to fds.
func recv(fd int, b []byte, fds []int) (int, []int, error) {
	var control [16 + 4*256]byte
	iov := syscall.Iovec{Base: &b[0]}
	iov.SetLen(len(b))
	msg := syscall.Msghdr{Iov: &iov, Iovlen: 1, Control: &control[0]}
	msg.SetControllen(len(control))
	for {
		n, _, errno := syscall.Syscall(syscall.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), msgCmsgCloexec)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return 0, fds, errno
		}
		if msg.Controllen > 0 {
			if messages, err := syscall.ParseSocketControlMessage(control[:msg.Controllen]); err == nil {
				for i := range messages {
					if rights, err := syscall.ParseUnixRights(&messages[i]); err == nil {
						fds = append(fds, rights...)
					}
				}
			}
		}
		return int(n), fds, nil
	}
}

func read(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func write(fd int, b []byte) (int, error) {
	for {
		n, err := syscall.Write(fd, b)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		syscall.Close(fd)
	}
}

func appendInt(b []byte, v int64) []byte {
	if v < 0 {
		b = append(b, '-')
		v = -v
	}
	var d [20]byte
	i := len(d)
	for {
		i--
		d[i] = byte('0' + v%10)
		v /= 10
		if v == 0 {
			return append(b, d[i:]...)
		}
	}
}
