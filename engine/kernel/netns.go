package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
)

// NetNS is an open network namespace.
type NetNS struct{ f *os.File }

// OpenNetNS opens a network namespace by the path of its file: a pin made by
// NewNetNS, or /proc/PID/ns/net. ErrNotFound if there is none; a file that is no
// namespace (a pin whose mount a reboot has taken) counts as none.
func OpenNetNS(path string) (*NetNS, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w: %w", err, nsKind(err))
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("network namespace: %s is not one: %w", path, errdefs.ErrNotFound)
	}
	return &NetNS{f: f}, nil
}

func nsKind(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.ErrNotFound
	}
	return errdefs.ErrUnavailable
}

// FD is the namespace's descriptor, valid until Close.
func (n *NetNS) FD() int { return int(n.f.Fd()) }

// Close gives the descriptor back. The namespace stays as long as others hold it.
func (n *NetNS) Close() error { return n.f.Close() }

// Do runs fn on a thread inside the namespace and returns its error. Sockets made
// by fn belong to the namespace for good; /proc/sys/net is the namespace's.
// fn must not start goroutines that count on either.
func (n *NetNS) Do(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(n.FD(), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the network namespace %s: %w: %w", n.f.Name(), err, errdefs.ErrUnavailable)
		}
		return fn()
	})
}

// onThread runs fn on a thread of its own kind: locked, and returned to the
// process's network namespace afterwards. A thread that cannot be returned ends.
func onThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("this thread's network namespace: %w: %w", err, errdefs.ErrUnavailable)
			return
		}
		defer home.Close()
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		} // else the goroutine ends locked, and its thread with it
		done <- err
	}()
	return <-done
}

// NewNetNS makes a network namespace and pins it with a bind mount over the file path,
// which it creates. The namespace belongs to the process's user namespace.
// created is false if path is a pinned network namespace already. A file that a crash or a
// reboot left without its mount is used again.
func NewNetNS(path string) (created bool, err error) {
	if n, err := OpenNetNS(path); err == nil {
		return false, n.Close()
	}
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("network namespace: %w: %w", err, nsKind(err))
	}
	f.Close()
	err = onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("network namespace %s: create: %w: %w", path, err, errdefs.ErrUnavailable)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("network namespace %s: pin: %w: %w", path, err, errdefs.ErrUnavailable)
		}
		return nil
	})
	if err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}

// RemoveNetNS unpins the namespace of path. It goes when nobody else holds it, with
// its devices, a while later. Nil means that there is no such pin.
func RemoveNetNS(path string) error {
	for {
		// EINVAL: not a mount point (any more).
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		}
		if err != nil {
			return fmt.Errorf("network namespace %s: unpin: %w: %w", path, err, errdefs.ErrUnavailable)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("network namespace: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// A Sysctl is a kernel parameter below /proc/sys, with slashes: a device's name may
// contain dots.
type Sysctl struct {
	Path  string // such as "net/ipv6/conf/default/accept_ra"
	Value string
	// Optional lets SetSysctls pass over a parameter that this kernel does not have.
	Optional bool
}

// SetSysctls writes parameters in order. Those of net/ are the calling thread's
// network namespace's.
func SetSysctls(list ...Sysctl) error {
	for _, s := range list {
		f, err := os.OpenFile("/proc/sys/"+s.Path, os.O_WRONLY, 0)
		if err != nil {
			if s.Optional && errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return fmt.Errorf("kernel parameter: %w: %w", err, nsKind(err))
		}
		_, err = f.WriteString(s.Value)
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("kernel parameter %s=%s: %w: %w", s.Path, s.Value, err, errdefs.ErrInvalid)
		}
	}
	return nil
}
