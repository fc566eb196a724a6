package engine

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"novaagent/engine/kernel"
)

// The agent compresses a log's rotated files, so that the shim stays small and never waits for it. A file keeps its name, which
// the shim goes on to count up; the beginning of the content tells that it is compressed. Files that are rotated while no agent
// runs are compressed by the next one.

// compressLog begins to compress t's rotated log files, unless that is under way. It ends by itself after t's
// process. The caller holds t's lock.
func (e *Engine) compressLog(t *tracked) {
	if e.record(t).Spec.Log.Compress {
		e.logWorker(&t.compress, t, func(ctx context.Context) {
			if err := e.compressAll(ctx, t); err != nil && ctx.Err() == nil {
				e.log.Warn("a container's log is not compressed", "container_id", t.id, "error", err)
			}
		})
	}
}

func (e *Engine) compressAll(ctx context.Context, t *tracked) (err error) {
	r := &logReader{path: e.logPath(t.id)}
	defer r.close()
	if r.watch, err = kernel.WatchDir(filepath.Dir(r.path)); err != nil {
		r.watch = nil // at intervals, then
	}
	if err := os.Remove(compressing(r.path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for {
		// Asked before the look: what was rotated before the end is seen after it.
		e.mu.RLock()
		live, changed := t.rec.State.Live() || t.rec.State == Restarting, t.changed
		e.mu.RUnlock()
		if err := compressRotated(ctx, r.path); err != nil || !live {
			return err
		}
		if !r.wait(ctx, e.ctx, changed) {
			return nil
		}
	}
}

// compressing is where a file of the log at path is compressed.
func compressing(path string) string { return path + ".gz" }

// compressRotated compresses all files but the one that is written to.
func compressRotated(ctx context.Context, path string) error {
	for i, missing := 1, 0; missing < 2; i++ { // one may be missing while they are rotated
		f, err := openLogFile(rotatedPath(path, i))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			return err
		}
		if f.text == nil {
			err = f.compress(ctx, path)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// compress puts a compressed form in the place of f, wherever rotations have brought it.
func (f *openLog) compress(ctx context.Context, path string) error {
	packed, err := f.pack(ctx, compressing(path))
	if err == nil {
		err = f.replace(path, packed, kernel.Exchange)
	}
	if rerr := os.Remove(compressing(path)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// pack writes f's content to the file at to, and returns that one's inode.
func (f *openLog) pack(ctx context.Context, to string) (inode uint64, err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	id, err := f.id()
	if err != nil {
		return 0, err
	}
	z := gzip.NewWriter(out)
	z.Comment = fmt.Sprintf(logIDFormat, id)
	if _, err := io.Copy(z, &stoppable{ctx, f}); err != nil {
		return 0, err
	}
	if err := errors.Join(z.Close(), out.Sync()); err != nil { // before it takes the place of what is on the disk
		return 0, err
	}
	info, err := out.Stat()
	if err != nil {
		return 0, err
	}
	return inodeOf(info), nil
}

// stoppable is a reader that ends with its context.
type stoppable struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (s *stoppable) Read(b []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.r.Read(b)
}

// replace exchanges f for its packed form, which has that inode. While f is open no other file has its inode.
func (f *openLog) replace(path string, packed uint64, exchange func(a, b string) error) error {
	plain, err := f.inode()
	if err != nil {
		return err
	}
	_, err = takeOut(path, packed, plain, exchange)
	return err
}

// takeOut puts the file that is out, at compressing(path), in the place of the rotated file of the inode want. The shim may
// rotate between each two steps: then another file was taken out, which has to go back to where the one is that was
// put in. False: a file was rotated away, and what is out is to go with it.
func takeOut(path string, out, want uint64, exchange func(a, b string) error) (bool, error) {
	for {
		at, ok := placeOf(path, want)
		if !ok {
			return false, nil
		}
		if err := exchange(compressing(path), at); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return false, err
		}
		info, err := os.Lstat(compressing(path))
		if err != nil {
			return false, err
		}
		if got := inodeOf(info); got != want {
			if ok, err := takeOut(path, got, out, exchange); !ok || err != nil {
				return false, err
			}
			continue
		}
		return true, nil
	}
}

// placeOf finds the rotated file with that inode.
func placeOf(path string, inode uint64) (string, bool) {
	for i, missing := 1, 0; missing < 2; i++ {
		at := rotatedPath(path, i)
		info, err := os.Lstat(at)
		if err != nil {
			missing++
			continue
		}
		missing = 0
		if inodeOf(info) == inode {
			return at, true
		}
	}
	return "", false
}
