package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// savedName is the annotation with the whole name of an image in an archive; containerd and docker write it.
const savedName = "io.containerd.image.name"

// Archive is one or more images about to be written by Write. The caller closes it.
type Archive struct {
	images   []digest.Digest
	contents []*Contents
	blobs    []savedBlob // in the order of the archive, each once
	index    ocispec.Index
	docker   []dockerManifest
	written  map[digest.Digest]bool
}

type savedBlob struct {
	digest digest.Digest
	data   content.ReaderAt
}

// dockerManifest is an entry of an archive's manifest.json.
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Save opens the images that refs find, to write them the way `docker save` does: an OCI layout with
// a manifest.json. A name without a tag means all tags of its repository, and what is not a name
// is saved without one.
//
// An image whose layers were imported without ImportOptions.KeepBlobs is made again of its files, see
// Contents. ErrNotFound: an image.
func (s *Store) Save(ctx context.Context, refs []string) (_ *Archive, err error) {
	a := &Archive{written: map[digest.Digest]bool{}, index: ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	var order []digest.Digest
	names := map[digest.Digest][]string{}
	note := func(d digest.Digest, name string) {
		if !slices.Contains(order, d) {
			order = append(order, d)
		}
		if name != "" && !slices.Contains(names[d], name) {
			names[d] = append(names[d], name)
		}
	}
	for _, ref := range refs {
		if tags := s.tagsOf(ref); len(tags) > 0 {
			for _, t := range tags {
				note(t.digest, t.name)
			}
			continue
		}
		img, err := s.Get(ref)
		if err != nil {
			return nil, err
		}
		name, err := normalName(ref)
		if err != nil || !slices.Contains(img.Names, name) {
			name = "" // it was found by its digest
		}
		note(img.Digest, name)
	}
	a.images = order
	for _, d := range order {
		if err := s.saveImage(ctx, a, d, names[d]); err != nil {
			return nil, fmt.Errorf("save: %w", err)
		}
	}
	return a, nil
}

// Missing is the first of refs that Save does not find, or "".
func (s *Store) Missing(refs []string) string {
	for _, ref := range refs {
		if _, err := s.Get(ref); err != nil && len(s.tagsOf(ref)) == 0 {
			return ref
		}
	}
	return ""
}

type taggedImage struct {
	name   string
	digest digest.Digest
}

// tagsOf are all tags of the repository that ref names without a tag.
func (s *Store) tagsOf(ref string) []taggedImage {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || !reference.IsNameOnly(named) {
		return nil
	}
	var out []taggedImage
	for _, img := range s.List() {
		for _, n := range img.Names {
			if other, err := reference.ParseNormalizedNamed(n); err == nil && other.Name() == named.Name() {
				out = append(out, taggedImage{n, img.Digest})
			}
		}
	}
	slices.SortFunc(out, func(a, b taggedImage) int { return strings.Compare(a.name, b.name) })
	return out
}

func (s *Store) saveImage(ctx context.Context, a *Archive, d digest.Digest, names []string) error {
	c, err := s.Contents(ctx, d)
	if err != nil {
		return err
	}
	a.contents = append(a.contents, c)
	target := c.Manifest
	m := dockerManifest{Config: blobPath(c.Config.Digest)}
	for _, l := range c.Layers {
		m.Layers = append(m.Layers, blobPath(l.Digest))
	}
	for _, blob := range append(c.Layers[:len(c.Layers):len(c.Layers)], c.Config, c.Manifest) {
		if !a.written[blob.Digest] {
			a.written[blob.Digest] = true
			a.blobs = append(a.blobs, savedBlob{blob.Digest, c.Blob(blob.Digest)})
		}
	}
	if len(names) == 0 {
		a.index.Manifests = append(a.index.Manifests, target)
	}
	for _, name := range names {
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return err
		}
		m.RepoTags = append(m.RepoTags, reference.FamiliarString(named))
		entry := target
		entry.Annotations = map[string]string{savedName: name}
		if tagged, ok := named.(reference.Tagged); ok {
			entry.Annotations[ocispec.AnnotationRefName] = tagged.Tag()
		}
		a.index.Manifests = append(a.index.Manifests, entry)
	}
	a.docker = append(a.docker, m)
	return nil
}

func blobPath(d digest.Digest) string {
	return ocispec.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded()
}

// Write writes the archive as a tar stream; each blob is verified on the way.
func (a *Archive) Write(w io.Writer) error {
	tw := tar.NewWriter(w)
	for _, dir := range []string{ocispec.ImageBlobsDir + "/", ocispec.ImageBlobsDir + "/sha256/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	for _, b := range a.blobs {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: blobPath(b.digest), Mode: 0o644, Size: b.data.Size()}); err != nil {
			return err
		}
		verifier := b.digest.Verifier()
		if _, err := io.Copy(io.MultiWriter(tw, verifier), content.NewReader(b.data)); err != nil {
			return err
		}
		if !verifier.Verified() {
			return fmt.Errorf("blob %s is damaged: %w", b.digest, errdefs.ErrUnavailable)
		}
	}
	for _, doc := range []struct {
		name string
		v    any
	}{
		{ocispec.ImageIndexFile, a.index},
		{"manifest.json", a.docker},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	} {
		raw, err := json.Marshal(doc.v)
		if err != nil {
			return err
		}
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: doc.name, Mode: 0o644, Size: int64(len(raw))}); err != nil {
			return err
		}
		if _, err := tw.Write(raw); err != nil {
			return err
		}
	}
	return tw.Close()
}

// Images are the manifests' digests, of the images in their order.
func (a *Archive) Images() []digest.Digest { return a.images }

// Close lets go of the blobs.
func (a *Archive) Close() error {
	var errs []error
	for _, c := range a.contents {
		errs = append(errs, c.Close())
	}
	a.contents, a.blobs = nil, nil
	return errors.Join(errs...)
}
