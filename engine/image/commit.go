package image

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// Addition is a layer to be put on an image.
type Addition struct {
	Base digest.Digest
	// Layer is the tar stream of the layer, with whiteouts as the OCI specification has them.
	Layer io.Reader
	// Config is the whole configuration of the new image.
	Config dockerspec.DockerOCIImageConfig
	// Author of the image; CreatedBy and Comment are for the history.
	Author, CreatedBy, Comment string
	// Name is given to the image if it isn't empty.
	Name string
}

// DockerConfig is the configuration of an image with the fields that only Docker knows. ErrNotFound.
func (s *Store) DockerConfig(ctx context.Context, d digest.Digest) (dockerspec.DockerOCIImageConfig, error) {
	config, err := s.dockerImage(s.ctx(ctx), d)
	return config.Config, err
}

// dockerImage reads the configuration of an image.
func (s *Store) dockerImage(ctx context.Context, d digest.Digest) (config dockerspec.DockerOCIImage, err error) {
	img, err := s.Get(d.String())
	if err != nil {
		return config, err
	}
	info, err := s.content.Info(ctx, img.ConfigDigest)
	if err != nil {
		return config, fmt.Errorf("image %s: configuration: %w", d, storeError(err))
	}
	raw, err := s.readBlob(ctx, ocispec.Descriptor{Digest: img.ConfigDigest, Size: info.Size})
	if err != nil {
		return config, fmt.Errorf("image %s: configuration: %w", d, err)
	}
	return config, decodeJSON("configuration", raw, &config)
}

// Commit makes an image of another one and a layer on top of it. The layer's blob is made of its files, each
// time that somebody wants it; it is the same each time.
// Reading and errors are as with Import; ErrNotFound if the base is not there.
func (s *Store) Commit(ctx context.Context, a Addition) (img Image, err error) {
	src := &source{r: a.Layer, max: s.limits.MaxArchiveBytes}
	defer func() { err = importError(ctx, err, src) }()
	var names []string
	if a.Name != "" {
		if names, err = normalNames([]string{a.Name}); err != nil {
			return Image{}, err
		}
	}
	var layer streamLayer
	err = s.leased(ctx, func(ctx context.Context) error {
		config, below, base, err := s.holdBase(ctx, a.Base)
		if err != nil {
			return err
		}
		if layer, err = s.unpackStream(ctx, src, newBudget(s.limits), remakeBlob, below); err != nil {
			return err
		}
		now := time.Now().UTC()
		config.Created, config.Author, config.Config = &now, a.Author, a.Config
		config.RootFS.DiffIDs = append(slices.Clone(below.diffIDs), layer.diffID)
		config.History = append(slices.Clone(config.History), ocispec.History{
			Created: &now, Author: a.Author, CreatedBy: a.CreatedBy, Comment: a.Comment,
		})
		image := config.Image
		image.Config = config.Config.ImageConfig
		c, err := makeImage(image, config, append(base, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayer, Digest: layer.diffID, Size: layer.size,
		})...)
		if err != nil {
			return err
		}
		// Labels for blobs that the base was imported without name what isn't there, which does no harm.
		img, err = s.finish(ctx, c, names, ImportOptions{KeepBlobs: true})
		return err
	})
	if layer.again {
		s.freed(ctx, s.collect(context.WithoutCancel(ctx)))
	}
	return img, err
}

// holdBase puts the layers of an image, and the blobs that were kept of them, under ctx's lease.
func (s *Store) holdBase(ctx context.Context, d digest.Digest) (config dockerspec.DockerOCIImage, below stack, blobs []ocispec.Descriptor, err error) {
	config, err = s.dockerImage(ctx, d)
	if err != nil {
		return config, below, nil, err
	}
	s.mu.RLock()
	r, ok := s.records[d]
	if ok {
		below = stack{slices.Clone(config.RootFS.DiffIDs), slices.Clone(r.lowers)}
		for _, l := range r.image.Layers {
			blobs = append(blobs, l.Blob)
		}
	}
	s.mu.RUnlock()
	if !ok {
		return config, below, nil, fmt.Errorf("image %s: %w", d, errdefs.ErrNotFound)
	}
	if len(blobs) >= s.limits.MaxLayers {
		return config, below, nil, fmt.Errorf("image %s has %d layers, the limit is %d: %w", d, len(blobs), s.limits.MaxLayers, errdefs.ErrInvalid)
	}
	if err := s.holdLayer(ctx, below.chain()); err != nil {
		return config, below, nil, err
	}
	// Held now; was it gone before?
	if _, err := s.unpacked(ctx, below.chain()); err != nil {
		return config, below, nil, err
	}
	for _, b := range blobs {
		if err := s.holdBlob(ctx, b.Digest); err != nil {
			return config, below, nil, err
		}
	}
	return config, below, blobs, nil
}
