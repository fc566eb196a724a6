package kernel

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
)

// OpenProcess returns a pidfd. It is errdefs.ErrNotFound if there is no such process.
func OpenProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return nil, fmt.Errorf("process %d: %w", pid, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// SignalProcess sends sig to a process by its pidfd. It is errdefs.ErrNotFound if that has ended.
func SignalProcess(pidfd *os.File, sig syscall.Signal) error {
	switch err := unix.PidfdSendSignal(int(pidfd.Fd()), sig, nil, 0); err {
	case nil:
		return nil
	case unix.ESRCH:
		return fmt.Errorf("signal process: %w", errdefs.ErrNotFound)
	case unix.EINVAL:
		return fmt.Errorf("signal %d: %w", sig, errdefs.ErrInvalid)
	default:
		return fmt.Errorf("signal process: %w", err)
	}
}

// KillGroup sends SIGKILL to the process group that the process of pidfd leads, before Linux 6.9 to that
// process alone. It is errdefs.ErrNotFound if that has ended.
func KillGroup(pidfd *os.File) error {
	err := unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
	if err == nil {
		return nil
	}
	return SignalProcess(pidfd, syscall.SIGKILL)
}

// ProcessAlive tells whether the process of a pidfd has not ended yet.
func ProcessAlive(pidfd *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err != nil || n == 0
	}
}

// WaitProcess returns when the process of a pidfd has ended, or after timeout in milliseconds (-1:
// never): false then.
func WaitProcess(pidfd *os.File, timeoutMillis int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, timeoutMillis)
		if err == unix.EINTR {
			continue
		}
		return err == nil && n > 0
	}
}

// pidfdInfo is struct pidfd_info of linux/pidfd.h, as of Linux 6.15.
type pidfdInfo struct {
	mask, cgroupID                                                    uint64
	pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid uint32
	exitCode                                                          int32
	coredumpMask, coredumpSignal                                      uint32
}

const pidfdInfoExit = 1 << 3 // PIDFD_INFO_EXIT

// ExitStatus asks the kernel for the wait status of a process that somebody else
// has reaped (PIDFD_GET_INFO, Linux 6.15 and newer). It is errdefs.ErrNotFound if it has not ended or been reaped,
// errdefs.ErrUnsupported if this kernel cannot tell.
func ExitStatus(pidfd *os.File) (syscall.WaitStatus, error) {
	info := pidfdInfo{mask: pidfdInfoExit}
	// _IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)
	request := uintptr(3<<30 | unsafe.Sizeof(info)<<16 | 0xff<<8 | 11)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, pidfd.Fd(), request, uintptr(unsafe.Pointer(&info)))
	switch {
	case errno == unix.ESRCH:
		return 0, fmt.Errorf("exit status: %w", errdefs.ErrNotFound)
	case errno != 0:
		return 0, fmt.Errorf("exit status: %v: %w", errno, errdefs.ErrUnsupported)
	case info.mask&pidfdInfoExit == 0:
		return 0, fmt.Errorf("exit status: %w", errdefs.ErrNotFound)
	}
	return syscall.WaitStatus(info.exitCode), nil
}
