package image

import (
	"bytes"
	"context"
	"errors"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// TestCommit puts layers on an image, good ones and others; what fails leaves nothing.
func TestCommit(t *testing.T) {
	s := newStore(t)
	ctx := context.Background()
	base := mustImport(t, s, ociArchive(t, twoLayers(t).named("example.org/base:v1")), ImportOptions{ArchiveNames: true, KeepBlobs: true})
	for name, tt := range map[string]struct {
		layer []byte
		want  error
	}{
		"leads out": {mktar(t, file("../x", "x")), errdefs.ErrInvalid},
		"garbage":   {bytes.Repeat([]byte("garbage"), 1000), errdefs.ErrInvalid},
		"truncated": {mktar(t, file("x", "content"))[:515], errdefs.ErrInvalid},
	} {
		_, err := s.Commit(ctx, Addition{Base: base.Digest, Layer: bytes.NewReader(tt.layer), Name: "example.org/made:v1"})
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	failing := errors.New("the layer's reader failed")
	if _, err := s.Commit(ctx, Addition{Base: base.Digest, Layer: errReader{failing}}); !errors.Is(err, failing) {
		t.Errorf("a reader that fails: %v", err)
	}
	if _, err := s.Commit(ctx, Addition{Base: "sha256:" + digestHex, Layer: bytes.NewReader(nil)}); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("no base: %v", err)
	}
	if n := len(s.List()); n != 1 {
		t.Fatalf("%d images after failures", n)
	}

	config := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{User: "somebody"}}
	config.OnBuild = []string{"RUN x"}
	made, err := s.Commit(ctx, Addition{
		Base: base.Digest, Layer: bytes.NewReader(mktar(t, file("added", "by the layer"))), Config: config, Author: "A", Comment: "C", Name: "example.org/made:v1",
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Layers) != len(base.Layers)+1 || made.Config.Author != "A" || made.Config.Config.User != "somebody" {
		t.Errorf("%+v", made)
	}
	again, err := s.DockerConfig(ctx, made.Digest)
	if err != nil || len(again.OnBuild) != 1 {
		t.Errorf("Docker's own fields: %+v %v", again, err)
	}
	if got, ok := readLayers(t, s, made.Digest, "added"); !ok || got != "by the layer" {
		t.Errorf("the layer's file is %q %v", got, ok)
	}
	// Its blob was not stored: what is made for whoever wants it is what the image names, each time.
	for range 2 {
		c, err := s.Contents(ctx, made.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if last := len(c.DiffIDs) - 1; c.DiffIDs[last] != made.Layers[last].DiffID || c.Manifest.Digest != made.Digest || c.Config.Digest != made.ConfigDigest {
			t.Errorf("made again: %v, manifest %s, configuration %s; the image is %+v", c.DiffIDs, c.Manifest.Digest, c.Config.Digest, made)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	// The base may go: its layers stay with the new image.
	if err := s.Remove(ctx, base.Digest.String()); err != nil {
		t.Fatal(err)
	}
	if got, ok := readLayers(t, s, made.Digest, "added"); !ok || got != "by the layer" {
		t.Errorf("without its base the layer's file is %q %v", got, ok)
	}
	if err := s.Remove(ctx, made.Digest.String()); err != nil {
		t.Fatal(err)
	}
	mustEmpty(t, s)
}

const digestHex = "0000000000000000000000000000000000000000000000000000000000000000"
