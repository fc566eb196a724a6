package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"novaagent/engine/errdefs"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// applied is what became of a layer.
type applied struct {
	// opaqueRoot: the layer hides everything below it. The overlay file
	// system knows no opaque root, so the layers below are left out instead.
	opaqueRoot bool
}

// applyLayer unpacks the tar stream r of one layer into root, an empty
// directory, in the form the overlay file system wants of a lower directory.
// parents are the directories of the layers below, topmost first.
//
// Whiteouts mean what the OCI specification says: they hide what the layers
// below have, and never what the same layer has, in whatever order the
// entries come. containerd's own conversion creates them on the spot, which
// fails or merges directories that should be new when an entry of
// the same name follows; here they are collected and settled at the end.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts
func applyLayer(ctx context.Context, root string, r io.Reader, parents []string, b *budget) (applied, error) {
	w := whiteouts{root: root, parents: parents, opaque: map[string]bool{}, hidden: map[string]owner{}}
	dirs := newParentDirs(root, parents)
	f := filter{budget: b}
	_, err := archive.Apply(quiet(ctx), root, r,
		archive.WithFilter(func(h *tar.Header) (bool, error) {
			ok, err := f.entry(h)
			if ok && err == nil {
				err = dirs.ensure(h)
			}
			return ok, err
		}),
		archive.WithConvertWhiteout(w.entry))
	if err == nil {
		err = w.settle()
	}
	if err == nil {
		err = dirs.settle()
	}
	if err != nil {
		return applied{}, layerError(hidePath(root, err))
	}
	return applied{opaqueRoot: w.opaque["/"]}, nil
}

// hidePath takes the host's path out of an error that a tenant may see.
func hidePath(root string, err error) error {
	if err == nil || !strings.Contains(err.Error(), root) {
		return err
	}
	return &withoutPath{strings.ReplaceAll(err.Error(), root, ""), err}
}

type withoutPath struct {
	text string
	err  error
}

func (e *withoutPath) Error() string { return e.text }
func (e *withoutPath) Unwrap() error { return e.err }

// quiet keeps containerd's applier from logging a line for each oddity in an
// archive to its global logger: an archive could fill the disk with it.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}

type owner struct{ uid, gid int }

// whiteouts collects the whiteouts of a layer. Paths in it are absolute from
// the layer's root, their directories free of symbolic links.
type whiteouts struct {
	root    string
	parents []string
	opaque  map[string]bool // directories that hide all that is below them
	hidden  map[string]owner
}

// entry is an archive.ConvertWhiteout, called for each entry with the path
// on the host where it goes, before it is written there.
func (w *whiteouts) entry(h *tar.Header, path string) (bool, error) {
	dir, base := filepath.Split(strings.TrimPrefix(path, w.root))
	dir = filepath.Clean(dir)
	switch {
	case base == whiteoutOpaque:
		w.opaque[dir] = true
		return false, nil
	case strings.HasPrefix(base, whiteoutMeta):
		return false, nil // bookkeeping of AUFS
	case strings.HasPrefix(base, whiteoutPrefix):
		name := strings.TrimPrefix(base, whiteoutPrefix)
		if name == "" || name == "." || name == ".." {
			return false, fmt.Errorf("whiteout %.200q hides no file: %w", h.Name, errdefs.ErrInvalid)
		}
		w.hidden[filepath.Join(dir, name)] = owner{h.Uid, h.Gid}
		return false, nil
	case h.Typeflag == tar.TypeDir:
		// A directory that follows a file of its own name is a new one.
		if fi, err := os.Lstat(path); err == nil && !fi.IsDir() {
			w.opaque[filepath.Join(dir, base)] = true
		}
	}
	return true, nil
}

// settle turns what was collected into the marks of the overlay file system.
func (w *whiteouts) settle() error {
	for path := range w.hidden {
		fi, err := os.Lstat(w.root + path)
		switch {
		case err == nil && fi.IsDir():
			w.opaque[path] = true
			delete(w.hidden, path)
		case err == nil, errors.Is(err, syscall.ENOTDIR):
			delete(w.hidden, path) // the layer itself has put something there
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	for path := range w.opaque {
		if path == "/" || w.underOpaque(path) || !w.below(path) {
			continue
		}
		if fi, err := os.Lstat(w.root + path); err != nil || !fi.IsDir() {
			continue // replaced by a later entry
		}
		if err := w.mark(filepath.Join(path, whiteoutOpaque), path, owner{}); err != nil {
			return err
		}
	}
	for path, o := range w.hidden {
		// Only in a directory that is merged with one below does the kernel
		// interpret a whiteout; elsewhere it would show as a device.
		dir := filepath.Dir(path)
		if w.opaque[dir] || w.underOpaque(dir) || !w.below(path) {
			continue
		}
		if fi, err := os.Lstat(w.root + dir); err != nil || !fi.IsDir() {
			continue
		}
		if err := w.mark(filepath.Join(dir, whiteoutPrefix+filepath.Base(path)), dir, o); err != nil {
			return err
		}
	}
	return nil
}

// mark has containerd make the whiteout or opaque mark called name, and keeps
// the time stamp of the directory it is in.
func (w *whiteouts) mark(name, dir string, o owner) error {
	fi, err := os.Lstat(w.root + dir)
	if err != nil {
		return err
	}
	if _, err := archive.OverlayConvertWhiteout(&tar.Header{Uid: o.uid, Gid: o.gid}, w.root+name); err != nil {
		return fmt.Errorf("whiteout in %.200q: %w", dir, err)
	}
	return os.Chtimes(w.root+dir, fi.ModTime(), fi.ModTime())
}

// underOpaque reports whether a directory above path hides the layers below.
func (w *whiteouts) underOpaque(path string) bool {
	for path != "/" {
		path = filepath.Dir(path)
		if w.opaque[path] {
			return true
		}
	}
	return false
}

// below reports whether the layers below have something at path.
func (w *whiteouts) below(path string) bool { return lookupBelow(w.parents, path) != nil }
