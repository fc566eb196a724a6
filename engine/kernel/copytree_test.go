package kernel_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

// TestCopyTreeFollowsNothing copies where links already lie in wait at the names that are to be made.
func TestCopyTreeFollowsNothing(t *testing.T) {
	need.Root(t)
	for _, name := range []string{"directory", "file", "link"} {
		src, dst, outside := t.TempDir(), t.TempDir(), t.TempDir()
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(os.WriteFile(filepath.Join(outside, "victim"), []byte("old"), 0o600))
		trap := outside
		switch name {
		case "directory":
			check(os.Mkdir(filepath.Join(src, "x"), 0o777))
			check(os.WriteFile(filepath.Join(src, "x/victim"), []byte("new"), 0o666))
		case "file":
			check(os.WriteFile(filepath.Join(src, "x"), []byte("new"), 0o666))
			trap = filepath.Join(outside, "victim")
		case "link":
			check(os.Symlink("anywhere", filepath.Join(src, "x")))
		}
		check(os.Symlink(trap, filepath.Join(dst, "x")))
		from, err := os.Open(src)
		check(err)
		to, err := os.Open(dst)
		check(err)
		if _, err := kernel.CopyTree(context.Background(), from, to); !errors.Is(err, os.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		from.Close()
		to.Close()
		if data, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(data) != "old" {
			t.Errorf("%s: outside: %q, %v", name, data, err)
		}
		if target, err := os.Readlink(filepath.Join(dst, "x")); err != nil || target != trap {
			t.Errorf("%s: the link: %s, %v", name, target, err)
		}
	}
}

// TestCopyTreeEnds with its context.
func TestCopyTreeEnds(t *testing.T) {
	need.Root(t)
	src, dst := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(src, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Open(dst)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := kernel.CopyTree(ctx, from, to); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(dst, "x")); err == nil {
		t.Error("it copied all the same")
	}
}
