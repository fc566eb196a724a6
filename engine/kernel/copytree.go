package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyDepth bounds how deep CopyTree goes: it holds two descriptors for each level.
const copyDepth = 1024

// CopyTree copies what is in the directory src into the directory dst, and gives dst the owner,
// mode, times and extended attributes of src. Symbolic links are copied as such and never followed,
// on either side: src may be an image's, and the processes of a container may change dst
// meanwhile. What is in dst already is an error. Device nodes and sockets are left out: the former are
// not a container's to make, the latter mean nothing without their process.
//
// files says whether a regular file was among what was copied. ctx ends the copying between two entries.
func CopyTree(ctx context.Context, src, dst *os.File) (files bool, err error) {
	c := &treeCopy{ctx: ctx, top: dst, links: map[fileID]string{}}
	err = c.dir(src, dst, "", 0)
	return c.files, err
}

type fileID struct{ dev, ino uint64 }

type treeCopy struct {
	ctx   context.Context
	top   *os.File
	links map[fileID]string // the first copy of each file with several names, below top
	files bool
}

// dir copies what is in src, which is at path below the top, and then src's own attributes: its time
// would change with each entry, and its mode may forbid them.
func (c *treeCopy) dir(src, dst *os.File, path string, depth int) error {
	if depth > copyDepth {
		return fmt.Errorf("copy %s: more than %d directories deep", path, copyDepth)
	}
	list, err := openAt(src, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	names, err := list.Readdirnames(-1)
	list.Close()
	if err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	for _, name := range names {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if err := c.entry(src, dst, name, path+"/"+name, depth); err != nil {
			return fmt.Errorf("copy %s/%s: %w", path, name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return fmt.Errorf("copy %s: %w", path, err)
	}
	return copyAttributes(src, dst, &st)
}

func (c *treeCopy) entry(src, dst *os.File, name, path string, depth int) error {
	from, to := int(src.Fd()), int(dst.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := fileID{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return c.link(first, to, name)
		}
		c.links[id] = path
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subdir(src, dst, name, path, depth)
	case unix.S_IFREG:
		c.files = true
		return copyFile(src, dst, name, &st)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
			return err
		}
	case unix.S_IFIFO:
		if err := unix.Mkfifoat(to, name, 0o600); err != nil {
			return err
		}
	default:
		return nil
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if kind == unix.S_IFIFO {
		// It may be a link by now; fchmodat2, which would not follow it, is newer than our kernels.
		f, err := openAt(dst, name, unix.O_PATH)
		if err != nil {
			return err
		}
		defer f.Close()
		if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
			return fmt.Errorf("it was replaced: %w", unix.ESTALE)
		}
		if err := os.Chmod(fdPath(int(f.Fd())), os.FileMode(st.Mode&0o777)); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *treeCopy) subdir(src, dst *os.File, name, path string, depth int) error {
	if err := unix.Mkdirat(int(dst.Fd()), name, 0o700); err != nil {
		return err
	}
	from, err := openAt(src, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer to.Close()
	return c.dir(from, to, path, depth+1)
}

// link gives the copy at first another name.
func (c *treeCopy) link(first string, to int, name string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(int(c.top.Fd()), first[1:], &how)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Linkat(fd, "", to, name, unix.AT_EMPTY_PATH)
}

func copyFile(src, dst *os.File, name string, st *unix.Stat_t) error {
	from, err := openAt(src, name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := openAt(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer to.Close()
	// os.File copies within the kernel where it can (copy_file_range).
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return copyAttributes(from, to, st)
}

// copyAttributes copies owner, mode, extended attributes and times, in that order: a change of the owner
// drops set-id bits and file capabilities.
func copyAttributes(from, to *os.File, st *unix.Stat_t) error {
	fd := int(to.Fd())
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	if err := copyXattrs(int(from.Fd()), fd); err != nil {
		return err
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(fd), times, 0); err != nil {
		return fmt.Errorf("set times: %w", err)
	}
	return nil
}

// maxXattr is the kernel's XATTR_SIZE_MAX, of values and of the list of names.
const maxXattr = 64 << 10

func copyXattrs(from, to int) error {
	n, err := unix.Flistxattr(from, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil
	}
	list := make([]byte, maxXattr)
	if n, err = unix.Flistxattr(from, list); err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	value := make([]byte, maxXattr)
	for _, name := range splitNames(list[:n]) {
		size, err := unix.Fgetxattr(from, name, value)
		if err != nil {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
		// A file system without such attributes, tmpfs for one, does without them.
		if err := unix.Fsetxattr(to, name, value[:size], 0); err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("extended attribute %s: %w", name, err)
		}
	}
	return nil
}

// splitNames splits a list of names that end with a NUL each.
func splitNames(list []byte) []string {
	var names []string
	start := 0
	for i, b := range list {
		if b == 0 {
			names = append(names, string(list[start:i]))
			start = i + 1
		}
	}
	return names
}

// openAt opens an entry of dir; a symbolic link is an error.
func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0o600)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}
