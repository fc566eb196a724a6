package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// fuzzLimits keep a run short.
var fuzzLimits = Limits{MaxArchiveBytes: 1 << 20, MaxUnpackedBytes: 1 << 20, MaxEntries: 1000, MaxLayers: 8, MaxJSONBytes: 1 << 16}

// FuzzLayer unpacks any bytes as a layer over another. Nothing may appear
// outside, and nothing inside but plain files, links, directories and our own
// whiteouts.
func FuzzLayer(f *testing.F) {
	for _, seed := range [][]byte{
		mktar(f, dir("d"), file("d/f", "x"), symlink("s", "/d"), hardlink("h", "d/f"), file("s/.wh.f", ""), file("d/"+whiteoutOpaque, "")),
		mktar(f, device("null"), withOwner(file("f", ""), 70000, 0), paxFile("p", map[string]string{paxXattr + "user.x": "y"})),
		mktar(f, file("../../x", ""), symlink("s", "../.."), file("s/x", "y")),
		sparseBomb(f),
		gz(f, mktar(f, file("f", "x"))), zst(f, mktar(f, file("f", "x"))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		need.Root(t)
		scratch := t.TempDir()
		root, lower := filepath.Join(scratch, "root"), filepath.Join(scratch, "lower")
		for _, d := range []string{root, lower, filepath.Join(lower, "d")} {
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		plain, _, err := decompress(bytes.NewReader(data))
		if err == nil {
			_, err = applyLayer(t.Context(), root, plain, []string{lower}, newBudget(fuzzLimits.or(DefaultLimits())))
		}
		if err != nil && strings.Contains(err.Error(), scratch) {
			t.Errorf("host path in %v", err)
		}
		for p, what := range listTree(t, scratch) {
			switch {
			case !strings.HasPrefix(p, "/root"):
				if p != "/lower" && p != "/lower/d" {
					t.Errorf("%s came into being outside", p)
				}
			case strings.HasPrefix(what, "Dc"):
				var st syscall.Stat_t
				if err := syscall.Lstat(scratch+p, &st); err != nil || st.Rdev != 0 {
					t.Errorf("%s is a device %x", p, st.Rdev)
				}
			}
		}
	})
}

// FuzzArchive reads any bytes as an archive, up to the choice of the image.
func FuzzArchive(f *testing.F) {
	i := func() *testImage { return newImage(mktar(f, file("f", "x"))).named("a") }
	f.Add(dockerArchive(f, i()))
	f.Add(ociArchive(f, i().compressed(f, gz)))
	f.Add(zst(f, ociArchive(f, i(), i().named("b"))))
	f.Fuzz(fuzzArchive)
}

// FuzzDocuments puts any manifest, configuration and index into an archive that
// is sound otherwise.
func FuzzDocuments(f *testing.F) {
	i := newImage(mktar(f, file("f", "x")))
	l := newLayout(f)
	m := l.manifest(i)
	l.add(i)
	f.Add(mustJSON(f, m), mustJSON(f, i.config), mustJSON(f, l.index))
	f.Fuzz(func(t *testing.T, manifest, config, index []byte) {
		l := newLayout(t)
		c := l.blob(m.Config.MediaType, config)
		l.blob("", i.tars[0])
		manifest = bytes.ReplaceAll(manifest, []byte(m.Config.Digest), []byte(c.Digest))
		l.index.Manifests = append(l.index.Manifests, l.blob(m.MediaType, manifest))
		fuzzArchive(t, l.archive())
		l.files = append(l.files, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`), file("index.json", string(index)))
		fuzzArchive(t, mktar(t, l.files...))
	})
}

func fuzzArchive(t *testing.T, data []byte) {
	limits := fuzzLimits.or(DefaultLimits())
	src := &source{r: bytes.NewReader(data), max: limits.MaxArchiveBytes}
	dir := t.TempDir()
	sp, err := readSpool(t.Context(), dir, src, limits)
	var all []candidate
	if err == nil {
		all, err = sp.candidates(limits)
		for _, c := range all {
			fuzzError(t, c.err)
			if c.err == nil && len(c.layers) != len(c.image.RootFS.DiffIDs) {
				t.Errorf("%d layers and %d diff IDs", len(c.layers), len(c.image.RootFS.DiffIDs))
			}
		}
		if err := sp.close(); err != nil {
			t.Error(err)
		}
	}
	fuzzError(t, importError(t.Context(), err, src))
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func fuzzError(t *testing.T, err error) {
	if err != nil && !errors.Is(err, errdefs.ErrInvalid) && !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("error of another kind: %v", err)
	}
}
