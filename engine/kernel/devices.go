package kernel

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// DeviceNode is a device file to be made; its owner is numbered as on the host.
type DeviceNode struct {
	Path         string // relative
	Kind         rune   // 'c' or 'b'
	Major, Minor uint32
	Mode         os.FileMode // permissions
	UID, GID     uint32
}

// MountDevices is MountDev with further nodes; those that it has already stay. Directories for them are owner's.
func MountDevices(options []MountOption, attrs uint64, owner uint32, nodes []DeviceNode) (_ *os.File, err error) {
	f, err := MountDev(options, attrs, owner)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	dir := int(f.Fd())
	for _, n := range nodes {
		if err := makeParents(dir, n.Path, owner); err != nil {
			return nil, fmt.Errorf("device %s: %w", n.Path, err)
		}
		kind := uint32(unix.S_IFCHR)
		if n.Kind == 'b' {
			kind = unix.S_IFBLK
		}
		mode := uint32(n.Mode.Perm())
		err := unix.Mknodat(dir, n.Path, kind|mode, int(unix.Mkdev(n.Major, n.Minor)))
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err == nil {
			err = errors.Join(unix.Fchownat(dir, n.Path, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW), unix.Fchmodat(dir, n.Path, mode, 0))
		}
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", n.Path, err)
		}
	}
	return f, nil
}

func makeParents(dir int, name string, owner uint32) error {
	parent := ""
	for part := range strings.SplitSeq(path.Dir(name), "/") {
		if part == "." {
			return nil
		}
		parent = path.Join(parent, part)
		err := unix.Mkdirat(dir, parent, 0o755)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err == nil {
			err = unix.Fchownat(dir, parent, int(owner), int(owner), unix.AT_SYMLINK_NOFOLLOW)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// OwnerIDs are the user and group that own a file, by its Stat.
func OwnerIDs(info os.FileInfo) (uid, gid uint32) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid, st.Gid
	}
	return 0, 0
}
