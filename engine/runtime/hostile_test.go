package runtime_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// trap is a host directory that nothing may touch.
type trap struct {
	dir    string
	before string
}

func newTrap(t testing.TB) *trap {
	t.Helper()
	tr := &trap{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(tr.dir, "canary"), []byte("alive"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(tr.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	tr.before = tr.state(t)
	return tr
}

func (tr *trap) state(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(tr.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintln(&b, path, info.Mode(), info.Size(), st.Mtim, st.Ctim, st.Atim.Sec, st.Ino)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&b, strings.Count(string(mounts), tr.dir))
	return b.String()
}

func (tr *trap) check(t testing.TB) {
	t.Helper()
	if now := tr.state(t); now != tr.before {
		t.Errorf("the host was touched:\n%s\nbefore:\n%s", now, tr.before)
	}
}

// modes runs f with and without a user namespace.
func modes(t *testing.T, f func(t *testing.T, r *runtime.Runtime, edit func(*runtime.Bundle))) {
	t.Run("userns", func(t *testing.T) { f(t, newRuntime(t), func(*runtime.Bundle) {}) })
	t.Run("host user", func(t *testing.T) {
		f(t, newRuntime(t), func(b *runtime.Bundle) { withoutUserNamespace(t, b) })
	})
}

// TestWorkingDirectoryIsNoDescriptor: CVE-2024-21626.
func TestWorkingDirectoryIsNoDescriptor(t *testing.T) {
	modes(t, func(t *testing.T, r *runtime.Runtime, edit func(*runtime.Bundle)) {
		img := image(t)
		for n := 3; n < 30; n++ {
			b := bundle(t, "cwd", img, "cat", "../../../../../etc/hostname")
			b.Spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", n)
			edit(&b)
			if _, err := r.Start(context30(t), b); !errors.Is(err, errdefs.ErrInvalid) {
				t.Fatalf("descriptor %d: %v", n, err)
			}
		}
		b := bundle(t, "fds", img, "ls", "/proc/1/fd")
		edit(&b)
		// ls itself has the directory open.
		if _, out := run(t, r, b); out != "0\n1\n2\n3\n" {
			t.Errorf("open descriptors: %q", out)
		}
	})
}

// TestOwnExecutable: CVE-2019-5736.
func TestOwnExecutable(t *testing.T) {
	modes(t, func(t *testing.T, r *runtime.Runtime, edit func(*runtime.Bundle)) {
		img := image(t)
		if err := os.WriteFile(filepath.Join(img, "entry"), []byte("#!/proc/self/exe\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		hash := func() [32]byte {
			found, err := filepath.Glob(filepath.Join(runDir(t, r), "shim", "*"))
			if err != nil || len(found) != 1 {
				t.Fatalf("the shim's program: %v, %v", found, err)
			}
			b, err := os.ReadFile(found[0])
			if err != nil {
				t.Fatal(err)
			}
			return sha256.Sum256(b)
		}
		before := hash()
		b := bundle(t, "exe", img, "/entry")
		edit(&b)
		// In a user namespace it may not even be executed.
		if task, err := r.Start(context30(t), b); err == nil {
			if exit, err := task.Wait(context30(t)); err != nil || exit.Code != 2 {
				t.Errorf("it ended with %+v, %v", exit, err)
			}
			if err := task.Delete(context30(t)); err != nil {
				t.Fatal(err)
			}
		}
		// A container's process that looks for the shim's executable through its parent finds nothing.
		b = bundle(t, "write", img, "sh", "-c", "echo x >/proc/1/exe; echo x >/proc/self/exe; true")
		edit(&b)
		run(t, r, b)
		if hash() != before {
			t.Error("the shim's program was changed")
		}
	})
}

func runDir(t testing.TB, r *runtime.Runtime) string {
	t.Helper()
	runDirs.Lock()
	defer runDirs.Unlock()
	return runDirs.of[r]
}

// TestSymbolicLinksInTheImage: CVE-2019-19921, 2026-41579 and their kind.
func TestSymbolicLinksInTheImage(t *testing.T) {
	modes(t, func(t *testing.T, r *runtime.Runtime, edit func(*runtime.Bundle)) {
		tr := newTrap(t)
		link := func(img, name, target string) {
			t.Helper()
			os.RemoveAll(filepath.Join(img, name))
			if err := os.MkdirAll(filepath.Dir(filepath.Join(img, name)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, filepath.Join(img, name)); err != nil {
				t.Fatal(err)
			}
		}
		for i, name := range []string{"proc", "sys"} {
			img := image(t)
			link(img, name, tr.dir)
			b := bundle(t, fmt.Sprintf("link-%d", i), img, "true")
			edit(&b)
			if _, err := r.Start(context30(t), b); err == nil {
				t.Errorf("/%s may be a symbolic link", name)
			}
		}
		up := strings.Repeat("../", 30)
		for i, name := range []string{"dev", "dev/shm", "mnt", "etc/hosts"} {
			for j, target := range []string{tr.dir, up + tr.dir} {
				img := image(t)
				link(img, name, target)
				b := bundle(t, fmt.Sprintf("inside-%d-%d", i, j), img, "sh", "-c", "echo x >/mnt/x; echo x >/dev/shm/x; true")
				if err := os.WriteFile(filepath.Join(t.TempDir(), "hosts"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
				b.Spec.Mounts = append(b.Spec.Mounts,
					specs.Mount{Type: "tmpfs", Destination: "/mnt/a/b"},
					specs.Mount{Type: "bind", Source: "/dev/null", Destination: "/etc/hosts"})
				edit(&b)
				// It may fail, the target being in the root or not; it must not reach the host.
				if task, err := r.Start(context30(t), b); err == nil {
					if _, err := task.Wait(context30(t)); err != nil {
						t.Fatal(err)
					}
					if err := task.Delete(context30(t)); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		// /dev/null of an image that keeps its own /dev: CVE-2025-31133.
		img := image(t)
		link(img, "dev/null", filepath.Join(tr.dir, "canary"))
		b := bundle(t, "null", img, "sh", "-c", "echo x >/dev/null; true")
		b.Spec.Mounts = b.Spec.Mounts[:1]
		edit(&b)
		if task, err := r.Start(context30(t), b); err == nil {
			if _, err := task.Wait(context30(t)); err != nil {
				t.Fatal(err)
			}
			if err := task.Delete(context30(t)); err != nil {
				t.Fatal(err)
			}
		}
		tr.check(t)
	})
}

// TestMountTargetRace exchanges a directory of a volume with a symbolic link to the host while containers
// mount below it: CVE-2021-30465, 2024-45310.
func TestMountTargetRace(t *testing.T) {
	modes(t, func(t *testing.T, r *runtime.Runtime, edit func(*runtime.Bundle)) {
		tr := newTrap(t)
		vol := t.TempDir()
		if err := os.Chmod(vol, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(vol, "dir"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(tr.dir, filepath.Join(vol, "link")); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		var racer sync.WaitGroup
		racer.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					exchange(filepath.Join(vol, "dir"), filepath.Join(vol, "link"))
				}
			}
		})
		img := image(t)
		started := 0
		for i := range 24 {
			b := bundle(t, fmt.Sprintf("race-%d", i), img, "true")
			b.Spec.Mounts = append(b.Spec.Mounts,
				specs.Mount{Type: "bind", Source: vol, Destination: "/vol", Options: []string{"idmap"}},
				specs.Mount{Type: "tmpfs", Destination: "/vol/dir/sub"},
				specs.Mount{Type: "bind", Source: "/dev/null", Destination: "/vol/dir/file"})
			if i%2 == 0 {
				edit(&b)
			}
			if len(b.Spec.Linux.UIDMappings) == 0 {
				b.Spec.Mounts[len(b.Spec.Mounts)-3].Options = nil
			}
			task, err := r.Start(context30(t), b)
			if err != nil {
				continue // the link won; its target is not there in the root
			}
			started++
			if _, err := task.Wait(context30(t)); err != nil {
				t.Fatal(err)
			}
			if err := task.Delete(context30(t)); err != nil {
				t.Fatal(err)
			}
		}
		close(stop)
		racer.Wait()
		tr.check(t)
		t.Logf("%d of 24 started", started)
	})
}

func exchange(a, b string) {
	pa, _ := syscall.BytePtrFromString(a)
	pb, _ := syscall.BytePtrFromString(b)
	const atCwd, renameExchange = ^uintptr(99), 2
	syscall.Syscall6(sysRenameat2, atCwd, uintptr(unsafe.Pointer(pa)), atCwd, uintptr(unsafe.Pointer(pb)), renameExchange, 0)
}

// TestAccountFilesOfTheImage: CVE-2024-9676 and its kind.
func TestAccountFilesOfTheImage(t *testing.T) {
	r := newRuntime(t)
	for name, make := range map[string]func(path string) error{
		"fifo":    func(p string) error { return syscall.Mkfifo(p, 0o666) },
		"device":  func(p string) error { return os.Symlink("/dev/zero", p) },
		"sparse":  func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o644), os.Truncate(p, 10<<30)) },
		"host":    func(p string) error { return os.Symlink("/proc/self/root/etc/passwd", p) },
		"outside": func(p string) error { return os.Symlink("../../../../../../etc/shadow", p) },
	} {
		img := image(t)
		path := filepath.Join(img, "etc/passwd")
		if err := errors.Join(os.Remove(path), make(path)); err != nil {
			t.Fatal(err)
		}
		b := bundle(t, "accounts-"+name, img, "true")
		b.User = "daemon" // the host has one
		if _, err := r.Start(context30(t), b); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestTracedByItsParent: a thread that has made the shim its tracer must not keep the container from ending.
func TestTracedByItsParent(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	addProber(t, img)
	if exit, out := run(t, r, bundle(t, "traceme", img, "/prober", "traceme")); exit.Code != 0 || out != "traceme: ok\n" {
		t.Errorf("%+v, %q", exit, out)
	}
	// Nor, whether it is the first process or an exec, from being deleted.
	first, err := r.Start(context30(t), bundle(t, "stopped", img, "/prober", "traceme", "stop"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.Start(context30(t), bundle(t, "traced", img, "sleep", "1000"))
	if err != nil {
		t.Fatal(err)
	}
	out := newLines()
	e, err := second.Exec(context30(t), runtime.ExecSpec{ID: "x", Args: []string{"/prober", "traceme", "stop"}}, runtime.Streams{Stdout: out})
	if err != nil {
		t.Fatal(err)
	}
	out.await(t, "traceme: ok")
	for _, task := range []*runtime.Task{first, second} {
		if err := task.Delete(context30(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Wait(context30(t)); err != nil {
		t.Error(err)
	}
}
