package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestAppendTime(t *testing.T) {
	for _, want := range []time.Time{
		time.Unix(0, 1), time.Unix(951_782_400, 999_999_999), // 2000-02-29
		time.Date(2024, 2, 29, 23, 59, 59, 5, time.UTC), time.Date(2100, 3, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 12, 31, 12, 30, 45, 123456789, time.UTC),
	} {
		text := string(appendTime(nil, want.UnixNano()))
		if got, err := time.Parse(time.RFC3339Nano, text); err != nil || !got.Equal(want) {
			t.Errorf("%s, want %s (%v)", text, want.UTC(), err)
		}
	}
	for day := int64(0); day < 80_000; day += 13 {
		want := time.Unix(day*86400, 0).UTC().Format("2006-01-02")
		if got := string(appendTime(nil, day*86400*1e9))[:10]; day*86400 < 9e9 && got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{"plain\n", "\x00\x7f\t\"\\<>&", "\xff\xc0", "\u2028\u2029é\U0001f600", `{"log":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b := appendRecord(nil, text, "stdout", 0)
		if strings.Count(string(b), "\n") != 1 || b[len(b)-1] != '\n' {
			t.Fatalf("not one line: %q", b)
		}
		var r struct{ Log, Stream, Time string }
		if err := json.Unmarshal(b, &r); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		want := string(text)
		if !utf8.ValidString(want) {
			want = string([]rune(want))
		}
		if r.Log != want || r.Stream != "stdout" {
			t.Errorf("%q became %q", text, r.Log)
		}
	})
}
