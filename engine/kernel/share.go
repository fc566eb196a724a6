package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel/fork"
)

// CreateNetworkIn makes a network namespace that the user namespace user owns and pins it as dir/net, as
// CreateNamespaces does for a new user namespace. One that is pinned already stays.
func CreateNetworkIn(dir string, user *os.File) error {
	if pinned(dir + "/net") {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("namespaces: %w", err)
	}
	net, err := networkIn(user)
	if err == nil {
		defer net.Close()
		err = pin(net, dir+"/net")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("namespaces %s: %w", dir, err), RemoveNamespaces(dir))
	}
	return nil
}

// networkIn makes the namespace in a forked process, since a process with threads can't join a user
// namespace. The process sends the namespace and ends with a program that can't be executed.
func networkIn(user *os.File) (*os.File, error) {
	ours, theirs, err := SocketPair()
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	b := NewBuilder()
	b.Setns(b.FD(int(user.Fd())), NewUser, "user namespace")
	b.BecomeRootOf()
	b.Unshare(NewNet)
	// Not by Open, which follows no such link.
	ns := b.add("open", "/proc/self/ns/net", unix.SYS_OPENAT, num(uint64(Cwd().V)), b.str("/proc/self/ns/net"), num(unix.O_RDONLY|unix.O_CLOEXEC), num(0)).out()
	b.sendFD(ns, b.FD(int(theirs.Fd())))
	last := b.Exec("/", b.Vector(nil), b.Vector(nil))
	program, fds := b.Program()
	l, err := fork.Load(program, fds)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer l.Free()
	r := l.Run()
	if r.Failed != last.Index() {
		return nil, fmt.Errorf("network namespace: %s: %w", b.Explain(r.Failed), r.Errno)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	var data [1]byte
	_, n, _, _, err := unix.Recvmsg(int(ours.Fd()), data[:], oob, unix.MSG_CMSG_CLOEXEC|unix.MSG_DONTWAIT)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("network namespace: %d messages: %w", len(messages), errdefs.ErrUnavailable)
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(got) != 1 {
		return nil, fmt.Errorf("network namespace: %d descriptors: %w", len(got), errdefs.ErrUnavailable)
	}
	return os.NewFile(uintptr(got[0]), "netns"), nil
}

// CloneMountOf clones the mount at path in the mount namespace mnt, detached. The path is that namespace's: its
// processes decide what is there.
func CloneMountOf(mnt *os.File, path string) (f *os.File, err error) {
	done := make(chan error)
	go onDoomedThread(done, func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare directories: %w", err)
		}
		if err := unix.Setns(int(mnt.Fd()), unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("join mount namespace: %w", err)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_SYMLINK_NOFOLLOW)
		if err != nil {
			return &os.PathError{Op: "clone mount", Path: path, Err: err}
		}
		f = os.NewFile(uintptr(fd), path)
		return nil
	})
	return f, <-done
}
