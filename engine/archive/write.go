package archive

import (
	"archive/tar"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// maxDepth bounds how deep directories are followed: each costs a descriptor.
const maxDepth = 1024

// Write writes what name means as a tar stream: one entry called name's last component, and below
// it, if it is a directory, all that it holds. tell is called first, once what is there is known.
//
// Sockets, device nodes and the contents of proc and its like are left out. A file that
// shrinks while it is read is filled up with zeros, what vanishes is left out. ErrNotFound: there is nothing at
// name. ErrInvalid: it is made by the kernel, or its directories are too deep.
func (r Root) Write(w io.Writer, name string, tell func(Stat)) error {
	f, info, err := r.find(name)
	if err != nil {
		return err
	}
	defer f.Close()
	tw := newWriter(w, r.IDs)
	byKernel, _, err := kernel.FileSystem(f)
	if err != nil {
		return err
	}
	if byKernel && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is made by the kernel, there are no files to copy: %w", path.Clean(name), errdefs.ErrInvalid)
	}
	abs := absolute(name)
	top := base(abs)
	if abs == "/" {
		top = "" // moby's names for the whole root begin with a slash
	}
	tell(r.statOf(name, info))
	if err := tw.add(f, info, top, 0); err != nil {
		return err
	}
	return tw.w.Close()
}

// WriteAll writes the whole file system as a tar stream whose names are relative to its root,
// without an entry for that (docker export).
func (r Root) WriteAll(w io.Writer) error {
	info, err := r.Dir.Stat()
	if err != nil {
		return err
	}
	tw := newWriter(w, r.IDs)
	if err := tw.children(r.Dir, info, "", 0); err != nil {
		return err
	}
	return tw.w.Close()
}

type inode struct{ dev, ino uint64 }

// writer writes files to a tar stream.
type writer struct {
	w     *tar.Writer
	ids   IDs
	links map[inode]string // the first name of files that have several
	flat  bool             // what directories hold is left out
	buf   []byte           // files pass through it
}

func newWriter(w io.Writer, ids IDs) *writer {
	return &writer{w: tar.NewWriter(w), ids: ids, links: map[inode]string{}, buf: make([]byte, copyBytes)}
}

// copyBytes is how much of a file is copied at once.
const copyBytes = 128 << 10

// add writes the file open as a reference, and all below it. name is the entry's.
func (w *writer) add(f *os.File, info fs.FileInfo, name string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%.60s... is deeper than %d directories: %w", name, maxDepth, errdefs.ErrInvalid)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("stat without owner")
	}
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: unixMode(info.Mode()), ModTime: info.ModTime().Truncate(time.Second),
		Uid: w.ids.inside(st.Uid), Gid: w.ids.inside(st.Gid),
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return w.file(f, h, st)
	case mode.IsDir():
		h.Typeflag = tar.TypeDir
		h.Name += "/"
		if err := w.w.WriteHeader(h); err != nil {
			return err
		}
		if w.flat {
			return nil
		}
		return w.children(f, info, h.Name, depth)
	case mode&fs.ModeSymlink != 0:
		h.Typeflag = tar.TypeSymlink
		var err error
		if h.Linkname, err = kernel.LinkTarget(f); err != nil {
			return err
		}
		return w.w.WriteHeader(h)
	case mode&fs.ModeNamedPipe != 0:
		h.Typeflag = tar.TypeFifo
		return w.w.WriteHeader(h)
	}
	return nil
}

// children writes what the directory dir holds; prefix goes before the names.
func (w *writer) children(dir *os.File, info fs.FileInfo, prefix string, depth int) error {
	list, err := kernel.Reopen(dir, os.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return err
	}
	names, err := list.Readdirnames(-1)
	list.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.child(dir, info, name, prefix+name, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) child(dir *os.File, parent fs.FileInfo, name, full string, depth int) error {
	f, err := kernel.OpenInRoot(dir, name, kernel.OPath|syscall.O_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if deviceOf(info) == deviceOf(parent) {
		return w.add(f, info, full, depth)
	}
	byKernel, _, err := kernel.FileSystem(f)
	if err != nil {
		return err
	}
	if !byKernel {
		return w.add(f, info, full, depth)
	}
	if info.IsDir() {
		// The mount point is a directory of the container's all the same.
		return w.w.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeDir, Name: full + "/", Mode: 0o755, ModTime: info.ModTime().Truncate(time.Second)})
	}
	return nil
}

func deviceOf(info fs.FileInfo) uint64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(st.Dev) //nolint:unconvert // 32 bits wide on some architectures
}

// file writes a regular file, or a link to it if it came before.
func (w *writer) file(ref *os.File, h *tar.Header, st *syscall.Stat_t) error {
	h.Typeflag = tar.TypeReg
	if st.Nlink > 1 {
		key := inode{uint64(st.Dev), st.Ino} //nolint:unconvert // as above
		if first, ok := w.links[key]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return w.w.WriteHeader(h)
		}
		w.links[key] = h.Name
	}
	f, err := kernel.Reopen(ref, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	caps, err := kernel.FileCapabilities(f)
	if err != nil {
		return err
	}
	if value, ok := w.ids.capsInside(caps); ok {
		h.PAXRecords = map[string]string{paxCapability: value}
	}
	h.Size = st.Size
	if err := w.w.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(w.w, io.LimitReader(f, h.Size), w.buf)
	if err != nil {
		return err
	}
	if n < h.Size {
		_, err = io.CopyN(w.w, zeros{}, h.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// unixMode is m as a tar header has it.
func unixMode(m fs.FileMode) int64 {
	mode := int64(m.Perm())
	for _, bit := range []struct {
		mode fs.FileMode
		unix int64
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if m&bit.mode != 0 {
			mode |= bit.unix
		}
	}
	return mode
}

const paxCapability = "SCHILY.xattr.security.capability"

// File capabilities (include/uapi/linux/capability.h): a magic number with the revision in its top
// byte, two pairs of masks, and since revision 3 the root id of the user namespace that they are
// valid in. In archives they have revision 2.
const (
	capsSize2    = 20
	capsSize3    = 24
	capsRevision = 0xff000000
	capsV2       = 0x02000000
	capsV3       = 0x03000000
)

// capsInside are capabilities as the container sees them; false if they count for nothing there.
func (i IDs) capsInside(raw []byte) (string, bool) {
	if len(raw) < capsSize2 {
		return "", false
	}
	magic := binary.LittleEndian.Uint32(raw)
	switch {
	case magic&capsRevision == capsV2 && len(raw) == capsSize2 && i.Size == 0:
		return string(raw), true
	case magic&capsRevision == capsV3 && len(raw) == capsSize3 && binary.LittleEndian.Uint32(raw[capsSize2:]) == i.Start:
		out := slices.Clone(raw[:capsSize2])
		binary.LittleEndian.PutUint32(out, magic&^capsRevision|capsV2)
		return string(out), true
	}
	return "", false
}

// capsOutside are an archive's capabilities for a file of the container.
func (i IDs) capsOutside(value string) ([]byte, bool) {
	raw := []byte(value)
	if len(raw) != capsSize2 || binary.LittleEndian.Uint32(raw)&capsRevision != capsV2 {
		return nil, false
	}
	if i.Size == 0 {
		return raw, true
	}
	binary.LittleEndian.PutUint32(raw, binary.LittleEndian.Uint32(raw)&^capsRevision|capsV3)
	return binary.LittleEndian.AppendUint32(raw, i.Start), true
}

// clean is an entry's name without what tar programs put before and behind it.
func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }
