package image

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"novaagent/tests/need"
)

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// TestOtherTools imports what umoci and skopeo make of a root file system with
// deletions, and compares it with umoci's own unpacking.
func TestOtherTools(t *testing.T) {
	need.Root(t)
	need.Command(t, "umoci", "skopeo")
	d := t.TempDir()
	sh := func(script string) { t.Helper(); run(t, d, "sh", "-euc", script) }
	sh(`umoci init --layout oci; umoci new --image oci:app
	umoci unpack --image oci:app one
	cd one/rootfs; mkdir -p bin etc/conf.d deep/er; cp /bin/sh bin/sh; ln -s sh bin/ash; ln bin/sh bin/twin
	echo a > etc/a; echo b > etc/b; echo c > etc/conf.d/c; echo d > deep/er/d; mkfifo fifo; chown 1000:1001 etc/a; chmod 4755 bin/sh`)
	sh(`umoci repack --image oci:app one; umoci unpack --image oci:app two
	cd two/rootfs; rm etc/a bin/twin; rm -r etc/conf.d deep; mkdir deep; echo new > deep/new; echo changed > etc/b`)
	sh(`umoci repack --image oci:app two; umoci config --image oci:app --config.cmd /bin/sh --config.user 1000
	umoci unpack --image oci:app want
	skopeo copy -q oci:oci:app docker-archive:docker.tar:example.org/app:1
	skopeo copy -q oci:oci:app oci-archive:oci.tar:example.org/app:1
	skopeo copy -q --dest-compress-format zstd --dest-compress oci:oci:app oci:zstd:app
	tar -C zstd -cf zstd.tar .`)
	want := listTree(t, filepath.Join(d, "want/rootfs"))

	s := newStore(t)
	for i, archive := range []string{"docker.tar", "oci.tar", "zstd.tar"} {
		data, err := os.ReadFile(filepath.Join(d, archive))
		if err != nil {
			t.Fatal(err)
		}
		img := mustImport(t, s, data, ImportOptions{ArchiveNames: archive != "zstd.tar"})
		lowers, err := s.Lowers(t.Context(), img.Digest)
		if err != nil {
			t.Fatal(err)
		}
		scratch := filepath.Join(d, "mnt", archive)
		if err := os.MkdirAll(scratch, 0o755); err != nil {
			t.Fatal(err)
		}
		root, unmount := mountLayers(t, lowers, scratch)
		if diff := cmp.Diff(want, listTree(t, root)); diff != "" {
			t.Errorf("%s: wanted (-) and got (+):\n%s", archive, diff)
		}
		for _, name := range []string{"bin/sh", "etc/b", "deep", "etc"} {
			if a, b := looks(t, filepath.Join(d, "want/rootfs", name)), looks(t, filepath.Join(root, name)); a != b {
				t.Errorf("%s: %s is %s, want %s", archive, name, b, a)
			}
		}
		unmount()
		if img.Config.Config.User != "1000" || len(img.Config.Config.Cmd) != 1 {
			t.Errorf("%s: config %+v", archive, img.Config.Config)
		}
		// All three are the same layers, unpacked once.
		if n := len(s.List()); n > i+1 {
			t.Errorf("%d images", n)
		}
	}
	dirs, err := filepath.Glob(filepath.Join(s.dir, "snapshots/snapshots/*"))
	if err != nil || len(dirs) != 2 {
		t.Errorf("layer directories %v, %v", dirs, err)
	}
	if _, err := s.Get("example.org/app:1"); err != nil {
		t.Error(err)
	}
}

// looks is owner, mode and time of a file.
func looks(t testing.TB, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "stat", "-c", "%u:%g %a %Y", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(out))
}
