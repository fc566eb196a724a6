package runtime_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
	"novaagent/tests/leak"
	"novaagent/tests/shim"
)

// TestMain lets the test program be an agent that can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("RUNTIME_TEST_AGENT") != "" {
		agent()
		return
	}
	os.Exit(m.Run())
}

// agent starts one container for each line it reads, "id upper log script", and tells "started <id> <pid>".
func agent() {
	program, err := os.ReadFile(os.Getenv("RUNTIME_TEST_SHIM"))
	if err != nil {
		fatal(err)
	}
	r, err := runtime.New(runtime.Options{RunDir: os.Getenv("RUNTIME_TEST_DIR"), CgroupParent: os.Getenv("RUNTIME_TEST_CGROUP"), Shim: program, OCI: map[string]runtime.OCI{"slow": {Path: os.Getenv("RUNTIME_TEST_SLOW")}}})
	if err != nil {
		fatal(err)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.SplitN(in.Text(), " ", 4)
		b := bundleOf(f[0], os.Getenv("RUNTIME_TEST_IMAGE"), f[1], "sh", "-c", f[3])
		b.Runtime = os.Getenv("RUNTIME_TEST_OCI")
		b.Log.Path = f[2]
		task, err := r.Start(context.Background(), b)
		if err != nil {
			fatal(err)
		}
		fmt.Println("started", f[0], task.PID())
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// crash is a killable agent and what survives it.
type crash struct {
	dir, parent string
	cmd         *exec.Cmd
	in          *os.File
	out         *bufio.Scanner
	work        string
}

func newCrash(t *testing.T, env ...string) *crash {
	t.Helper()
	c := &crash{dir: t.TempDir(), parent: cgroupParent(), work: t.TempDir()}
	program := filepath.Join(c.work, "shim")
	if err := os.WriteFile(program, shim.Program(t), 0o600); err != nil {
		t.Fatal(err)
	}
	img := image(t)
	leak.Check(t, c.parent)
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(append(os.Environ(), env...), "RUNTIME_TEST_AGENT=1", "RUNTIME_TEST_SHIM="+program,
		"RUNTIME_TEST_DIR="+c.dir, "RUNTIME_TEST_CGROUP="+c.parent, "RUNTIME_TEST_IMAGE="+img)
	c.cmd.Stderr = os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.cmd.Stdin, c.in = r, w
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	c.out = bufio.NewScanner(stdout)
	t.Cleanup(func() { c.kill() })
	return c
}

// start has the agent start a container, and returns its pid and log.
func (c *crash) start(t *testing.T, id, script string) (pid int, log string) {
	t.Helper()
	log = c.ask(t, id, script)
	if !c.out.Scan() {
		t.Fatalf("the agent does not answer: %v", c.out.Err())
	}
	if _, err := fmt.Sscanf(c.out.Text(), "started "+id+" %d", &pid); err != nil {
		t.Fatal(err)
	}
	return pid, log
}

// ask asks for a container.
func (c *crash) ask(t *testing.T, id, script string) (log string) {
	t.Helper()
	upper := filepath.Join(c.work, id)
	for _, d := range []string{upper, upper + "/upper", upper + "/work"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(upper+"/upper", firstID, firstID); err != nil {
		t.Fatal(err)
	}
	log = filepath.Join(c.work, id+".log")
	fmt.Fprintf(c.in, "%s %s %s %s\n", id, upper, log, script)
	return log
}

// kill is kill -9 of the agent. What it had forked belongs to init afterwards.
func (c *crash) kill() {
	if c.cmd.ProcessState == nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.in.Close()
	}
}

func TestContainersSurviveTheAgent(t *testing.T) {
	c := newCrash(t)
	pid, log := c.start(t, "writer", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo $i; [ -e /stop ] && exit 23; done; sleep 1000")
	shimOf := parentOf(t, pid)
	c.kill()

	r := openRuntime(t, c.dir, c.parent)
	defer closeRuntime(t, r)
	ids, err := r.IDs()
	if err != nil || len(ids) != 1 {
		t.Fatalf("ids %v, %v", ids, err)
	}
	task, err := r.Load(context30(t), "writer")
	if err != nil {
		t.Fatal(err)
	}
	if task.PID() != pid || parentOf(t, pid) != shimOf {
		t.Errorf("pid %d, was %d", task.PID(), pid)
	}
	if again, err := r.Load(context30(t), "writer"); err != nil || again != task {
		t.Errorf("a second load: %v", err)
	}
	// It can be used as before.
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "stop", Args: []string{"touch", "/stop"}}, runtime.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	// It may be killed by the container's end, which it brings about.
	if x, err := e.Wait(context30(t)); err != nil || x.Lost {
		t.Errorf("exec: %+v, %v", x, err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 23 || exit.Lost {
		t.Errorf("exit %+v, %v", exit, err)
	}
	for i, l := range readLog(t, log) {
		if l.Log != strconv.Itoa(i+1)+"\n" {
			t.Fatalf("line %d of the log is %q", i+1, l.Log)
		}
	}
}

func TestExitWhileNoAgentIsThere(t *testing.T) {
	c := newCrash(t)
	pid, log := c.start(t, "alone", "while [ ! -e /go ]; do sleep 0.01; done; echo last words; exit 77")
	pidfd, err := kernel.OpenProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	c.kill()
	// The container sees the file through its root.
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/go", pid), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if !kernel.WaitProcess(pidfd, int(deadline.Milliseconds())) {
		t.Fatal("it does not end")
	}
	r := openRuntime(t, c.dir, c.parent)
	defer closeRuntime(t, r)
	task, err := r.Load(context30(t), "alone")
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 77 || exit.Lost || exit.At.IsZero() {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if l := readLog(t, log); len(l) != 1 || l[0].Log != "last words\n" {
		t.Errorf("log %v", l)
	}
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ppid, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	return ppid
}

func TestShimKilled(t *testing.T) {
	r := newRuntime(t)
	task, err := r.Start(context30(t), bundle(t, "orphan", image(t), "sh", "-c", "sleep 1000 & sleep 1000 & wait"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"sleep", "1000"}}, runtime.Streams{})
	if err != nil {
		t.Fatal(err)
	}
	pidfd, err := kernel.OpenProcess(task.PID())
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if err := syscall.Kill(parentOf(t, task.PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit, err := task.Wait(context30(t))
	if err != nil || !exit.Lost || exit.Code != 255 || exit.Reason == "" {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if kernel.ProcessAlive(pidfd) {
		t.Error("it is reported as ended, and runs")
	}
	if x, err := e.Wait(context30(t)); err != nil || !x.Lost {
		t.Errorf("exec %+v, %v", x, err)
	}
	if _, err := task.Exec(context30(t), runtime.ExecSpec{ID: "y", Args: []string{"true"}}, runtime.Streams{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("exec: %v", err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
}

func TestShimKilledWhileNoAgentIsThere(t *testing.T) {
	c := newCrash(t)
	pid, _ := c.start(t, "orphan", "sleep 1000 & sleep 1000 & wait")
	pidfd, err := kernel.OpenProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	shim := parentOf(t, pid)
	c.kill()
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r := openRuntime(t, c.dir, c.parent)
	defer closeRuntime(t, r)
	task, err := r.Load(context30(t), "orphan")
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || !exit.Lost {
		t.Errorf("exit %+v, %v", exit, err)
	}
	if !kernel.WaitProcess(pidfd, int(deadline.Milliseconds())) {
		t.Error("it runs")
	}
}

// TestRemoveWhatWasHalfMade removes the leftovers of a start that was cut off at any point.
func TestRemoveWhatWasHalfMade(t *testing.T) {
	r := newRuntime(t)
	dir := runDir(t, r)
	for i, make := range []func(string) error{
		func(id string) error { return nil },
		func(id string) error { return os.Mkdir(filepath.Join(dir, "tasks", id), 0o700) },
		func(id string) error {
			d := filepath.Join(dir, "tasks", id)
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(filepath.Join(d, "task.json"), []byte(`{"Version":1,`), 0o600))
		},
		func(id string) error {
			d := filepath.Join(dir, "tasks", id)
			return errors.Join(os.Mkdir(d, 0o700), os.WriteFile(filepath.Join(d, "task.json"),
				[]byte(`{"Version":1,"ID":"x","BootID":"another","Process":{},"Linux":{}}`), 0o600))
		},
	} {
		id := fmt.Sprintf("half-%d", i)
		if err := make(id); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Load(context30(t), id); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%d: load: %v", i, err)
		}
		if err := r.Remove(context30(t), id); err != nil {
			t.Errorf("%d: remove: %v", i, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "tasks", id)); err == nil {
			t.Errorf("%d: it is still there", i)
		}
	}
}
