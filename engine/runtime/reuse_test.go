package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
)

// TestOneShimServesContainersInTurn runs containers of two kinds in turn until a shim has had
// each kind twice, and compares what it has open.
func TestOneShimServesContainersInTurn(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	type use struct {
		shim, kind int
	}
	open := map[use]int{} // how many descriptors
	for i := range 40 {
		kind := i / 2 % 2
		b := bundle(t, fmt.Sprintf("turn%d", i), img, "sh", "-c", "echo me; echo $0; exec sleep 1000", strconv.Itoa(i))
		b.LateUnmount, b.OpenStdin = kind == 0, kind == 0
		task, err := r.Start(context30(t), b)
		if err != nil {
			t.Fatal(err)
		}
		shim := parentOf(t, task.PID())
		// The answer tells that the start is behind the shim.
		if err := task.CloseStdin(context30(t)); err != nil {
			t.Fatal(err)
		}
		// The shim writes the log; nobody is told when a line is there.
		for end := time.Now().Add(deadline); len(readLog(t, b.Log.Path)) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		now := descriptors(t, shim)
		var out buffer
		e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "e", Args: []string{"echo", "exec", strconv.Itoa(i)}}, runtime.Streams{Stdout: &out})
		if err != nil {
			t.Fatal(err)
		}
		if x, err := e.Wait(context30(t)); err != nil || x.Code != 0 || out.String() != fmt.Sprintf("exec %d\n", i) {
			t.Errorf("exec: %+v, %v, output %q", x, err, out.String())
		}
		if err := task.KillAll(context30(t)); err != nil {
			t.Fatal(err)
		}
		if exit, err := task.Wait(context30(t)); err != nil || exit.Signal != 9 {
			t.Errorf("exit %+v, %v", exit, err)
		}
		if err := task.Delete(context30(t)); err != nil {
			t.Fatal(err)
		}
		if l := readLog(t, b.Log.Path); len(l) != 2 || l[0].Log != "me\n" || l[1].Log != strconv.Itoa(i)+"\n" {
			t.Errorf("log %v", l)
		}
		before, again := open[use{shim, kind}]
		open[use{shim, kind}] = len(now)
		_, other := open[use{shim, 1 - kind}]
		if !again || !other {
			continue
		}
		if len(now) > before {
			t.Errorf("the shim has %d descriptors open, and had %d:\n%s", len(now), before, strings.Join(now, "\n"))
		}
		return
	}
	t.Error("no shim has had several containers")
}

// TestShimWithAProcessLeftIsNotReused has a container whose first process leaves another behind, out of reach of
// cgroup and PID namespace.
func TestShimWithAProcessLeftIsNotReused(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "leaver", image(t), "sh", "-c", "sleep 1000 >/dev/null 2>&1 & read x; exit 0")
	b.IgnoreCgroups, b.OpenStdin = true, true
	b.Spec.Linux.Namespaces = slices.DeleteFunc(b.Spec.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
	b.Spec.Mounts = slices.DeleteFunc(b.Spec.Mounts, func(m specs.Mount) bool { return m.Type == "proc" })
	b.Spec.Linux.MaskedPaths, b.Spec.Linux.ReadonlyPaths = nil, nil
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	shim := parentOf(t, task.PID())
	pidfd, err := kernel.OpenProcess(shim)
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if err := task.CloseStdin(context30(t)); err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 0 {
		t.Fatalf("exit %+v, %v", exit, err)
	}
	left := children(t, shim)
	if len(left) == 0 {
		t.Error("the process did not leave another")
	}
	for _, pid := range left {
		defer syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
	if !kernel.WaitProcess(pidfd, int(deadline.Milliseconds())) {
		t.Error("the shim goes on")
	}
}

// children lists a process's children; each is one of some thread's.
func children(t *testing.T, pid int) []int {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, file := range threads {
		list, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range strings.Fields(string(list)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, child)
		}
	}
	return all
}

// descriptors lists what a process has open.
func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		target, _ := os.Readlink(filepath.Join(dir, e.Name()))
		all = append(all, e.Name()+" "+target)
	}
	return all
}
