package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// The devices, links and mount points of a container's /dev (OCI runtime-spec, config-linux.md,
// "Default Devices").
var (
	devNodes = []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}
	devLinks = [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
	}
	devDirs = []string{"pts", "shm", "mqueue"}
)

// MountDev mounts, detached, a tmpfs with what /dev of a container has, owned by the host's id owner. The
// host's root makes it, since a device that was made in a user namespace cannot be opened; nobody in the
// container can make another one.
func MountDev(options []MountOption, attrs uint64, owner uint32) (*os.File, error) {
	m, err := MountFS("tmpfs", options, attrs)
	if err != nil {
		return nil, err
	}
	if err := fillDev(int(m.Fd()), int(owner)); err != nil {
		m.Close()
		return nil, fmt.Errorf("/dev: %w", err)
	}
	return m, nil
}

func fillDev(fd, owner int) error {
	own := func(name string) error {
		if owner == 0 {
			return nil
		}
		return unix.Fchownat(fd, name, owner, owner, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
	}
	for _, n := range devNodes {
		err := unix.Mknodat(fd, n.name, unix.S_IFCHR, int(unix.Mkdev(n.major, n.minor)))
		if err == nil {
			err = unix.Fchmodat(fd, n.name, 0o666, 0) // whatever the umask is
		}
		if err == nil {
			err = own(n.name)
		}
		if err != nil {
			return fmt.Errorf("make device %s: %w", n.name, err)
		}
	}
	for _, l := range devLinks {
		err := unix.Symlinkat(l[0], fd, l[1])
		if err == nil {
			err = own(l[1])
		}
		if err != nil {
			return fmt.Errorf("make link %s: %w", l[1], err)
		}
	}
	for _, name := range devDirs {
		err := unix.Mkdirat(fd, name, 0o755)
		if err == nil {
			err = own(name)
		}
		if err != nil {
			return fmt.Errorf("make directory %s: %w", name, err)
		}
	}
	if err := own(""); err != nil {
		return fmt.Errorf("change owner: %w", err)
	}
	return nil
}
