//go:build !s390x

package fork

import "syscall"

// clone forks with flags.
//
//go:nosplit
//go:norace
func clone(flags uintptr) (pid, errno uintptr) {
	return vfork(syscall.SYS_CLONE, flags, 0, 0, 0, 0)
}

//go:nosplit
//go:norace
func clonePark(flags uintptr) (pid, errno uintptr) {
	return park(syscall.SYS_CLONE, flags, 0, 0, 0, 0)
}
