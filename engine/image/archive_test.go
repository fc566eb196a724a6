package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// entry is one entry of a tar; a name that ends in / makes a directory, unless
// the type is set.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}, data}
}

func dir(name string) entry {
	return entry{tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target, Mode: 0o644}, ""}
}

func mktar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zst(t testing.TB, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(data, nil)
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testImage is an image to be written in some archive format.
type testImage struct {
	config ocispec.Image
	tars   [][]byte // uncompressed
	blobs  [][]byte // as in the archive
	names  []string
}

func newImage(tars ...[]byte) *testImage {
	i := &testImage{tars: tars, blobs: tars}
	i.config.OS, i.config.Architecture = "linux", runtime.GOARCH
	i.config.Config.Cmd = []string{"/bin/sh"}
	i.config.RootFS.Type = "layers"
	for _, l := range tars {
		i.config.RootFS.DiffIDs = append(i.config.RootFS.DiffIDs, digest.FromBytes(l))
	}
	return i
}

func (i *testImage) named(names ...string) *testImage { i.names = names; return i }

func (i *testImage) compressed(t testing.TB, f func(testing.TB, []byte) []byte) *testImage {
	i.blobs = nil
	for _, l := range i.tars {
		i.blobs = append(i.blobs, f(t, l))
	}
	return i
}

// dockerArchive writes images as skopeo does.
func dockerArchive(t testing.TB, images ...*testImage) []byte {
	t.Helper()
	type item struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifest []item
	var entries []entry
	seen := map[string]bool{}
	add := func(name string, data []byte) string {
		if !seen[name] {
			entries = append(entries, file(name, string(data)))
		}
		seen[name] = true
		return name
	}
	for _, i := range images {
		it := item{RepoTags: i.names}
		for _, b := range i.blobs {
			it.Layers = append(it.Layers, add(fmt.Sprintf("%x.tar", sha256.Sum256(b)), b))
		}
		config := mustJSON(t, i.config)
		it.Config = add(digest.FromBytes(config).Encoded()+".json", config)
		manifest = append(manifest, it)
	}
	add("manifest.json", mustJSON(t, manifest))
	return mktar(t, entries...)
}

// ociLayout collects the files of an OCI image layout.
type ociLayout struct {
	t     testing.TB
	files []entry
	seen  map[string]bool
	index ocispec.Index
}

func newLayout(t testing.TB) *ociLayout {
	return &ociLayout{t: t, seen: map[string]bool{}, index: ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
	}}
}

func (l *ociLayout) blob(mediaType string, data []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if name := "blobs/sha256/" + d.Digest.Encoded(); !l.seen[name] {
		l.seen[name] = true
		l.files = append(l.files, file(name, string(data)))
	}
	return d
}

func (l *ociLayout) manifest(i *testImage) ocispec.Manifest {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: l.blob(ocispec.MediaTypeImageConfig, mustJSON(l.t, i.config)),
	}
	for _, b := range i.blobs {
		m.Layers = append(m.Layers, l.blob(ocispec.MediaTypeImageLayer, b))
	}
	return m
}

func (l *ociLayout) add(i *testImage) ocispec.Descriptor {
	d := l.blob(ocispec.MediaTypeImageManifest, mustJSON(l.t, l.manifest(i)))
	if len(i.names) == 0 {
		l.index.Manifests = append(l.index.Manifests, d)
	}
	for _, n := range i.names {
		d := d
		d.Annotations = map[string]string{"io.containerd.image.name": n}
		l.index.Manifests = append(l.index.Manifests, d)
	}
	return d
}

func (l *ociLayout) archive(more ...entry) []byte {
	files := append([]entry{file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)}, l.files...)
	files = append(files, file("index.json", string(mustJSON(l.t, l.index))))
	return mktar(l.t, append(files, more...)...)
}

func ociArchive(t testing.TB, images ...*testImage) []byte {
	t.Helper()
	l := newLayout(t)
	for _, i := range images {
		l.add(i)
	}
	return l.archive()
}
