package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// ExtractOptions say how to extract.
type ExtractOptions struct {
	// NoOverwriteDirNonDir refuses to replace a directory by something else, and the reverse.
	NoOverwriteDirNonDir bool
	// Owner, if set, owns all that is made, instead of whom the archive names: ids of the container.
	Owner *Owner
}

// Owner is a user and a group.
type Owner struct{ UID, GID int }

// Extract puts the files of the tar stream in, plain, gzip, bzip2 or zstd, into the directory dir, which must be there.
// What is there already is replaced, but directories are kept and merged.
//
// Entries go below dir whatever they are called; a name that leads out of it with ".." is refused as
// ErrInvalid, and so is a hard link to something outside of it. Symbolic links that the container has
// on the way are followed within its root. Device nodes are left out. What was extracted before an error stays.
func (r Root) Extract(in io.Reader, dir string, o ExtractOptions) error {
	dest, err := kernel.OpenInRoot(r.Dir, strings.TrimPrefix(absolute(dir), "/"), kernel.OPath)
	if err != nil {
		return pathError(err)
	}
	defer dest.Close()
	if err := r.writable(dest); err != nil {
		return err
	}
	plain, err := decompress(in)
	if err != nil {
		return err
	}
	defer plain.Close()
	x := &extractor{root: r, dest: absolute(dir), o: o, buf: make([]byte, copyBytes)}
	defer x.forget()
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return streamError(err)
		}
		if err := x.entry(h, tr); err != nil {
			return entryError(err)
		}
	}
	return entryError(x.settle())
}

// entryError is pathError for what an entry needs: that this is not there is the archive's fault.
func entryError(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", hideFD(err), errdefs.ErrInvalid)
	}
	return pathError(err)
}

// writable checks the place where an archive is to go.
func (r Root) writable(dest *os.File) error {
	info, err := dest.Stat()
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("extraction point is not a directory: %w", errdefs.ErrInvalid)
	}
	byKernel, readOnly, err := kernel.FileSystem(dest)
	if err != nil {
		return err
	}
	root, err := r.Dir.Stat()
	switch {
	case err != nil:
		return err
	case byKernel:
		return fmt.Errorf("extraction point is made by the kernel: %w", errdefs.ErrInvalid)
	case readOnly && deviceOf(info) == deviceOf(root):
		return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrInvalid)
	case readOnly:
		return fmt.Errorf("mounted volume is marked read-only: %w", errdefs.ErrInvalid)
	}
	return nil
}

// streamError is an error of reading the archive.
func streamError(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) {
		return fmt.Errorf("the archive is damaged: %v: %w", err, errdefs.ErrInvalid)
	}
	return err
}

// extractor is an extraction under way.
type extractor struct {
	root Root
	dest string // absolute
	o    ExtractOptions
	buf  []byte // files pass through it

	// The directory of the entry before: most entries share it with the one before them.
	parent     *os.File
	parentName string

	// Directories get their times at the end, after all was put into them.
	times []dirTime
}

type dirTime struct {
	name string
	at   time.Time
}

// maxDirTimes bounds the memory that an archive's directories take.
const maxDirTimes = 1 << 20

func (x *extractor) forget() {
	if x.parent != nil {
		x.parent.Close()
		x.parent = nil
	}
}

// entry extracts one entry.
func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, tar.TypeBlock, tar.TypeChar:
		return nil
	}
	if escapes(h.Name) {
		return fmt.Errorf("%.200q is outside of %q: %w", h.Name, x.dest, errdefs.ErrInvalid)
	}
	name := clean(h.Name)
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%.200q is no name for a file: %w", h.Name, errdefs.ErrInvalid)
		}
		return nil // the directory itself stays as it is
	}
	dirName, base := path.Split(name)
	dir, err := x.openDir(path.Clean("/" + dirName))
	if err != nil {
		return err
	}
	if err := x.makeRoom(dir, base, h); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.dir(dir, base, name, h)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return x.file(dir, base, h, content)
	case tar.TypeSymlink:
		if err := os.Symlink(h.Linkname, kernel.At(dir, base)); err != nil {
			return err
		}
		return x.own(dir, base, h)
	case tar.TypeLink:
		return x.link(dir, base, h)
	case tar.TypeFifo:
		if err := syscall.Mkfifo(kernel.At(dir, base), 0o600); err != nil {
			return &os.PathError{Op: "mkfifo", Path: base, Err: err}
		}
		return x.own(dir, base, h)
	}
	return fmt.Errorf("unhandled tar header type %d of %.200q: %w", h.Typeflag, h.Name, errdefs.ErrInvalid)
}

// escapes tells whether ".." in a name leads out of where it is taken from.
func escapes(name string) bool {
	c := path.Clean(strings.TrimLeft(name, "/"))
	return c == ".." || strings.HasPrefix(c, "../")
}

// openDir opens a directory below dest, making it if it is absent. It is the extractor's to close.
func (x *extractor) openDir(name string) (*os.File, error) {
	if x.parent != nil && x.parentName == name {
		return x.parent, nil
	}
	x.forget()
	full := strings.TrimPrefix(path.Join(x.dest, name), "/")
	f, err := kernel.OpenInRoot(x.root.Dir, full, kernel.OPath|syscall.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) && name != "/" {
		above, base := path.Split(name)
		up, err := x.openDir(path.Clean(above))
		if err != nil {
			return nil, err
		}
		if err := os.Mkdir(kernel.At(up, base), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		x.forget()
		f, err = kernel.OpenInRoot(x.root.Dir, full, kernel.OPath|syscall.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		x.parent, x.parentName = f, name
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	x.parent, x.parentName = f, name
	return f, nil
}

// makeRoom removes what is in the entry's place, unless both are directories.
func (x *extractor) makeRoom(dir *os.File, base string, h *tar.Header) error {
	info, err := os.Lstat(kernel.At(dir, base))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isDir := h.Typeflag == tar.TypeDir
	if x.o.NoOverwriteDirNonDir && info.IsDir() != isDir {
		full := path.Join(x.dest, clean(h.Name))
		if info.IsDir() {
			return fmt.Errorf("cannot overwrite directory %q with non-directory %q: %w", full, x.dest, errdefs.ErrInvalid)
		}
		return fmt.Errorf("cannot overwrite non-directory %q with directory %q: %w", full, x.dest, errdefs.ErrInvalid)
	}
	if info.IsDir() && isDir {
		return nil
	}
	return remove(dir, base, 0)
}

// remove removes name in dir with all below it, but enters no other mount.
func remove(dir *os.File, name string, depth int) error {
	err := syscall.Unlink(kernel.At(dir, name))
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return nil
	case err != syscall.EISDIR:
		return &os.PathError{Op: "remove", Path: name, Err: err}
	case depth > maxDepth:
		return fmt.Errorf("remove %.200q: deeper than %d directories: %w", name, maxDepth, errdefs.ErrInvalid)
	}
	below, err := kernel.OpenBelow(dir, name, os.O_RDONLY|syscall.O_DIRECTORY)
	if errors.Is(err, syscall.EXDEV) {
		err = &os.PathError{Op: "remove", Path: name, Err: syscall.EBUSY} // as unlink says of a mount point
	}
	if err != nil {
		return err
	}
	defer below.Close()
	names, err := below.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := remove(below, n, depth+1); err != nil {
			return err
		}
	}
	if err := syscall.Rmdir(kernel.At(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// owner is who is to own an entry, on the host.
func (x *extractor) owner(h *tar.Header) (uid, gid int, err error) {
	uid, gid = h.Uid, h.Gid
	if x.o.Owner != nil {
		uid, gid = x.o.Owner.UID, x.o.Owner.GID
	}
	if uid, err = x.root.IDs.outside(uid); err != nil {
		return 0, 0, fmt.Errorf("%.200q: %w", h.Name, err)
	}
	if gid, err = x.root.IDs.outside(gid); err != nil {
		return 0, 0, fmt.Errorf("%.200q: %w", h.Name, err)
	}
	return uid, gid, nil
}

// own sets owner and time of a link or pipe.
func (x *extractor) own(dir *os.File, base string, h *tar.Header) error {
	uid, gid, err := x.owner(h)
	if err != nil {
		return err
	}
	if err := os.Lchown(kernel.At(dir, base), uid, gid); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeFifo {
		ref, err := kernel.OpenBelow(dir, base, kernel.OPath)
		if err != nil {
			return err
		}
		defer ref.Close()
		if err := os.Chmod(fdName(ref), h.FileInfo().Mode()&modeBits); err != nil {
			return err
		}
	}
	return kernel.SetTime(dir, base, h.ModTime)
}

const modeBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// fdName is the path of an open reference itself.
func fdName(f *os.File) string { return strings.TrimSuffix(kernel.At(f, ""), "/") }

func (x *extractor) dir(dir *os.File, base, name string, h *tar.Header) error {
	uid, gid, err := x.owner(h)
	if err != nil {
		return err
	}
	if err := os.Mkdir(kernel.At(dir, base), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	// No link: the place was free or a directory's. What the container puts there now is refused.
	ref, err := kernel.OpenInRoot(dir, base, kernel.OPath|syscall.O_DIRECTORY|syscall.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer ref.Close()
	if err := os.Chown(fdName(ref), uid, gid); err != nil {
		return err
	}
	if err := os.Chmod(fdName(ref), h.FileInfo().Mode()&modeBits); err != nil {
		return err
	}
	if len(x.times) < maxDirTimes {
		x.times = append(x.times, dirTime{name, h.ModTime})
	}
	return nil
}

func (x *extractor) file(dir *os.File, base string, h *tar.Header, content io.Reader) (err error) {
	uid, gid, err := x.owner(h)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(kernel.At(dir, base), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// A file would rather have a buffer of its own.
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, x.buf); err != nil {
		return streamError(err)
	}
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	// After chown, which takes the setuid bit and the capabilities away.
	if caps, ok := x.root.IDs.capsOutside(h.PAXRecords[paxCapability]); ok {
		if err := kernel.SetFileCapabilities(f, caps); err != nil {
			return err
		}
	}
	if err := f.Chmod(h.FileInfo().Mode() & modeBits); err != nil {
		return err
	}
	return os.Chtimes(fdName(f), h.ModTime, h.ModTime)
}

// link makes a hard link to a file that is below dest, too.
func (x *extractor) link(dir *os.File, base string, h *tar.Header) error {
	if escapes(h.Linkname) || clean(h.Linkname) == "" {
		return fmt.Errorf("invalid hardlink %.200q -> %.200q: %w", h.Name, h.Linkname, errdefs.ErrInvalid)
	}
	above, target := path.Split(clean(h.Linkname))
	from, err := kernel.OpenInRoot(x.root.Dir, strings.TrimPrefix(path.Join(x.dest, above), "/"), kernel.OPath|syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer from.Close()
	return os.Link(kernel.At(from, target), kernel.At(dir, base))
}

// settle sets the times of the directories, the innermost first.
func (x *extractor) settle() error {
	for i := len(x.times) - 1; i >= 0; i-- {
		t := x.times[i]
		above, base := path.Split(t.name)
		dir, err := x.openDir(path.Clean("/" + above))
		if err == nil {
			err = kernel.SetTime(dir, base, t.at)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return err
		}
	}
	return nil
}
