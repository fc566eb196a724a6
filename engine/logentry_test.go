package engine

import (
	"encoding/json"
	"testing"
	"time"
)

// FuzzLogEntry holds parsePlainEntry against package json: what it takes, it takes for the same.
func FuzzLogEntry(f *testing.F) {
	for _, text := range []string{
		`plain\n`, `\u0000\u007f\t\r\"\\ \u2028 \u003c`, "é\U0001f600", "\xff", `\ud83d\ude00`, `\ud83d`, `\u12`, `\`, `\x`, `\/`, "a\tb", `","stream":"stderr`,
	} {
		f.Add([]byte(`{"log":"` + text + `","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}` + "\n"))
	}
	f.Add([]byte(`{"log":"","stream":"stderr","time":"2026-01-02T03:04:05.1+01:00"}` + "\n"))
	f.Add([]byte(`{"log":"","stream":"stderr","time":"2026-13-02T03:04:05Z"}` + "\n"))
	f.Add([]byte(`{"log":"x","log":"y","stream":"stderr","time":"2026-01-02T03:04:05Z"}` + "\n"))
	f.Add([]byte(`{"log":"x","stream":"stderr","time":"2026-01-02T03:04:05Z"}{}` + "\n"))
	f.Add([]byte(`{"log":"x","stream":"stderr","attrs":{"a":"b"},"time":"2026-01-02T03:04:05Z"}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, ok := parsePlainEntry(line, []byte("kept "))
		if !ok {
			return
		}
		var want struct {
			Log, Stream string
			Time        time.Time
		}
		if err := json.Unmarshal(line, &want); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if string(got.Text) != "kept "+want.Log || got.Stream != want.Stream || !got.Time.Equal(want.Time) {
			t.Errorf("%q: %q of %s at %s, want %+v", line, got.Text, got.Stream, got.Time, want)
		}
	})
}

// TestLogEntry: what the shim writes takes the short way, and the other entries are read as well.
func TestLogEntry(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		plain      bool
	}{
		{`{"log":"a \"b\" \\ \u003c\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}` + "\n", "a \"b\" \\ <\n", true},
		{`{"stream":"stdout","log":"\ud83d\ude00","time":"2026-01-02T03:04:05.000000006Z"}`, "\U0001f600", false},
	} {
		if _, ok := parsePlainEntry([]byte(tt.line), nil); ok != tt.plain {
			t.Errorf("%s: plain: %t", tt.line, ok)
		}
		l, ok := parseEntry([]byte(tt.line), nil)
		if !ok || string(l.Text) != tt.want || l.Stream != "stdout" || l.Time.Nanosecond() != 6 {
			t.Errorf("%s: %q %+v %t", tt.line, l.Text, l, ok)
		}
	}
	if l, ok := parseEntry([]byte(`{"log":"torn`), nil); ok {
		t.Errorf("a torn entry: %+v", l)
	}
}
