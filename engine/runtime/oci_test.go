package runtime_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
	"novaagent/tests/need"
	"novaagent/tests/oci"
)

// ociRuntimes are crun and runc, and a way to runc in dir that a test can take away.
func ociRuntimes(t testing.TB, dir string) map[string]runtime.OCI {
	t.Helper()
	all, err := oci.Runtimes()
	if err != nil {
		t.Fatal(err)
	}
	all["fleeting"] = runtime.OCI{Path: filepath.Join(dir, "runc")}
	script(t, all["fleeting"].Path, `exec runc "$@"`)
	return all
}

func script(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

// checkOCIState fails the test if a runtime still knows a container.
func checkOCIState(t testing.TB, dir string) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "oci", "*", "*"))
	if tasks, taskErr := filepath.Glob(filepath.Join(dir, "tasks", "*")); taskErr == nil {
		left = append(left, tasks...)
	}
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestOCIRuntime runs a container by each runtime: its processes are the shim's, its limits the specification's.
func TestOCIRuntime(t *testing.T) {
	need.Command(t, "crun", "runc")
	for _, name := range []string{"crun", "runc"} {
		t.Run(name, func(t *testing.T) {
			r := newRuntime(t)
			b := bundle(t, "oci", image(t), "sh", "-c", "echo begun; sleep 1000 & wait")
			b.Runtime = name
			limited(t, &b, 64<<20, 50)
			b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 100 * 512, Hard: 200 * 512}}
			task, err := r.Start(context30(t), b)
			if err != nil {
				t.Fatal(err)
			}
			if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parentOf(t, task.PID()))); err != nil || string(comm) != "shim-oci\n" {
				t.Errorf("its parent is %q, %v", comm, err)
			}
			var out buffer
			e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"sh", "-c", "ulimit -c; cat /proc/self/uid_map; exit 7"}}, runtime.Streams{Stdout: &out})
			if err != nil {
				t.Fatal(err)
			}
			if exit, err := e.Wait(context30(t)); err != nil || exit.Code != 7 {
				t.Errorf("exec: %+v, %v", exit, err)
			}
			if got := strings.Join(strings.Fields(out.String()), " "); got != fmt.Sprintf("100 0 %d 65536", firstID) {
				t.Errorf("exec says %q", got)
			}
			if err := task.Pause(context30(t)); err != nil || !task.Paused() {
				t.Errorf("pause: %v", err)
			}
			if err := task.Resume(context30(t)); err != nil || task.Paused() {
				t.Errorf("resume: %v", err)
			}
			limit := int64(96 << 20)
			if err := task.Update(context30(t), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}); err != nil {
				t.Error(err)
			}
			if s, err := task.Stats(context30(t)); err != nil || s.MemoryLimitBytes != 96<<20 || s.PidsLimit != 50 || s.Pids < 2 {
				t.Errorf("%+v, %v", s, err)
			}
			// What a paused container has is killed at a stroke.
			if err := task.Pause(context30(t)); err != nil {
				t.Error(err)
			}
			if err := task.Delete(context30(t)); err != nil {
				t.Error(err)
			}
			if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 137 || exit.Lost {
				t.Errorf("%+v, %v", exit, err)
			}
			checkOCIState(t, runDir(t, r))
		})
	}
}

// TestOCIRuntimeGone takes the runtime's program away under a container: it can be signalled and removed, and what
// needs the runtime says so.
func TestOCIRuntimeGone(t *testing.T) {
	need.Command(t, "runc")
	r := newRuntime(t)
	b := bundle(t, "gone", image(t), "sleep", "1000")
	b.Runtime = "fleeting"
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(runDir(t, r), "runc")); err != nil {
		t.Fatal(err)
	}
	if err := task.Pause(context30(t)); err == nil || !strings.Contains(err.Error(), "OCI runtime pause failed") {
		t.Errorf("pause: %v", err)
	}
	if _, err := task.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"true"}}, runtime.Streams{}); err == nil || !strings.Contains(err.Error(), "OCI runtime exec failed") {
		t.Errorf("exec: %v", err)
	}
	if err := task.Signal(context30(t), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Signal != 9 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Error(err)
	}
	checkOCIState(t, runDir(t, r))
}

// TestOCIShimKilled: the container of a runtime ends with its shim, and the runtime forgets it.
func TestOCIShimKilled(t *testing.T) {
	need.Command(t, "runc")
	r := newRuntime(t)
	b := bundle(t, "orphan", image(t), "sleep", "1000")
	b.Runtime = "runc"
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	pid := task.PID()
	if err := syscall.Kill(parentOf(t, pid), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || !exit.Lost {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Error(err)
	}
	checkOCIState(t, runDir(t, r))
}

// TestOCIAgentKilledBetweenSteps kills the agent while a runtime's command runs: the next one finds a container that was
// created and not started, and leaves nothing of it.
func TestOCIAgentKilledBetweenSteps(t *testing.T) {
	need.Command(t, "runc")
	for _, verb := range []string{"create", "start"} {
		t.Run(verb, func(t *testing.T) {
			work := t.TempDir()
			reached, goOn := filepath.Join(work, "reached"), filepath.Join(work, "go")
			for _, fifo := range []string{reached, goOn} {
				if err := syscall.Mkfifo(fifo, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			slow := filepath.Join(work, "runtime")
			script(t, slow, fmt.Sprintf(`for a; do
	if [ "$a" = %s ]; then
		echo $$ >%s
		read line <%s
	fi
done
exec runc "$@"`, verb, reached, goOn))
			c := newCrash(t, "RUNTIME_TEST_OCI=slow", "RUNTIME_TEST_SLOW="+slow)
			c.ask(t, "half", "sleep 1000")
			text, err := os.ReadFile(reached)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			command, err := kernel.OpenProcess(pid)
			if err != nil {
				t.Fatal(err)
			}
			defer command.Close()
			c.kill()
			if verb == "create" { // its shim goes on, and the runtime with it
				err = os.WriteFile(goOn, []byte("\n"), 0)
			} else {
				err = syscall.Kill(pid, syscall.SIGKILL)
			}
			if err != nil {
				t.Fatal(err)
			}
			if !kernel.WaitProcess(command, int(deadline.Milliseconds())) {
				t.Fatal("the runtime's command does not end")
			}
			// It is not to hold up the next agent.
			script(t, slow, `exec runc "$@"`)
			r := openRuntime(t, c.dir, c.parent)
			defer closeRuntime(t, r)
			if _, err := r.Load(context30(t), "half"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("load: %v", err)
			}
			checkOCIState(t, c.dir)
		})
	}
}
