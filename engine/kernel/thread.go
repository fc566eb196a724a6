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
	go onDoomedThread(done, func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("unshare mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("set propagation of /: %w", err)
		}
		return f()
	})
	return <-done
}

// onDoomedThread runs f on a thread that ends with it, and that is not the process's first:
// that one cannot end, and /proc/self shows its namespaces for those of the process.
func onDoomedThread(done chan<- error, f func() error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// Keep this goroutine on the first thread while another one is found a thread.
		other := make(chan error)
		go onDoomedThread(other, f)
		err := <-other
		runtime.UnlockOSThread()
		done <- err
		return
	}
	// Never unlocked: the thread must not serve another goroutine.
	done <- f()
}

// Room is a thread in a mount namespace of its own that holds an empty read-only
// tmpfs as root, proc and sysfs. What is forked by Do starts there.
type Room struct {
	calls chan func()
	done  chan struct{}
}

// NewRoom makes a room. Close ends it; processes started in it keep its mounts.
func NewRoom() (*Room, error) {
	r := &Room{calls: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(r.done)
		// inMountNamespace runs this on a thread that ends with it.
		err := inMountNamespace(func() error {
			if err := furnish(); err != nil {
				return err
			}
			ready <- nil
			for f := range r.calls {
				f()
			}
			return nil
		})
		if err != nil {
			ready <- err
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("room: %w", err)
	}
	return r, nil
}

// Do runs f on the room's thread and waits for it.
func (r *Room) Do(f func()) {
	done := make(chan struct{})
	r.calls <- func() {
		defer close(done)
		f()
	}
	<-done
}

// Close ends the thread and waits for it. Do must not be called any more.
func (r *Room) Close() {
	close(r.calls)
	<-r.done
}

// furnish replaces everything in the mount namespace. Both file systems have to be there, and whole: a
// user namespace may mount a new one only if it sees one already
// (mount_too_revealing in fs/namespace.c).
func furnish() error {
	root, err := MountFS("tmpfs", []MountOption{{Key: "size", Value: "64k"}, {Key: "mode", Value: "755"}}, AttrNoSuid|AttrNoDev|AttrNoExec)
	if err != nil {
		return err
	}
	defer root.Close()
	fd := int(root.Fd())
	if err := attachOverRoot(fd); err != nil {
		return err
	}
	for name, fstype := range map[string]string{"proc": "proc", "sys": "sysfs"} {
		m, err := MountFS(fstype, nil, AttrNoSuid|AttrNoDev|AttrNoExec)
		if err != nil {
			return err
		}
		err = unix.Mkdirat(fd, name, 0o555)
		if err == nil {
			err = unix.MoveMount(int(m.Fd()), "", fd, name, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		m.Close()
		if err != nil {
			return fmt.Errorf("attach %s: %w", fstype, err)
		}
	}
	return pivotTo(fd)
}

// attachOverRoot puts the detached mount fd over the root of the thread's mount namespace.
func attachOverRoot(fd int) error {
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach root: %w", err)
	}
	return nil
}

// pivotTo makes what attachOverRoot attached the root of the thread's mount namespace, and its only mount.
func pivotTo(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}
