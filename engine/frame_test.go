package engine_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/tests/need"
)

// TestFrames removes containers that have changed all they could in their directories, and looks at what the
// next ones get of them.
func TestFrames(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	o := options(t, root)
	disposed := make(chan string, 16)
	o.Hooks.Step = func(name, id string) {
		if name == "trash.files" {
			disposed <- id
		}
	}
	e := open(t, o)
	remove := func(id string) {
		t.Helper()
		if err := e.Remove(testContext(t), id, engine.RemoveOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
		if got := <-disposed; got != id {
			t.Fatalf("container %s was disposed of instead of %s", got, id)
		}
	}
	look := func() string {
		t.Helper()
		c := mustRun(t, e, spec(t, "stat -c '%n %a %u:%g' / /etc/hosts /etc/hostname /etc/resolv.conf; wc -l </etc/hosts; ls -a /; cat /*.txt"))
		mustWait(t, e, c.ID)
		out := output(t, e, c.ID)
		remove(c.ID)
		return out
	}
	frames := func(want int) {
		t.Helper()
		have, err := os.ReadDir(filepath.Join(root, "frames"))
		if err != nil || len(have) != want {
			t.Fatalf("%d frames instead of %d, %v", len(have), want, err)
		}
	}
	want := look()
	frames(1)
	for name, change := range map[string]func(c engine.Container){
		"modes and content": func(engine.Container) {},
		"an attribute": func(c engine.Container) {
			if err := unix.Setxattr(e.FilePath(c.ID, "hosts"), "user.mark", []byte("x"), 0); err != nil {
				t.Fatal(err)
			}
		},
		"a second link": func(c engine.Container) {
			if err := os.Link(e.FilePath(c.ID, "hosts"), filepath.Join(root, "linked")); err != nil {
				t.Fatal(err)
			}
		},
		"a missing file": func(c engine.Container) {
			if err := os.Remove(e.FilePath(c.ID, "hostname")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := mustRun(t, e, spec(t, "echo output; echo theirs >/theirs.txt; cd /etc; echo 1.2.3.4 trap >>hosts; chmod 600 hosts hostname; chown 5:5 resolv.conf; chmod 700 /"))
			mustWait(t, e, c.ID)
			frames(0) // it has the one that there was
			change(c)
			remove(c.ID)
			again := 0
			if name == "modes and content" {
				again = 1
			}
			frames(again)
			if got := look(); got != want {
				t.Errorf("the next container sees\n%sinstead of\n%s", got, want)
			}
			frames(1)
		})
	}
	// One that shares its network has its files mounted.
	owner := mustRun(t, e, spec(t, "sleep 1000"))
	s := spec(t, "sleep 1000")
	s.NetworkMode = engine.NetworkMode("container:" + owner.ID)
	sharer := mustRun(t, e, s)
	if err := e.Remove(testContext(t), owner.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	<-disposed
	frames(0)
	remove(mustRun(t, e, spec(t, "sleep 1000")).ID)
	if out, err := shell(t, e, sharer.ID, "cat /etc/hostname"); err != nil || out != owner.ID[:12]+"\n" {
		t.Errorf("after its owner's removal the sharer's hostname file is %q, %v", out, err)
	}
	if data, err := os.ReadFile(filepath.Join(root, "linked")); err != nil || len(data) == 0 {
		t.Errorf("a file that somebody else has, too: %q, %v", data, err)
	}
}
