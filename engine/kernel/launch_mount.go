package kernel

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MountOption is a parameter of a file system: "key=value", or a flag if Value is
// empty.
type MountOption struct{ Key, Value string }

// NewMount mounts a file system of the given type, detached: several steps. The last of
// them can be told to tolerate errors.
func (b *Builder) NewMount(fstype string, options []MountOption, attrs uint64) Ref {
	s := b.add("open file system", fstype, unix.SYS_FSOPEN, b.str(fstype), num(unix.FSOPEN_CLOEXEC))
	fs := s.out()
	for _, o := range options {
		if o.Value == "" {
			b.add("set option of "+fstype, o.Key, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_FLAG), b.str(o.Key), num(0), num(0))
		} else {
			b.add("set option of "+fstype, o.Key, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_SET_STRING), b.str(o.Key), b.str(o.Value), num(0))
		}
	}
	b.add("create file system", fstype, unix.SYS_FSCONFIG, fs, num(unix.FSCONFIG_CMD_CREATE), num(0), num(0), num(0))
	m := b.add("mount", fstype, unix.SYS_FSMOUNT, fs, num(unix.FSMOUNT_CLOEXEC), num(attrs))
	return m.out()
}

// CloneTree makes a detached copy of the mount at ref, with what is mounted below if recursive.
func (b *Builder) CloneTree(ref Ref, recursive bool, what string) Ref {
	flags := uintptr(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return b.add("clone mount", what, unix.SYS_OPEN_TREE, ref, b.str(""), num(flags)).out()
}

// AttachTo attaches a detached mount at the file or directory open as target.
func (b *Builder) AttachTo(mount, target Ref, what string) Step {
	return b.add("mount on", what, unix.SYS_MOVE_MOUNT, mount, b.str(""), target, b.str(""),
		num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// AttachAtRoot attaches a detached mount over the process's root directory.
func (b *Builder) AttachAtRoot(mount Ref) {
	b.add("mount", "root file system", unix.SYS_MOVE_MOUNT, mount, b.str(""), Cwd(), b.str("/"), num(unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// SetMountAttr changes attributes of the mount at ref.
func (b *Builder) SetMountAttr(ref Ref, set, clear, propagation uint64, recursive bool, what string) Step {
	v := make([]byte, unsafe.Sizeof(unix.MountAttr{}))
	binary.NativeEndian.PutUint64(v, set)
	binary.NativeEndian.PutUint64(v[8:], clear)
	binary.NativeEndian.PutUint64(v[16:], propagation)
	flags := uintptr(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return b.add("set attributes of mount", what, unix.SYS_MOUNT_SETATTR, ref, b.str(""), num(flags), b.bytes(v), num(len(v)))
}

// SetPropagation changes the propagation of all mounts of the namespace: what is
// mounted in it from now on is not seen outside.
func (b *Builder) SetPropagation(flags uintptr) {
	b.add("set propagation of", "/", unix.SYS_MOUNT, num(0), b.str("/"), num(0), num(flags|unix.MS_REC), num(0))
}

// PivotRoot makes root, where a mount is attached, the root of the mount
// namespace, and detaches the old one: four steps.
func (b *Builder) PivotRoot(root Ref) {
	b.Fchdir(root, "root file system")
	// With "." for both the old root ends up on top of the new one (pivot_root(2), NOTES).
	b.add("pivot to", "root file system", unix.SYS_PIVOT_ROOT, b.str("."), b.str("."))
	b.add("unmount", "old root", unix.SYS_UMOUNT2, b.str("."), num(unix.MNT_DETACH))
	b.add("change directory to", "/", unix.SYS_CHDIR, b.str("/"))
}

// Terminal allocates a pseudo terminal from the multiplexer ptmx and sends its
// master to socket as SCM_RIGHTS with one byte. It returns the slave.
func (b *Builder) Terminal(ptmx, socket Ref, uid, gid uint32, width, height uint16) Ref {
	zero := b.bytes(make([]byte, 8))
	b.add("unlock", "terminal", unix.SYS_IOCTL, ptmx, num(unix.TIOCSPTLCK), zero)
	slave := b.add("open", "terminal", unix.SYS_IOCTL, ptmx, num(unix.TIOCGPTPEER), num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)).out()
	if width != 0 || height != 0 {
		v := make([]byte, 8)
		binary.NativeEndian.PutUint16(v, height)
		binary.NativeEndian.PutUint16(v[2:], width)
		b.add("set size of", "terminal", unix.SYS_IOCTL, slave, num(unix.TIOCSWINSZ), b.bytes(v))
	}
	b.add("change owner of", "terminal", unix.SYS_FCHOWN, slave, num(uid), num(gid))
	b.sendFD(ptmx, socket)
	return slave
}

// sendFD sends the descriptor in the cell fd to socket: a copy of the cell's value into the control message needs
// no step, since fd's own cell is moved there.
func (b *Builder) sendFD(fd, socket Ref) {
	// struct msghdr, its iovec and its control message, one after the other.
	control := unix.CmsgSpace(4)
	data := b.alloc(8, 8)
	iov := b.alloc(16, 8)
	cmsg := b.alloc(control, 8)
	hdr := b.alloc(int(unsafe.Sizeof(unix.Msghdr{})), 8)

	ne := binary.NativeEndian
	ne.PutUint64(b.p.Data[iov+8:], 1)
	b.reloc(iov, data)
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b.p.Data[cmsg]))
	h.Level, h.Type = unix.SOL_SOCKET, unix.SCM_RIGHTS
	h.SetLen(unix.CmsgLen(4))
	var m unix.Msghdr
	b.reloc(hdr+uint64(unsafe.Offsetof(m.Iov)), iov)
	b.reloc(hdr+uint64(unsafe.Offsetof(m.Control)), cmsg)
	ne.PutUint64(b.p.Data[hdr+uint64(unsafe.Offsetof(m.Iovlen)):], 1)
	ne.PutUint64(b.p.Data[hdr+uint64(unsafe.Offsetof(m.Controllen)):], uint64(control))

	// fcntl(F_DUPFD_CLOEXEC) puts a descriptor's number where the message wants it.
	dup := b.add("duplicate", "terminal", unix.SYS_FCNTL, fd, num(unix.F_DUPFD_CLOEXEC), num(3))
	b.p.Steps[dup.i].Out = int32(cmsg + uint64(unix.CmsgLen(0)))
	b.add("hand over", "terminal", unix.SYS_SENDMSG, socket, addr(hdr), num(unix.MSG_NOSIGNAL))
}

// ControllingTerminal makes slave the session's terminal.
func (b *Builder) ControllingTerminal(slave Ref) {
	b.add("set", "controlling terminal", unix.SYS_IOCTL, slave, num(unix.TIOCSCTTY), num(0))
}
