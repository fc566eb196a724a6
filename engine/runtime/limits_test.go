package runtime_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
	"novaagent/tests/need"
)

func limited(t testing.TB, b *runtime.Bundle, memory int64, pids int64) {
	t.Helper()
	b.Spec.Linux.Resources = &specs.LinuxResources{}
	if memory > 0 {
		b.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &memory, Swap: &memory}
	}
	if pids > 0 {
		b.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	}
}

func TestOutOfMemory(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	addProber(t, img)
	b := bundle(t, "oom", img, "/prober", "oom")
	limited(t, &b, 32<<20, 0)
	exit, _ := run(t, r, b)
	if exit.Code != 137 || !exit.OOMKilled {
		t.Errorf("got %+v", exit)
	}
	// A child that is killed does not end the container, but is told.
	b = bundle(t, "oomchild", img, "sh", "-c", "/prober oom; echo survived")
	limited(t, &b, 32<<20, 0)
	exit, out := run(t, r, b)
	if exit.Code != 0 || !exit.OOMKilled || !strings.Contains(out, "survived") {
		t.Errorf("got %+v, %q", exit, out)
	}
	b = bundle(t, "nooom", img, "true")
	limited(t, &b, 32<<20, 0)
	if exit, _ := run(t, r, b); exit.Code != 0 || exit.OOMKilled {
		t.Errorf("got %+v", exit)
	}
}

func TestProcessLimit(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "pids", image(t), "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; echo all")
	limited(t, &b, 0, 6)
	exit, out := run(t, r, b)
	if exit.Code == 0 || !strings.Contains(out, "fork") {
		t.Errorf("got %+v, %q", exit, out)
	}
}

func TestLimitsUpdateAndStats(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "limits", image(t), "sh", "-c", "head -c 3000000 /dev/zero >/tmp/x; sleep 1000 & wait")
	limited(t, &b, 64<<20, 50)
	quota, period, shares := int64(50_000), uint64(100_000), uint64(512)
	b.Spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares, Cpus: "0"}
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	inside := func(script string) string {
		t.Helper()
		var out buffer
		e, err := task.Exec(context30(t), runtime.ExecSpec{ID: fmt.Sprintf("x%p", &out), Args: []string{"sh", "-c", script}}, runtime.Streams{Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(context30(t)); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out.String())
	}
	const quotaFile = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.shares 2>/dev/null || cat /sys/fs/cgroup/cpu.max"
	if got := inside(quotaFile); got != "50000\n512" && got != "50000 100000" {
		t.Errorf("quota: %q", got)
	}
	if got := inside("grep Cpus_allowed_list /proc/self/status"); !strings.HasSuffix(got, "\t0") {
		t.Errorf("cpuset: %q", got)
	}
	inside("until grep -q sleep /proc/[0-9]*/comm; do :; done")
	s, err := task.Stats(context30(t))
	if err != nil {
		t.Fatal(err)
	}
	if s.MemoryLimitBytes != 64<<20 || s.PidsLimit != 50 || s.Pids < 2 || s.CPUNanos == 0 || s.MemoryBytes == 0 {
		t.Errorf("statistics: %+v", s)
	}
	more, twice := int64(128<<20), int64(100_000)
	if err := task.Update(context30(t), &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: &more, Swap: &more}, CPU: &specs.LinuxCPU{Quota: &twice},
	}); err != nil {
		t.Fatal(err)
	}
	if s, err := task.Stats(context30(t)); err != nil || s.MemoryLimitBytes != 128<<20 || s.PidsLimit != 50 {
		t.Errorf("after update: %+v, %v", s, err)
	}
	if got := inside(quotaFile); got != "100000\n512" && got != "100000 100000" {
		t.Errorf("quota after update: %q", got)
	}
	bad := int64(-5)
	if err := task.Update(context30(t), &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &bad}}); err != nil && !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a bad quota: %v", err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := task.Stats(context30(t)); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("statistics after delete: %v", err)
	}
}

func TestRlimits(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "rlimit", image(t), "sh", "-c", "ulimit -n; ulimit -Hn; ulimit -c")
	b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
	if _, out := run(t, r, b); out != "100\n200\n0\n" {
		t.Errorf("got %q", out)
	}
	// More than the host allows is a warning, not a failure.
	b = bundle(t, "rlimit2", image(t), "true")
	b.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 20, Hard: 1 << 20}}
	if exit, _ := run(t, r, b); exit.Code != 0 {
		t.Errorf("got %+v", exit)
	}
}

// TestWithoutUnifiedHierarchy runs a container's life with cgroup version 1 alone.
func TestWithoutUnifiedHierarchy(t *testing.T) {
	r := newRuntime(t)
	if !r.ForgetUnified() {
		need.Unmet(t, "cgroup version 1")
	}
	img := image(t)
	task, err := r.Start(context30(t), bundle(t, "v1", img, "sh", "-c", "sleep 1000 & while true; do sleep 1 & wait $!; done"))
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"sh", "-c", "grep -c ':/$' /proc/self/cgroup >/dev/null && echo in"}}, runtime.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := e.Wait(context30(t)); err != nil || x.Code != 0 || out.String() != "in\n" {
		t.Errorf("%+v, %v, %q", x, err, out.String())
	}
	if err := task.Pause(context30(t)); err != nil || !task.Paused() {
		t.Errorf("pause: %v", err)
	}
	if err := task.Resume(context30(t)); err != nil || task.Paused() {
		t.Errorf("resume: %v", err)
	}
	if err := task.Pause(context30(t)); err != nil {
		t.Fatal(err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
	if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 137 {
		t.Errorf("%+v, %v", exit, err)
	}
	// Close looks at what New has made.
	r.RememberUnified()
}

// TestUnifiedHierarchyAlone runs a container's life with cgroup version 2 alone, whatever controllers that has here.
func TestUnifiedHierarchyAlone(t *testing.T) {
	r := newRuntime(t)
	undo, ok := r.ForgetV1()
	if !ok {
		need.Unmet(t, "cgroup version 2")
	}
	defer undo()
	task, err := r.Start(context30(t), bundle(t, "v2", image(t), "sh", "-c", "sleep 1000 & while true; do sleep 1 & wait $!; done"))
	if err != nil {
		t.Fatal(err)
	}
	var out buffer
	e, err := task.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"sh", "-c", "grep 0::/$ /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.freeze; (echo 1 >/sys/fs/cgroup/cgroup.freeze) 2>/dev/null || echo ro"}}, runtime.Streams{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if x, err := e.Wait(context30(t)); err != nil || out.String() != "0::/\n0\nro\n" {
		t.Errorf("%+v, %v, %q", x, err, out.String())
	}
	if err := task.Pause(context30(t)); err != nil || !task.Paused() {
		t.Errorf("pause: %v", err)
	}
	if err := task.Resume(context30(t)); err != nil || task.Paused() {
		t.Errorf("resume: %v", err)
	}
	if s, err := task.Stats(context30(t)); err != nil || s.CPUNanos == 0 {
		t.Errorf("statistics %+v, %v", s, err)
	}
	if pids, err := task.PIDs(context30(t)); err != nil || len(pids) < 2 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
	// Without a user namespace the devices are a BPF program's.
	b := bundle(t, "v2dev", image(t), "sh", "-c", "mknod /dev/kmsg2 c 1 11; head -c1 /dev/kmsg2; cat </dev/null && echo null")
	withoutUserNamespace(t, &b)
	if _, got := run(t, r, b); got != "head: /dev/kmsg2: Operation not permitted\nnull\n" {
		t.Errorf("got %q", got)
	}
}
