package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// TestSave saves an image that is removed before its archive is written, and loads that.
func TestSave(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	for name, compress := range map[string]func(testing.TB, []byte) []byte{"plain": nil, "gzip": gz, "zstd": zst} {
		img := twoLayers(t).named("example.org/saved:" + name)
		if compress != nil {
			img = img.compressed(t, compress)
		}
		first := mustImport(t, s, ociArchive(t, img), ImportOptions{ArchiveNames: true, KeepBlobs: true})
		a, err := s.Save(ctx, []string{"example.org/saved:" + name})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(ctx, first.Digest.String()); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := errors.Join(a.Write(&out), a.Close()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again := mustImport(t, s, out.Bytes(), ImportOptions{ArchiveNames: true, KeepBlobs: true})
		if again.Digest != first.Digest || len(again.Names) != 1 || again.Names[0] != "example.org/saved:"+name {
			t.Errorf("%s: saved %s %v, loaded %s %v", name, first.Digest, first.Names, again.Digest, again.Names)
		}
		if err := s.Remove(ctx, again.Digest.String()); err != nil {
			t.Fatal(err)
		}
	}
	mustEmpty(t, s)
	if _, err := s.Save(ctx, []string{"example.org/absent:v1"}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}

// TestRemade saves images whose blobs were not kept: random ones, and one with owners, modes, attributes and hard links.
// What is loaded of that has the same files, and is saved the same again.
func TestRemade(t *testing.T) {
	need.Root(t)
	ctx := context.Background()
	s := newStore(t)
	view := func(i Image) map[string]string {
		lowers, err := s.Lowers(ctx, i.Digest)
		if err != nil {
			t.Fatal(err)
		}
		root, unmount := mountLayers(t, lowers, t.TempDir())
		defer unmount()
		tree := listTree(t, root)
		for name, what := range tree {
			info, err := os.Lstat(root + name)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			tree[name] = fmt.Sprintf("%s %o %d:%d %d links %v", what, st.Mode, st.Uid, st.Gid, st.Nlink, info.ModTime().UTC())
			if info.Mode().IsRegular() {
				tree[name] += fmt.Sprintf(" %q", xattrs(t, root+name))
			}
			if info.IsDir() {
				tree[name] = strings.Replace(tree[name], fmt.Sprintf("%d links", st.Nlink), "", 1)
			}
		}
		return tree
	}
	save := func(i Image) []byte {
		a, err := s.Save(ctx, []string{i.Digest.String()})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := errors.Join(a.Write(&out), a.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	special := withOwner(paxFile("special", map[string]string{paxXattr + "user.mine": "kept", "mtime": "1700000000.123456789"}), 1000, 65535)
	special.Mode = 0o4755
	images := []*testImage{
		newImage(mktar(t, dir("d"), special, hardlink("linked", "special"), symlink("l", "../d"), retypedFIFO("pipe"))),
		newImage(mktar(t, file("old", "")), mktar(t, file("new", ""), file(whiteoutOpaque, "")), mktar(t, file("top", ""))),
	}
	random := rapid.Custom(func(rt *rapid.T) [][]entry {
		var layers [][]entry
		for i := range rapid.IntRange(2, 4).Draw(rt, "layers") {
			layers = append(layers, randomLayer(rt, i))
		}
		return layers
	})
	for seed := range 8 {
		var tars [][]byte
		for _, l := range random.Example(seed) {
			tars = append(tars, mktar(t, l...))
		}
		images = append(images, newImage(tars...))
	}
	for n, img := range images {
		first := mustImport(t, s, ociArchive(t, img), ImportOptions{})
		archive := save(first)
		second := mustImport(t, s, archive, ImportOptions{KeepBlobs: true})
		if diff := cmp.Diff(view(first), view(second)); diff != "" {
			t.Errorf("image %d: files differ (-first +again):\n%s", n, diff)
		}
		if !bytes.Equal(archive, save(second)) {
			t.Errorf("image %d: saved again it is another archive", n)
		}
		for d := range map[digest.Digest]bool{first.Digest: true, second.Digest: true} {
			if err := s.Remove(ctx, d.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustEmpty(t, s)
}

func retypedFIFO(name string) entry {
	e := file(name, "")
	e.Typeflag = tar.TypeFifo
	return e
}
