package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// At is a path for name in the open directory dir, for the functions of package os that don't follow a
// link in last place. name is one component, and the path is good while dir is open: nothing
// that somebody renames leads it elsewhere.
func At(dir *os.File, name string) string { return fdPath(int(dir.Fd())) + "/" + name }

// Reopen opens the file that ref refers to; what is renamed meanwhile makes no difference.
func Reopen(ref *os.File, flags int) (*os.File, error) { return Open(fdPath(int(ref.Fd())), flags) }

// OpenBelow opens name in dir like OpenInRoot, but follows no link and enters no other
// mount: syscall.EXDEV.
func OpenBelow(dir *os.File, name string, flags int) (*os.File, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC | unix.O_NOFOLLOW), Resolve: uint64(unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV)}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EAGAIN, unix.EINTR: // as in OpenInRoot
			continue
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// LinkTarget is what the symbolic link says that is open (with OPath) as link.
func LinkTarget(link *os.File) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(int(link.Fd()), "", buf[:])
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: link.Name(), Err: err}
	}
	return string(buf[:n]), nil
}

// SetTime sets the times of the file name in dir, which may be a symbolic link.
func SetTime(dir *os.File, name string, at time.Time) error {
	ts, err := unix.TimeToTimespec(at)
	if err != nil {
		return nil // a time that no file system knows
	}
	err = unix.UtimesNanoAt(int(dir.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return &os.PathError{Op: "set time", Path: name, Err: err}
	}
	return nil
}

const capabilityXattr = "security.capability"

// FileCapabilities is the attribute with the capabilities of the regular file open as f, nil if it has none.
func FileCapabilities(f *os.File) ([]byte, error) {
	var buf [64]byte
	n, err := unix.Fgetxattr(int(f.Fd()), capabilityXattr, buf[:])
	if err == unix.ENODATA || err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "getxattr", Path: f.Name(), Err: err}
	}
	return buf[:n], nil
}

// SetFileCapabilities sets that attribute.
func SetFileCapabilities(f *os.File, value []byte) error {
	if err := unix.Fsetxattr(int(f.Fd()), capabilityXattr, value, 0); err != nil {
		return &os.PathError{Op: "setxattr", Path: f.Name(), Err: err}
	}
	return nil
}

// OverlayOpaque tells whether a directory of an overlay's layer hides what the layers below have in it.
func OverlayOpaque(dir *os.File) bool {
	var buf [1]byte
	n, err := unix.Fgetxattr(int(dir.Fd()), "trusted.overlay.opaque", buf[:])
	return err == nil && n == 1 && buf[0] == 'y'
}

// madeByKernel are the file systems whose files are the kernel's view of itself.
var madeByKernel = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
	unix.DEVPTS_SUPER_MAGIC: true, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.SECURITYFS_MAGIC: true,
	unix.BPF_FS_MAGIC: true, unix.NSFS_MAGIC: true, 0x19800202: true, // mqueue
}

// FileSystem tells whether the file system of ref holds the kernel's view of itself, as proc
// does, rather than files, and whether its mount is read-only.
func FileSystem(ref *os.File) (byKernel, readOnly bool, err error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(ref.Fd()), &st); err != nil {
		return false, false, &os.PathError{Op: "statfs", Path: ref.Name(), Err: err}
	}
	return madeByKernel[int64(st.Type)], st.Flags&unix.ST_RDONLY != 0, nil
}

// Tree is a root directory with what is mounted below it.
type Tree struct {
	Root *os.File
	ns   *os.File // keeps the mounts
}

// TreeMount is a detached mount, and where it belongs.
type TreeMount struct {
	Mount  *os.File
	Target string
}

// NewTree attaches mounts below the detached mount root, in a mount namespace that nobody is
// in and that ends with Close. A target that is absent is made, with owner as its owner.
func NewTree(root *os.File, owner uint32, mounts []TreeMount, readOnly bool) (*Tree, error) {
	t := &Tree{}
	err := inMountNamespace(func() error {
		var err error
		if t.ns, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
			return err
		}
		fd := int(root.Fd())
		if err := attachOverRoot(fd); err != nil {
			return err
		}
		if err := pivotTo(fd); err != nil {
			return err
		}
		if t.Root, err = os.Open("/"); err != nil {
			return err
		}
		if err := becomeOwner(owner); err != nil {
			return err
		}
		for _, m := range mounts {
			if err := attachInRoot(t.Root, m); err != nil {
				return fmt.Errorf("mount on %s: %w", m.Target, err)
			}
		}
		if !readOnly {
			return nil
		}
		if err := unix.MountSetattr(int(t.Root.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: AttrReadOnly}); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close takes the tree apart.
func (t *Tree) Close() error {
	var errs []error
	for _, f := range []*os.File{t.Root, t.ns} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// attachInRoot attaches m, whose target no link leads out of root.
func attachInRoot(root *os.File, m TreeMount) error {
	info, err := m.Mount.Stat()
	if err != nil {
		return err
	}
	name := strings.Trim(m.Target, "/")
	target, err := OpenInRoot(root, name, unix.O_PATH)
	if errors.Is(err, os.ErrNotExist) {
		if err := makeInRoot(root, name, info.IsDir()); err != nil {
			return err
		}
		target, err = OpenInRoot(root, name, unix.O_PATH)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	return unix.MoveMount(int(m.Mount.Fd()), "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// makeInRoot makes the directory or file name with its parents.
func makeInRoot(root *os.File, name string, dir bool) error {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parent, err := OpenInRoot(root, strings.Join(parts[:i], "/"), unix.O_PATH|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		if i < len(parts)-1 || dir {
			err = unix.Mkdirat(int(parent.Fd()), part, 0o755)
		} else {
			err = unix.Mknodat(int(parent.Fd()), part, unix.S_IFREG|0o644, 0)
		}
		parent.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("make %s: %w", name, err)
		}
	}
	return nil
}
