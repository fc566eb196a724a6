package engine_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/engine/store"
	"novaagent/tests/need"
	"novaagent/tests/shim"
)

// Environment of a child process that plays the engine to be killed.
const (
	childRoot   = "ENGINE_TEST_ROOT"
	childOp     = "ENGINE_TEST_OP"
	childStep   = "ENGINE_TEST_STEP"
	childRootfs = "ENGINE_TEST_ROOTFS"
	childShim   = "ENGINE_TEST_SHIM"
)

const crashName = "crash-test"

// crashSpec has everything that a container can leave behind.
func crashSpec(rootfs string) engine.Spec {
	s := engine.Spec{
		Owner: engine.OwnerNova, Name: crashName, Rootfs: rootfs,
		Args: []string{"/bin/sh", "-c", "echo started; exec sleep 1000"},
	}
	s.Resources.DiskBytes = 64 << 20
	s.Volumes = []string{"/home"}
	return s
}

// crashChild is the process that is killed: it opens the engine, does childOp and kills itself at
// childStep. With the step "ready" it does so when all is done.
func crashChild() int {
	root, step := os.Getenv(childRoot), os.Getenv(childStep)
	program, err := os.ReadFile(os.Getenv(childShim))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	die := func(name, _ string) {
		if name == step {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	ctx := context.Background()
	e, err := engine.Open(ctx, engine.Options{
		Root: root, CgroupParent: testCgroup(root), WarmShims: 1, Shim: program, Plugins: pluginsOf(root),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Hooks: engine.Hooks{Step: die},
	})
	if err == nil {
		for op := range strings.SplitSeq(os.Getenv(childOp), ",") {
			switch op {
			case "create":
				_, err = e.Create(ctx, crashSpec(os.Getenv(childRootfs)))
			case "checked":
				s := crashSpec(os.Getenv(childRootfs))
				s.Health = &engine.Healthcheck{Args: []string{"sh", "-c", crashProbe}, Interval: time.Millisecond, Timeout: time.Hour}
				_, err = e.Create(ctx, s)
			case "probe":
				for len(crashProbes(ctx, e)) == 0 {
					time.Sleep(time.Millisecond) // a probe has begun when /proc shows it: there is no event
				}
			case "create-plugin":
				spec := crashSpec(os.Getenv(childRootfs))
				spec.Mounts = append(spec.Mounts, engine.Mount{Type: engine.MountVolume, Source: "plugged", Target: "/data", Volume: engine.VolumeMount{Driver: "cupboard"}})
				_, err = e.Create(ctx, spec)
			case "start":
				_, err = e.Start(ctx, crashName)
			case "remove":
				err = e.Remove(ctx, crashName, engine.RemoveOptions{Force: true, Volumes: true})
			case "volume":
				_, err = e.CreateVolume(ctx, engine.Volume{Name: crashName, Labels: map[string]string{"k": "v"}})
			case "volume-remove":
				err = e.RemoveVolume(ctx, crashName)
			case "network":
				_, err = e.CreateNetwork(ctx, engine.Network{Name: crashName, Driver: engine.DriverBridge, IPv4: true})
			case "macvlan": // on a device of its own
				_, err = e.CreateNetwork(ctx, engine.Network{Name: crashName, Driver: engine.DriverMacvlan, IPv4: true})
			case "network-remove":
				err = e.RemoveNetwork(ctx, crashName)
			case "joined":
				s := crashSpec(os.Getenv(childRootfs))
				s.Owner, s.NetworkMode, s.Networks = engine.OwnerDocker, engine.NetworkBridge, []engine.Join{{Network: crashName}, {Network: "bridge"}}
				s.Ports = []engine.Port{{Proto: "tcp", ContainerPort: 80}}
				_, err = e.Create(ctx, s)
			case "connect":
				err = e.Connect(ctx, crashName, engine.Join{Network: "bridge"})
			case "disconnect":
				err = e.Disconnect(ctx, crashName, "bridge")
			}
			if err != nil {
				break
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	die("ready", "")
	if err := e.Close(); err != nil { // some steps come when nobody waits
		fmt.Fprintln(os.Stderr, err)
	}
	return 2
}

// crash runs crashChild and returns once it was killed.
func crash(t *testing.T, root, ops, step string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "shim")
	if err := os.WriteFile(program, shim.Program(t), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childRoot+"="+root, childOp+"="+ops, childStep+"="+step,
		childRootfs+"="+rootfs(t), childShim+"="+program)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// A pipe that a shim inherited would keep Wait waiting.
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		open(t, options(t, root)) // what the child has left is removed with it
		t.Fatalf("the child was not killed at %s: %v\n%s", step, err, out.String())
	}
}

// TestCrashAtEachStep kills the engine at each step of create, start and remove, and opens it again: the
// container is whole or gone, a removal is completed, and nothing is left behind.
func TestCrashAtEachStep(t *testing.T) {
	need.Root(t)
	for _, step := range engine.Steps {
		if strings.HasPrefix(step, "network.") || step == "volume.plugin" || step == "volume.mounted" {
			continue // TestNetworkCrash, TestPluginMountsAfterACrash
		}
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			root := tempRoot(t)
			enginetest.Leaks(t, root, testCgroup(root))
			op, _, _ := strings.Cut(step, ".")
			if step == "volume.forgotten" {
				op = "remove"
			} else if op == "volume" {
				op = "create"
			}
			ops := map[string]string{
				"create": "create", "start": "create,start", "remove": "create,start,remove", "trash": "create,start,remove",
			}[op]
			crash(t, root, ops, step)
			e := open(t, options(t, root))
			ctx := testContext(t)
			c, err := e.Inspect(crashName)
			switch {
			case op == "create" && step != "create.done", op == "remove", op == "trash":
				if !errors.Is(err, errdefs.ErrNotFound) {
					t.Errorf("the container is %s, %v", c.State, err)
				}
			case err != nil:
				t.Error(err)
			case step == "start.process" || step == "start.done":
				if c.State != engine.Running || c.PID == 0 {
					t.Errorf("the container is %s", c.State)
				}
			case c.State != engine.Created:
				t.Errorf("the container is %s", c.State)
			}
			// Whatever happened, the name is usable and the container works.
			if err != nil {
				if _, err := e.Create(ctx, crashSpec(rootfs(t))); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Start(ctx, crashName); err != nil {
				t.Fatal(err)
			}
			waitLog(t, e, crashName, "started\n")
		})
	}
}

// TestRemovalUndoneByAPowerCut opens an engine whose database still has a container that was removed: its files are
// in the trash already.
func TestRemovalUndoneByAPowerCut(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	s := spec(t, "true")
	s.Name = crashName
	removed := mustRun(t, e, s)
	if _, err := e.Wait(testContext(t), removed.ID, engine.WaitNotRunning); err != nil {
		t.Fatal(err)
	}
	s.Name = "kept"
	kept := mustRun(t, e, s)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root, "containers", removed.ID), filepath.Join(root, "trash", removed.ID)); err != nil {
		t.Fatal(err)
	}

	e = open(t, options(t, root))
	if c, err := e.Inspect(removed.ID); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("the removed container is %s, %v", c.State, err)
	}
	mustInspect(t, e, kept.ID)
}

// TestContainersOutliveTheEngine kills the engine under a container that writes, and checks its log.
func TestContainersOutliveTheEngine(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	crash(t, root, "create,start", "ready")

	e := open(t, options(t, root))
	ctx := testContext(t)
	first := mustInspect(t, e, crashName)
	if first.State != engine.Running {
		t.Fatalf("after the crash it is %s", first.State)
	}
	s := spec(t, "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; exit 9")
	s.Name = "writer"
	writer := mustRun(t, e, s)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	e = open(t, options(t, root))
	if again := mustInspect(t, e, crashName); again.State != engine.Running || again.PID != first.PID || !again.Started.Equal(first.Started) {
		t.Errorf("the process was %d and is %d, %s", first.PID, again.PID, again.State)
	}
	if err := syscall.Kill(first.PID, 0); err != nil {
		t.Errorf("process %d: %v", first.PID, err)
	}
	if exit, err := e.Wait(ctx, writer.ID, engine.WaitNotRunning); err != nil || exit.Code != 9 {
		t.Errorf("the writer ended with %+v, %v", exit, err)
	}
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	if got := output(t, e, writer.ID); got != want.String() {
		t.Errorf("the log has %d bytes, want %d", len(got), want.Len())
	}
	if exit, err := e.Exec(ctx, crashName, engine.ExecSpec{Args: []string{"true"}}, engine.Streams{}); err != nil || exit.Code != 0 {
		t.Errorf("exec in an adopted container: %+v, %v", exit, err)
	}
	if _, err := e.Stop(ctx, crashName, syscall.SIGKILL, 0); err != nil {
		t.Error(err)
	}
}

// crashProbe is a probe that takes for ever the first time.
const crashProbe = "mkdir /probed 2>/dev/null || exit 0; sleep 54321 & wait"

// crashProbes are the processes that crashProbe has begun to wait for.
func crashProbes(ctx context.Context, e *engine.Engine) (found []int) {
	pids, _ := e.PIDs(ctx, crashName)
	for _, pid := range pids {
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.HasPrefix(string(line), "sleep\x0054321") {
			found = append(found, pid)
		}
	}
	return found
}

// TestProbeEndsWithTheEngine kills the engine under a health check's probe: the shim ends the probe, and
// the next engine goes on.
func TestProbeEndsWithTheEngine(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	crash(t, root, "checked,start,probe", "ready")
	e := open(t, options(t, root))
	ctx := testContext(t)
	healthy := false
	for ev := range e.Subscribe(ctx, time.Unix(1, 0)) {
		if healthy = ev.Action == "health_status: healthy"; healthy {
			break
		}
	}
	if !healthy {
		t.Error("it is not probed any more")
	}
	for _, pid := range crashProbes(ctx, e) {
		t.Errorf("the probe's process %d is left", pid)
	}
}

// TestExitWhileAway lets a container end while no engine is there.
func TestExitWhileAway(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	dir := t.TempDir()
	if err := syscall.Mkfifo(dir+"/gate", 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec(t, "echo waiting; cat /gate/gate; exit 42")
	s.Mounts = []engine.Mount{{Type: engine.MountBind, Source: dir, Target: "/gate"}}
	c := mustRun(t, e, s)
	waitLog(t, e, c.ID, "waiting")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	gate, err := os.OpenFile(dir+"/gate", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.WriteString("last words\n"); err != nil {
		t.Fatal(err)
	}
	gate.Close()
	gone(t, c.PID)
	e = open(t, options(t, root))
	if exit := mustWait(t, e, c.ID); exit.Code != 42 || exit.Lost {
		t.Errorf("exit %+v", exit)
	}
	if text := output(t, e, c.ID); text != "waiting\nlast words\n" {
		t.Errorf("log %q", text)
	}
}

// gone waits until a process has ended.
func gone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z") {
			return
		}
	}
	t.Fatalf("process %d does not end", pid)
}

// reboot makes the engine at root believe that the host was rebooted: processes and mounts are
// gone, and the records are of another boot.
func reboot(t *testing.T, root string, e *engine.Engine) {
	t.Helper()
	list := e.List()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		if c.PID != 0 {
			_ = syscall.Kill(c.PID, syscall.SIGKILL)
			gone(t, c.PID)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if path := strings.Fields(line)[4]; strings.HasPrefix(path, root) {
			if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := store.Open(filepath.Join(root, "state.db"), logger(t))
	if err != nil {
		t.Fatal(err)
	}
	records, err := store.List[map[string]json.RawMessage](db, "container")
	if err != nil {
		t.Fatal(err)
	}
	for id, rec := range records {
		rec["BootID"] = json.RawMessage(`"another-boot"`)
		if err := store.Put(db, "container", id, rec); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestHostReboot(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	s := spec(t, "echo boot >> /boots; cat /boots; exec sleep 1000")
	s.Name, s.Resources.DiskBytes = "stays-down", 64<<20
	down := mustRun(t, e, s)
	s.Name, s.Restart.Mode = "comes-back", engine.RestartAlways
	back := mustRun(t, e, s)
	waitLog(t, e, down.ID, "boot\n")
	waitLog(t, e, back.ID, "boot\n")
	// Stopped before the "power" goes, so that neither is restarted by its policy meanwhile.
	reboot(t, root, e)

	e = open(t, options(t, root))
	if c := mustInspect(t, e, down.ID); c.State != engine.Stopped || !c.Exit.Lost || c.PID != 0 {
		t.Errorf("after the reboot: %s %+v", c.State, c.Exit)
	}
	waitLog(t, e, back.ID, "boot\nboot\nboot\n")
	if _, err := e.Start(testContext(t), down.ID); err != nil {
		t.Fatal(err)
	}
	waitLog(t, e, down.ID, "boot\nboot\nboot\n")
	if c := mustInspect(t, e, down.ID); c.IDs != down.IDs {
		t.Errorf("the id range was %v and is %v", down.IDs, c.IDs)
	}
}

func TestDeadShim(t *testing.T) {
	e := newEngine(t)
	c := mustRun(t, e, spec(t, "exec sleep 1000"))
	shims := childrenOf(t, c.PID)
	if err := syscall.Kill(shims, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit := mustWait(t, e, c.ID)
	if !exit.Lost || exit.Code != 255 {
		t.Errorf("exit %+v", exit)
	}
	gone(t, c.PID)
	if _, err := e.Start(testContext(t), c.ID); err != nil {
		t.Errorf("started again: %v", err)
	}
}

// childrenOf is the parent of a process.
func childrenOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var state string
	var parent int
	if _, err := fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

func TestSecondEngineIsRefused(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	open(t, options(t, root))
	_, err := engine.Open(t.Context(), options(t, root))
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second engine: %v", err)
	}
}

// TestLostDatabase damages the database under a running container.
func TestLostDatabase(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	s := spec(t, "echo here; exec sleep 1000")
	s.Name = "survivor"
	c := mustRun(t, e, s)
	waitLog(t, e, c.ID, "here")
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "state.db")
	if err := os.WriteFile(file, []byte("not a database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	again := mustInspect(t, e, "survivor")
	if again.ID != c.ID || again.State != engine.Running || again.PID != c.PID || again.IDs != c.IDs {
		t.Errorf("it was %s %d and is %s %d", c.State, c.PID, again.State, again.PID)
	}
	other := mustRun(t, e, spec(t, "exec sleep 1000"))
	if other.IDs == c.IDs {
		t.Errorf("the range %v was given out twice", c.IDs)
	}
	if aside, err := filepath.Glob(file + ".corrupt-*"); err != nil || len(aside) == 0 {
		t.Errorf("the damaged file was not kept: %v", err)
	}
}

// TestStrays leaves things that bear our mark and have no record.
func TestStrays(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	s := spec(t, "exec sleep 1000")
	s.Resources.DiskBytes = 64 << 20
	c := mustRun(t, e, s)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(filepath.Join(root, "state.db"), logger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Delete(db, "container", c.ID), db.Close()); err != nil {
		t.Fatal(err)
	}
	open(t, options(t, root))
	gone(t, c.PID)
}
