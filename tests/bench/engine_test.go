// Package bench measures what the project promises, beside what is there without it.
package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/tests/need"
	"novaagent/tests/shim"
)

const cgroup = "/nova-agent-bench"

// openEngine opens an engine on a root of its own, and makes a busybox root file system.
func openEngine(b testing.TB) (e *engine.Engine, rootfs string) {
	b.Helper()
	need.Root(b)
	root := b.TempDir()
	rootfs = filepath.Join(b.TempDir(), "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		b.Fatal(err)
	}
	enginetest.Rootfs(b, rootfs)
	e, err := engine.Open(b.Context(), engine.Options{
		Root: root, RunDir: runDir(b), CgroupParent: cgroup, Shim: shim.Program(b), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		for _, c := range e.List() {
			if err := e.Remove(context.Background(), c.ID, engine.RemoveOptions{Force: true}); err != nil {
				b.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	})
	return e, rootfs
}

// runDir is a directory on a tmpfs, as /run is.
func runDir(b testing.TB) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "nova-agent-bench-")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// lifecycle is create, start, wait and remove.
func lifecycle(b testing.TB, e *engine.Engine, rootfs string) {
	b.Helper()
	ctx := b.Context()
	c, err := e.Run(ctx, engine.Spec{Owner: engine.OwnerNova, Rootfs: rootfs, Args: []string{"/bin/true"}})
	if err != nil {
		b.Fatal(err)
	}
	exit, err := e.Wait(ctx, c.ID, engine.WaitNotRunning)
	if err != nil || exit.Code != 0 {
		b.Fatal(exit, err)
	}
	if err := e.Remove(ctx, c.ID, engine.RemoveOptions{}); err != nil {
		b.Fatal(err)
	}
}

// runcBundle is a bundle of the same root and command for runc.
func runcBundle(b testing.TB, rootfs string) string {
	b.Helper()
	dir := b.TempDir()
	if out, err := exec.Command("runc", "spec", "--bundle", dir).CombinedOutput(); err != nil {
		b.Fatalf("runc spec: %v: %s", err, out)
	}
	file := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		b.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = []string{"/bin/true"}, false
	spec["root"] = map[string]any{"path": rootfs, "readonly": true}
	if data, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		b.Fatal(err)
	}
	return dir
}

func runcRun(b testing.TB, bundle string, i int) {
	b.Helper()
	if out, err := exec.Command("runc", "run", "--bundle", bundle, fmt.Sprintf("bench-%d-%d", os.Getpid(), i)).CombinedOutput(); err != nil {
		b.Fatalf("runc run: %v: %s", err, out)
	}
}

func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(q*float64(len(sorted)-1))].Round(time.Microsecond)
}

// BenchmarkLifecycle measures create+start+wait+remove of a busybox without a network, through the
// engine's Go API, and `runc run` of the same root, in turn so that both see the same machine.
func BenchmarkLifecycle(b *testing.B) {
	need.Command(b, "runc")
	e, rootfs := openEngine(b)
	bundle := runcBundle(b, rootfs)
	for range 5 {
		lifecycle(b, e, rootfs)
	}
	runcRun(b, bundle, -1)
	var ours, runc []time.Duration
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		lifecycle(b, e, rootfs)
		ours = append(ours, time.Since(begin))
		b.StopTimer()
		if i%4 == 0 {
			begin = time.Now()
			runcRun(b, bundle, i)
			runc = append(runc, time.Since(begin))
		}
		b.StartTimer()
	}
	table := tabwriter.NewWriter(b.Output(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "create+start+wait+remove\tmedian\tp90\tn")
	fmt.Fprintf(table, "engine\t%s\t%s\t%d\n", quantile(ours, 0.5), quantile(ours, 0.9), len(ours))
	fmt.Fprintf(table, "runc run\t%s\t%s\t%d\n", quantile(runc, 0.5), quantile(runc, 0.9), len(runc))
	fmt.Fprintf(table, "ratio\t%.1f\n", float64(quantile(runc, 0.5))/float64(quantile(ours, 0.5)))
	table.Flush()
	b.ReportMetric(float64(quantile(ours, 0.5).Microseconds())/1000, "engine-ms")
	b.ReportMetric(float64(quantile(runc, 0.5).Microseconds())/1000, "runc-ms")
}

// BenchmarkExec measures a /bin/true in a running container.
func BenchmarkExec(b *testing.B) {
	e, rootfs := openEngine(b)
	c, err := e.Run(b.Context(), engine.Spec{Owner: engine.OwnerNova, Rootfs: rootfs, Args: []string{"/bin/sleep", "100000"}})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if exit, err := e.Exec(b.Context(), c.ID, engine.ExecSpec{Args: []string{"/bin/true"}}, engine.Streams{}); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}

// BenchmarkParallel measures lifecycles, eight at a time.
func BenchmarkParallel(b *testing.B) {
	e, rootfs := openEngine(b)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			lifecycle(b, e, rootfs)
		}
	})
}

// BenchmarkMemory measures what each idle container costs: the private memory of its shim, and the growth
// of this process.
func BenchmarkMemory(b *testing.B) {
	const n = 100
	e, rootfs := openEngine(b)
	before := private(b, os.Getpid())
	var shims int
	for range n {
		c, err := e.Run(b.Context(), engine.Spec{Owner: engine.OwnerNova, Rootfs: rootfs, Args: []string{"/bin/sleep", "100000"}})
		if err != nil {
			b.Fatal(err)
		}
		shims += private(b, parent(b, c.PID))
	}
	grown := private(b, os.Getpid()) - before
	for b.Loop() {
	}
	b.ReportMetric(float64(shims)/n, "shim-KiB")
	b.ReportMetric(float64(grown)/n, "engine-KiB")
}

// private is a process's private memory in KiB.
func private(b testing.TB, pid int) int {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "Private_") {
			kib, err := strconv.Atoi(strings.Fields(line)[1])
			if err != nil {
				b.Fatal(err)
			}
			total += kib
		}
	}
	return total
}

func parent(b testing.TB, pid int) int {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	id, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		b.Fatal(err)
	}
	return id
}
