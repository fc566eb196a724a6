package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// LogsOptions say which lines of a log are wanted.
type LogsOptions struct {
	Stdout, Stderr bool
	// Since and Until bound the lines' time unless zero.
	Since, Until time.Time
	// Tail is how many of the latest lines to begin with; negative for all. Lines of an
	// unwanted stream count, as with Docker's json-file.
	Tail int
	// Follow goes on with new lines until the container has ended.
	Follow bool
	// Pause, if set, is called before new lines are waited for. Its error ends all.
	Pause func() error
}

// LogLine is a line of a log, or a piece of a line that was long.
type LogLine struct {
	Time   time.Time
	Stream string // "stdout" or "stderr"
	Text   []byte // with its newline, if it ends with one; valid until the callback returns
}

// Logs calls f with each wanted line, until there is none, ctx ends (which is no error when
// following) or f fails. ErrUnsupported: LogConfig.Readable.
func (e *Engine) Logs(ctx context.Context, ref string, o LogsOptions, f func(LogLine) error) error {
	t, err := e.find(ref)
	if err != nil {
		return err
	}
	if rec := e.record(t); !rec.Spec.Log.Readable() {
		return fmt.Errorf("configured logging driver does not support reading: %w", errdefs.ErrUnsupported)
	}
	r := &logReader{path: e.logPath(t.id), options: o, emit: f}
	defer r.close()
	if o.Follow {
		// Before the first read, so that no change is missed.
		if r.watch, err = kernel.WatchDir(filepath.Dir(r.path)); err != nil {
			e.log.Warn("following a log by looking at intervals", "container_id", t.id, "error", err)
			r.watch = nil
		}
	}
	if err := r.start(); err != nil {
		return fmt.Errorf("container %s: logs: %w", short(t.id), err)
	}
	for {
		// Asked before the read: what was written before the end is read after it.
		e.mu.RLock()
		live, changed := t.rec.State.Live() || t.rec.State == Restarting, t.changed
		e.mu.RUnlock()
		done, err := r.readAll(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("container %s: logs: %w", short(t.id), err)
		case done || !o.Follow || !live:
			return nil
		}
		if o.Pause != nil {
			if err := o.Pause(); err != nil {
				return fmt.Errorf("container %s: logs: %w", short(t.id), err)
			}
		}
		if !r.wait(ctx, e.ctx, changed) {
			return nil
		}
	}
}

// maxLogEntry bounds a line of a log file; the shim splits longer ones at 16 KiB,
// which JSON's escapes can make six times as long.
const maxLogEntry = 1 << 20

// logReader reads a json-file log with its rotated predecessors.
type logReader struct {
	path    string
	options LogsOptions
	emit    func(LogLine) error
	watch   *kernel.DirWatch
	older   []logFile // rotated files that are to be read first, the oldest first
	file    *openLog
	buf     *bufio.Reader
	partial []byte // the beginning of an entry that is being written
	text    []byte // of the last entry
	passed  int64  // where in file the entries that were passed on end
}

func (r *logReader) close() {
	if r.file != nil {
		r.file.Close()
	}
	if r.watch != nil {
		r.watch.Close()
	}
}

// start opens the file to begin with, at the place that Tail means.
func (r *logReader) start() (err error) {
	for range 10 {
		files, offset := r.files(), int64(0)
		if len(files) == 0 {
			return nil
		}
		if r.options.Tail >= 0 {
			files, offset, err = tailStart(files, r.options.Tail)
		}
		if err == nil {
			err = r.open(files[0], offset)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				r.older = files[1:]
			}
			return err
		}
		// It may have got its first line, and another id with that, or been rotated away.
	}
	return err
}

// readAll passes on all there is. done means that no later line is wanted.
func (r *logReader) readAll(ctx context.Context) (done bool, err error) {
	for {
		if r.file != nil {
			if done, err := r.readFile(ctx); done || err != nil {
				return done, err
			}
		}
		next, err := r.next()
		if err != nil || !next {
			return false, err
		}
	}
}

// next opens the file that follows the one that was read to its end, if there is one.
func (r *logReader) next() (bool, error) {
	for len(r.older) > 0 {
		file := r.older[0]
		r.older = r.older[1:]
		if err := r.open(file, 0); !errors.Is(err, fs.ErrNotExist) {
			return true, err
		}
	}
	latest, err := os.Stat(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // not begun, or just being rotated
	}
	if err != nil {
		return false, err
	}
	if r.file == nil {
		f, err := openLogFile(r.path)
		if err != nil {
			return false, err
		}
		return true, r.use(f, 0)
	}
	mine, err := r.file.Stat()
	if err != nil || os.SameFile(mine, latest) {
		return false, err
	}
	// It was rotated. What was written to ours until then has to be read first.
	if more, err := r.hasMore(); more || err != nil {
		return more, err
	}
	// More than one rotation may have happened: go on after ours, if it is still there.
	id, err := r.file.id()
	if err != nil {
		return false, err
	}
	for range 10 {
		files := r.files()
		if i := slices.IndexFunc(files, func(f logFile) bool { return f.id == id }); i >= 0 {
			files = files[i+1:]
		}
		if len(files) == 0 {
			return false, nil
		}
		// It may have got its first line, and another id with that, or been rotated away.
		if err := r.open(files[0], 0); !errors.Is(err, fs.ErrNotExist) {
			r.older = files[1:]
			return true, err
		}
	}
	return false, nil
}

func (r *logReader) hasMore() (bool, error) {
	if r.file.text != nil {
		return false, nil // nothing is added to it
	}
	info, err := r.file.Stat()
	if err != nil {
		return false, err
	}
	at, err := r.file.Seek(0, io.SeekCurrent)
	return at-int64(r.buf.Buffered()) < info.Size(), err
}

// readFile passes on the whole entries up to the end of the file.
func (r *logReader) readFile(ctx context.Context) (done bool, err error) {
	for {
		if ctx.Err() != nil {
			return true, nil
		}
		line, err := r.buf.ReadSlice('\n')
		if len(r.partial) > 0 || err != nil {
			r.partial = append(r.partial, line...)
			line = r.partial
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if len(r.partial) > maxLogEntry {
				r.partial = r.partial[:0] // of no shim
			}
			continue
		case errors.Is(err, io.EOF):
			return false, nil // the partial entry is kept until there is more
		case err != nil:
			return false, err
		}
		done, err := r.entry(line)
		if err == nil {
			r.passed += int64(len(line))
		}
		r.partial = r.partial[:0]
		if done || err != nil {
			return done, err
		}
	}
}

// entry passes one line of the file on, if it is wanted.
func (r *logReader) entry(line []byte) (done bool, err error) {
	l, ok := parseEntry(line, r.text[:0])
	if !ok {
		return false, nil // torn by a crash of the machine
	}
	r.text = l.Text
	o := &r.options
	switch {
	case !o.Until.IsZero() && l.Time.After(o.Until):
		return true, nil
	case !o.Since.IsZero() && l.Time.Before(o.Since),
		l.Stream == "stdout" && !o.Stdout, l.Stream == "stderr" && !o.Stderr:
		return false, nil
	}
	return false, r.emit(l)
}

// wait returns true when it is worth while to look again.
func (r *logReader) wait(ctx, engine context.Context, changed <-chan struct{}) bool {
	var until <-chan time.Time
	if !r.options.Until.IsZero() {
		timer := time.NewTimer(time.Until(r.options.Until))
		defer timer.Stop()
		until = timer.C
	}
	var events <-chan struct{}
	var interval <-chan time.Time
	if r.watch != nil {
		events = r.watch.Changed()
	} else {
		timer := time.NewTimer(200 * time.Millisecond)
		defer timer.Stop()
		interval = timer.C
	}
	select {
	case <-events:
	case <-interval:
	case <-changed:
	case <-until:
		return false
	case <-ctx.Done():
		return false
	case <-engine.Done():
		return false
	}
	return true
}

// LogTail returns the last lines of a container's log, all if lines is negative,
// streams mixed as they came.
func (e *Engine) LogTail(ctx context.Context, ref string, lines int) (string, error) {
	var b strings.Builder
	err := e.Logs(ctx, ref, LogsOptions{Stdout: true, Stderr: true, Tail: lines}, func(l LogLine) error {
		b.Write(l.Text)
		return nil
	})
	return b.String(), err
}
