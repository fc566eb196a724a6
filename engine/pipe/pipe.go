// Package pipe joins a goroutine that writes a stream to one that reads it, as io.Pipe does, but by buffers: both
// work at the same time, and the threads that work on a container's files, which change hands slowly, are not
// switched to for each header of a tar stream.
package pipe

import (
	"io"
	"sync"
)

const (
	chunkBytes = 256 << 10
	chunks     = 4
)

// New returns both ends of a pipe. It holds up to a megabyte.
func New() (*Reader, *Writer) {
	s := &state{full: make(chan []byte, chunks), free: make(chan []byte, chunks), stopped: make(chan struct{})}
	for range chunks {
		s.free <- nil // made when it is needed
	}
	return &Reader{s: s}, &Writer{s: s}
}

// state is what both ends share.
type state struct {
	full, free chan []byte
	once       sync.Once
	stopped    chan struct{} // closed by stop
	err        error         // why; read after stopped is closed
}

func (s *state) stop(err error) {
	s.once.Do(func() {
		s.err = err
		close(s.stopped)
	})
}

// Writer is the end that is written to. One goroutine uses it; any may call Abort.
type Writer struct {
	s     *state
	chunk []byte // what is not passed on yet
}

// room makes sure that there is some in w.chunk.
func (w *Writer) room() error {
	if len(w.chunk) < cap(w.chunk) {
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	select {
	case w.chunk = <-w.s.free:
	case <-w.s.stopped:
		return w.s.err
	}
	if w.chunk == nil {
		w.chunk = make([]byte, 0, chunkBytes)
	}
	w.chunk = w.chunk[:0]
	return nil
}

// flush passes w.chunk on. There is always room for it: there are no more chunks than that.
func (w *Writer) flush() error {
	if len(w.chunk) > 0 {
		w.s.full <- w.chunk
		w.chunk = nil
	}
	select {
	case <-w.s.stopped:
		return w.s.err
	default:
		return nil
	}
}

// Write implements io.Writer. The reader gets what is written once it is much, or all.
func (w *Writer) Write(b []byte) (n int, err error) {
	for len(b) > 0 {
		if err := w.room(); err != nil {
			return n, err
		}
		part := b[:min(len(b), cap(w.chunk)-len(w.chunk))]
		w.chunk = append(w.chunk, part...)
		b, n = b[len(part):], n+len(part)
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom. The reader gets what is read at once.
func (w *Writer) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		if err := w.room(); err != nil {
			return total, err
		}
		n, err := r.Read(w.chunk[len(w.chunk):cap(w.chunk)])
		w.chunk = w.chunk[:len(w.chunk)+n]
		total += int64(n)
		if n > 0 {
			if err := w.flush(); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// Close ends the stream: the reader gets the rest, and then io.EOF. Nothing is written after it.
func (w *Writer) Close() error {
	err := w.flush()
	close(w.s.full)
	return err
}

// Abort ends the stream at once: both ends fail with err, unless they have ended already.
func (w *Writer) Abort(err error) { w.s.stop(err) }

// Reader is the end that is read from. One goroutine uses it; any may call Close and Abort.
type Reader struct {
	s     *state
	chunk []byte // whole, to be given back
	rest  []byte // of it, not read yet
}

// next makes sure that there is something in r.rest.
func (r *Reader) next() error {
	if len(r.rest) > 0 {
		return nil
	}
	if r.chunk != nil {
		r.s.free <- r.chunk
		r.chunk = nil
	}
	select {
	case <-r.s.stopped:
		return r.s.err
	default:
	}
	select {
	case chunk, more := <-r.s.full:
		if !more {
			return io.EOF
		}
		r.chunk, r.rest = chunk, chunk
		return nil
	case <-r.s.stopped:
		return r.s.err
	}
}

// Read implements io.Reader.
func (r *Reader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if err := r.next(); err != nil {
		return 0, err
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *Reader) WriteTo(w io.Writer) (total int64, err error) {
	for {
		switch err := r.next(); err {
		case nil:
		case io.EOF:
			return total, nil
		default:
			return total, err
		}
		n, err := w.Write(r.rest)
		r.rest = r.rest[n:]
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// Close tells the writer that nobody reads any more: it fails with io.ErrClosedPipe.
func (r *Reader) Close() error {
	r.s.stop(io.ErrClosedPipe)
	return nil
}

// Abort tells the writer why nobody reads any more.
func (r *Reader) Abort(err error) { r.s.stop(err) }
