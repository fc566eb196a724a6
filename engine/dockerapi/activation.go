package dockerapi

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"

	"novaagent/engine/errdefs"
)

// firstInherited is the first descriptor that systemd passes (sd_listen_fds(3)).
const firstInherited = 3

// inherited are the sockets that systemd opened for this process: all of them, or the one whose
// descriptor's number is which.
func inherited(which string) ([]net.Listener, error) {
	// What is no number is nobody's process ID.
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid != os.Getpid() || err != nil || count < 1 {
		return nil, fmt.Errorf("systemd passed no sockets to this process: start it by a .socket unit: %w", errdefs.ErrInvalid)
	}
	first, last := firstInherited, firstInherited+count-1
	if which != "" && which != "*" {
		n, err := strconv.Atoi(which)
		if err != nil || n < first || n > last {
			return nil, fmt.Errorf("systemd passed the descriptors %d to %d, not %q: %w", first, last, which, errdefs.ErrInvalid)
		}
		first, last = n, n
	}
	var list []net.Listener
	for fd := first; fd <= last; fd++ {
		syscall.CloseOnExec(fd)
		f := os.NewFile(uintptr(fd), "systemd's socket "+strconv.Itoa(fd))
		l, err := net.FileListener(f)
		f.Close() // l has a copy
		if err != nil {
			return nil, fmt.Errorf("descriptor %d of systemd is no socket that listens: %v: %w", fd, err, errdefs.ErrInvalid)
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // it is systemd's
		}
		list = append(list, l)
	}
	return list, nil
}
