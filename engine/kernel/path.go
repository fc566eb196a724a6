package kernel

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
)

// OpenInRoot opens name, taking dir as the root directory: symbolic links and ".."
// cannot lead outside, and magic links (/proc/self/fd/3) are refused.
func OpenInRoot(dir *os.File, name string, flags int) (*os.File, error) {
	if name == "" {
		name = "."
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: uint64(InRoot)}
	for {
		fd, err := unix.Openat2(int(dir.Fd()), name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EAGAIN, unix.EINTR: // a rename raced with the look-up (openat2(2))
			continue
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// ReadFileInRoot reads a regular file of at most limit bytes under dir. Anything
// else, a FIFO or a device or a larger file, is errdefs.ErrInvalid; an absent file
// satisfies errors.Is(err, os.ErrNotExist).
func ReadFileInRoot(dir *os.File, name string, limit int64) ([]byte, error) {
	ref, err := OpenInRoot(dir, name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer ref.Close()
	// The type is known before the file is opened for reading, which could block or have side effects.
	info, err := ref.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat %s: %w", name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file: %w", name, errdefs.ErrInvalid)
	}
	f, err := os.Open(fdPath(int(ref.Fd())))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: %w", name, limit, errdefs.ErrInvalid)
	}
	return b, nil
}

// DeviceOf returns the type ('c', 'b' or 0) and number of the device file f.
func DeviceOf(f *os.File) (kind rune, major, minor uint32) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, 0, 0
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		kind = 'c'
	case unix.S_IFBLK:
		kind = 'b'
	default:
		return 0, 0, 0
	}
	return kind, unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
}

// OPath opens a file as a mere reference.
const OPath = unix.O_PATH
