package dockerapi

import (
	"fmt"
	"io"
	"strings"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// defaultDetachKeys are Docker's: ctrl-p, ctrl-q.
var defaultDetachKeys = []byte{16, 17}

// parseDetachKeys reads "ctrl-a,b"-like text (moby/term, ToBytes).
func parseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		return defaultDetachKeys, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		control, isControl := strings.CutPrefix(key, "ctrl-")
		switch {
		case len(key) == 1:
			keys = append(keys, key[0])
		case isControl && len(control) == 1 && control[0] >= 'a' && control[0] <= 'z':
			keys = append(keys, control[0]-'a'+1)
		case isControl && len(control) == 1 && strings.Contains("@[\\]^_", control):
			keys = append(keys, control[0]-'@')
		default:
			return nil, fmt.Errorf("invalid escape keys (%s): unknown character: '%s': %w", text, key, errdefs.ErrInvalid)
		}
	}
	return keys, nil
}

// detachReader passes keys on until the sequence comes; then it calls detach, once, and
// blocks until gone is closed: the end of the client's input would mean something else.
type detachReader struct {
	in      io.Reader
	keys    []byte
	detach  func()
	gone    <-chan struct{}
	matched int
	pending []byte // to be passed on before more is read
	over    bool   // the sequence has come
}

// detach is what a client's detachReader calls: it tells of it and ends the stream.
func (s *server) detach(container string, action engine.Action, details map[string]string, end func()) func() {
	return func() {
		s.engine.Tell(container, action, details)
		end()
	}
}

// Read implements io.Reader.
func (d *detachReader) Read(b []byte) (int, error) {
	for len(d.pending) == 0 {
		if d.over {
			d.detach()
			<-d.gone
			return 0, io.EOF
		}
		buf := make([]byte, max(1, min(len(b), 4096)))
		n, err := d.in.Read(buf)
		for _, c := range buf[:n] {
			if c == d.keys[d.matched] {
				if d.matched++; d.matched == len(d.keys) {
					d.over = true
					break
				}
				continue
			}
			// What looked like the sequence was not.
			d.pending = append(d.pending, d.keys[:d.matched]...)
			d.matched = 0
			if c == d.keys[0] && len(d.keys) > 1 {
				d.matched = 1
			} else {
				d.pending = append(d.pending, c)
			}
		}
		if err != nil && !d.over {
			d.pending = append(d.pending, d.keys[:d.matched]...)
			d.matched = 0
			if len(d.pending) == 0 {
				return 0, err
			}
		}
	}
	n := copy(b, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}
