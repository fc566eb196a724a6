package kernel

import "golang.org/x/sys/unix"

// HungUp says, without waiting, whether the other end of a socket is gone for good, and
// not only its sending half.
func HungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}
