package image

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

func mustImport(t testing.TB, s *Store, archive []byte, opts ImportOptions) Image {
	t.Helper()
	img, err := s.Import(t.Context(), bytes.NewReader(archive), opts)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestNamesAndUses(t *testing.T) {
	s := newStore(t)
	base := mktar(t, file("base", strings.Repeat("x", 5000)))
	a := mustImport(t, s, dockerArchive(t, newImage(base, mktar(t, file("a", "a")))), ImportOptions{Names: []string{"app:1"}})
	b := mustImport(t, s, dockerArchive(t, newImage(base, mktar(t, file("b", "b")))), ImportOptions{Names: []string{"app:2"}})

	if err := s.Tag(t.Context(), "app:2", "app:1"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get("app:1"); err != nil || got.Digest != b.Digest || len(got.Names) != 2 {
		t.Errorf("app:1 is %v, %v", got.Names, err)
	}
	if got, err := s.Get(string(a.Digest)); err != nil || len(got.Names) != 0 {
		t.Errorf("the image that lost its name: %v, %v", got.Names, err)
	}
	for _, ref := range []string{"none", "sha256:" + strings.Repeat("0", 64), "abc", "", "UPPER", "../x"} {
		if _, err := s.Get(ref); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Get(%q): %v", ref, err)
		}
	}

	if err := s.Use(a.Digest, "c1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Use(a.Digest, "c1"); err != nil {
		t.Errorf("using twice: %v", err)
	}
	if err := s.Use(b.Digest, "c1"); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("using another: %v", err)
	}
	if err := s.Use("sha256:x", "c2"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("using none: %v", err)
	}
	if err := s.Remove(t.Context(), string(a.Digest)); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("removed while used: %v", err)
	}
	if gone, err := s.Discard(t.Context(), a.Digest); gone || err != nil {
		t.Errorf("discarded while used: %v, %v", gone, err)
	}
	if u := s.Users(a.Digest); !slices.Equal(u, []string{"c1"}) {
		t.Errorf("users %v", u)
	}
	usage, err := s.DiskUsage(t.Context())
	if err != nil || usage.Images != 2 || usage.Used != 1 || usage.Reclaimable >= usage.Layers || usage.Layers >= a.Size+b.Size {
		t.Errorf("disk usage %+v, %v; sizes %d and %d", usage, err, a.Size, b.Size)
	}
	s.Release("c1")
	s.Release("c1")
	if gone, err := s.Discard(t.Context(), a.Digest); !gone || err != nil {
		t.Errorf("not discarded: %v, %v", gone, err)
	}
	if gone, err := s.Discard(t.Context(), b.Digest); gone || err != nil {
		t.Errorf("discarded with names: %v, %v", gone, err)
	}
	if got, ok := readLayers(t, s, b.Digest, "base"); !ok || len(got) != 5000 {
		t.Error("the shared layer went with the first image")
	}
	for want := true; ; want = false {
		changed, err := s.Untag(t.Context(), "app:1")
		if changed != want || err != nil {
			t.Errorf("untag: %v, %v", changed, err)
		}
		if !want {
			break
		}
	}
	if err := s.Remove(t.Context(), b.ConfigDigest.Encoded()[:8]); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context(), string(b.Digest)); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	mustEmpty(t, s)
}

func TestOpenTwice(t *testing.T) {
	s := newStore(t)
	if _, err := Open(t.Context(), s.dir, Options{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("second open: %v", err)
	}
}

func TestKeepBlobs(t *testing.T) {
	s := newStore(t)
	archive := ociArchive(t, twoLayers(t).compressed(t, gz))
	img := mustImport(t, s, archive, ImportOptions{})
	blobs := func() int {
		m, err := filepath.Glob(filepath.Join(s.dir, "content/blobs/sha256/*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(m)
	}
	if n := blobs(); n != 2 {
		t.Errorf("%d blobs without layers", n)
	}
	// A later import adds what the first did not keep.
	for range 2 {
		mustImport(t, s, archive, ImportOptions{KeepBlobs: true})
		if err := s.collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := blobs(); n != 4 {
			t.Errorf("%d blobs with layers", n)
		}
	}
	for _, l := range img.Layers {
		raw, err := s.readBlob(s.ctx(t.Context()), l.Blob)
		if err != nil || int64(len(raw)) != l.Blob.Size {
			t.Errorf("layer %s: %v", l.Blob.Digest, err)
		}
	}
	if err := s.Remove(t.Context(), string(img.Digest)); err != nil {
		t.Fatal(err)
	}
	mustEmpty(t, s)
}

// TestNoLayerWithoutItsBytes: to know the digest of another's private layer must
// not give it.
func TestNoLayerWithoutItsBytes(t *testing.T) {
	s := newStore(t)
	secret := mktar(t, file("secret", "of another tenant"))
	mustImport(t, s, dockerArchive(t, newImage(secret)), ImportOptions{KeepBlobs: true})

	thief := newLayout(t)
	m := thief.manifest(newImage(secret))
	var files []entry
	for _, f := range thief.files {
		if !strings.Contains(f.Name, m.Layers[0].Digest.Encoded()) {
			files = append(files, f)
		}
	}
	thief.files = files
	thief.index.Manifests = append(thief.index.Manifests, thief.blob(m.MediaType, mustJSON(t, m)))
	if img, err := s.Import(t.Context(), bytes.NewReader(thief.archive()), ImportOptions{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("OCI: %v, %v", img, err)
	}
	// The diff ID is the layer's name here, and other bytes are given for it.
	forged := newImage(secret)
	forged.blobs = [][]byte{mktar(t, file("x", ""))}
	if img, err := s.Import(t.Context(), bytes.NewReader(dockerArchive(t, forged)), ImportOptions{}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("docker: %v, %v", img, err)
	}
	if n := len(s.List()); n != 1 {
		t.Errorf("%d images", n)
	}
}

// TestConcurrentImports has many import images with shared layers, while others
// remove them.
func TestConcurrentImports(t *testing.T) {
	s := newStore(t)
	base := mktar(t, file("base", strings.Repeat("x", 100_000)))
	archives := [][]byte{
		dockerArchive(t, newImage(base)),
		dockerArchive(t, newImage(base, mktar(t, file("a", "a")))),
		ociArchive(t, newImage(base, mktar(t, file("b", "b"))).compressed(t, gz)),
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range 3 {
				img, err := s.Import(t.Context(), bytes.NewReader(archives[i%3]), ImportOptions{})
				if err != nil {
					t.Error(err)
					return
				}
				lowers, err := s.Lowers(t.Context(), img.Digest)
				if err == nil {
					_, err = os.Stat(filepath.Join(lowers[len(lowers)-1], "base"))
				}
				if err != nil && !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
					t.Error(err)
				}
				if i > 5 {
					if err := s.Remove(t.Context(), string(img.Digest)); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, img := range s.List() {
		if got, ok := readLayers(t, s, img.Digest, "base"); !ok || len(got) != 100_000 {
			t.Errorf("image %s lost its base", img.Digest)
		}
		if err := s.Remove(t.Context(), string(img.Digest)); err != nil {
			t.Error(err)
		}
	}
	mustEmpty(t, s)
}

func TestUnpackedOnce(t *testing.T) {
	s := newStore(t)
	archive := dockerArchive(t, twoLayers(t))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() { mustImport(t, s, archive, ImportOptions{}) })
	}
	wg.Wait()
	// The snapshotter numbers its directories; none was made in vain.
	dirs, err := filepath.Glob(filepath.Join(s.dir, "snapshots/snapshots/*"))
	slices.Sort(dirs)
	if err != nil || len(dirs) != 2 || filepath.Base(dirs[1]) != "2" {
		t.Errorf("layer directories %v, %v", dirs, err)
	}
}

func TestCancel(t *testing.T) {
	s := newStore(t)
	archive := dockerArchive(t, newImage(zeros(t, 16<<20)))
	reason := errors.New("not needed any more")
	for _, stage := range []Stage{StageReading, StageUnpacking} {
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := s.Import(ctx, bytes.NewReader(archive), ImportOptions{Progress: func(p Progress) {
			if p.Stage == stage && p.Bytes > 1<<20 {
				cancel(reason)
			}
		}})
		if !errors.Is(err, reason) {
			t.Errorf("cancelled while %s: %v", stage, err)
		}
		mustEmpty(t, s)
	}
}

// TestDamage loses a layer's directory, and flips a bit of a manifest: the image
// goes, is reported, and can be had again.
func TestDamage(t *testing.T) {
	archive := dockerArchive(t, twoLayers(t))
	for name, damage := range map[string]func(s *Store, img Image) error{
		"layer": func(s *Store, img Image) error {
			l, err := s.Lowers(t.Context(), img.Digest)
			return errors.Join(err, os.RemoveAll(filepath.Dir(l[0])))
		},
		"manifest": func(s *Store, img Image) error {
			p := filepath.Join(s.dir, "content/blobs/sha256", img.Digest.Encoded())
			b, err := os.ReadFile(p)
			b[10] ^= 1
			return errors.Join(err, os.WriteFile(p, b, 0o600))
		},
		"config": func(s *Store, img Image) error {
			return os.Remove(filepath.Join(s.dir, "content/blobs/sha256", img.ConfigDigest.Encoded()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img := mustImport(t, s, archive, ImportOptions{Names: []string{"x"}})
			if err := damage(s, img); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, s.dir)
			if _, err := s.Get("x"); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("the damaged image: %v", err)
			}
			mustEmpty(t, s)
			mustImport(t, s, archive, ImportOptions{})
			if got, _ := readLayers(t, s, img.Digest, "etc/motd"); got != "top" {
				t.Errorf("after the repair: %q", got)
			}
		})
	}
}

// TestFullDisk imports into file systems that are too small.
func TestFullDisk(t *testing.T) {
	need.Root(t)
	archive := dockerArchive(t, newImage(zeros(t, 3<<20), mktar(t, file("f", "x"))))
	for _, size := range []string{"1m", "4m", "6m"} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			// containerd's test for fs-verity keeps a file open until the next garbage
			// collection, so the unmount must not insist.
			if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		s := openStore(t, dir)
		_, err := s.Import(t.Context(), bytes.NewReader(archive), ImportOptions{})
		if !errors.Is(err, errdefs.ErrExhausted) {
			t.Errorf("%s: %v", size, err)
		}
		mustEmpty(t, s)
		mustImport(t, s, dockerArchive(t, newImage(mktar(t, file("small", "x")))), ImportOptions{})
	}
}

func TestProgress(t *testing.T) {
	s := newStore(t)
	seen := map[Stage]int64{}
	archive := dockerArchive(t, newImage(zeros(t, 2<<20)))
	_, err := s.Import(t.Context(), io.MultiReader(bytes.NewReader(archive)), ImportOptions{Progress: func(p Progress) {
		if p.Bytes < seen[p.Stage] {
			t.Errorf("%s went back", p.Stage)
		}
		seen[p.Stage] = p.Bytes
	}})
	if err != nil || seen[StageReading] < 1<<20 || seen[StageUnpacking] < 1<<20 {
		t.Errorf("%v, %v", seen, err)
	}
}
