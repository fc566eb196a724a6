package engine

import (
	"bytes"
	"encoding/json"
	"time"
	"unicode/utf8"
)

// parseEntry reads one line of a log file, an object of Docker's json-file format. The text is appended to
// buf, which may be nil. False: it is none.
func parseEntry(line, buf []byte) (LogLine, bool) {
	if l, ok := parsePlainEntry(line, buf); ok {
		return l, true
	}
	var j struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if err := json.Unmarshal(line, &j); err != nil {
		return LogLine{}, false
	}
	return LogLine{Time: j.Time, Stream: j.Stream, Text: append(buf, j.Log...)}, true
}

// parsePlainEntry reads what the shim writes, ten times faster than package json. False: another one
// has to look at it.
func parsePlainEntry(line, buf []byte) (l LogLine, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(`{"log":"`))
	if !ok {
		return l, false
	}
	if buf, rest, ok = appendUnescaped(buf, rest); !ok {
		return l, false
	}
	l.Text = buf
	switch {
	case bytes.HasPrefix(rest, []byte(`,"stream":"stdout"`)):
		l.Stream = "stdout"
	case bytes.HasPrefix(rest, []byte(`,"stream":"stderr"`)):
		l.Stream = "stderr"
	default:
		return l, false
	}
	rest, ok = bytes.CutPrefix(rest[len(`,"stream":"stdout"`):], []byte(`,"time":"`))
	if !ok {
		return l, false
	}
	stamp, found := bytes.CutSuffix(rest, []byte("\"}\n"))
	return l, found && l.Time.UnmarshalText(stamp) == nil
}

// appendUnescaped appends what the inside of a JSON string stands for. rest is what follows its closing quote. Not ok: it
// is not whole, or there is something in it that the shim does not write.
func appendUnescaped(b, in []byte) (out, rest []byte, ok bool) {
	start := 0
	for i := 0; i < len(in); i++ {
		switch c := in[i]; {
		case c == '"':
			b = append(b, in[start:i]...)
			return b, in[i+1:], utf8.Valid(in[:i])
		case c < ' ':
			return b, nil, false
		case c != '\\':
			continue
		}
		b = append(b, in[start:i]...)
		if i++; i == len(in) {
			return b, nil, false
		}
		switch c := in[i]; c {
		case '"', '\\':
			b = append(b, c)
		case 'n':
			b = append(b, '\n')
		case 'r':
			b = append(b, '\r')
		case 't':
			b = append(b, '\t')
		case 'u':
			r, ok := hex4(in[i+1:])
			if !ok || 0xd800 <= r && r < 0xe000 { // half of a pair
				return b, nil, false
			}
			b = utf8.AppendRune(b, r)
			i += 4
		default:
			return b, nil, false
		}
		start = i + 1
	}
	return b, nil, false
}

// hex4 is the number that b's first four digits are.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
