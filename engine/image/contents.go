package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// Contents are the documents and blobs of an image, held open: they can be read even if the
// image is removed meanwhile. The caller closes them.
type Contents struct {
	// Manifest, Config and Layers (the base first) describe the blobs. If Remade, they are not those of
	// the image: its layers' blobs were not kept, and what was made of the files has other digests.
	Manifest, Config ocispec.Descriptor
	Layers           []ocispec.Descriptor
	DiffIDs          []digest.Digest
	Remade           bool

	blobs map[digest.Digest]content.ReaderAt
}

// Blob is the content of one of the descriptors.
func (c *Contents) Blob(d digest.Digest) content.ReaderAt { return c.blobs[d] }

// Close lets go of the blobs.
func (c *Contents) Close() error {
	var errs []error
	for _, b := range c.blobs {
		errs = append(errs, b.Close())
	}
	c.blobs = nil
	return errors.Join(errs...)
}

// Contents opens the blobs of image d. Those of layers that were not kept when the image was imported are made
// again of the files: where that gives other bytes than it was made of, the configuration names the new
// ones and the image has another ID for whoever gets it. ErrNotFound, ErrExhausted.
func (s *Store) Contents(ctx context.Context, d digest.Digest) (_ *Contents, err error) {
	c := &Contents{blobs: map[digest.Digest]content.ReaderAt{}}
	defer func() {
		if err != nil {
			err = errors.Join(importError(ctx, fmt.Errorf("image %s: %w", d, err), nil), c.Close())
		}
	}()
	err = s.leased(ctx, func(ctx context.Context) error { return s.openContents(ctx, d, c) })
	if c.Remade {
		s.freed(ctx, s.collect(context.WithoutCancel(ctx)))
	}
	return c, err
}

func (s *Store) openContents(ctx context.Context, d digest.Digest, c *Contents) error {
	s.mu.RLock()
	r, ok := s.records[d]
	var img Image
	if ok {
		img, c.Manifest = r.snapshot(), r.image.Target
	}
	s.mu.RUnlock()
	if !ok {
		return errdefs.ErrNotFound
	}
	if err := s.holdLayer(ctx, img.Layers[len(img.Layers)-1].ChainID); err != nil {
		return err
	}
	raw, err := s.openDocument(ctx, c, c.Manifest)
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := decodeJSON("manifest", raw, &m); err != nil {
		return err
	}
	c.Config = m.Config
	if raw, err = s.openDocument(ctx, c, m.Config); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	for i, l := range img.Layers {
		switch err := s.openInto(ctx, c, l.Blob); {
		case err == nil:
			c.Layers, c.DiffIDs = append(c.Layers, l.Blob), append(c.DiffIDs, l.DiffID)
		case errors.Is(err, errdefs.ErrNotFound):
			c.Remade = true
			remade, err := s.remakeLayer(ctx, l)
			if err != nil {
				return fmt.Errorf("make layer %d of %d again: %w", i+1, len(img.Layers), err)
			}
			if err := s.openInto(ctx, c, remade); err != nil {
				return err
			}
			c.Layers, c.DiffIDs = append(c.Layers, remade), append(c.DiffIDs, remade.Digest)
		default:
			return err
		}
	}
	if !c.Remade {
		return nil
	}
	return s.redocument(ctx, c, raw, m)
}

// openDocument opens a small blob, and returns its verified bytes.
func (s *Store) openDocument(ctx context.Context, c *Contents, d ocispec.Descriptor) ([]byte, error) {
	raw, err := s.readBlob(ctx, d)
	if err != nil {
		return nil, err
	}
	return raw, s.openInto(ctx, c, d)
}

// openInto opens a blob, once, with the repositories that are known to have it.
func (s *Store) openInto(ctx context.Context, c *Contents, d ocispec.Descriptor) error {
	if c.blobs[d.Digest] != nil {
		return nil
	}
	ra, err := s.content.ReaderAt(ctx, d)
	if err != nil {
		return storeError(err)
	}
	c.blobs[d.Digest] = ra
	return nil
}

// Sources are the repositories, by host, that a blob is known to be in: annotations for containerd's client.
func (s *Store) Sources(ctx context.Context, d digest.Digest) map[string]string {
	info, err := s.content.Info(s.ctx(ctx), d)
	if err != nil {
		return nil
	}
	out := map[string]string{}
	for k, v := range info.Labels {
		if strings.HasPrefix(k, sourceLabel("")) {
			out[k] = v
		}
	}
	return out
}

// Pushed notes that a repository has an image now: under the names, references by digest, and the blobs. The
// image may be gone.
func (s *Store) Pushed(ctx context.Context, d digest.Digest, src Source, names ...string) error {
	names, err := recordNames(names)
	if err != nil {
		return err
	}
	s.mu.Lock()
	r, ok := s.records[d]
	var blobs []ocispec.Descriptor
	if ok {
		err = s.publishLocked(ctx, r, names)
		for _, l := range r.image.Layers {
			blobs = append(blobs, l.Blob)
		}
	}
	s.mu.Unlock()
	s.noteSource(ctx, src, blobs...)
	return err
}

// remakeLayer makes the blob of a layer of its files.
func (s *Store) remakeLayer(ctx context.Context, l Layer) (d ocispec.Descriptor, err error) {
	u, err := s.unpacked(ctx, l.ChainID)
	if err != nil {
		return d, err
	}
	kept, err := s.keeper(ctx, ocispec.Descriptor{})
	if err != nil {
		return d, err
	}
	defer func() {
		err = kept.end(ctx, err)
		kept.desc.MediaType = ocispec.MediaTypeImageLayer
		d = kept.desc
	}()
	if err := writeLayer(ctx, kept, u); err != nil {
		return d, err
	}
	status, err := kept.Status()
	if err != nil {
		return d, storeError(err)
	}
	kept.desc = ocispec.Descriptor{Digest: kept.Digest(), Size: status.Offset}
	return d, nil
}

// redocument makes manifest and configuration anew for layers that were made again.
func (s *Store) redocument(ctx context.Context, c *Contents, config []byte, old ocispec.Manifest) error {
	var image ocispec.Image
	var fields map[string]json.RawMessage
	if err := errors.Join(decodeJSON("configuration", config, &image), decodeJSON("configuration", config, &fields)); err != nil {
		return err
	}
	doc := document{c.Config, config}
	if identity.ChainID(append([]digest.Digest(nil), image.RootFS.DiffIDs...)) != identity.ChainID(append([]digest.Digest(nil), c.DiffIDs...)) {
		rootfs, err := json.Marshal(ocispec.RootFS{Type: "layers", DiffIDs: c.DiffIDs})
		if err != nil {
			return err
		}
		fields["rootfs"] = rootfs
		if doc, err = newDocument(ocispec.MediaTypeImageConfig, fields); err != nil {
			return err
		}
	}
	doc.desc.MediaType = ocispec.MediaTypeImageConfig
	c.Config = doc.desc
	for i := range c.Layers {
		c.Layers[i].MediaType = ociLayerType(c.Layers[i].MediaType)
	}
	manifest, err := newDocument(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: c.Config, Layers: c.Layers, Annotations: old.Annotations,
	})
	if err != nil {
		return err
	}
	c.Manifest = manifest.desc
	for _, d := range []document{doc, manifest} {
		if err := s.writeDocument(ctx, d, nil); err != nil {
			return err
		}
		if err := s.openInto(ctx, c, d.desc); err != nil {
			return err
		}
	}
	return nil
}

// ociLayerType is the OCI's name of a type of layers.
func ociLayerType(t string) string {
	switch t {
	case images.MediaTypeDockerSchema2Layer:
		return ocispec.MediaTypeImageLayer
	case images.MediaTypeDockerSchema2LayerGzip:
		return ocispec.MediaTypeImageLayerGzip
	case images.MediaTypeDockerSchema2LayerZstd:
		return ocispec.MediaTypeImageLayerZstd
	}
	return t
}
