package kernel

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Renew makes the file at path root's, with mode. It returns false, and has changed nothing, if the file could be told from
// a new one nevertheless: it has extended attributes or further links, or is no regular file.
func Renew(path string, mode os.FileMode) (fresh bool, err error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("renew %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	attributes, err := unix.Flistxattr(fd, nil)
	if err = errors.Join(err, unix.Fstat(fd, &st)); err != nil {
		return false, fmt.Errorf("renew %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || attributes != 0 {
		return false, nil
	}
	if err := errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, uint32(mode.Perm()))); err != nil {
		return false, fmt.Errorf("renew %s: %w", path, err)
	}
	return true, nil
}
