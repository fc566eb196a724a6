package main

import (
	"syscall"
)

const (
	// maxLine is where a longer line is split, as Docker does (daemon/logger/copier.go).
	maxLine = 16 << 10
	// flushAt bounds the buffer of formatted lines.
	flushAt = 64 << 10
)

// logger writes Docker's json-file format: one object a line with log, stream
// and time. A line is never torn: one that cannot be written whole (ENOSPC) is taken
// back, counted, and told about once writing works again. The file is made with the first line: to make it for
// a container that is silent, and to remove it again, takes the disk longer than the container lives.
type logger struct {
	dir      int
	name     string
	maxBytes int64 // 0: no rotation
	maxFiles int

	fd   int
	size int64
	buf  []byte

	lost      uint64 // bytes of output since the last gap was told
	lostTotal uint64
}

func newLogger(dir int, name string, maxBytes int64, maxFiles int) *logger {
	return &logger{dir: dir, name: name, maxBytes: maxBytes, maxFiles: max(maxFiles, 1), fd: -1}
}

func (l *logger) open() {
	fd, err := syscall.Openat(l.dir, l.name, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC|syscall.O_NOFOLLOW, 0o640)
	if err != nil {
		return
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		syscall.Close(fd)
		return
	}
	l.fd, l.size = fd, st.Size
}

// write logs the complete lines of data and keeps the rest in st.
func (l *logger) write(st *stream, data []byte) {
	now := clock(clockRealtime)
	for len(data) > 0 {
		n := 0
		for n < len(data) && data[n] != '\n' {
			n++
		}
		whole := n < len(data)
		if whole {
			n++
		}
		for n > 0 {
			room := maxLine - len(st.line)
			part := data[:min(n, room)]
			data, n = data[len(part):], n-len(part)
			switch {
			case len(st.line) == 0 && (n == 0 && whole || len(part) == maxLine):
				l.add(st, part, now)
			default:
				st.line = append(st.line, part...)
				if n == 0 && whole || len(st.line) == maxLine {
					l.add(st, st.line, now)
					st.line = st.line[:0]
				}
			}
		}
	}
	l.flush()
}

// finish logs an unfinished line at the end of output.
func (l *logger) finish(st *stream) {
	if len(st.line) > 0 {
		l.add(st, st.line, clock(clockRealtime))
		st.line = nil
		l.flush()
	}
}

// add formats one line.
func (l *logger) add(st *stream, text []byte, now int64) {
	if l.fd < 0 {
		l.open()
	}
	if l.lost > 0 {
		l.tellGap(now)
	}
	start := len(l.buf)
	l.buf = appendRecord(l.buf, text, streamName(st.id), now)
	l.fit(start)
	if len(l.buf) >= flushAt {
		l.flush()
	}
}

// fit rotates before the record at start would make the file too large.
func (l *logger) fit(start int) {
	if l.maxBytes == 0 || l.size+int64(len(l.buf)) <= l.maxBytes || l.size+int64(start) == 0 {
		return
	}
	record := append([]byte(nil), l.buf[start:]...)
	l.buf = l.buf[:start]
	l.flush()
	l.rotate()
	l.buf = append(l.buf[:0], record...)
}

// tellGap puts a line about lost output into the log.
func (l *logger) tellGap(now int64) {
	b := append([]byte(nil), "[nova-agent: "...)
	b = appendInt(b, int64(l.lost))
	b = append(b, " bytes of output could not be logged]\n"...)
	lost := l.lost
	l.lost = 0
	start := len(l.buf)
	l.buf = appendRecord(l.buf, b, "stderr", now)
	l.flush()
	if l.lost > 0 { // it still does not work
		l.lost, l.buf = lost, l.buf[:start]
	}
}

// flush writes the formatted lines. What does not fit is lost and counted.
func (l *logger) flush() {
	b := l.buf
	l.buf = l.buf[:0]
	if len(b) == 0 {
		return
	}
	if l.fd >= 0 {
		n, err := write(l.fd, b)
		if err == nil && n == len(b) {
			l.size += int64(n)
			return
		}
		// Keep the lines that are whole.
		whole := 0
		for i := 0; i < n; i++ {
			if b[i] == '\n' {
				whole = i + 1
			}
		}
		if n > 0 {
			syscall.Ftruncate(l.fd, l.size+int64(whole))
			l.size += int64(whole)
		}
		b = b[whole:]
	}
	l.lost += uint64(len(b))
	l.lostTotal += uint64(len(b))
}

// rotate renames name to name.1 and so on, and starts a new file.
func (l *logger) rotate() {
	if l.fd < 0 {
		return
	}
	syscall.Close(l.fd)
	l.fd = -1
	if l.maxFiles == 1 {
		syscall.Unlinkat(l.dir, l.name)
	}
	for i := l.maxFiles - 1; i >= 1; i-- {
		from := l.name
		if i > 1 {
			from = string(appendInt([]byte(l.name+"."), int64(i-1)))
		}
		syscall.Renameat(l.dir, from, l.dir, string(appendInt([]byte(l.name+"."), int64(i))))
	}
	l.size = 0
	l.open()
}

func streamName(id uint8) string {
	if id == 2 {
		return "stdout"
	}
	return "stderr"
}
