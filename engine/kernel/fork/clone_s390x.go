package fork

import "syscall"

// clone forks with flags. s390x takes the stack before the flags (clone(2), "C
// library/kernel differences").
//
//go:nosplit
//go:norace
func clone(flags uintptr) (pid, errno uintptr) {
	return vfork(syscall.SYS_CLONE, 0, flags, 0, 0, 0)
}

//go:nosplit
//go:norace
func clonePark(flags uintptr) (pid, errno uintptr) {
	return park(syscall.SYS_CLONE, 0, flags, 0, 0, 0)
}
