package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// edited returns v's JSON with some top-level fields replaced.
func edited(t testing.TB, v any, fields map[string]any) []byte {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal(mustJSON(t, v), &m); err != nil {
		t.Fatal(err)
	}
	for k, f := range fields {
		m[k] = f
	}
	return mustJSON(t, m)
}

// TestRefusedArchives has what a liar or a broken tool would write.
func TestRefusedArchives(t *testing.T) {
	base := func() *testImage { return newImage(mktar(t, file("f", "x"))) }
	// oci makes an archive whose index has one descriptor that edit makes.
	oci := func(edit func(*ociLayout) ocispec.Descriptor) []byte {
		l := newLayout(t)
		l.index.Manifests = []ocispec.Descriptor{edit(l)}
		return l.archive()
	}
	manifest := func(fields map[string]any) []byte {
		return oci(func(l *ociLayout) ocispec.Descriptor {
			return l.blob(ocispec.MediaTypeImageManifest, edited(t, l.manifest(base()), fields))
		})
	}
	config := func(fields map[string]any) []byte {
		return oci(func(l *ociLayout) ocispec.Descriptor {
			m := l.manifest(base())
			m.Config = l.blob(ocispec.MediaTypeImageConfig, edited(t, base().config, fields))
			return l.blob(ocispec.MediaTypeImageManifest, mustJSON(t, m))
		})
	}
	good := func(l *ociLayout) ocispec.Descriptor {
		return l.blob(ocispec.MediaTypeImageManifest, mustJSON(t, l.manifest(base())))
	}
	lying := base()
	lying.config.RootFS.DiffIDs[0] = digest.FromString("other")
	foreign := base()
	foreign.config.Architecture = "s390x"
	deep := strings.Repeat("[", 100_000)

	for name, tt := range map[string]struct {
		archive []byte
		want    error
		says    string
	}{
		"empty":              {nil, errdefs.ErrInvalid, "no image"},
		"empty tar":          {mktar(t), errdefs.ErrInvalid, "no image"},
		"rootfs":             {mktar(t, file("bin/sh", "")), errdefs.ErrInvalid, "no image"},
		"no JSON":            {mktar(t, file("manifest.json", "nope")), errdefs.ErrInvalid, "manifest.json"},
		"deep JSON":          {mktar(t, file("manifest.json", deep)), errdefs.ErrInvalid, "manifest.json"},
		"no images":          {mktar(t, file("manifest.json", "[]")), errdefs.ErrInvalid, "0 images"},
		"many images":        {mktar(t, file("manifest.json", "["+strings.Repeat("{},", 5000)+"{}]")), errdefs.ErrInvalid, "5001 images"},
		"config missing":     {mktar(t, file("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`)), errdefs.ErrInvalid, "c.json"},
		"config outside":     {mktar(t, file("manifest.json", `[{"Config":"../../../etc/passwd","Layers":[]}]`)), errdefs.ErrInvalid, "etc/passwd"},
		"layer missing":      {mktar(t, file("c", string(mustJSON(t, base().config))), file("manifest.json", `[{"Config":"c","Layers":["l"]}]`)), errdefs.ErrInvalid, "layer"},
		"links in a circle":  {mktar(t, symlink("c", "d"), symlink("d", "c"), file("manifest.json", `[{"Config":"c","Layers":[]}]`)), errdefs.ErrInvalid, "not in the archive"},
		"two manifests":      {mktar(t, file("manifest.json", "[]"), file("./manifest.json", "[]")), errdefs.ErrInvalid, "twice"},
		"diff ID":            {dockerArchive(t, lying), errdefs.ErrInvalid, "diff ID"},
		"other architecture": {dockerArchive(t, foreign), errdefs.ErrUnsupported, "linux/s390x"},
		"layer is no tar":    {dockerArchive(t, newImage([]byte("text, and more of it"))), errdefs.ErrInvalid, "layer 1 of 1"},
		"truncated gzip":     {dockerArchive(t, base().compressed(t, func(t testing.TB, b []byte) []byte { b = gz(t, b); return b[:len(b)-9] })), errdefs.ErrInvalid, "layer 1"},
		"gzip checksum":      {dockerArchive(t, base().compressed(t, func(t testing.TB, b []byte) []byte { b = gz(t, b); b[len(b)-6] ^= 1; return b })), errdefs.ErrInvalid, "layer 1"},
		"bad zstd":           {dockerArchive(t, base().compressed(t, func(t testing.TB, b []byte) []byte { b = zst(t, b); b[len(b)-6] ^= 1; return b })), errdefs.ErrInvalid, "layer 1"},
		"layout version":     {mktar(t, file("oci-layout", `{"imageLayoutVersion":"2.0.0"}`)), errdefs.ErrUnsupported, "2.0.0"},
		"no index":           {mktar(t, file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)), errdefs.ErrInvalid, "index.json"},
		"empty index":        {newLayout(t).archive(), errdefs.ErrInvalid, "no image"},
		"blob digest":        {mktar(t, file("blobs/sha256/"+digestOf("a"), "b")), errdefs.ErrInvalid, "has the digest"},
		"blob name":          {mktar(t, file("blobs/sha256/../../x", "b")), errdefs.ErrInvalid, "no image"},
		"manifest missing":   {oci(func(*ociLayout) ocispec.Descriptor { return good(newLayout(t)) }), errdefs.ErrInvalid, "not in the archive"},
		"size":               {oci(func(l *ociLayout) ocispec.Descriptor { d := good(l); d.Size++; return d }), errdefs.ErrInvalid, "bytes instead of"},
		"digest algorithm":   {oci(func(l *ociLayout) ocispec.Descriptor { d := good(l); d.Digest = "md5:abc"; return d }), errdefs.ErrInvalid, "digest"},
		"manifest said to be index": {oci(func(l *ociLayout) ocispec.Descriptor {
			d := good(l)
			d.MediaType = ocispec.MediaTypeImageIndex
			return d
		}), errdefs.ErrInvalid, "descriptor says"},
		"both":                 {manifest(map[string]any{"manifests": []any{}}), errdefs.ErrInvalid, "fields of another"},
		"media type differs":   {manifest(map[string]any{"mediaType": ocispec.MediaTypeImageIndex}), errdefs.ErrInvalid, "descriptor says"},
		"schema 1":             {manifest(map[string]any{"schemaVersion": 1}), errdefs.ErrInvalid, "schema version"},
		"fsLayers":             {manifest(map[string]any{"fsLayers": []any{}}), errdefs.ErrInvalid, "fields of another"},
		"no layers":            {manifest(map[string]any{"layers": []any{}}), errdefs.ErrInvalid, "no layers"},
		"layers of wrong type": {manifest(map[string]any{"layers": "x"}), errdefs.ErrInvalid, "manifest"},
		"artifact": {manifest(map[string]any{"config": map[string]any{
			"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": "sha256:" + digestOf("x"), "size": 1}}), errdefs.ErrInvalid, "artifact"},
		"more diff IDs":  {config(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digestOf("a"), "sha256:" + digestOf("b")}}}), errdefs.ErrInvalid, "diff IDs"},
		"diff ID syntax": {config(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"../x"}}}), errdefs.ErrInvalid, "diff ID"},
		"rootfs type":    {config(map[string]any{"rootfs": map[string]any{"type": "other"}}), errdefs.ErrInvalid, "rootfs"},
		"encrypted layer": {oci(func(l *ociLayout) ocispec.Descriptor {
			m := l.manifest(base())
			m.Layers[0].MediaType = ocispec.MediaTypeImageLayer + "+encrypted"
			return l.blob(ocispec.MediaTypeImageManifest, mustJSON(t, m))
		}), errdefs.ErrUnsupported, "encrypted"},
		"nested indexes": {oci(func(l *ociLayout) ocispec.Descriptor {
			d := good(l)
			for range 6 {
				i := l.index
				i.Manifests = []ocispec.Descriptor{d}
				d = l.blob(ocispec.MediaTypeImageIndex, mustJSON(t, i))
			}
			return d
		}), errdefs.ErrInvalid, "nested"},
		"index bomb": {oci(func(l *ociLayout) ocispec.Descriptor {
			d := good(l)
			for range 3 {
				i := l.index
				i.Manifests = slices.Repeat([]ocispec.Descriptor{d}, 100)
				d = l.blob(ocispec.MediaTypeImageIndex, mustJSON(t, i))
			}
			return d
		}), errdefs.ErrInvalid, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			_, err := s.Import(t.Context(), bytes.NewReader(tt.archive), ImportOptions{})
			if !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.want, tt.says)
			}
			mustEmpty(t, s)
		})
	}
}

func digestOf(s string) string { return digest.FromString(s).Encoded() }

// TestPick has archives with several images.
func TestPick(t *testing.T) {
	one := func(names ...string) *testImage { return newImage(mktar(t, file("one", "x"))).named(names...) }
	two := func(names ...string) *testImage { return newImage(mktar(t, file("two", "x"))).named(names...) }
	other := func(names ...string) *testImage {
		i := newImage(mktar(t, file("other", "x"))).named(names...)
		i.config.Architecture = "s390x"
		return i
	}
	// As `docker save` of one platform of a multi-platform image: the index
	// is complete, the blobs are not.
	l := newLayout(t)
	inner := l.index
	here, absent := l.add(one()), newLayout(t).add(other())
	absent.Platform = &ocispec.Platform{OS: "linux", Architecture: "s390x"}
	attest := here
	attest.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	inner.Manifests = []ocispec.Descriptor{absent, here, attest}
	d := l.blob(ocispec.MediaTypeImageIndex, mustJSON(t, inner))
	d.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/multi:1"}
	l.index.Manifests = []ocispec.Descriptor{d}
	partial := l.archive()

	for name, tt := range map[string]struct {
		archive []byte
		opts    ImportOptions
		file    string // of the image that was picked; "" means refused
		names   []string
	}{
		"two":                {dockerArchive(t, one("a"), two("b")), ImportOptions{}, "", nil},
		"by name":            {dockerArchive(t, one("a"), two("b")), ImportOptions{Ref: "b"}, "two", nil},
		"by full name":       {dockerArchive(t, one("a:1"), two("b:1")), ImportOptions{Ref: "docker.io/library/a:1"}, "one", nil},
		"by wrong name":      {dockerArchive(t, one("a"), two("b")), ImportOptions{Ref: "c"}, "", nil},
		"by platform":        {dockerArchive(t, one("a"), other("a")), ImportOptions{}, "one", nil},
		"names are ignored":  {dockerArchive(t, one("a")), ImportOptions{Names: []string{"mine"}}, "one", []string{"docker.io/library/mine:latest"}},
		"names are taken":    {dockerArchive(t, one("a", "b:2")), ImportOptions{ArchiveNames: true}, "one", []string{"docker.io/library/a:latest", "docker.io/library/b:2"}},
		"bad name in it":     {dockerArchive(t, one("UPPER/../x")), ImportOptions{ArchiveNames: true}, "", nil},
		"bad name, not used": {dockerArchive(t, one("UPPER/../x")), ImportOptions{}, "one", nil},
		"bad name given":     {dockerArchive(t, one()), ImportOptions{Names: []string{"a@sha256:" + digestOf("x")}}, "", nil},
		"oci, two names":     {ociArchive(t, one("a", "b")), ImportOptions{ArchiveNames: true}, "one", []string{"docker.io/library/a:latest", "docker.io/library/b:latest"}},
		"oci, two":           {ociArchive(t, one("a"), two("b")), ImportOptions{}, "", nil},
		"oci by name":        {ociArchive(t, one("a"), two("b")), ImportOptions{Ref: "b"}, "two", nil},
		"oci partial":        {partial, ImportOptions{ArchiveNames: true}, "one", []string{"docker.io/library/multi:1"}},
		"any platform":       {dockerArchive(t, other()), ImportOptions{AnyPlatform: true}, "other", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			img, err := s.Import(t.Context(), bytes.NewReader(tt.archive), tt.opts)
			if tt.file == "" {
				if !errors.Is(err, errdefs.ErrInvalid) {
					t.Errorf("got %v, %v", img.Names, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := readLayers(t, s, img.Digest, tt.file); !ok {
				t.Errorf("picked another image than that with %s", tt.file)
			}
			if !slices.Equal(img.Names, tt.names) {
				t.Errorf("names %v, want %v", img.Names, tt.names)
			}
		})
	}

	s := newStore(t)
	all, err := s.Load(t.Context(), bytes.NewReader(dockerArchive(t, one("a"), two("b"), other("c"))), ImportOptions{ArchiveNames: true})
	if err != nil || len(all) != 2 || len(s.List()) != 2 {
		t.Errorf("loaded %d images, %v", len(all), err)
	}
}

// TestLegacyLayout has the layout of `docker save` before Docker 25, where equal
// layers are symbolic links.
func TestLegacyLayout(t *testing.T) {
	layer := mktar(t, file("f", "x"))
	i := newImage(layer, layer)
	s := newStore(t)
	archive := mktar(t,
		dir("aaa"), file("aaa/VERSION", "1.0"), file("aaa/json", "{}"), file("aaa/layer.tar", string(layer)),
		dir("bbb"), file("bbb/VERSION", "1.0"), file("bbb/json", "{}"), symlink("bbb/layer.tar", "../aaa/layer.tar"),
		entry{tar.Header{Name: "ccc/layer.tar", Typeflag: tar.TypeLink, Linkname: "aaa/layer.tar"}, ""},
		file("conf.json", string(mustJSON(t, i.config))),
		file("manifest.json", `[{"Config":"conf.json","RepoTags":["old:1"],"Layers":["bbb/layer.tar","ccc/layer.tar"]}]`),
		file("repositories", `{"old":{"1":"bbb"}}`),
	)
	img, err := s.Import(t.Context(), bytes.NewReader(archive), ImportOptions{ArchiveNames: true})
	if err != nil || len(img.Layers) != 2 {
		t.Fatalf("%v, %v", img, err)
	}
}
