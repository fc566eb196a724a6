package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"novaagent/engine/kernel"
)

// logText is the lines from first to before end, as the shim writes them.
func logText(first, end int) []byte {
	var b strings.Builder
	for i := first; i < end; i++ {
		fmt.Fprintf(&b, `{"log":"line %d\n","stream":"stdout","time":"2026-01-02T03:04:05Z"}`+"\n", i)
	}
	return []byte(b.String())
}

// rotateLog is what the shim does.
func rotateLog(t *testing.T, path string, files int) {
	for i := files - 1; i >= 1; i-- {
		if err := os.Rename(rotatedPath(path, i-1), rotatedPath(path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// readLog returns the numbers of the last n lines.
func readLog(t *testing.T, path string, n int) (lines []int) {
	t.Helper()
	r := &logReader{path: path, options: LogsOptions{Stdout: true, Tail: n}, emit: func(l LogLine) error {
		var i int
		_, err := fmt.Sscanf(string(l.Text), "line %d", &i)
		lines = append(lines, i)
		return err
	}}
	defer r.close()
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestCompressWhileRotating has a log rotated again and again while its files are compressed: they stay in
// their order, with all their lines.
func TestCompressWhileRotating(t *testing.T) {
	const perFile, kept, rotations = 400, 6, 300
	path := filepath.Join(t.TempDir(), "console.log")
	var rotating sync.WaitGroup
	ended, end := context.WithCancel(t.Context())
	rotating.Go(func() {
		defer end()
		for i := range rotations {
			rotateLog(t, path, kept)
			if err := os.WriteFile(path, logText(i*perFile, (i+1)*perFile), 0o600); err != nil {
				t.Error(err)
			}
			time.Sleep(500 * time.Microsecond) // or hardly anything is compressed meanwhile
		}
	})
	for ended.Err() == nil {
		if err := compressRotated(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	rotating.Wait()
	for range 2 { // with some compressed, then all
		lines := readLog(t, path, -1)
		for i, line := range lines {
			if want := rotations*perFile - len(lines) + i; line != want {
				t.Fatalf("line %d of %d is %d, want %d", i, len(lines), line, want)
			}
		}
		if len(lines) != kept*perFile {
			t.Fatalf("%d lines, want %d", len(lines), kept*perFile)
		}
		if err := compressRotated(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := filepath.Glob(path + "*gz*"); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
	for _, n := range []int{0, 1, perFile, perFile + 1, 3*perFile + 7, kept * perFile, kept*perFile + 1} {
		lines := readLog(t, path, n)
		if want := min(n, kept*perFile); len(lines) != want || want > 0 && lines[0] != rotations*perFile-want {
			t.Errorf("the last %d lines are %d, from %v on", n, len(lines), lines[:min(1, len(lines))])
		}
	}
}

// TestRotatedWhileReplacing has the log rotated between the look for a file and its replacement, and again before that is taken back.
func TestRotatedWhileReplacing(t *testing.T) {
	for _, rotations := range []int{0, 1, 2, 3, 8} {
		path := filepath.Join(t.TempDir(), "console.log")
		const kept = 8
		next := 0
		rotate := func() {
			rotateLog(t, path, kept)
			if err := os.WriteFile(path, logText(next, next+1), 0o600); err != nil {
				t.Fatal(err)
			}
			next++
		}
		for range 3 {
			rotate()
		}
		f, err := openLogFile(rotatedPath(path, 2))
		if err != nil {
			t.Fatal(err)
		}
		packed, err := f.pack(t.Context(), compressing(path))
		if err != nil {
			t.Fatal(err)
		}
		left := rotations
		err = f.replace(path, packed, func(a, b string) error {
			if left > 0 {
				left--
				rotate()
			}
			return kernel.Exchange(a, b)
		})
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		lines := readLog(t, path, -1)
		if len(lines) != min(kept, 3+rotations-left) {
			t.Errorf("%d rotations: %v is left", rotations, lines)
		}
		for i, line := range lines {
			if want := next - len(lines) + i; line != want {
				t.Errorf("%d rotations: line %d is %d, want %d", rotations, i, line, want)
			}
		}
	}
}
