package main

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"novaagent/engine/shim/wire"
)

// ended is a process that ends with output in its pipes, and what its client hears of it.
func ended(t *testing.T, stdout, stderr string, close bool) []string {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &shim{listener: -1, stateDir: -1}
	var err error
	s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	check(err)
	defer syscall.Close(s.epoll)
	p := &process{s: s, stdin: -1}
	output := func(id uint8, text string) *stream {
		var ends [2]int
		check(syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK))
		_, err := write(ends[1], []byte(text))
		check(err)
		if close {
			check(syscall.Close(ends[1]))
		} else {
			t.Cleanup(func() { syscall.Close(ends[1]) })
		}
		return &stream{p: p, fd: ends[0], id: id}
	}
	p.out, p.err = output(wire.StreamStdout, stdout), output(wire.StreamStderr, stderr)
	p.begin()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	check(err)
	if !s.addConn(pair[0]) {
		t.Fatal("no connection")
	}
	p.pidfd, err = syscall.Dup(pair[1])
	check(err)
	c := s.conns[0]
	c.owner = true
	p.attach(c, wire.StreamStdout|wire.StreamStderr)
	p.hasEnded(0)
	c.close()
	for _, st := range []*stream{p.out, p.err} {
		if st.fd >= 0 {
			s.drop(st.fd)
		}
	}
	f := os.NewFile(uintptr(pair[1]), "")
	defer f.Close()
	var heard []string
	for {
		var head [wire.HeaderSize]byte
		if _, err := f.Read(head[:]); err != nil {
			break
		}
		h, err := wire.ParseHeader(head[:])
		check(err)
		data := make([]byte, h.Length)
		if h.Length > 0 {
			_, err = f.Read(data)
			check(err)
		}
		switch h.Type {
		case wire.Output:
			heard = append(heard, fmt.Sprintf("%d %s", h.Arg, bytes.TrimSpace(data)))
		case wire.OutputEnd:
			heard = append(heard, "end")
		case wire.Exited:
			heard = append(heard, "exited")
		}
	}
	return heard
}

// TestBothStreamsAreHeardBeforeTheEnd is about a process that is known to have ended before any of its
// output was read.
func TestBothStreamsAreHeardBeforeTheEnd(t *testing.T) {
	want := fmt.Sprintf("[%d out %d err end exited]", wire.StreamStdout, wire.StreamStderr)
	for _, closed := range []bool{true, false} {
		if got := fmt.Sprint(ended(t, "out\n", "err\n", closed)); got != want {
			t.Errorf("pipes closed %v: %s, want %s", closed, got, want)
		}
	}
}
