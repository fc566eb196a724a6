package image

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/continuity/sysx"

	"novaagent/engine/errdefs"
)

// writeLayer writes the tar stream of an unpacked layer, with whiteouts as the OCI specification has
// them. The same layer gives the same bytes. Its directory is never written again, so names in it
// mean the same for as long as this takes.
func writeLayer(ctx context.Context, w io.Writer, u unpackedLayer) error {
	lw := layerTar{tw: tar.NewWriter(w), root: u.dir, links: map[uint64]string{}}
	err := filepath.WalkDir(u.dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(u.dir, path)
		if err != nil {
			return err
		}
		if err := lw.entry(name, info); err != nil {
			return err
		}
		if name == "." && u.opaque || e.IsDir() && isOpaque(path) {
			return lw.whiteout(filepath.Join(name, whiteoutOpaque))
		}
		return nil
	})
	if err == nil {
		err = lw.tw.Close()
	}
	return hidePath(u.dir, err)
}

// layerTar is a layer being written.
type layerTar struct {
	tw    *tar.Writer
	root  string
	links map[uint64]string // inode to the name that was written
}

func (l *layerTar) whiteout(name string) error {
	return l.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600})
}

func (l *layerTar) entry(name string, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%.200q: stat without owner: %w", name, errdefs.ErrUnsupported)
	}
	path := filepath.Join(l.root, name)
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: info.ModTime(), Format: tar.FormatPAX,
	}
	switch info.Mode().Type() {
	case fs.ModeDevice | fs.ModeCharDevice:
		if st.Rdev != 0 {
			return nil // no layer has devices
		}
		dir, base := filepath.Split(name)
		return l.whiteout(filepath.Join(dir, whiteoutPrefix+base))
	case fs.ModeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case fs.ModeSymlink:
		target, err := os.Readlink(path)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case fs.ModeNamedPipe:
		h.Typeflag = tar.TypeFifo
	case 0:
		h.Typeflag, h.Size = tar.TypeReg, info.Size()
	default:
		return nil // a tar has no sockets
	}
	if h.Typeflag != tar.TypeDir && st.Nlink > 1 {
		if first, ok := l.links[st.Ino]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return l.tw.WriteHeader(h)
		}
		l.links[st.Ino] = name
	}
	if err := addXattrs(h, path); err != nil {
		return err
	}
	if err := l.tw.WriteHeader(h); err != nil || h.Typeflag != tar.TypeReg {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(l.tw, f, h.Size)
	return err
}

// addXattrs puts those attributes into h that an import keeps.
func addXattrs(h *tar.Header, path string) error {
	names, err := sysx.LListxattr(path)
	if err != nil {
		return fmt.Errorf("%.200q: extended attributes: %w", h.Name, err)
	}
	for _, n := range names {
		if n != "security.capability" && (!strings.HasPrefix(n, "user.") || strings.HasPrefix(n, "user.overlay.")) {
			continue
		}
		v, err := sysx.LGetxattr(path, n)
		if err != nil {
			return fmt.Errorf("%.200q: extended attribute %s: %w", h.Name, n, err)
		}
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords[paxXattr+n] = string(v)
	}
	return nil
}
