package runtime_test

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// sleeper starts a container that only waits.
func sleeper(t testing.TB, r *runtime.Runtime, id string) *runtime.Task {
	t.Helper()
	task, err := r.Start(context30(t), bundle(t, id, image(t), "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	return task
}

func TestExec(t *testing.T) {
	r := newRuntime(t)
	task := sleeper(t, r, "exec")
	for _, tt := range []struct {
		name string
		spec runtime.ExecSpec
		want string
		code int
	}{
		{"plain", runtime.ExecSpec{Args: []string{"sh", "-c", "echo out; echo $A $PATH; exit 3"}, Env: []string{"A=b"}}, "out\nb /bin\n", 3},
		{"user", runtime.ExecSpec{Args: []string{"sh", "-c", "id -u; echo $HOME"}, User: "user"}, "1000\n/home/user\n", 0},
		{"cwd", runtime.ExecSpec{Args: []string{"sh", "-c", "readlink /proc/self/cwd"}, WorkDir: "/tmp"}, "/tmp\n", 0},
		{"same namespaces", runtime.ExecSpec{Args: []string{"sh", "-c", "for n in user mnt pid ipc uts net cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done"}}, "", 0},
		{"same cgroup", runtime.ExecSpec{Args: []string{"sh", "-c", "grep -E ':memory:|^0::' /proc/1/cgroup >/tmp/a; grep -E ':memory:|^0::' /proc/self/cgroup | diff - /tmp/a && grep -q ':/$' /tmp/a && ! grep -v ':/$' /tmp/a"}}, "", 0},
		{"same confinement", runtime.ExecSpec{Args: []string{"sh", "-c", "grep -E '^(Cap|Seccomp:|NoNew)' /proc/1/status >/tmp/a; grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status >/tmp/b; [ \"$(cat /tmp/a)\" = \"$(cat /tmp/b)\" ] && echo same"}}, "same\n", 0},
		{"killed", runtime.ExecSpec{Args: []string{"sh", "-c", "kill -9 $$"}}, "", 137},
	} {
		var out buffer
		tt.spec.ID = "x-" + strings.ReplaceAll(tt.name, " ", "-")
		e, err := task.Exec(context30(t), tt.spec, runtime.Streams{Stdout: &out, Stderr: &out})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		exit, err := e.Wait(context30(t))
		if err != nil || exit.Code != tt.code || out.String() != tt.want {
			t.Errorf("%s: %+v, %v, output %q", tt.name, exit, err, out.String())
		}
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestExecErrors(t *testing.T) {
	r := newRuntime(t)
	task := sleeper(t, r, "execbad")
	for _, tt := range []struct {
		spec runtime.ExecSpec
		want string
	}{
		{runtime.ExecSpec{ID: "1", Args: []string{"foo"}}, `exec "foo": executable file not found in $PATH`},
		{runtime.ExecSpec{ID: "2", Args: []string{"true"}, WorkDir: "/proc/self/fd/5"}, `working directory "/proc/self/fd/5"`},
		{runtime.ExecSpec{ID: "3", Args: []string{"true"}, User: "none"}, "unable to find user none"},
		{runtime.ExecSpec{Args: []string{"true"}}, "id"},
	} {
		if _, err := task.Exec(context30(t), tt.spec, runtime.Streams{}); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	if err := task.KillAll(context30(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := task.Wait(context30(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := task.Exec(context30(t), runtime.ExecSpec{ID: "4", Args: []string{"true"}}, runtime.Streams{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("exec after the end: %v", err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestExecTerminal(t *testing.T) {
	r := newRuntime(t)
	task := sleeper(t, r, "exectty")
	in, feed := io.Pipe()
	defer feed.Close()
	out := newLines()
	e, err := task.Exec(context30(t), runtime.ExecSpec{
		ID: "tty", Args: []string{"sh", "-c", "tty; stty size; read x; stty size; echo got $x; exit 5"},
		TTY: true, OpenStdin: true, Width: 90, Height: 30,
	}, runtime.Streams{Stdin: in, Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "30 90\r\n")
	if err := e.Resize(context30(t), 91, 31); err != nil {
		t.Fatal(err)
	}
	io.WriteString(feed, "text\n")
	if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 5 {
		t.Errorf("%+v, %v", exit, err)
	}
	if want := "/dev/pts/0\r\n30 90\r\ntext\r\n31 91\r\ngot text\r\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestExecStdinAndSignal(t *testing.T) {
	r := newRuntime(t)
	task := sleeper(t, r, "execin")
	var out buffer
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "wc", Args: []string{"wc", "-c"}, OpenStdin: true},
		runtime.Streams{Stdin: strings.NewReader(strings.Repeat("x", 300_000)), Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 0 || strings.TrimSpace(out.String()) != "300000" {
		t.Errorf("%+v, %v, %q", exit, err, out.String())
	}
	e, err = task.Exec(context30(t), runtime.ExecSpec{ID: "sleep", Args: []string{"sleep", "1000"}}, runtime.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Signal(context30(t), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 143 || exit.Signal != 15 {
		t.Errorf("%+v, %v", exit, err)
	}
	// An exec that is running when the container ends ends, too.
	e, err = task.Exec(context30(t), runtime.ExecSpec{ID: "last", Args: []string{"sleep", "1000"}}, runtime.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	if err := task.Signal(context30(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 137 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestExecOutlivedByItsChild(t *testing.T) {
	r := newRuntime(t)
	task := sleeper(t, r, "background")
	var out buffer
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "bg", Args: []string{"sh", "-c", "sleep 1000 & echo started"}}, runtime.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 0 || out.String() != "started\n" {
		t.Errorf("%+v, %v, %q", exit, err, out.String())
	}
	if pids, err := task.PIDs(context30(t)); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}
