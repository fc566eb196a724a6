package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
)

// Requests and structures of linux/btrfs.h and linux/fs.h, which x/sys doesn't have. They are
// the same on every architecture with 64-bit pointers, but that the direction bits of
// ioctl numbers differ on powerpc: see ioc.
type (
	btrfsVolArgs struct {
		fd   int64
		name [4088]byte
	}
	btrfsQuotaCtl   struct{ cmd, status uint64 }
	btrfsQgroupMake struct{ create, id uint64 }
	btrfsQgroupSet  struct{ id, flags, maxRfer, maxExcl, rsvRfer, rsvExcl uint64 }
	btrfsInoLookup  struct {
		tree, object uint64
		name         [4080]byte
	}
	fsxattr struct {
		xflags, extsize, nextents, project, cowextsize uint32
		_                                              [8]byte
	}
	// dqblk is struct if_dqblk of linux/quota.h.
	dqblk struct {
		bHard, bSoft, space, iHard, iSoft, inodes, bTime, iTime uint64
		valid                                                   uint32
		_                                                       uint32
	}
)

const (
	btrfsMagic       = 0x94
	fsProjInherit    = 0x200 // FS_XFLAG_PROJINHERIT
	btrfsQuotaEnable = 1
	btrfsLimitRfer   = 1 // BTRFS_QGROUP_LIMIT_MAX_RFER
	btrfsFirstFree   = 256
	projectType      = 2        // PRJQUOTA
	cmdSetQuota      = 0x800008 // Q_SETQUOTA
	validBlockLimits = 1        // QIF_BLIMITS
)

var (
	btrfsSubvolCreate  = ioc(iocWrite, btrfsMagic, 14, unsafe.Sizeof(btrfsVolArgs{}))
	btrfsSubvolDestroy = ioc(iocWrite, btrfsMagic, 15, unsafe.Sizeof(btrfsVolArgs{}))
	btrfsInoLookupOp   = ioc(iocRead|iocWrite, btrfsMagic, 18, unsafe.Sizeof(btrfsInoLookup{}))
	btrfsQuotaOp       = ioc(iocRead|iocWrite, btrfsMagic, 40, unsafe.Sizeof(btrfsQuotaCtl{}))
	btrfsQgroupMakeOp  = ioc(iocWrite, btrfsMagic, 42, unsafe.Sizeof(btrfsQgroupMake{}))
	btrfsQgroupLimitOp = ioc(iocRead, btrfsMagic, 43, unsafe.Sizeof(btrfsQgroupSet{}))
	fsGetXattr         = ioc(iocRead, 'X', 31, unsafe.Sizeof(fsxattr{}))
	fsSetXattr         = ioc(iocWrite, 'X', 32, unsafe.Sizeof(fsxattr{}))
)

// BtrfsQuota makes dir, if it is not there, as a subvolume that holds no more than
// limit bytes. ErrUnsupported: its parent is not on btrfs. It turns the file system's quotas on.
func BtrfsQuota(dir string, limit int64) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("btrfs quota: %w", err)
	}
	defer parent.Close()
	if !onBtrfs(parent) {
		return fmt.Errorf("%s is not on btrfs: %w", dir, errdefs.ErrUnsupported)
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		var args btrfsVolArgs
		copy(args.name[:], filepath.Base(dir))
		if err := ioctl(parent, btrfsSubvolCreate, unsafe.Pointer(&args)); err != nil {
			return fmt.Errorf("make subvolume %s: %w", dir, err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("subvolume: %w", err)
		}
	}
	volume, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("subvolume: %w", err)
	}
	defer volume.Close()
	// Enabled already gives EEXIST or success, by the kernel's version.
	enable := btrfsQuotaCtl{cmd: btrfsQuotaEnable}
	if err := ioctl(volume, btrfsQuotaOp, unsafe.Pointer(&enable)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("enable the quotas of %s: %w", dir, err)
	}
	// Id 0 means the subvolume that the descriptor is of.
	set := btrfsQgroupSet{flags: btrfsLimitRfer, maxRfer: uint64(limit)}
	if err := ioctl(volume, btrfsQgroupLimitOp, unsafe.Pointer(&set)); err != nil {
		return fmt.Errorf("limit subvolume %s: %w", dir, err)
	}
	return nil
}

// RemoveQuota removes the subvolume dir with its limit and all it holds, if it is one on
// btrfs; other quotas go with their files.
func RemoveQuota(dir string) error {
	volume, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove quota: %w", err)
	}
	defer volume.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(volume.Fd()), &st); err != nil {
		return fmt.Errorf("remove quota of %s: %w", dir, err)
	}
	if !onBtrfs(volume) || st.Ino != btrfsFirstFree {
		return nil
	}
	lookup := btrfsInoLookup{object: btrfsFirstFree}
	if err := ioctl(volume, btrfsInoLookupOp, unsafe.Pointer(&lookup)); err != nil {
		return fmt.Errorf("number of subvolume %s: %w", dir, err)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("remove quota: %w", err)
	}
	defer parent.Close()
	// Kernels from 6.10 on say EBUSY here, and remove the group themselves after the subvolume.
	drop := btrfsQgroupMake{id: lookup.tree}
	err = ioctl(parent, btrfsQgroupMakeOp, unsafe.Pointer(&drop))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTCONN) {
		return fmt.Errorf("remove the quota group of subvolume %s: %w", dir, err)
	}
	var args btrfsVolArgs
	copy(args.name[:], filepath.Base(dir))
	if err := ioctl(parent, btrfsSubvolDestroy, unsafe.Pointer(&args)); err != nil {
		return fmt.Errorf("remove subvolume %s: %w", dir, err)
	}
	return nil
}

func onBtrfs(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && uint32(st.Type) == unix.BTRFS_SUPER_MAGIC
}

// ProjectQuota makes dir, if it is not there, and bounds all below it to limit bytes, as project
// id of the file system's. ErrUnsupported: the file system or kernel has no project quota, or
// it is not enforced.
func ProjectQuota(dir string, id uint32, limit int64) error {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	defer parent.Close()
	q := dqblk{bHard: uint64(limit) / 1024, bSoft: uint64(limit) / 1024, valid: validBlockLimits}
	// Before anything is made: a file system without quotas refuses this first.
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, parent.Fd(), uintptr(cmdSetQuota<<8|projectType),
		uintptr(id), uintptr(unsafe.Pointer(&q)), 0, 0)
	switch errno {
	case 0:
	case unix.ENOSYS, unix.ESRCH, unix.ENOTSUP, unix.EINVAL, unix.ENODEV, unix.ENOTBLK:
		return fmt.Errorf("project quota for %s: %w: %w", dir, errno, errdefs.ErrUnsupported)
	default:
		return fmt.Errorf("project quota for %s: %w", dir, errno)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	defer f.Close()
	var attr fsxattr
	if err := ioctl(f, fsGetXattr, unsafe.Pointer(&attr)); err != nil {
		return fmt.Errorf("project of %s: %w", dir, err)
	}
	attr.project, attr.xflags = id, attr.xflags|fsProjInherit
	if err := ioctl(f, fsSetXattr, unsafe.Pointer(&attr)); err != nil {
		return fmt.Errorf("set the project of %s: %w", dir, err)
	}
	return nil
}

// Directions of an ioctl's argument, asm-generic/ioctl.h; powerpc's differ.
const (
	iocWrite = 1
	iocRead  = 2
)

// ioc is the kernel's _IOC.
func ioc(direction, kind, nr, size uintptr) uintptr {
	sizeBits := uintptr(14)
	if iocSizeBits13 {
		// powerpc: 3 direction bits, none 1, read 2, write 4.
		sizeBits, direction = 13, direction&iocRead|direction&iocWrite<<2
	}
	return direction<<(16+sizeBits) | size<<16 | kind<<8 | nr
}

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}
