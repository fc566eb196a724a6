package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

func openStore(t testing.TB, dir string) *Store {
	t.Helper()
	need.Root(t)
	s, err := Open(t.Context(), dir, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func newStore(t testing.TB) *Store { return openStore(t, t.TempDir()) }

// mustEmpty fails if anything is left in a store without images.
func mustEmpty(t testing.TB, s *Store) {
	t.Helper()
	if l := s.List(); len(l) > 0 {
		t.Errorf("images left: %v", l)
	}
	for _, pattern := range []string{"spool/*", "content/blobs/*/*", "content/ingest/*", "snapshots/snapshots/*"} {
		left, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("left in the store: %v", left)
		}
	}
	leases, err := s.leases.List(s.ctx(t.Context()))
	if err != nil || len(leases) > 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

// read returns the contents of a file by the rules of the overlay, for
// layers without links.
func readLayers(t testing.TB, s *Store, d digest.Digest, name string) (string, bool) {
	t.Helper()
	lowers, err := s.Lowers(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lowers {
		b, err := os.ReadFile(filepath.Join(l, name))
		if err == nil {
			return string(b), true
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", false
		}
	}
	return "", false
}

func twoLayers(t testing.TB) *testImage {
	return newImage(
		mktar(t, dir("etc"), file("etc/motd", "base"), file("etc/gone", "x"), dir("bin"), file("bin/sh", "#!")),
		mktar(t, dir("etc"), file("etc/motd", "top"), file("etc/.wh.gone", "")),
	)
}

func TestImportFormats(t *testing.T) {
	for name, archive := range map[string][]byte{
		"docker":              dockerArchive(t, twoLayers(t)),
		"docker, gzip layers": dockerArchive(t, twoLayers(t).compressed(t, gz)),
		"docker, zstd layers": dockerArchive(t, twoLayers(t).compressed(t, zst)),
		"docker in gzip":      gz(t, dockerArchive(t, twoLayers(t))),
		"docker in zstd":      zst(t, dockerArchive(t, twoLayers(t))),
		"oci":                 ociArchive(t, twoLayers(t)),
		"oci, gzip layers":    ociArchive(t, twoLayers(t).compressed(t, gz)),
		"oci, zstd layers":    ociArchive(t, twoLayers(t).compressed(t, zst)),
		"oci in gzip":         gz(t, ociArchive(t, twoLayers(t))),
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img, err := s.Import(t.Context(), bytes.NewReader(archive), ImportOptions{Names: []string{"test"}})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := readLayers(t, s, img.Digest, "etc/motd"); got != "top" {
				t.Errorf("etc/motd is %q", got)
			}
			if _, ok := readLayers(t, s, img.Digest, "etc/gone"); ok {
				t.Error("etc/gone is not hidden")
			}
			if !slices.Equal(img.Config.Config.Cmd, []string{"/bin/sh"}) || len(img.Layers) != 2 || img.Size == 0 {
				t.Errorf("image is %+v", img)
			}
			if !slices.Equal(img.Names, []string{"docker.io/library/test:latest"}) {
				t.Errorf("names %v", img.Names)
			}
			for _, ref := range []string{"test", "test:latest", string(img.Digest), string(img.ConfigDigest), img.ConfigDigest.Encoded()[:12]} {
				if got, err := s.Get(ref); err != nil || got.Digest != img.Digest {
					t.Errorf("Get(%q): %v, %v", ref, got.Digest, err)
				}
			}

			// The same after a restart.
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, s.dir)
			again, err := s.Get("test")
			if err != nil {
				t.Fatal(err)
			}
			again.Created = img.Created
			if !reflect.DeepEqual(again, img) {
				t.Errorf("after a restart:\n%+v\nwas\n%+v", again, img)
			}
			if err := s.Remove(t.Context(), "test"); err != nil {
				t.Fatal(err)
			}
			mustEmpty(t, s)
		})
	}
}

func TestImportRootfs(t *testing.T) {
	rootfs := mktar(t, dir("."), dir("bin"), file("./bin/sh", "#!"), entry{Header: file("dev/null", "").Header})
	for name, data := range map[string][]byte{"plain": rootfs, "gzip": gz(t, rootfs), "zstd": zst(t, rootfs)} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			first, err := s.ImportRootfs(t.Context(), bytes.NewReader(data), ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			second, err := s.ImportRootfs(t.Context(), bytes.NewReader(rootfs), ImportOptions{Names: []string{"x"}, KeepBlobs: true})
			if err != nil {
				t.Fatal(err)
			}
			if first.Digest != second.Digest {
				t.Errorf("digests %s and %s of one tar", first.Digest, second.Digest)
			}
			if left, _ := filepath.Glob(filepath.Join(s.dir, "snapshots/snapshots/*")); len(left) != 1 {
				t.Errorf("layers on disk: %v", left)
			}
			if got, _ := readLayers(t, s, first.Digest, "bin/sh"); got != "#!" {
				t.Errorf("bin/sh is %q", got)
			}
			if err := s.Remove(t.Context(), string(first.Digest)); err != nil {
				t.Fatal(err)
			}
			mustEmpty(t, s)
		})
	}
}

// TestFailureLeavesNothing breaks a good archive at many places.
func TestFailureLeavesNothing(t *testing.T) {
	archive := dockerArchive(t, twoLayers(t).compressed(t, gz))
	s := newStore(t)
	boom := errors.New("boom")
	for n := 0; n < len(archive)-1024; n += 700 {
		if _, err := s.Import(t.Context(), bytes.NewReader(archive[:n]), ImportOptions{}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
		failing := io.MultiReader(bytes.NewReader(archive[:n]), errReader{boom})
		if _, err := s.Import(t.Context(), failing, ImportOptions{}); !errors.Is(err, boom) || !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("read error after %d bytes: %v", n, err)
		}
	}
	// An error in place of the end refuses what was good so far.
	verdict := io.MultiReader(bytes.NewReader(archive), errReader{errdefs.ErrConflict})
	if _, err := s.Import(t.Context(), verdict, ImportOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("verdict at the end: %v", err)
	}
	rootfs := mktar(t, file("a", strings.Repeat("x", 10000)))
	verdict = io.MultiReader(bytes.NewReader(rootfs), errReader{errdefs.ErrConflict})
	if _, err := s.ImportRootfs(t.Context(), verdict, ImportOptions{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("verdict at the end of a rootfs: %v", err)
	}
	mustEmpty(t, s)
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
