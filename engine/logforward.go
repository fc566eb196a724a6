package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"novaagent/engine/kernel"
	"novaagent/engine/logsink"
)

// The lines of a log that goes elsewhere are sent from the container's own files by a goroutine, which remembers how
// far it has come in a file beside them. So the shim stays small, docker logs works with every driver, a server that
// is slow or gone never holds a container up, and what a container writes while no agent runs is sent by the
// next one. A line may be sent twice if the agent dies; one is lost only if its file was rotated away unsent.

const (
	positionFile = "forwarded"
	// forwardGrace is how long a removal waits for the last lines.
	forwardGrace = 5 * time.Second
	forwardRetry = time.Second
	forwardMost  = 30 * time.Second
)

// logWorker sends or compresses the log of one container.
type logWorker struct {
	stop context.CancelFunc
	done chan struct{}
}

// checkForward reports whether lines could be sent now, as a start has to.
func (e *Engine) checkForward(ctx context.Context, rec *Container) error {
	if !rec.Spec.Log.forwarded() {
		return nil
	}
	sink, err := e.openSink(ctx, rec)
	if err != nil {
		return fmt.Errorf("failed to initialize logging driver: %w", err)
	}
	return sink.Close()
}

func (e *Engine) openSink(ctx context.Context, rec *Container) (logsink.Sink, error) {
	source, err := rec.logSource()
	if err != nil {
		return nil, err
	}
	return logsink.Open(ctx, rec.Spec.Log.Driver, logsink.Options{JournalSocket: e.opts.JournalSocket}, source, rec.Spec.Log.Options)
}

// forwardLog begins to send t's log, unless that is under way. It ends by itself when t's process has ended and all is
// sent. The caller holds t's lock.
func (e *Engine) forwardLog(t *tracked) {
	if e.record(t).Spec.Log.forwarded() {
		e.logWorker(&t.forward, t, func(ctx context.Context) { e.forwardAll(ctx, t) })
	}
}

// logWorker runs one in slot, unless there is one. The caller holds t's lock.
func (e *Engine) logWorker(slot **logWorker, t *tracked, run func(context.Context)) {
	if f := *slot; f != nil {
		select {
		case <-f.done:
		default:
			return
		}
	}
	ctx, cancel := context.WithCancel(e.ctx)
	f := &logWorker{stop: cancel, done: make(chan struct{})}
	*slot = f
	started := e.spawn("log", t.id, func(context.Context) {
		defer close(f.done)
		defer cancel()
		run(ctx)
	})
	if !started {
		close(f.done)
	}
}

// endLog ends what is done with t's log; the last lines are waited for, for at most grace.
func (e *Engine) endLog(t *tracked, grace time.Duration) {
	if c := t.compress; c != nil {
		c.stop()
		<-c.done
		t.compress = nil
	}
	if t.forward == nil {
		return
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-t.forward.done:
	case <-timer.C:
		e.log.Warn("a container is removed before all of its log was sent", "container_id", t.id)
	}
	t.forward.stop()
	<-t.forward.done
	t.forward = nil
}

// forwardAll sends until the end, and connects again when it has to.
func (e *Engine) forwardAll(ctx context.Context, t *tracked) {
	delay := forwardRetry
	for {
		sent, err := e.forwardOnce(ctx, t)
		if err == nil || ctx.Err() != nil {
			return
		}
		if sent {
			delay = forwardRetry
		}
		e.log.Warn("a container's log cannot be sent; it is tried again", "container_id", t.id, "error", err, "after", delay)
		timer := time.NewTimer(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		delay = min(2*delay, forwardMost)
	}
}

// forwardOnce sends over one connection. Nil: the process has ended, and all is sent.
func (e *Engine) forwardOnce(ctx context.Context, t *tracked) (sent bool, err error) {
	sink, err := e.openSink(ctx, e.record(t))
	if err != nil {
		return false, err
	}
	defer sink.Close()
	r := &logReader{path: e.logPath(t.id), options: LogsOptions{Stdout: true, Stderr: true, Follow: true, Tail: -1}}
	defer r.close()
	r.emit = func(l LogLine) error {
		text, whole := bytes.CutSuffix(l.Text, []byte{'\n'})
		if err := sink.Send(logsink.Line{Time: l.Time, Stderr: l.Stream == "stderr", Text: text, Partial: !whole}); err != nil {
			return err
		}
		sent = true
		return nil
	}
	dir := filepath.Dir(r.path)
	if r.watch, err = kernel.WatchDir(dir); err != nil {
		r.watch = nil // at intervals, then
	}
	if err := r.resume(readPosition(dir)); err != nil {
		return false, err
	}
	for {
		// Asked before the read: what was written before the end is read after it.
		e.mu.RLock()
		live, changed := t.rec.State.Live() || t.rec.State == Restarting, t.changed
		e.mu.RUnlock()
		_, err := r.readAll(ctx)
		err = errors.Join(err, writePosition(dir, r.position()))
		if err != nil || !live {
			return sent, err
		}
		if !r.wait(ctx, e.ctx, changed) {
			return sent, ctx.Err()
		}
	}
}

// position is a place in one of a log's files.
type position struct {
	id     uint64 // logFile.id
	offset int64
}

func readPosition(dir string) (p position) {
	text, err := os.ReadFile(filepath.Join(dir, positionFile))
	if err != nil {
		return p
	}
	if _, err := fmt.Sscanf(string(text), "%d %d\n", &p.id, &p.offset); err != nil {
		return position{}
	}
	return p
}

func writePosition(dir string, p position) error {
	if p.id == 0 {
		return nil
	}
	path := filepath.Join(dir, positionFile)
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, "%d %d\n", p.id, p.offset), 0o600); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	return nil
}

// position is behind the last entry that was passed on; none at the beginning of a file, whose id may not be final yet.
func (r *logReader) position() position {
	if r.file == nil || r.passed == 0 {
		return position{}
	}
	id, err := r.file.id()
	if err != nil {
		return position{}
	}
	return position{id, r.passed}
}

// resume opens the file that p is in at its place; if it is not there any more, the oldest one at its beginning.
func (r *logReader) resume(p position) error {
	files := r.files()
	offset := int64(0)
	for i, f := range files {
		if f.id == p.id {
			files, offset = files[i:], p.offset
			break
		}
	}
	if len(files) == 0 {
		return nil
	}
	r.older = files[1:]
	return r.open(files[0], offset)
}

func inodeOf(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
