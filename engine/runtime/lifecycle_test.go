package runtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

func TestExitCodesAndSignals(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	for i, tt := range []struct {
		script string
		code   int
		signal int
	}{
		{"exit 0", 0, 0},
		{"exit 42", 42, 0},
		{"exit 255", 255, 0},
		{"sh -c 'kill -9 $$'; exit $?", 137, 0},
	} {
		exit, _ := run(t, r, bundle(t, fmt.Sprintf("exit-%d", i), img, "sh", "-c", tt.script))
		if exit.Code != tt.code || exit.Signal != tt.signal || exit.Lost || exit.At.IsZero() {
			t.Errorf("%s: %+v", tt.script, exit)
		}
	}
	task, err := r.Start(context30(t), bundle(t, "signalled", img, "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Signal(context30(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 137 || exit.Signal != 9 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := task.Signal(context30(t), syscall.SIGTERM); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("signal after the end: %v", err)
	}
	for range 2 {
		if err := task.Delete(context30(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Load(context30(t), "signalled"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("load after delete: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	if err := os.WriteFile(filepath.Join(img, "plain"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(img, "script"), []byte("#!/none\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		edit func(*runtime.Bundle)
		want string
		kind error
	}{
		{"not in PATH", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"foo"} }, `exec "foo": executable file not found in $PATH`, errdefs.ErrInvalid},
		{"no such file", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"/bin/foo"} }, `exec "/bin/foo": no such file or directory`, errdefs.ErrInvalid},
		{"not executable", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"/plain"} }, `exec "/plain": permission denied`, errdefs.ErrInvalid},
		{"a directory", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"/bin"} }, `exec "/bin": is a directory`, errdefs.ErrInvalid},
		{"below a file", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"/plain/x"} }, `exec "/plain/x": not a directory`, errdefs.ErrInvalid},
		{"no interpreter", func(b *runtime.Bundle) { b.Spec.Process.Args = []string{"/script"} }, `exec "/script": no such file or directory`, errdefs.ErrInvalid},
		{"no command", func(b *runtime.Bundle) { b.Spec.Process.Args = nil }, "no command", errdefs.ErrInvalid},
		{"bad cwd", func(b *runtime.Bundle) { b.Spec.Process.Cwd = "/plain" }, `working directory "/plain": not a directory`, errdefs.ErrInvalid},
		{"no such user", func(b *runtime.Bundle) { b.User = "nobody" }, "unable to find user nobody", errdefs.ErrInvalid},
		{"user out of range", func(b *runtime.Bundle) { b.User = "2147483648" }, "must be in range", errdefs.ErrInvalid},
		{"user wraps", func(b *runtime.Bundle) { b.User = "4294967296" }, "must be in range", errdefs.ErrInvalid},
		{"user negative", func(b *runtime.Bundle) { b.User = "-1" }, "must be in range", errdefs.ErrInvalid},
		{"group out of range", func(b *runtime.Bundle) { b.User = "1000:99999999999" }, "must be in range", errdefs.ErrInvalid},
		{"user not mapped", func(b *runtime.Bundle) { b.User = "70000" }, "not mapped", errdefs.ErrInvalid},
		{"capability", func(b *runtime.Bundle) { b.Spec.Process.Capabilities.Bounding = []string{"CAP_X"} }, "CAP_X", errdefs.ErrInvalid},
		{"bind source", func(b *runtime.Bundle) {
			b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Type: "bind", Source: "/nonexistent", Destination: "/mnt"})
		}, "/nonexistent does not exist", errdefs.ErrInvalid},
		{"host sysctl", func(b *runtime.Bundle) { b.Spec.Linux.Sysctl = map[string]string{"kernel.panic": "1"} }, "kernel.panic", errdefs.ErrInvalid},
		{"hooks", func(b *runtime.Bundle) { b.Spec.Hooks = &specs.Hooks{} }, "hooks", errdefs.ErrUnsupported},
		{"id", func(b *runtime.Bundle) { b.ID = "../x" }, "container id", errdefs.ErrInvalid},
	} {
		b := bundle(t, "bad", img, "true")
		tt.edit(&b)
		_, err := r.Start(context30(t), b)
		if !errors.Is(err, tt.kind) || !strings.Contains(fmt.Sprint(err), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		if ids, err := r.IDs(); err != nil || len(ids) > 0 {
			t.Errorf("%s: left %v, %v", tt.name, ids, err)
		}
	}
}

func TestStartTwiceConflicts(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	if _, err := r.Start(context30(t), bundle(t, "twice", img, "sleep", "1000")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Start(context30(t), bundle(t, "twice", img, "true")); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("got %v", err)
	}
	if task, err := r.Load(context30(t), "twice"); err != nil || task.PID() == 0 {
		t.Errorf("the first was disturbed: %v", err)
	}
}

func TestUserGroupsAndHome(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	for i, tt := range []struct{ user, want string }{
		{"", "uid=0(root) gid=0(root) groups=0(root) /root"},
		{"user", "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra) /home/user"},
		{"1000", "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra) /home/user"},
		{"user:extra", "uid=1000(user) gid=2000(extra) groups=2000(extra) /home/user"},
		{"5:6", "uid=5 gid=6 groups=6 /"},
	} {
		b := bundle(t, fmt.Sprintf("user-%d", i), img, "sh", "-c", "echo $(id) $HOME")
		b.User = tt.user
		if i == 0 {
			b.User = "0"
		}
		if _, out := run(t, r, b); strings.TrimSpace(out) != tt.want {
			t.Errorf("%q: got %q, want %q", tt.user, out, tt.want)
		}
	}
}

type logLine struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

func readLog(t testing.TB, path string) []logLine {
	t.Helper()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it comes with the first line
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []logLine
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var l logLine
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			t.Fatalf("line %q: %v", s.Text(), err)
		}
		out = append(out, l)
	}
	return out
}

func TestLog(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "log", image(t), "sh", "-c", `
		echo plain; echo 'quote " back \ <tag> {"log":"x"}' >&2
		printf 'nul\0tab\tbell\a\n\377bad\n'
		head -c 40000 /dev/zero; printf '\nno newline'`)
	start := time.Now()
	run(t, r, b)
	lines := readLog(t, b.Log.Path)
	var out, err []string
	for _, l := range lines {
		if l.Time.Before(start.Add(-time.Minute)) || l.Time.After(time.Now().Add(time.Minute)) {
			t.Errorf("time %v", l.Time)
		}
		if l.Stream == "stdout" {
			out = append(out, l.Log)
		} else {
			err = append(err, l.Log)
		}
	}
	if len(err) != 1 || err[0] != "quote \" back \\ <tag> {\"log\":\"x\"}\n" {
		t.Errorf("stderr: %q", err)
	}
	z := strings.Repeat("\x00", 16<<10)
	want := []string{"plain\n", "nul\x00tab\tbell\a\n", "\ufffdbad\n", z, z, strings.Repeat("\x00", 40000-32<<10) + "\n", "no newline"}
	if len(out) != len(want) {
		t.Fatalf("%d lines, want %d: %.200q", len(out), len(want), out)
	}
	for i := range want {
		if out[i] != want[i] {
			t.Errorf("line %d: %.100q, want %.100q", i, out[i], want[i])
		}
	}
}

func TestLogRotation(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "rotate", image(t), "sh", "-c", "seq 1 2000")
	b.Log.MaxBytes, b.Log.MaxFiles = 40_000, 3
	run(t, r, b)
	var got []string
	for _, suffix := range []string{".2", ".1", ""} {
		info, err := os.Stat(b.Log.Path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > b.Log.MaxBytes {
			t.Errorf("%s has %d bytes", suffix, info.Size())
		}
		for _, l := range readLog(t, b.Log.Path+suffix) {
			got = append(got, strings.TrimSpace(l.Log))
		}
	}
	if _, err := os.Stat(b.Log.Path + ".3"); err == nil {
		t.Error("there is a fourth file")
	}
	first := 2000 - len(got) + 1
	if first < 2 || len(got) < 100 {
		t.Fatalf("%d lines were kept", len(got))
	}
	for i, l := range got {
		if l != fmt.Sprint(first+i) {
			t.Fatalf("line %d is %q, want %d", i, l, first+i)
		}
	}
}

func TestLogOnAFullDisk(t *testing.T) {
	r := newRuntime(t)
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(dir, syscall.MNT_DETACH)
	b := bundle(t, "full", image(t), "sh", "-c", "seq 1 5000; echo wait; read x; echo done")
	b.Log.Path = filepath.Join(dir, "log.json")
	b.OpenStdin = true
	in, feed := io.Pipe()
	defer feed.Close()
	out := newLines()
	b.Attach = []*runtime.Attachment{runtime.NewAttachment(runtime.Streams{Stdin: in, Stdout: out})}
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "wait") // the container was not held up
	if err := os.Truncate(b.Log.Path, 0); err != nil {
		t.Fatal(err)
	}
	io.WriteString(feed, "x\n")
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	lines := readLog(t, b.Log.Path)
	if len(lines) != 2 || !strings.Contains(lines[0].Log, "bytes of output could not be logged") || lines[1].Log != "done\n" {
		t.Errorf("log: %q", lines)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

// lines is a writer that tests can wait on.
type lines struct {
	buffer
	grown chan struct{}
}

func newLines() *lines { return &lines{grown: make(chan struct{}, 1)} }

func (l *lines) Write(p []byte) (int, error) {
	n, err := l.buffer.Write(p)
	select {
	case l.grown <- struct{}{}:
	default:
	}
	return n, err
}

func (l *lines) await(t testing.TB, text string) {
	t.Helper()
	timeout := time.After(deadline)
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.grown:
		case <-timeout:
			t.Fatalf("%q did not come; got %.500q", text, l.String())
		}
	}
}

func TestAttachStdin(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "cat", image(t), "cat")
	b.OpenStdin, b.StdinOnce = true, true
	big := strings.Repeat("0123456789abcdef\n", 40_000) // more than the pipes hold
	var out buffer
	a := runtime.NewAttachment(runtime.Streams{Stdin: strings.NewReader(big), Stdout: &out})
	b.Attach = []*runtime.Attachment{a}
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := a.Wait(context30(t)); err != nil {
		t.Error(err)
	}
	if out.String() != big {
		t.Errorf("%d bytes came back of %d", len(out.String()), len(big))
	}
	if n := len(readLog(t, b.Log.Path)); n != 40_000 {
		t.Errorf("%d lines in the log", n)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestSeveralClientsAndCloseStdin(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "many", image(t), "sh", "-c", "echo ready; cat; echo end >&2")
	b.OpenStdin = true
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	in, feed := io.Pipe()
	defer feed.Close()
	one, two := newLines(), newLines()
	a1 := runtime.NewAttachment(runtime.Streams{Stdin: in, Stdout: one, Stderr: one})
	a2 := runtime.NewAttachment(runtime.Streams{Stdout: two})
	for _, a := range []*runtime.Attachment{a1, a2} {
		if err := task.Connect(context30(t), a); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(feed, "hello\n")
	one.await(t, "hello\n")
	two.await(t, "hello\n")
	// A client that leaves does not close standard input.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a2.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	io.WriteString(feed, "again\n")
	one.await(t, "again\n")
	if err := task.CloseStdin(context30(t)); err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := a1.Wait(context30(t)); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(one.String(), "end\n") || strings.Contains(two.String(), "again") {
		t.Errorf("outputs %q and %q", one.String(), two.String())
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestTerminal(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "tty", image(t), "sh", "-c", "tty; stty size; test -c /dev/console && echo console; read x; stty size; echo got $x")
	b.Spec.Process.Terminal = true
	b.OpenStdin, b.Width, b.Height = true, 100, 40
	in, feed := io.Pipe()
	defer feed.Close()
	out := newLines()
	a := runtime.NewAttachment(runtime.Streams{Stdin: in, Stdout: out})
	b.Attach = []*runtime.Attachment{a}
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "console\r\n")
	if err := task.Resize(context30(t), 120, 50); err != nil {
		t.Fatal(err)
	}
	io.WriteString(feed, "text\n")
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := a.Wait(context30(t)); err != nil {
		t.Error(err)
	}
	want := "/dev/pts/0\r\n40 100\r\nconsole\r\ntext\r\n50 120\r\ngot text\r\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestPauseAndResume(t *testing.T) {
	r := newRuntime(t)
	task, err := r.Start(context30(t), bundle(t, "pause", image(t), "sh", "-c", "while true; do :; done"))
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Pause(context30(t)); err != nil {
		t.Fatal(err)
	}
	if !task.Paused() {
		t.Error("it is not paused")
	}
	s1, err := task.Stats(context30(t))
	if err != nil {
		t.Fatal(err)
	}
	s2, err := task.Stats(context30(t))
	if err != nil || s1.CPUNanos != s2.CPUNanos {
		t.Errorf("it ran on: %d, %d, %v", s1.CPUNanos, s2.CPUNanos, err)
	}
	if err := task.Resume(context30(t)); err != nil || task.Paused() {
		t.Fatal(err)
	}
	if err := task.Pause(context30(t)); err != nil {
		t.Fatal(err)
	}
	// A paused container can be deleted.
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}
