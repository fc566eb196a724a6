package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// IDs are the host's ids that stand for the container's from 0 on. With Size 0 they are the same.
type IDs struct{ Start, Size uint32 }

// nobody is who owns what an id of no use in the container owns, as in user_namespaces(7).
const nobody = 65534

// inside is the container's id for one of the host.
func (i IDs) inside(host uint32) int {
	switch {
	case i.Size == 0:
		return int(host)
	case host < i.Start || host-i.Start >= i.Size:
		return nobody
	}
	return int(host - i.Start)
}

// outside is the host's id for one of the container.
func (i IDs) outside(id int) (int, error) {
	if id < 0 || i.Size == 0 && int64(id) > 1<<32-2 || i.Size > 0 && int64(id) >= int64(i.Size) {
		return 0, fmt.Errorf("the container has no user or group %d: %w", id, errdefs.ErrInvalid)
	}
	return int(i.Start) + id, nil
}

// Root is the root directory of a container.
type Root struct {
	Dir *os.File
	IDs IDs
}

// Stat is what there is to know of a path.
type Stat struct {
	Name  string // its last component
	Size  int64
	Mode  fs.FileMode
	MTime time.Time
	// LinkTarget is where a symbolic link leads in the end, as a path from the
	// container's root; empty for anything else.
	LinkTarget string
}

// absolute is name from the root, clean but for a final "/" or "/." (moby's
// archive.PreserveTrailingDotOrSeparator): it asks for what a link leads to.
func absolute(name string) string {
	clean := path.Join("/", name)
	switch {
	case clean == "/":
		return clean
	case name == "." || strings.HasSuffix(name, "/."):
		return clean + "/."
	case strings.HasSuffix(name, "/"):
		return clean + "/"
	}
	return clean
}

// find opens what name means as a reference: a symbolic link itself, unless name ends with "/" or "/.".
func (r Root) find(name string) (*os.File, fs.FileInfo, error) {
	abs := absolute(name)
	flags := kernel.OPath
	if strings.HasSuffix(abs, "/") || strings.HasSuffix(abs, "/.") {
		flags |= syscall.O_DIRECTORY
	} else {
		flags |= syscall.O_NOFOLLOW
	}
	if strings.ContainsRune(name, 0) {
		return nil, nil, fmt.Errorf("path %.200q: %w", name, errdefs.ErrInvalid)
	}
	f, err := kernel.OpenInRoot(r.Dir, strings.TrimPrefix(abs, "/"), flags)
	if err != nil {
		return nil, nil, pathError(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, pathError(err)
	}
	return f, info, nil
}

// Stat looks at name. ErrNotFound: there is nothing.
func (r Root) Stat(name string) (Stat, error) {
	f, info, err := r.find(name)
	if err != nil {
		return Stat{}, err
	}
	defer f.Close()
	return r.statOf(name, info), nil
}

func (r Root) statOf(name string, info fs.FileInfo) Stat {
	abs := absolute(name)
	s := Stat{Name: base(abs), Size: info.Size(), Mode: info.Mode(), MTime: info.ModTime()}
	if info.Mode()&fs.ModeSymlink != 0 {
		s.LinkTarget = r.follow(abs)
	}
	return s
}

// base is the last component as moby shows it: "." of "/a/.".
func base(abs string) string {
	if strings.HasSuffix(abs, "/.") {
		return "."
	}
	return path.Base(abs)
}

// maxLinks is the kernel's limit, too (path_resolution(7)).
const maxLinks = 40

// follow says where name leads, as far as there is something.
func (r Root) follow(name string) string {
	done, rest := "/", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		next := path.Join(done, part) // ".." stops at the root
		f, err := kernel.OpenInRoot(r.Dir, next, kernel.OPath|syscall.O_NOFOLLOW)
		if err != nil {
			return path.Join(append([]string{next}, rest...)...)
		}
		info, err := f.Stat()
		target := ""
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			target, err = kernel.LinkTarget(f)
		}
		f.Close()
		if err != nil || target == "" {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return next
		}
		if path.IsAbs(target) {
			done = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return done
}

// pathError gives an error of the file system its kind.
func pathError(err error) error {
	for _, k := range []struct {
		errno syscall.Errno
		kind  error
	}{
		{syscall.ENOENT, errdefs.ErrNotFound},
		{syscall.ENOTDIR, errdefs.ErrInvalid},
		{syscall.ELOOP, errdefs.ErrInvalid},
		{syscall.ENAMETOOLONG, errdefs.ErrInvalid},
		{syscall.EINVAL, errdefs.ErrInvalid},
		{syscall.EPERM, errdefs.ErrInvalid},
		{syscall.EACCES, errdefs.ErrInvalid},
		{syscall.EROFS, errdefs.ErrInvalid},
		{syscall.EXDEV, errdefs.ErrInvalid},
		{syscall.EISDIR, errdefs.ErrInvalid},
		{syscall.EEXIST, errdefs.ErrConflict},
		{syscall.ENOTEMPTY, errdefs.ErrConflict},
		{syscall.EBUSY, errdefs.ErrConflict},
		{syscall.ENOSPC, errdefs.ErrExhausted},
		{syscall.EDQUOT, errdefs.ErrExhausted},
	} {
		if errors.Is(err, k.errno) {
			return fmt.Errorf("%w: %w", hideFD(err), k.kind)
		}
	}
	return hideFD(err)
}

// hideFD leaves only the file's own name of a path that kernel.At made.
func hideFD(err error) error {
	var p *os.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p) && strings.HasPrefix(p.Path, "/proc/self/fd/"):
		return &os.PathError{Op: p.Op, Path: path.Base(p.Path), Err: p.Err}
	case errors.As(err, &l):
		return &os.PathError{Op: l.Op, Path: path.Base(l.New), Err: l.Err}
	}
	return err
}
