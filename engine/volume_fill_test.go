package engine_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// ownRootfs is a root file system that the test may change.
func ownRootfs(t *testing.T) string {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	enginetest.Rootfs(t, dir)
	return dir
}

// contents lists a tree: what each entry is, whose, its mode, and what it has.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	inodes := map[uint64]string{}
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		var st syscall.Stat_t
		if err := syscall.Lstat(path, &st); err != nil {
			return err
		}
		line := fmt.Sprintf("%s %o %d:%d %d", name, st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFLNK:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " -> " + target
		case syscall.S_IFREG:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", data)
			if first, ok := inodes[st.Ino]; ok {
				line += " = " + first
			}
			inodes[st.Ino] = name
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			value := make([]byte, 100)
			if n, err := unix.Lgetxattr(path, "user.test", value); err == nil {
				line += " user.test=" + string(value[:n])
			}
		}
		out = append(out, line)
		return nil
	}))
	return out
}

// imageTree makes at dir what an image can have, all of it in a time of its own.
func imageTree(t *testing.T, dir string) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Join(dir, "sub/deep"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte("of the image"), 0o640))
	check(t, os.WriteFile(filepath.Join(dir, "suid"), []byte("s"), 0o755))
	check(t, os.WriteFile(filepath.Join(dir, "sub/deep/leaf"), []byte("leaf"), 0o444))
	check(t, os.Link(filepath.Join(dir, "file"), filepath.Join(dir, "sub/same")))
	check(t, os.Symlink("/etc/passwd", filepath.Join(dir, "absolute")))
	check(t, os.Symlink("../../../etc", filepath.Join(dir, "sub/upwards")))
	check(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o620))
	check(t, unix.Setxattr(filepath.Join(dir, "file"), "user.test", []byte("of a file"), 0))
	check(t, unix.Setxattr(filepath.Join(dir, "sub"), "user.test", []byte("of a directory"), 0))
	for name, id := range map[string]int{"file": 1000, "absolute": 1001, "sub/deep": 1002, "fifo": 1003, ".": 1004} {
		check(t, os.Lchown(filepath.Join(dir, name), id, id+1))
	}
	check(t, os.Chmod(filepath.Join(dir, "suid"), 0o755|os.ModeSetuid))
	check(t, os.Chmod(filepath.Join(dir, "sub"), 0o750|os.ModeSetgid|os.ModeSticky))
	check(t, os.Chmod(filepath.Join(dir, "fifo"), 0o620))
	check(t, os.Chmod(dir, 0o711))
	when := []unix.Timespec{{Sec: 1_000_000_000}, {Sec: 1_000_000_000}}
	check(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, path, when, unix.AT_SYMLINK_NOFOLLOW))
	}))
}

// TestEmptyVolumeGetsTheImagesFiles compares what a volume got with what the image has, whether the
// volume is exchanged as a whole or filled where another container has it.
func TestEmptyVolumeGetsTheImagesFiles(t *testing.T) {
	e := newEngine(t)
	root := ownRootfs(t)
	imageTree(t, filepath.Join(root, "data"))
	want := contents(t, filepath.Join(root, "data"))
	// At another path of the image there is nothing to copy: this container has the volume and leaves it empty.
	mustVolume(t, e, engine.Volume{Name: "shared"})
	other := spec(t, "exec sleep 1000")
	other.Rootfs = root
	other.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: "shared", Target: "/elsewhere"}}
	running := mustRun(t, e, other)

	mustVolume(t, e, engine.Volume{Name: "alone"})
	mustVolume(t, e, engine.Volume{Name: "kept-empty"})
	mustVolume(t, e, engine.Volume{Name: "not-empty"})
	check(t, os.WriteFile(filepath.Join(e.VolumePath("not-empty"), "mine"), nil, 0o600))
	for _, name := range []string{"alone", "shared", "kept-empty", "not-empty"} {
		s := spec(t, "stat -c '%u:%g %a %N' /data /data/file; cat /data/file")
		s.Rootfs = root
		s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: name, Target: "/data", Volume: engine.VolumeMount{NoCopy: name == "kept-empty"}}}
		text, _ := runScript(t, e, s)
		got := contents(t, e.VolumePath(name))
		switch name {
		case "kept-empty":
			if len(got) != 1 {
				t.Errorf("%s has %q", name, got)
			}
		case "not-empty":
			if len(got) != 2 || !strings.HasPrefix(got[1], "mine ") {
				t.Errorf("%s has %q", name, got)
			}
		default:
			if !slices.Equal(got, want) {
				t.Errorf("volume %s:\n  %s\nimage:\n  %s", name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
			}
			if text != "1004:1005 711 /data\n1000:1001 640 /data/file\nof the image" {
				t.Errorf("in the container of %s: %q", name, text)
			}
		}
	}
	// Nothing of it is in the container's own layer, and the one that ran all the while sees it.
	exit, err := e.Exec(testContext(t), running.ID, engine.ExecSpec{Args: []string{"grep", "image", "/elsewhere/file"}}, engine.Streams{})
	if err != nil || exit.Code != 0 {
		t.Errorf("the running container: %+v, %v", exit, err)
	}
	check(t, removeAll(e))
}

// TestImagesLinksStayInside has images whose volumes are behind links to the host's files.
func TestImagesLinksStayInside(t *testing.T) {
	e := newEngine(t)
	secret := t.TempDir()
	check(t, os.WriteFile(filepath.Join(secret, "secret"), []byte("the host's"), 0o644))
	root := ownRootfs(t)
	check(t, os.Symlink(secret, filepath.Join(root, "absolute")))
	check(t, os.Symlink(strings.Repeat("../", 20)+secret, filepath.Join(root, "relative")))
	check(t, os.Symlink("/proc/self/root"+secret, filepath.Join(root, "magic")))
	check(t, os.Symlink("loop", filepath.Join(root, "loop")))
	check(t, os.MkdirAll(filepath.Join(root, "real/inside"), 0o755))
	check(t, os.WriteFile(filepath.Join(root, "real/inside/own"), nil, 0o644))
	check(t, os.Symlink("/real", filepath.Join(root, "inner")))
	for target, want := range map[string]string{
		"/absolute": "", "/relative": "", "/magic": "", "/absolute/../inner/inside": "own", "/inner/inside": "own",
	} {
		s := spec(t, "true")
		s.Rootfs, s.Volumes = root, []string{target}
		c := mustCreate(t, e, s)
		list, err := os.ReadDir(e.VolumePath(c.Mounts[0].Source))
		check(t, err)
		got := ""
		for _, entry := range list {
			got += entry.Name()
		}
		if got != want {
			t.Errorf("the volume at %s has %q, want %q", target, got, want)
		}
	}
	for _, target := range []string{"/loop", "/etc/passwd", "/etc/passwd/x"} {
		s := spec(t, "true")
		s.Rootfs, s.Volumes = root, []string{target}
		if c, err := e.Create(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "existing file") {
			t.Errorf("a volume at %s: %v, %v", target, c.ID, err)
		}
	}
	// The mount itself follows the link inside of the container, too.
	s := spec(t, "echo new >/inner/inside/new; cat /real/inside/new")
	s.Rootfs, s.Volumes = root, []string{"/inner/inside"}
	if text, _ := runScript(t, e, s); text != "new\n" {
		t.Errorf("through the link: %q", text)
	}
	if _, err := os.Lstat(filepath.Join(root, "real/inside/new")); err == nil {
		t.Error("it was written into the image")
	}
	check(t, removeAll(e))
	if names := volumeNames(e); len(names) > 0 {
		t.Errorf("volumes are left: %q", names)
	}
}
