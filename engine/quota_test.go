package engine_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

// quotaKind is the environment variable that says what kind of quota the file system has that tests
// run on, where that is known.
const quotaKind = "NOVA_AGENT_TEST_QUOTA"

// TestQuota fills a container's disk, on the file system that tests run on and on btrfs.
func TestQuota(t *testing.T) {
	need.Root(t)
	here := []engine.QuotaKind{engine.QuotaLoop, engine.QuotaProject, engine.QuotaBtrfs}
	if kind := os.Getenv(quotaKind); kind != "" {
		here = []engine.QuotaKind{engine.QuotaKind(kind)}
	}
	for _, tt := range []struct {
		name string
		root func(t *testing.T) string
		kind []engine.QuotaKind
	}{
		{"here", func(t *testing.T) string { return tempRoot(t) }, here},
		{"btrfs", btrfsRoot, []engine.QuotaKind{engine.QuotaBtrfs}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tt.root(t)
			enginetest.Leaks(t, root, testCgroup(root))
			e := open(t, options(t, root))
			s := spec(t, "dd if=/dev/zero of=/big bs=1M count=100 2>&1 | tail -n 3; sync; ls -s /big | awk '{print $1}'; rm /big; echo small > /small; sync; dd if=/dev/zero of=/fits bs=1M count=8 2>/dev/null && echo fits")
			s.Resources.DiskBytes = 32 << 20
			c := mustRun(t, e, s)
			exit := mustWait(t, e, c.ID)
			text := output(t, e, c.ID)
			if !strings.Contains(text, "No space left") && !strings.Contains(text, "quota exceeded") || !strings.HasSuffix(text, "fits\n") {
				t.Errorf("%+v: %s", exit, text)
			}
			c = mustInspect(t, e, c.ID)
			found := false
			for _, kind := range tt.kind {
				found = found || c.Quota == kind
			}
			if !found {
				t.Errorf("the quota is of kind %q", c.Quota)
			}
			if n, err := e.WrittenBytes(testContext(t), c.ID); err != nil || n < 8<<20 || n > 32<<20 {
				t.Errorf("%d bytes written, %v", n, err)
			}
			// It is still in force, and what was written still there, after a restart of everything.
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
			e = open(t, options(t, root))
			if _, err := e.Start(testContext(t), c.ID); err != nil {
				t.Fatal(err)
			}
			mustWait(t, e, c.ID)
			if again := output(t, e, c.ID); strings.Count(again, "fits\n") != 2 {
				t.Errorf("after a restart: %s", again)
			}
		})
	}
}

// btrfsRoot is a root on a btrfs of its own.
func btrfsRoot(t *testing.T) string {
	need.Command(t, "mkfs.btrfs")
	dir := tempRoot(t)
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	f, err := os.Create(img)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(512 << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("mkfs.btrfs", "-q", img).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.btrfs: %v: %s", err, out)
	}
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := kernel.MountLoop(img, mnt, "btrfs"); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "remount,commit=1", mnt).CombinedOutput(); err != nil {
		t.Errorf("remount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		// The kernel's cleaner removes subvolumes, and a moment later their groups.
		if out, err := exec.Command("btrfs", "subvolume", "sync", mnt).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			out, err := exec.Command("btrfs", "qgroup", "show", "--raw", mnt).CombinedOutput()
			if err != nil || strings.Count(string(out), "\n0/") <= 1 {
				break
			}
			if time.Now().After(end) {
				t.Errorf("quota groups are left:\n%s", out)
				break
			}
		}
		if err := kernel.Unmount(mnt); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(mnt, "root")
}
