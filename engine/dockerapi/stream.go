package dockerapi

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// session is a connection that has become a stream.
type session struct {
	conn   net.Conn
	in     *bufio.Reader
	cancel context.CancelFunc
	mu     sync.Mutex // one frame at a time
	opened chan struct{}
	raw    bool // no frames
	head   string
	once   sync.Once
	done   sync.WaitGroup
}

// hijack takes over the connection. Nothing is written to it until open, so that
// an error can still be answered with fail. ctx ends when the client has gone.
func (r *request) hijack(raw bool) (*session, context.Context, error) {
	if r.ContentLength > 0 { // dockerode has one for attach; it is not the stream's
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(nil, r.Body, maxBody)); err != nil {
			return nil, nil, fmt.Errorf("the body of the request: %v: %w", err, errdefs.ErrInvalid)
		}
	}
	conn, buf, err := http.NewResponseController(r.w).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("this connection cannot become a stream: %v: %w", err, errdefs.ErrInvalid)
	}
	media := types.MediaTypeRawStream
	if !raw && r.version >= 42 {
		media = types.MediaTypeMultiplexedStream
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + media + "\r\n\r\n"
	if r.Header.Get("Upgrade") != "" {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + media + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	// The request's own context says nothing any more.
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	s := &session{conn: conn, in: buf.Reader, cancel: cancel, opened: make(chan struct{}), raw: raw, head: head}
	if rec, ok := r.w.(*recorder); ok {
		rec.status = http.StatusSwitchingProtocols
	}
	return s, ctx, nil
}

// open sends the header; output that is waiting follows.
func (s *session) open() error {
	_, err := io.WriteString(s.conn, s.head)
	close(s.opened)
	return err
}

// fail answers an error instead of open.
func (s *session) fail(err error) {
	r := &http.Response{
		StatusCode: statusOf(err), ProtoMajor: 1, ProtoMinor: 1, Close: true,
		Header: http.Header{"Content-Type": {"application/json"}},
	}
	body := errorBody(err)
	r.Body, r.ContentLength = io.NopCloser(body), int64(body.Len())
	_ = r.Write(s.conn) // the client is gone
}

// close ends the stream and waits for its goroutine.
func (s *session) close() {
	s.cancel()
	s.conn.Close()
	s.done.Wait()
}

// stdin is what the client sends.
func (s *session) stdin() io.Reader { return stdinReader{s} }

type stdinReader struct{ s *session }

func (r stdinReader) Read(b []byte) (int, error) {
	n, err := r.s.in.Read(b)
	if err != nil {
		r.s.watchHangup(err)
	}
	return n, err
}

// ignoreStdin reads what the client sends when nobody wants it, to see it go.
func (s *session) ignoreStdin() {
	s.done.Go(func() { _, _ = io.Copy(io.Discard, s.stdin()) })
}

// watchHangup cancels the session when the client closes the connection for good, after it
// has closed its sending half: until then it may still be listening.
func (s *session) watchHangup(err error) {
	s.once.Do(func() {
		if secure, ok := s.conn.(*tls.Conn); ok && errors.Is(err, io.EOF) {
			// Its sending half ended within TLS. The connection below ends when the client has gone.
			s.done.Go(func() {
				_, _ = io.Copy(io.Discard, secure.NetConn())
				s.cancel()
			})
			return
		}
		sc, ok := s.conn.(syscall.Conn)
		if !errors.Is(err, io.EOF) || !ok {
			s.cancel()
			return
		}
		raw, err := sc.SyscallConn()
		if err != nil {
			s.cancel()
			return
		}
		s.done.Go(func() {
			// The poller wakes it; it returns when the connection is closed here, too.
			_ = raw.Read(func(fd uintptr) bool { return kernel.HungUp(int(fd)) })
			s.cancel()
		})
	})
}

// stdout and stderr are the client's ends of the output.
func (s *session) stdout() io.Writer { return s.writer(stdcopy.Stdout) }
func (s *session) stderr() io.Writer { return s.writer(stdcopy.Stderr) }

func (s *session) writer(stream stdcopy.StdType) io.Writer {
	if s.raw {
		return &frameWriter{s: s, stream: -1}
	}
	return &frameWriter{s: s, stream: int(stream)}
}

type frameWriter struct {
	s      *session
	stream int // negative for none
}

// Write implements io.Writer; it waits for open.
func (w *frameWriter) Write(b []byte) (int, error) {
	<-w.s.opened
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	if w.stream < 0 {
		return w.s.conn.Write(b)
	}
	return writeFrame(w.s.conn, byte(w.stream), b)
}

// writeFrame writes b as a frame of Docker's multiplexed stream: the stream's number, three
// zeros, the length, the bytes.
func writeFrame(w io.Writer, stream byte, b []byte) (int, error) {
	head := [8]byte{stream}
	binary.BigEndian.PutUint32(head[4:], uint32(len(b)))
	if conn, ok := w.(net.Conn); ok {
		buffers := net.Buffers{head[:], b}
		n, err := buffers.WriteTo(conn)
		return max(0, int(n)-len(head)), err
	}
	if _, err := w.Write(head[:]); err != nil {
		return 0, err
	}
	return w.Write(b)
}
