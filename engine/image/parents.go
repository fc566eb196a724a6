package image

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	cfs "github.com/containerd/continuity/fs"
	"github.com/containerd/continuity/sysx"
)

// parentDirs makes the directories that a layer has files in, but no entry for.
// They get owner, mode and time of the directory that they are merged with.
// containerd's applier does so too (archive.WithParents), but it takes a file
// that a layer between has replaced by a directory for an error.
type parentDirs struct {
	root   string
	lowers []string        // topmost first
	known  map[string]bool // directories that are there
	made   map[string]fs.FileInfo
}

func newParentDirs(root string, lowers []string) *parentDirs {
	return &parentDirs{root: root, lowers: lowers, known: map[string]bool{"/": true}, made: map[string]fs.FileInfo{}}
}

// ensure makes the parents of the entry h. What stands in the way is left for
// the applier to complain of, and so is a directory that was replaced since.
func (p *parentDirs) ensure(h *tar.Header) error {
	name := path.Clean("/" + h.Name)
	if h.Typeflag == tar.TypeDir {
		defer func() { p.known[name] = true }()
	}
	dir := path.Dir(name)
	if p.known[dir] {
		return nil
	}
	resolved, err := cfs.RootPath(p.root, dir)
	if err != nil {
		return err
	}
	resolved = strings.TrimPrefix(resolved, p.root)
	for i := 1; i <= len(resolved); i++ {
		if i < len(resolved) && resolved[i] != '/' {
			continue
		}
		part := resolved[:i]
		switch err := os.Mkdir(p.root+part, 0o755); {
		case errors.Is(err, fs.ErrExist):
			continue
		case errors.Is(err, syscall.ENOTDIR):
			return nil
		case err != nil:
			return err
		}
		if err := p.inherit(part); err != nil {
			return err
		}
	}
	p.known[dir] = true
	return nil
}

// inherit gives a new directory the looks of the one below.
func (p *parentDirs) inherit(dir string) error {
	fi := p.below(dir)
	if fi == nil {
		return os.Chmod(p.root+dir, 0o755)
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("stat without owner")
	}
	p.made[dir] = fi
	if err := os.Lchown(p.root+dir, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return os.Chmod(p.root+dir, fi.Mode())
}

// below finds the directory of that name in the layers below, if it is one.
func (p *parentDirs) below(dir string) fs.FileInfo {
	if fi := lookupBelow(p.lowers, dir); fi != nil && fi.IsDir() {
		return fi
	}
	return nil
}

// settle sets the times of the directories made, after all was put into them.
func (p *parentDirs) settle() error {
	for dir, fi := range p.made {
		if now, err := os.Lstat(p.root + dir); err != nil || !now.IsDir() {
			continue // replaced by a later entry
		}
		if err := os.Chtimes(p.root+dir, fi.ModTime(), fi.ModTime()); err != nil {
			return err
		}
	}
	return nil
}

// lookupBelow finds what the overlay of layers, topmost first, has at name,
// following no symbolic link. Nil if there is nothing.
func lookupBelow(layers []string, name string) fs.FileInfo {
	for _, layer := range layers {
		fi, hidden := lookup(layer, name)
		if fi != nil && fi.Mode()&fs.ModeCharDevice == 0 {
			return fi
		}
		if hidden {
			break
		}
	}
	return nil
}

// lookup finds name in one layer. hidden tells that nothing of the layers below
// shows there, because of a file, a whiteout or an opaque directory on the way.
func lookup(layer, name string) (_ fs.FileInfo, hidden bool) {
	for i := 1; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		fi, err := os.Lstat(layer + name[:i])
		if err != nil {
			return nil, hidden
		}
		hidden = hidden || !fi.IsDir() || isOpaque(layer+name[:i])
		if i == len(name) {
			return fi, hidden
		}
		if !fi.IsDir() {
			return nil, true
		}
	}
	return nil, hidden
}

func isOpaque(dir string) bool {
	v, err := sysx.LGetxattr(dir, "trusted.overlay.opaque")
	return err == nil && string(v) == "y"
}
