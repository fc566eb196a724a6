package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// MountLoop mounts the file system of type fstype in the file img at dir, by a loop device
// that frees itself when the mount is gone. Blocks freed inside are punched out of the file.
func MountLoop(img, dir, fstype string) error {
	backing, err := os.OpenFile(img, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("loop mount: %w", err)
	}
	defer backing.Close()
	loop, err := attachLoop(backing)
	if err != nil {
		return fmt.Errorf("loop mount %s: %w", img, err)
	}
	// With LO_FLAGS_AUTOCLEAR the device is freed with its last opener: us, if the mount fails.
	defer loop.Close()
	if err := unix.Mount(loop.Name(), dir, fstype, unix.MS_NODEV|unix.MS_NOATIME, "discard"); err != nil {
		return fmt.Errorf("mount %s of %s at %s: %w", loop.Name(), img, dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make mount %s private: %w", dir, err), Unmount(dir))
	}
	return nil
}

// loopAttempts bounds the race for a free device with other users of loop devices.
const loopAttempts = 64

func attachLoop(backing *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range loopAttempts {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		loop, err := os.OpenFile("/dev/loop"+strconv.Itoa(n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd()), Size: 4096}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:], backing.Name())
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("set up %s: %w", loop.Name(), err)
		}
	}
	return nil, fmt.Errorf("find a free loop device: %w", unix.EBUSY)
}

// IsMountPoint says whether something is mounted at path.
func IsMountPoint(path string) (bool, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// IsNoSpace says that a file system, or a quota, is full.
func IsNoSpace(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}
