package image

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"novaagent/engine/errdefs"
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
	mustImport(t, s, ociArchive(t, twoLayers(t).named("example.org/unkept:v1")), ImportOptions{ArchiveNames: true})
	if _, err := s.Save(ctx, []string{"example.org/unkept:v1"}); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("without blobs: %v", err)
	}
	if _, err := s.Save(ctx, []string{"example.org/absent:v1"}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}
