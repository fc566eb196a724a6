package engine_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustVolume(t *testing.T, e *engine.Engine, v engine.Volume) engine.Volume {
	t.Helper()
	v, err := e.CreateVolume(testContext(t), v)
	check(t, err)
	return v
}

func mustCreate(t *testing.T, e *engine.Engine, s engine.Spec) engine.Container {
	t.Helper()
	c, err := e.Create(testContext(t), s)
	check(t, err)
	return c
}

func mustRemove(t *testing.T, e *engine.Engine, id string, o engine.RemoveOptions) {
	t.Helper()
	o.Force = true
	check(t, e.Remove(testContext(t), id, o))
}

func volumeNames(e *engine.Engine) []string {
	var names []string
	for _, v := range e.Volumes() {
		names = append(names, v.Name)
	}
	return names
}

// TestVolumeIsShared writes to a volume in one container and reads in others, whose id ranges are
// different ones, or the host's.
func TestVolumeIsShared(t *testing.T) {
	e := newEngine(t)
	volume := mustVolume(t, e, engine.Volume{Name: "shared"})
	mount := engine.Mount{Type: engine.MountVolume, Source: volume.Name, Target: "/data"}
	s := spec(t, "chmod 777 /data; echo text >/data/file; chown 1000:2000 /data/file; chmod 600 /data/file")
	s.Mounts = []engine.Mount{mount}
	writer := mustRun(t, e, s)
	mustWait(t, e, writer.ID)
	var st syscall.Stat_t
	check(t, syscall.Stat(filepath.Join(e.VolumePath(volume.Name), "file"), &st))
	if st.Uid != 1000 || st.Gid != 2000 {
		t.Errorf("on the host it is %d:%d's", st.Uid, st.Gid)
	}
	for name, tt := range map[string]struct {
		change   func(*engine.Spec)
		readOnly bool
	}{
		"own range":            {func(s *engine.Spec) { s.User = "1000" }, false},
		"host's ids":           {func(s *engine.Spec) { s.User, s.Security.HostUserns = "1000", true }, false},
		"read-only":            {func(s *engine.Spec) { s.Mounts[0].ReadOnly = true }, true},
		"inherited":            {func(s *engine.Spec) { s.Mounts, s.VolumesFrom = nil, []string{writer.ID} }, false},
		"inherited, read-only": {func(s *engine.Spec) { s.Mounts, s.VolumesFrom = nil, []string{writer.ID[:12] + ":ro"} }, true},
	} {
		s := spec(t, "stat -c %u:%g /data/file; cat /data/file; if : >/data/new; then rm /data/new; echo writable; fi")
		s.Mounts = []engine.Mount{mount}
		tt.change(&s)
		text, _ := runScript(t, e, s)
		if !strings.HasPrefix(text, "1000:2000\ntext\n") || strings.HasSuffix(text, "writable\n") == tt.readOnly ||
			strings.Contains(text, "Read-only file system") != tt.readOnly {
			t.Errorf("%s: %q", name, text)
		}
	}
}

// TestVolumesEnd says which volumes go with which removal.
func TestVolumesEnd(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	mustVolume(t, e, engine.Volume{Name: "named"})
	s := spec(t, "exec sleep 1000")
	s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: "named", Target: "/named"}, {Type: engine.MountVolume, Target: "/nameless"}}
	s.Volumes = []string{"/more", "/named"}
	first := mustRun(t, e, s)
	if len(first.Mounts) != 3 {
		t.Fatalf("mounts %+v", first.Mounts)
	}
	anonymous := first.Mounts[1].Source
	err := e.RemoveVolume(ctx, "named")
	if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "volume is in use - ["+first.ID+"]") {
		t.Errorf("removing a volume in use: %v", err)
	}
	heir := spec(t, "true")
	heir.VolumesFrom = []string{first.ID}
	second := mustCreate(t, e, heir)
	if v, err := e.Volume(anonymous); err != nil || !v.Anonymous() || len(anonymous) != 64 {
		t.Errorf("volume %+v, %v", v, err)
	}
	mustRemove(t, e, first.ID, engine.RemoveOptions{Volumes: true})
	if got := len(e.Volumes()); got != 3 {
		t.Errorf("%d volumes, while another container has them", got)
	}
	mustRemove(t, e, second.ID, engine.RemoveOptions{Volumes: true})
	if got := volumeNames(e); !slices.Equal(got, []string{"named"}) {
		t.Errorf("volumes %q", got)
	}
	third := mustCreate(t, e, s)
	mustRemove(t, e, third.ID, engine.RemoveOptions{})
	if got := len(e.Volumes()); got != 3 {
		t.Errorf("%d volumes after a removal that keeps them", got)
	}
	all := func(engine.Volume) bool { return false }
	if names, _, err := e.PruneVolumes(ctx, func(v engine.Volume) bool { return !v.Anonymous() }); err != nil || len(names) != 2 {
		t.Errorf("pruned %q, %v", names, err)
	}
	check(t, os.WriteFile(filepath.Join(e.VolumePath("named"), "file"), make([]byte, 1<<20), 0o600))
	if names, bytes, err := e.PruneVolumes(ctx, all); err != nil || !slices.Equal(names, []string{"named"}) || bytes < 1<<20 {
		t.Errorf("pruned %q of %d bytes, %v", names, bytes, err)
	}
	if err := e.RemoveVolume(ctx, "named"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("removing it again: %v", err)
	}
	s.AutoRemove, s.Args = true, []string{"/bin/true"}
	waiter := mustCreate(t, e, s)
	wait, err := e.Waiter(waiter.ID, engine.WaitRemoved)
	check(t, err)
	_, err = e.Start(ctx, waiter.ID)
	check(t, err)
	if _, err := wait.Wait(ctx); err != nil {
		t.Error(err)
	}
	if got := volumeNames(e); !slices.Equal(got, []string{"named"}) {
		t.Errorf("volumes %q after an automatic removal", got)
	}
}

// TestVolumeComesAndGoes makes and removes containers with a volume while somebody tries all the time to remove
// it: whoever has a container has the volume, with what the image put there.
func TestVolumeComesAndGoes(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	removed := make(chan struct{})
	done := make(chan struct{})
	var remover sync.WaitGroup
	remover.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			switch err := e.RemoveVolume(ctx, "contended"); {
			case err == nil:
				select {
				case removed <- struct{}{}:
				case <-done:
				}
			case !errors.Is(err, errdefs.ErrConflict) && !errors.Is(err, errdefs.ErrNotFound):
				t.Error(err)
				return
			}
		}
	})
	one := func() {
		s := spec(t, "true")
		s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: "contended", Target: "/home"}}
		c, err := e.Create(ctx, s)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := os.Lstat(filepath.Join(e.VolumePath("contended"), "user")); err != nil {
			t.Error(err)
		}
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
	for range 5 {
		var makers sync.WaitGroup
		for range 3 {
			makers.Go(one)
		}
		// Within the round it may be removed, too, whenever none of the three has it.
		finished := make(chan struct{})
		go func() { makers.Wait(); close(finished) }()
		for over := false; !over; {
			select {
			case <-removed:
			case <-finished:
				over = true
			}
		}
		if _, err := e.Volume("contended"); err == nil {
			select {
			case <-removed:
			case <-ctx.Done():
				t.Fatal("nobody has the volume, and it cannot be removed")
			}
		}
	}
	close(done)
	remover.Wait()
}

// TestVolumeSubpath mounts parts of a volume, and tries to leave it.
func TestVolumeSubpath(t *testing.T) {
	e := newEngine(t)
	mustVolume(t, e, engine.Volume{Name: "tree"})
	top := e.VolumePath("tree")
	outside := t.TempDir()
	check(t, os.MkdirAll(filepath.Join(top, "a/b"), 0o755))
	check(t, os.WriteFile(filepath.Join(top, "a/b/file"), []byte("below\n"), 0o644))
	check(t, os.Symlink(outside, filepath.Join(top, "out")))
	check(t, os.Symlink("/a", filepath.Join(top, "in")))
	for subpath, want := range map[string]string{
		"a": "b\n", "a/b/": "file\n", "in/b": "file\n", "a/b/file": "/data\n", "out": "no", "a/missing": "no", "../tree": "no", "/a": "no", "a/../../x": "no",
	} {
		s := spec(t, "ls /data")
		s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: "tree", Target: "/data", Volume: engine.VolumeMount{Subpath: subpath}}}
		if want == "no" {
			if c, err := e.Create(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("subpath %s: %s, %v", subpath, c.ID, err)
			}
			continue
		}
		if text, _ := runScript(t, e, s); text != want {
			t.Errorf("subpath %s: %q", subpath, text)
		}
	}
	// A link that comes after the creation is found by the start.
	s := spec(t, "ls /data")
	s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: "tree", Target: "/data", Volume: engine.VolumeMount{Subpath: "a/b"}}}
	c := mustCreate(t, e, s)
	check(t, os.RemoveAll(filepath.Join(top, "a")))
	check(t, os.Symlink(outside, filepath.Join(top, "a")))
	check(t, os.Mkdir(filepath.Join(outside, "b"), 0o755))
	if _, err := e.Start(testContext(t), c.ID); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a start through a link that leads out: %v", err)
	}
	check(t, removeAll(e))
}

// TestVolumeOptions has volumes in memory and of a directory of the host's.
func TestVolumeOptions(t *testing.T) {
	e := newEngine(t)
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "file"), []byte("the host's\n"), 0o644))
	mustVolume(t, e, engine.Volume{Name: "memory", Options: map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=1000,gid=1001,mode=750,nr_inodes=100"}})
	mustVolume(t, e, engine.Volume{Name: "directory", Options: map[string]string{"type": "none", "device": dir, "o": "bind"}})
	mustVolume(t, e, engine.Volume{Name: "reading", Options: map[string]string{"type": "none", "device": dir, "o": "rbind,ro"}})
	run := func(script, volume string) string {
		s := spec(t, script)
		s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: volume, Target: "/data"}}
		text, _ := runScript(t, e, s)
		return text
	}
	if text := run("stat -c '%u %g %a' /data; df -k /data | awk 'END { print $2 }'; df -i /data | awk 'END { print $2 }'; echo kept >/data/file", "memory"); text != "1000 1001 750\n1024\n100\n" {
		t.Errorf("tmpfs: %q", text)
	}
	if text := run("cat /data/file", "memory"); text != "kept\n" {
		t.Errorf("tmpfs, another container: %q", text)
	}
	// As a reboot does.
	check(t, syscall.Unmount(e.VolumePath("memory"), 0))
	if text := run("ls /data; df -k /data | awk 'END { print $2 }'", "memory"); text != "1024\n" {
		t.Errorf("tmpfs, mounted anew: %q", text)
	}
	if text := run("cat /data/file; echo more >/data/more", "directory"); text != "the host's\n" {
		t.Errorf("bind: %q", text)
	}
	if text := run("cat /data/more; echo x >/data/x", "reading"); !strings.HasPrefix(text, "more\n") || !strings.Contains(text, "Read-only") {
		t.Errorf("bind, read-only: %q", text)
	}
	check(t, removeAll(e))
	if names := volumeNames(e); len(names) > 0 {
		t.Errorf("volumes are left: %q", names)
	}
	if _, err := os.Lstat(filepath.Join(dir, "file")); err != nil {
		t.Errorf("with the volume went the host's directory: %v", err)
	}
	for _, options := range []map[string]string{
		{"type": "nfs", "device": ":/x", "o": "addr=1.2.3.4"}, {"type": "ext4", "device": "/dev/sda"}, {"type": "tmpfs"}, {"device": "x"},
		{"o": "bind"}, {"type": "none", "device": "relative", "o": "bind"}, {"type": "none", "device": "/x"}, {"size": "1m"},
		{"type": "none", "device": "/x", "o": "bind,shared"}, {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nonsense"},
	} {
		if v, err := e.CreateVolume(testContext(t), engine.Volume{Name: "refused", Options: options}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("options %v: %+v, %v", options, v, err)
		}
	}
	s := spec(t, "true")
	s.Mounts = []engine.Mount{{Type: engine.MountVolume, Target: "/data", Volume: engine.VolumeMount{
		Options: map[string]string{"type": "none", "device": filepath.Join(dir, "missing"), "o": "bind"},
	}}}
	if _, err := e.Create(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) || len(e.Volumes()) > 0 {
		t.Errorf("a device that is missing: %v; volumes %q", err, volumeNames(e))
	}
}

// TestVolumeNames tries names that are none.
func TestVolumeNames(t *testing.T) {
	e := newEngine(t)
	for _, name := range []string{".", "..", "x", "../x", "a/b", "/abs", "-x", "_x", ".nova-agent-x", "a b", "a\x00b", "a\n", "ä1", strings.Repeat("n", 256)} {
		if v, err := e.CreateVolume(testContext(t), engine.Volume{Name: name}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("name %q: %+v, %v", name, v, err)
		}
		s := spec(t, "true")
		s.Mounts = []engine.Mount{{Type: engine.MountVolume, Source: name, Target: "/data"}}
		if c, err := e.Create(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("a mount of %q: %s, %v", name, c.ID, err)
		}
	}
	for _, name := range []string{"x1", "Name_of.it-", strings.Repeat("n", 255)} {
		made := mustVolume(t, e, engine.Volume{Name: name, Labels: map[string]string{"k": "v"}})
		again, err := e.CreateVolume(testContext(t), engine.Volume{Name: name})
		if err != nil || !again.Created.Equal(made.Created) || again.Labels["k"] != "v" {
			t.Errorf("made again: %+v, %v", again, err)
		}
	}
}

// TestVolumesAfterACrash kills the engine at each step of making and removing a volume: it is whole or gone.
func TestVolumesAfterACrash(t *testing.T) {
	need.Root(t)
	for step, ops := range map[string]string{
		"volume.files": "volume", "volume.recorded": "volume", "volume.forgotten": "volume,volume-remove",
	} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			root := tempRoot(t)
			enginetest.Leaks(t, root, testCgroup(root))
			crash(t, root, ops, step)
			e := open(t, options(t, root))
			v, err := e.Volume(crashName)
			if there := step == "volume.recorded"; there != (err == nil) || there && v.Labels["k"] != "v" {
				t.Errorf("after %s: %+v, %v", step, v, err)
			}
			list, err := os.ReadDir(filepath.Join(root, "volumes"))
			if err != nil || len(list) != len(e.Volumes()) {
				t.Errorf("directories %v, %v", list, err)
			}
			// Whatever happened, the name is usable.
			mustVolume(t, e, engine.Volume{Name: crashName})
			check(t, os.WriteFile(filepath.Join(e.VolumePath(crashName), "file"), nil, 0o600))
		})
	}
}

// TestVolumesAreSettled opens an engine on directories and records that do not agree.
func TestVolumesAreSettled(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	for _, name := range []string{"kept", "emptied"} {
		mustVolume(t, e, engine.Volume{Name: name, Labels: map[string]string{"of": name}})
		check(t, os.WriteFile(filepath.Join(e.VolumePath(name), "file"), nil, 0o600))
	}
	dir := filepath.Join(root, "volumes")
	path := e.VolumePath
	check(t, e.Close())
	check(t, os.RemoveAll(filepath.Join(dir, "emptied")))
	check(t, os.MkdirAll(filepath.Join(dir, "kept/_new/half"), 0o700))
	check(t, os.MkdirAll(filepath.Join(dir, "stray/_data"), 0o700))
	check(t, os.Mkdir(filepath.Join(dir, "lost+found"), 0o700))

	e = open(t, options(t, root))
	for path, want := range map[string]bool{
		path("kept") + "/file": true, dir + "/kept/_new": false, path("emptied"): true, dir + "/stray": false, dir + "/lost+found": true,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	check(t, os.Remove(filepath.Join(dir, "lost+found")))
	check(t, e.Close())

	// Without the database, the copies tell.
	check(t, os.WriteFile(filepath.Join(root, "state.db"), []byte("no database"), 0o600))
	e = open(t, options(t, root))
	for _, name := range []string{"kept", "emptied"} {
		if v, err := e.Volume(name); err != nil || v.Labels["of"] != name {
			t.Errorf("rebuilt: %+v, %v", v, err)
		}
	}
	if _, err := os.Lstat(path("kept") + "/file"); err != nil {
		t.Error(err)
	}
}

// TestVolumeEvents reads what is told of a volume's life.
func TestVolumeEvents(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	stream := e.Subscribe(ctx, time.Time{})
	s := spec(t, "true")
	s.Mounts = []engine.Mount{{Type: engine.MountVolume, Target: "/data"}}
	c := mustRun(t, e, s)
	mustWait(t, e, c.ID)
	mustRemove(t, e, c.ID, engine.RemoveOptions{Volumes: true})
	var got []string
	for ev := range stream {
		if ev.Volume != "" && ev.Volume != c.Mounts[0].Source {
			t.Errorf("event of volume %s", ev.Volume)
		}
		got = append(got, map[bool]string{false: "container ", true: "volume "}[ev.Volume != ""]+string(ev.Action))
		if ev.Action == engine.ActionDestroy && ev.Volume == "" {
			break
		}
	}
	want := []string{"volume create", "container create", "volume mount", "container start", "container die", "volume unmount", "volume destroy", "container destroy"}
	if !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
}
