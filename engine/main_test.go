package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/tests/need"
	"novaagent/tests/shim"
)

// patience bounds what a test waits for; on a busy machine nothing comes near it.
const patience = 60 * time.Second

// sharedRootfs is a root file system for all tests, made by the first that needs it.
var sharedRootfs struct {
	once sync.Once
	dir  string
}

func TestMain(m *testing.M) {
	if os.Getenv(childRoot) != "" {
		os.Exit(crashChild())
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if sharedRootfs.dir != "" {
		os.RemoveAll(sharedRootfs.dir)
	}
	os.Exit(code)
}

func rootfs(t testing.TB) string {
	t.Helper()
	sharedRootfs.once.Do(func() {
		dir, err := os.MkdirTemp("", "engine-rootfs-")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		enginetest.Rootfs(t, dir)
		sharedRootfs.dir = dir
	})
	return sharedRootfs.dir
}

// testCgroup is below which the engine of a root has its cgroups.
func testCgroup(root string) string {
	return "/nova-agent-test-" + strings.NewReplacer("/", "-", ".", "-").Replace(strings.TrimPrefix(root, "/"))
}

func options(t testing.TB, root string) engine.Options {
	return engine.Options{Root: root, CgroupParent: testCgroup(root), WarmShims: 1, Shim: shim.Program(t), Subnets: enginetest.Subnets(), Logger: logger(t)}
}

// logger writes to the test's log.
func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func tempRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "engine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		removeCgroups(testCgroup(dir))
	})
	return dir
}

// removeCgroups removes the test's parent cgroups, which the engine leaves for the next one.
func removeCgroups(parent string) {
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	for _, dir := range append(all, "/sys/fs/cgroup"+parent) {
		os.Remove(filepath.Join(dir, "shims"))
		os.Remove(dir)
	}
}

// open opens an engine and closes it, with all its containers, at the end of the test.
func open(t testing.TB, o engine.Options) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(e); err != nil {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// removeAll removes the containers with their volumes, the volumes that a test gave a name, and the networks.
func removeAll(e *engine.Engine) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var errs []error
	for _, c := range e.List() {
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true, Volumes: true}); err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrUnavailable) {
			errs = append(errs, err)
		}
	}
	networks, err := e.Networks()
	if err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
		errs = append(errs, err)
	}
	for _, n := range networks {
		if n.Predefined() {
			continue
		}
		if err := e.RemoveNetwork(ctx, n.ID); err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
			errs = append(errs, err)
		}
	}
	for _, v := range e.Volumes() {
		if v.Anonymous() {
			continue // it should have gone with its container: enginetest.Leaks tells
		}
		if err := e.RemoveVolume(ctx, v.Name); err != nil && !errors.Is(err, errdefs.ErrUnavailable) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// newEngine opens an engine on a root of its own and checks at the end that nothing is left.
func newEngine(t testing.TB) *engine.Engine {
	t.Helper()
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	return open(t, options(t, root))
}

// spec is a container that runs a shell script.
func spec(t testing.TB, script string) engine.Spec {
	t.Helper()
	return engine.Spec{Owner: engine.OwnerDocker, Rootfs: rootfs(t), Args: []string{"/bin/sh", "-c", script}}
}

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustRun(t testing.TB, e *engine.Engine, s engine.Spec) engine.Container {
	t.Helper()
	c, err := e.Run(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustWait(t testing.TB, e *engine.Engine, id string) engine.Exit {
	t.Helper()
	exit, err := e.Wait(testContext(t), id, engine.WaitNotRunning)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func mustInspect(t testing.TB, e *engine.Engine, id string) engine.Container {
	t.Helper()
	c, err := e.Inspect(id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// output is all a container has written.
func output(t testing.TB, e *engine.Engine, id string) string {
	t.Helper()
	text, err := e.LogTail(testContext(t), id, -1)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// runScript runs a script to its end and returns what it wrote.
func runScript(t testing.TB, e *engine.Engine, s engine.Spec) (string, engine.Exit) {
	t.Helper()
	c := mustRun(t, e, s)
	exit := mustWait(t, e, c.ID)
	return output(t, e, c.ID), exit
}

// waitLog waits until a container has written text.
func waitLog(t testing.TB, e *engine.Engine, id, text string) {
	t.Helper()
	found := errors.New("found")
	var seen strings.Builder
	o := engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1, Follow: true}
	err := e.Logs(testContext(t), id, o, func(l engine.LogLine) error {
		seen.Write(l.Text)
		if strings.Contains(seen.String(), text) {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("%q was not written, only %q: %v", text, seen.String(), err)
	}
}

var _ io.Writer = (*lockedBuffer)(nil)

// lockedBuffer is a buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
