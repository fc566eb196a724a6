package kernel

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// inMountNamespace runs f on a thread in a mount namespace of its own, a slave copy of
// the current one. The thread and the namespace end with it.
func inMountNamespace(f func() error) error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread must not serve another goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare mount namespace: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
				return fmt.Errorf("set propagation of /: %w", err)
			}
			return f()
		}()
	}()
	return <-done
}
