package runtime_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/runtime"
	"novaagent/tests/leak"
	"novaagent/tests/need"
	"novaagent/tests/program"
	"novaagent/tests/shim"
)

// deadline bounds every wait of the tests.
const deadline = 30 * time.Second

func context30(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// newRuntime starts a Runtime with a cgroup parent and directory of its own.
func newRuntime(t testing.TB) *runtime.Runtime {
	t.Helper()
	parent := cgroupParent()
	dir := t.TempDir()
	shim.Program(t)
	leak.Check(t, parent)
	r := openRuntime(t, dir, parent)
	t.Cleanup(func() { closeRuntime(t, r) })
	return r
}

var parents atomic.Int64

// runDirs has the directory of each Runtime.
var runDirs = struct {
	sync.Mutex
	of map[*runtime.Runtime]string
}{of: map[*runtime.Runtime]string{}}

func cgroupParent() string {
	return fmt.Sprintf("/nova-agent-test-%d-%d", os.Getpid(), parents.Add(1))
}

func openRuntime(t testing.TB, dir, parent string) *runtime.Runtime {
	t.Helper()
	need.Root(t)
	r, err := runtime.New(runtime.Options{RunDir: dir, CgroupParent: parent, Shim: shim.Program(t), Logger: testLogger(t), OCI: ociRuntimes(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	runDirs.Lock()
	runDirs.of[r] = dir
	runDirs.Unlock()
	return r
}

func closeRuntime(t testing.TB, r *runtime.Runtime) {
	t.Helper()
	ids, err := r.IDs()
	if err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		if err := r.Remove(context30(t), id); err != nil {
			t.Errorf("remove %s: %v", id, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(writerFunc(func(b []byte) (int, error) {
		t.Log(strings.TrimSpace(string(b)))
		return len(b), nil
	}), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

var prober = sync.OnceValues(func() ([]byte, error) { return program.Build("novaagent/engine/runtime/testdata/prober") })

// addProber puts the prober into an image as /prober.
func addProber(t testing.TB, image string) {
	t.Helper()
	b, err := prober()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(image, "prober"), b, 0o755); err != nil {
		t.Fatal(err)
	}
}

// image is a root file system's layer with busybox.
func image(t testing.TB) string {
	t.Helper()
	need.Command(t, "busybox")
	dir := t.TempDir()
	makeImage(t, dir)
	return dir
}

func makeImage(t testing.TB, dir string) {
	t.Helper()
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "root", "home/user"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	src, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields("sh cat echo ls sleep id mount mkdir touch dd grep stat stty tty kill ps head seq true false env umount readlink hostname test yes wc find tail mknod ulimit chmod ln rm cp") {
		if err := os.Symlink("busybox", filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:User:/home/user:/bin/sh\n")
	write("etc/group", "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
	os.Chmod(filepath.Join(dir, "tmp"), 0o1777)
}

const firstID = 1_700_000_000

// bundle is a container in a user namespace of its own.
func bundle(t testing.TB, id, lower string, args ...string) runtime.Bundle {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(filepath.Join(dir, "upper"), firstID, firstID); err != nil {
		t.Fatal(err)
	}
	return bundleOf(id, lower, dir, args...)
}

// bundleOf is bundle with a directory that has upper and work.
func bundleOf(id, lower, dir string, args ...string) runtime.Bundle {
	spec := runtime.DefaultSpec()
	spec.Process.Args = args
	spec.Process.Env = []string{"PATH=/bin"}
	m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: firstID, Size: 65536}}
	spec.Linux.UIDMappings, spec.Linux.GIDMappings = m, m
	return runtime.Bundle{
		ID: id, Spec: spec,
		Rootfs: runtime.Rootfs{Lowers: []string{lower}, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")},
		Log:    runtime.Log{Path: filepath.Join(dir, "log.json")},
	}
}

// buffer is a bytes.Buffer that may be written and read at a time.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// run starts a container, waits for it and returns its exit and output.
func run(t testing.TB, r *runtime.Runtime, b runtime.Bundle) (runtime.Exit, string) {
	t.Helper()
	var out buffer
	a := runtime.NewAttachment(runtime.Streams{Stdout: &out, Stderr: &out})
	b.Attach = append(b.Attach, a)
	task, err := r.Start(context30(t), b)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := task.Wait(context30(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Wait(context30(t)); err != nil {
		t.Errorf("attach: %v", err)
	}
	if err := task.Delete(context30(t)); err != nil {
		t.Fatal(err)
	}
	return exit, out.String()
}
