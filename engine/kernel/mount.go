package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Mount attributes, as mount_setattr(2) has them.
const (
	AttrReadOnly     = unix.MOUNT_ATTR_RDONLY
	AttrNoSuid       = unix.MOUNT_ATTR_NOSUID
	AttrNoDev        = unix.MOUNT_ATTR_NODEV
	AttrNoExec       = unix.MOUNT_ATTR_NOEXEC
	AttrNoAtime      = unix.MOUNT_ATTR_NOATIME
	AttrStrictAtime  = unix.MOUNT_ATTR_STRICTATIME
	AttrAtimeMask    = unix.MOUNT_ATTR__ATIME
	AttrNoDirAtime   = unix.MOUNT_ATTR_NODIRATIME
	AttrNoSymFollow  = unix.MOUNT_ATTR_NOSYMFOLLOW
	PropagatePrivate = unix.MS_PRIVATE
	PropagateSlave   = unix.MS_SLAVE
	PropagateShared  = unix.MS_SHARED
	Unbindable       = unix.MS_UNBINDABLE
)

// BindOptions say how Bind clones a mount.
type BindOptions struct {
	// Recursive clones what is mounted below, too.
	Recursive bool
	// Set and Clear are attributes of the top mount.
	Set, Clear uint64
	// SetAll are attributes of all mounts of the clone.
	SetAll uint64
	// Propagation is one of the constants, or 0 to leave it.
	Propagation uint64
	// IDMap is an open user namespace whose map the clone gets, or -1.
	IDMap int
	// IDMapAll maps what is mounted below, too.
	IDMapAll bool
}

// Bind returns a detached clone of the mount at path, relative to dir. An empty path means dir itself.
func Bind(dir int, path string, o BindOptions) (*os.File, error) {
	flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if o.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	fd, err := unix.OpenTree(dir, path, flags)
	if err != nil {
		return nil, fmt.Errorf("clone mount %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	set := func(attr unix.MountAttr, recursive bool) error {
		flags := uint(unix.AT_EMPTY_PATH)
		if recursive {
			flags |= unix.AT_RECURSIVE
		}
		if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
			return fmt.Errorf("set attributes of mount %s: %w", path, err)
		}
		return nil
	}
	top := unix.MountAttr{Attr_set: o.Set, Attr_clr: o.Clear}
	all := unix.MountAttr{Attr_set: o.SetAll, Propagation: o.Propagation}
	if !o.Recursive { // there is but one mount: one call will do
		top.Attr_set |= all.Attr_set
		top.Propagation, all = all.Propagation, unix.MountAttr{}
	}
	if o.IDMap >= 0 {
		a := &top
		if o.IDMapAll && o.Recursive {
			a = &all
		}
		a.Attr_set |= unix.MOUNT_ATTR_IDMAP
		a.Userns_fd = uint64(o.IDMap)
	}
	if top != (unix.MountAttr{}) {
		err = set(top, false)
	}
	if err == nil && all != (unix.MountAttr{}) {
		err = set(all, true)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// MapIDs makes a detached mount that nobody has mapped yet show its files' owners as user, a user namespace, has
// them.
func MapIDs(mount, user *os.File) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	if err := unix.MountSetattr(int(mount.Fd()), "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return fmt.Errorf("map the ids of mount %s: %w", mount.Name(), err)
	}
	return nil
}

// MountFS mounts a file system in the agent's own user namespace, detached.
func MountFS(fstype string, options []MountOption, attrs uint64) (*os.File, error) {
	fs, err := unix.Fsopen(fstype, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system %s: %w", fstype, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		if o.Value == "" {
			err = unix.FsconfigSetFlag(fs, o.Key)
		} else {
			err = unix.FsconfigSetString(fs, o.Key, o.Value)
		}
		if err != nil {
			return nil, fmt.Errorf("file system %s: option %s: %w%s", fstype, o.Key, err, mountLog(fs))
		}
	}
	return createMount(fs, fstype, attrs)
}

func createMount(fs int, fstype string, attrs uint64) (*os.File, error) {
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, fmt.Errorf("create file system %s: %w%s", fstype, err, mountLog(fs))
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, int(attrs))
	if err != nil {
		return nil, fmt.Errorf("mount file system %s: %w%s", fstype, err, mountLog(fs))
	}
	return os.NewFile(uintptr(fd), fstype), nil
}

// mountLog reads what the kernel has to say about a file system context.
func mountLog(fs int) string {
	var out strings.Builder
	buf := make([]byte, 512)
	for range 16 {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			break
		}
		out.WriteString(": ")
		out.WriteString(strings.TrimSpace(string(buf[:n])))
	}
	return out.String()
}

// OverlayOptions describe an overlay.
type OverlayOptions struct {
	// Lowers are the read-only layers, top first.
	Lowers []string
	// Upper and Work are the writable layer and its scratch directory; both empty gives a
	// read-only overlay.
	Upper, Work string
	// IDMap is an open user namespace whose map the lower layers get, or -1.
	IDMap int
	// Top, if set, is a read-only layer above Lowers that has the ids of the overlay already.
	Top string
	// Attrs are attributes of the mount.
	Attrs uint64
	// Close, if set, closes a file that is not needed any more. To close a mount that is attached nowhere
	// takes an RCU grace period, 0.2 ms and under load several.
	Close func(*os.File)
}

// overlayTakesFDs tells whether this kernel takes layers by descriptor.
var overlayTakesFDs = sync.OnceValue(func() bool {
	_, err := lookOverlayByFD()
	return err == nil
})

// MountOverlay mounts an overlay, detached.
//
// Layers are given by descriptor where the kernel takes that (6.13 and newer), else by
// their place in /proc/self/fd. Such kernels refuse to stack on detached mounts, which all mapped layers are: those are
// attached in a mount namespace of their own for the moment.
func MountOverlay(o OverlayOptions) (*os.File, error) {
	lowers := make([]*os.File, 0, len(o.Lowers)+1)
	defer func() {
		for _, f := range lowers {
			if o.Close != nil {
				o.Close(f)
			} else {
				f.Close()
			}
		}
	}()
	paths := o.Lowers
	if o.Top != "" {
		paths = append([]string{o.Top}, paths...)
	}
	detached := o.Top != "" || o.IDMap >= 0
	for i, path := range paths {
		var f *os.File
		var err error
		switch {
		case o.Top != "" && i == 0:
			f, err = Bind(unix.AT_FDCWD, path, BindOptions{IDMap: -1})
		case detached:
			f, err = Bind(unix.AT_FDCWD, path, BindOptions{IDMap: o.IDMap})
		default:
			f, err = openPath(path)
		}
		if err != nil {
			return nil, fmt.Errorf("layer %s: %w", path, err)
		}
		lowers = append(lowers, f)
	}
	switch {
	case overlayTakesFDs():
		return mountOverlay(o, lowers, nil)
	case detached:
		return mountOverlayAttached(o, lowers)
	}
	places := make([]string, len(lowers))
	for i, f := range lowers {
		places[i] = fdPath(int(f.Fd()))
	}
	return mountOverlay(o, nil, places)
}

// mountOverlay mounts it of layers that are given by descriptor or by path, the topmost first.
func mountOverlay(o OverlayOptions, lowers []*os.File, paths []string) (*os.File, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open file system overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, f := range lowers {
		if err := unix.FsconfigSetFd(fs, "lowerdir+", int(f.Fd())); err != nil {
			return nil, fmt.Errorf("overlay: add layer: %w%s", err, mountLog(fs))
		}
	}
	if len(paths) > 0 {
		if err := unix.FsconfigSetString(fs, "lowerdir", strings.Join(paths, ":")); err != nil {
			return nil, fmt.Errorf("overlay: set layers: %w%s", err, mountLog(fs))
		}
	}
	if o.Upper != "" {
		for _, kv := range [][2]string{{"upperdir", o.Upper}, {"workdir", o.Work}} {
			if err := unix.FsconfigSetString(fs, kv[0], kv[1]); err != nil {
				return nil, fmt.Errorf("overlay: set %s: %w%s", kv[0], err, mountLog(fs))
			}
		}
	}
	return createMount(fs, "overlay", o.Attrs)
}

// mountOverlayAttached attaches the lower layers on a tmpfs in a mount
// namespace that ends with the thread it was made on.
func mountOverlayAttached(o OverlayOptions, lowers []*os.File) (*os.File, error) {
	var m *os.File
	err := inMountNamespace(func() error {
		tmp, err := MountFS("tmpfs", nil, 0)
		if err != nil {
			return err
		}
		defer tmp.Close()
		if err := unix.MoveMount(int(tmp.Fd()), "", unix.AT_FDCWD, "/proc/self/fdinfo", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach tmpfs: %w", err)
		}
		paths := make([]string, len(lowers))
		for i, f := range lowers {
			name := strconv.Itoa(i)
			if err := unix.Mkdirat(int(tmp.Fd()), name, 0o700); err != nil {
				return fmt.Errorf("make layer's directory: %w", err)
			}
			if err := unix.MoveMount(int(f.Fd()), "", int(tmp.Fd()), name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
				return fmt.Errorf("attach layer: %w", err)
			}
			paths[i] = "/proc/self/fdinfo/" + name
		}
		m, err = mountOverlay(o, nil, paths)
		return err
	})
	return m, err
}

// MountTmpfs mounts a tmpfs with mount(2)'s comma-separated options at dir, privately.
func MountTmpfs(dir, options string) error {
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, options); err != nil {
		return fmt.Errorf("mount tmpfs at %s: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make mount %s private: %w", dir, err), Unmount(dir))
	}
	return nil
}

// Unmount detaches what is mounted on path; nil if nothing is, or path is absent.
func Unmount(path string) error {
	for {
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL, unix.ENOENT:
			return nil
		default:
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
}

func openPath(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// OpenPath opens path as a mere reference (O_PATH).
func OpenPath(path string) (*os.File, error) { return openPath(path) }

func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// AtCwd as a directory descriptor stands for the working directory.
const AtCwd = unix.AT_FDCWD
