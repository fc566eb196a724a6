package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

func TestExec(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "exec sleep 1000")
	s.Env = []string{"A=1", "B=2"}
	c := mustRun(t, e, s)
	for _, tt := range []struct {
		name   string
		spec   engine.ExecSpec
		in     string
		stdout string
		stderr string
		code   int
	}{
		{"output", engine.ExecSpec{Args: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}, "", "out\n", "err\n", 3},
		{"input", engine.ExecSpec{Args: []string{"cat"}, OpenStdin: true}, "hello", "hello", "", 0},
		{"no input", engine.ExecSpec{Args: []string{"cat"}}, "unseen", "", "", 0},
		{"user", engine.ExecSpec{Args: []string{"id", "-un"}, User: "user"}, "", "user\n", "", 0},
		{"directory", engine.ExecSpec{Args: []string{"pwd"}, WorkDir: "/tmp"}, "", "/tmp\n", "", 0},
		{"environment", engine.ExecSpec{Args: []string{"sh", "-c", "echo $A $B $C"}, Env: []string{"B=3", "C=4"}}, "", "1 3 4\n", "", 0},
		{"signal", engine.ExecSpec{Args: []string{"sh", "-c", "kill -9 $$"}}, "", "", "", 137},
		{"terminal", engine.ExecSpec{Args: []string{"sh", "-c", "tty; stty size"}, TTY: true, Width: 91, Height: 37}, "", "/dev/pts/0\r\n37 91\r\n", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs lockedBuffer
			streams := engine.Streams{Stdin: strings.NewReader(tt.in), Stdout: &out, Stderr: &errs}
			exit, err := e.Exec(ctx, c.ID, tt.spec, streams)
			if err != nil || exit.Code != tt.code || out.String() != tt.stdout || errs.String() != tt.stderr {
				t.Errorf("%+v, %v, stdout %q, stderr %q", exit, err, out.String(), errs.String())
			}
		})
	}
	for _, tt := range []struct {
		spec engine.ExecSpec
		code int
	}{
		{engine.ExecSpec{Args: []string{"/no/such"}}, 127},
		{engine.ExecSpec{Args: []string{"/etc/passwd"}}, 126},
	} {
		id, err := e.ExecCreate(ctx, c.ID, tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.ExecStart(ctx, id, engine.Streams{}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%v: %v", tt.spec.Args, err)
		}
		if x, err := e.ExecInspect(id); err != nil || !x.Ended || x.Exit.Code != tt.code {
			t.Errorf("%v: %+v, %v", tt.spec.Args, x, err)
		}
	}
	if _, err := e.ExecCreate(ctx, c.ID, engine.ExecSpec{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an exec of nothing: %v", err)
	}
	if _, err := e.ExecInspect("nothere"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no such exec: %v", err)
	}
}

func TestExecEndsWithItsContainer(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	c := mustRun(t, e, spec(t, "exec sleep 1000"))
	id, err := e.ExecCreate(ctx, c.ID, engine.ExecSpec{Args: []string{"sleep", "1000"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ExecStart(ctx, id, engine.Streams{}); err != nil {
		t.Fatal(err)
	}
	if ids := e.ExecIDs(c.ID); len(ids) != 1 || ids[0] != id {
		t.Errorf("running execs: %v", ids)
	}
	if err := e.ExecStart(ctx, id, engine.Streams{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("started twice: %v", err)
	}
	if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ExecWait(ctx, id); err != nil {
		t.Error(err)
	}
}

func TestAttachBeforeStart(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "echo first; read line; echo got $line; cat")
	s.OpenStdin, s.StdinOnce = true, true
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	var out lockedBuffer
	a, err := e.Attach(ctx, c.ID, engine.Streams{Stdin: in, Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(feed, "hello\nrest")
	feed.Close() // the end of the client's input is the process's, since StdinOnce
	if err := a.Wait(ctx); err != nil {
		t.Error(err)
	}
	if got := out.String(); got != "first\ngot hello\nrest" {
		t.Errorf("output %q", got)
	}
	if exit := mustWait(t, e, c.ID); exit.Code != 0 {
		t.Errorf("exit %+v", exit)
	}
}

func TestAttachEndsWhenTheStartFails(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "true")
	s.Args = []string{"/no/such"}
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	a, err := e.Attach(ctx, c.ID, engine.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, c.ID); err == nil {
		t.Fatal("it started")
	}
	if err := a.Wait(ctx); err != nil {
		t.Error(err)
	}
	b, err := e.Attach(ctx, c.ID, engine.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	leaving, cancel := context.WithCancel(ctx)
	cancel()
	if err := b.Wait(leaving); err == nil {
		t.Error("a client that left ended well")
	}
}

func TestTerminal(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "stty size; read x; stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done")
	s.TTY, s.OpenStdin = true, true
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Resize(ctx, c.ID, 100, 40); err != nil {
		t.Fatal(err)
	}
	out, sink := io.Pipe()
	in, feed := io.Pipe()
	a, err := e.Attach(ctx, c.ID, engine.Streams{Stdin: in, Stdout: sink})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Wait(ctx); sink.Close() }()
	if _, err := e.Start(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want string) {
		t.Helper()
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == want {
				return
			}
		}
		t.Errorf("%q did not come: %v", want, lines.Err())
	}
	expect("40 100")
	fmt.Fprint(feed, "\n")
	expect("40 100")
	expect("ready")
	if err := e.Resize(ctx, c.ID, 81, 25); err != nil {
		t.Fatal(err)
	}
	expect("25 81")
	if err := <-ended; err != nil {
		t.Error(err)
	}
	feed.Close()
}

func TestLogs(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	c := mustRun(t, e, spec(t, "for i in 1 2 3 4 5; do echo $i; echo e$i >&2; done; printf end"))
	mustWait(t, e, c.ID)
	read := func(o engine.LogsOptions) (string, []time.Time) {
		t.Helper()
		var text strings.Builder
		var times []time.Time
		if err := e.Logs(ctx, c.ID, o, func(l engine.LogLine) error {
			text.Write(l.Text)
			times = append(times, l.Time)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return text.String(), times
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Tail: -1}); got != "1\n2\n3\n4\n5\nend" {
		t.Errorf("stdout %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stderr: true, Tail: -1}); got != "e1\ne2\ne3\ne4\ne5\n" {
		t.Errorf("stderr %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: 1}); strings.Count(got, "\n") > 1 {
		t.Errorf("the last line %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: 0}); got != "" {
		t.Errorf("no lines %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: 1000}); strings.Count(got, "\n") != 10 {
		t.Errorf("more lines than there are %q", got)
	}
	_, times := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1})
	last := times[len(times)-1]
	if got, _ := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1, Since: last.Add(time.Nanosecond)}); got != "" {
		t.Errorf("since the end %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1, Until: times[0].Add(-time.Nanosecond)}); got != "" {
		t.Errorf("until the beginning %q", got)
	}
	if got, _ := read(engine.LogsOptions{Stdout: true, Tail: -1, Follow: true}); got != "1\n2\n3\n4\n5\nend" {
		t.Errorf("following an ended one %q", got)
	}
	s := spec(t, "echo x")
	s.Log.Driver = "none"
	silent := mustRun(t, e, s)
	if _, err := e.LogTail(ctx, silent.ID, -1); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("a container without a log: %v", err)
	}
}

// TestFollowThroughRotation follows a log that is rotated all the time, and compressed: no line is missed or doubled,
// as long as the reader keeps up.
func TestFollowThroughRotation(t *testing.T) {
	for _, compress := range []bool{false, true} {
		t.Run(fmt.Sprintf("compress=%t", compress), func(t *testing.T) { followThroughRotation(t, compress) })
	}
}

func followThroughRotation(t *testing.T, compress bool) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; [ $((i%20)) = 0 ] && sleep 0.01; done")
	s.Log = engine.LogConfig{MaxBytes: 8 << 10, MaxFiles: 4, Compress: compress}
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	n := 0
	err = e.Logs(ctx, c.ID, engine.LogsOptions{Stdout: true, Tail: -1, Follow: true}, func(l engine.LogLine) error {
		n++
		if want := fmt.Sprintf("line %d ", n); !strings.HasPrefix(string(l.Text), want) {
			return fmt.Errorf("got %q, want %q", l.Text, want)
		}
		return nil
	})
	if err != nil || n != 500 {
		t.Errorf("%d lines, %v", n, err)
	}
	if compress {
		awaitCompressed(t, e.LogPath(c.ID), 3)
	}
	// What is kept is the end, in order, across the files.
	tail, err := e.LogTail(ctx, c.ID, 100)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(tail), "\n")
	for i, line := range lines {
		if want := fmt.Sprintf("line %d ", 500-len(lines)+i+1); !strings.HasPrefix(line, want) {
			t.Fatalf("line %d of %d is %q, want %q", i, len(lines), line, want)
		}
	}
	if len(lines) != 100 {
		t.Errorf("the tail has %d lines", len(lines))
	}
}

func TestStats(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000")
	s.Resources.MemoryBytes = 64 << 20
	c := mustRun(t, e, s)
	waitLog(t, e, c.ID, "done")
	stats, err := e.Stats(ctx, c.ID)
	if err != nil || stats.CPUNanos == 0 || stats.Pids != 1 || stats.MemoryLimitBytes != 64<<20 {
		t.Errorf("%+v, %v", stats, err)
	}
	pids, err := e.PIDs(ctx, c.ID)
	if err != nil || len(pids) != 1 || pids[0] != c.PID {
		t.Errorf("%v, %v", pids, err)
	}
	d, err := e.Diagnostics(ctx, c.ID)
	if err != nil || d.Container.ID != c.ID || d.Stats.Pids != 1 {
		t.Errorf("%+v, %v", d, err)
	}
}

func TestUpdate(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "exec sleep 1000")
	s.Resources.MemoryBytes = 64 << 20
	c := mustRun(t, e, s)
	changes := engine.Changes{Resources: c.Spec.Resources, Restart: engine.RestartPolicy{Mode: engine.RestartAlways}}
	changes.Resources.MemoryBytes, changes.Resources.PidsLimit = 128<<20, 17
	if err := e.Update(ctx, c.ID, changes); err != nil {
		t.Fatal(err)
	}
	stats, err := e.Stats(ctx, c.ID)
	if err != nil || stats.MemoryLimitBytes != 128<<20 || stats.PidsLimit != 17 {
		t.Errorf("%+v, %v", stats, err)
	}
	changes.Resources.DiskBytes = 1 << 30
	if err := e.Update(ctx, c.ID, changes); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("a quota: %v", err)
	}
	changes.Resources.DiskBytes, changes.Resources.MemoryBytes = 0, 1
	if err := e.Update(ctx, c.ID, changes); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a tiny limit: %v", err)
	}
}

// awaitCompressed waits until the log's n rotated files are gzip, and nothing else is beside them.
func awaitCompressed(t *testing.T, path string, n int) {
	t.Helper()
	watch, err := kernel.WatchDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	ctx := testContext(t)
	for {
		packed := 0
		for i := 1; i <= n; i++ {
			if data, err := os.ReadFile(fmt.Sprintf("%s.%d", path, i)); err == nil && bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
				packed++
			}
		}
		if packed == n {
			return
		}
		select {
		case <-watch.Changed():
		case <-ctx.Done():
			t.Fatalf("%d of %d files are compressed", packed, n)
		}
	}
}
