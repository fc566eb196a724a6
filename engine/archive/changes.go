package archive

import (
	"archive/tar"
	"context"
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

// ChangeKind says what became of a path, with Docker's numbers.
type ChangeKind uint8

const (
	Modified ChangeKind = 0
	Added    ChangeKind = 1
	Deleted  ChangeKind = 2
)

// Change is one path that is not as in the layers below.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

// Changes compares the upper directory of an overlay with the file system of the layers below, and
// leaves out what hidden names if it was added and is empty: the engine's own mount points.
// The result is sorted by path.
//
// A directory counts as changed if its owner or mode is another one, or its time, or if
// something in it was added or deleted. The upper directory is walked by descriptor: the
// container may be exchanging what is in it for links.
//
// Everything is done with the caller's rights; to read the overlay's marks takes CAP_SYS_ADMIN.
func Changes(ctx context.Context, upper, lower *os.File, hidden map[string]bool) ([]Change, error) {
	c := &comparison{stop: ctx.Done(), hidden: hidden}
	if _, err := c.dir(upper, lower, "/", 0); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	slices.SortFunc(c.found, func(a, b Change) int { return comparePaths(a.Path, b.Path) })
	return c.found, nil
}

// comparePaths puts what is in a directory right behind it.
func comparePaths(a, b string) int {
	for i := range min(len(a), len(b)) {
		x, y := a[i], b[i]
		switch {
		case x == y:
			continue
		case x == '/':
			return -1
		case y == '/':
			return 1
		case x < y:
			return -1
		}
		return 1
	}
	return len(a) - len(b)
}

type comparison struct {
	stop   <-chan struct{}
	hidden map[string]bool
	found  []Change
}

// seen says what there was in a directory.
type seen struct{ changed, hidden bool }

// dir compares what is in the directory upper, a reference; lower is nil if there is no directory below.
func (c *comparison) dir(upper, lower *os.File, name string, depth int) (seen, error) {
	var s seen
	if depth > maxDepth {
		return s, fmt.Errorf("%.60s... is deeper than %d directories: %w", name, maxDepth, errdefs.ErrInvalid)
	}
	list, err := kernel.Reopen(upper, os.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return s, err
	}
	defer list.Close()
	names, err := list.Readdirnames(-1)
	if err != nil {
		return s, err
	}
	for _, n := range names {
		select {
		case <-c.stop:
			return s, nil
		default:
		}
		below, err := c.entry(upper, lower, n, path.Join(name, n), depth+1)
		if err != nil {
			return s, err
		}
		s.changed = s.changed || below.changed
		s.hidden = s.hidden || below.hidden
	}
	if lower == nil || !kernel.OverlayOpaque(list) {
		return s, nil
	}
	// It was deleted and made again: what it had and has no more shows nowhere else.
	gone, err := namesIn(lower)
	if err != nil {
		return s, err
	}
	for _, n := range gone {
		if !slices.Contains(names, n) {
			c.found = append(c.found, Change{path.Join(name, n), Deleted})
			s.changed = true
		}
	}
	return s, nil
}

func namesIn(dir *os.File) ([]string, error) {
	list, err := kernel.Reopen(dir, os.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	return list.Readdirnames(-1)
}

// entry compares one entry of an upper directory. What it returns is about that directory:
// changed, if the entry was added or deleted.
func (c *comparison) entry(upperDir, lowerDir *os.File, name, full string, depth int) (seen, error) {
	upper, info, err := reference(upperDir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return seen{}, nil // gone meanwhile
	}
	if err != nil {
		return seen{}, err
	}
	defer upper.Close()
	var lower *os.File
	var below fs.FileInfo
	if lowerDir != nil {
		lower, below, err = reference(lowerDir, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return seen{}, err
		}
		if err == nil {
			defer lower.Close()
		}
	}
	if kind, major, minor := kernel.DeviceOf(upper); kind == 'c' && major == 0 && minor == 0 {
		if below == nil {
			return seen{}, nil
		}
		c.found = append(c.found, Change{full, Deleted})
		return seen{changed: true}, nil
	}
	if !info.IsDir() {
		if below == nil && c.hidden[full] && info.Size() == 0 {
			return seen{hidden: true}, nil
		}
		return c.note(full, below), nil
	}
	if below == nil || !below.IsDir() {
		lower = nil
	}
	before := len(c.found)
	in, err := c.dir(upper, lower, full, depth)
	if err != nil {
		return seen{}, err
	}
	switch {
	case below == nil && c.hidden[full] && len(c.found) == before:
		return seen{hidden: true}, nil
	case lower == nil || in.changed || differ(info, below, in.hidden):
		return c.note(full, below), nil
	}
	return seen{}, nil
}

// note notes that full, which was below if that is not nil, is now another one.
func (c *comparison) note(full string, below fs.FileInfo) seen {
	kind := Modified
	if below == nil {
		kind = Added
	}
	c.found = append(c.found, Change{full, kind})
	return seen{changed: kind == Added}
}

// differ compares directories. The time says nothing where the engine has made something of its own.
func differ(a, b fs.FileInfo, anyTime bool) bool {
	x, okX := a.Sys().(*syscall.Stat_t)
	y, okY := b.Sys().(*syscall.Stat_t)
	return !okX || !okY || a.Mode() != b.Mode() || x.Uid != y.Uid || x.Gid != y.Gid ||
		!anyTime && !a.ModTime().Truncate(time.Second).Equal(b.ModTime().Truncate(time.Second))
}

// reference opens name in dir, itself if it is a link.
func reference(dir *os.File, name string) (*os.File, fs.FileInfo, error) {
	f, err := kernel.OpenInRoot(dir, name, kernel.OPath|syscall.O_NOFOLLOW)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// WriteLayer writes changes as the tar stream of a layer: what was added or modified as it is in root,
// and a whiteout for what was deleted
// (https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#whiteouts).
func (r Root) WriteLayer(w io.Writer, changes []Change) error {
	tw := newWriter(w, r.IDs)
	tw.flat = true
	for _, c := range changes {
		name := strings.TrimPrefix(c.Path, "/")
		if c.Kind == Deleted {
			dir, base := path.Split(name)
			if err := tw.w.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: dir + ".wh." + base}); err != nil {
				return err
			}
			continue
		}
		// A directory on the way that has become a link since the comparison leads nowhere else but here.
		f, info, err := reference(r.Dir, name)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			continue // gone meanwhile
		}
		if err != nil {
			return err
		}
		err = tw.add(f, info, name, 0)
		f.Close()
		if err != nil {
			return err
		}
	}
	return tw.w.Close()
}
