package compute

import (
	"context"
	"log/slog"
	"testing"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/tests/need"
	"novaagent/tests/shim"
)

// TestDirect: what containers of the Docker API take, while they run, have ended and are gone; instances of
// Nova's do not count.
func TestDirect(t *testing.T) {
	need.Root(t)
	ctx := t.Context()
	root, rootfs, cgroup := t.TempDir(), t.TempDir(), "/nova-agent-test-direct"
	enginetest.Leaks(t, root, cgroup)
	enginetest.Rootfs(t, rootfs)
	e, err := engine.Open(ctx, engine.Options{Root: root, CgroupParent: cgroup, Shim: shim.Program(t), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range e.List() {
			if err := e.Remove(context.Background(), c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil {
				t.Error(err)
			}
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	d := &direct{engine: e}
	expect := func(when string, want reserved) {
		t.Helper()
		if got := d.measure(ctx); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	run := func(owner engine.Owner, r engine.Resources, command string) engine.Container {
		t.Helper()
		c, err := e.Run(ctx, engine.Spec{Owner: owner, Rootfs: rootfs, Args: []string{"sh", "-c", command}, Resources: r})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	expect("an empty node", reserved{})
	run(engine.OwnerNova, engine.Resources{MemoryBytes: 256 << 20, CPUMilli: 2000, DiskBytes: 32 << 20}, "exec sleep 1000")
	expect("an instance", reserved{})
	limited := run(engine.OwnerDocker, engine.Resources{MemoryBytes: 100 << 20, CPUMilli: 1500, DiskBytes: 32 << 20}, "exec sleep 1000")
	expect("limits", reserved{vcpus: 2, memoryMB: 100, diskMB: 32})
	run(engine.OwnerDocker, engine.Resources{MemoryBytes: 50 << 20, CPUMilli: 300, DiskBytes: 32 << 20}, "exec sleep 1000")
	expect("quotas are added before they are rounded", reserved{vcpus: 2, memoryMB: 150, diskMB: 64})
	free := run(engine.OwnerDocker, engine.Resources{DiskBytes: 32 << 20}, "exec sleep 1000")
	expect("without limits one processor and what is used", reserved{vcpus: 3, memoryMB: 150 + directStepMB, diskMB: 96})
	for _, c := range []engine.Container{limited, free} {
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	expect("what is gone", reserved{vcpus: 1, memoryMB: 50, diskMB: 32})

	ended := run(engine.OwnerDocker, engine.Resources{}, "dd if=/dev/zero of=/large bs=1M count=5")
	if _, err := e.Wait(ctx, ended.ID, engine.WaitNotRunning); err != nil {
		t.Fatal(err)
	}
	if got := d.measure(ctx); got.vcpus != 1 || got.memoryMB != 50 || got.diskMB < 32+5 || got.diskMB > 32+7 {
		t.Errorf("one that has ended takes its files' room: %+v", got)
	}
	if err := e.Remove(ctx, ended.ID, engine.RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	expect("without its files", reserved{vcpus: 1, memoryMB: 50, diskMB: 32})
}
