package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

const (
	// maxImages bounds the images of an archive, maxIndexDepth the nesting
	// of indexes in it.
	maxImages     = 1000
	maxIndexDepth = 4
)

// candidate is one image of an archive.
type candidate struct {
	names    []string // as the archive writes them
	manifest document // its bytes and digest
	config   document
	image    ocispec.Image
	layers   []layerBlob
	// err is why the image cannot be had; it counts only if the image is
	// picked.
	err error
}

// document is a small JSON blob.
type document struct {
	desc ocispec.Descriptor
	raw  []byte
}

// layerBlob is the bytes of a layer, wherever they are; open is nil if they were read already.
type layerBlob struct {
	open func(context.Context) (io.ReadCloser, error)
	desc ocispec.Descriptor
}

// candidates lists the images of an archive. An archive that has an OCI
// layout is read as such, even if `docker save` has put its own manifest.json
// beside it, as it does since Docker 25: the digests of the images are then
// those of their registry.
func (sp *spool) candidates(limits Limits) ([]candidate, error) {
	layout, isOCI := sp.file(ocispec.ImageLayoutFile)
	manifests, isDocker := sp.file("manifest.json")
	switch {
	case isOCI:
		return sp.ociImages(layout, limits)
	case isDocker:
		return sp.dockerImages(manifests, limits)
	}
	return nil, fmt.Errorf("no image in the archive: it has neither manifest.json (docker save) nor oci-layout: %w", errdefs.ErrInvalid)
}

// dockerImages reads what `docker save` wrote before Docker 25, and what
// skopeo and podman write as docker-archive. The format has no manifests; one
// is made as containerd's importer does, so that the digest is the same.
// https://github.com/moby/docker-image-spec/blob/v1.3.1/v1.2.md
func (sp *spool) dockerImages(b *blob, limits Limits) ([]candidate, error) {
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if _, err := b.json("manifest.json", limits.MaxJSONBytes, &entries); err != nil {
		return nil, err
	}
	if len(entries) == 0 || len(entries) > maxImages {
		return nil, fmt.Errorf("manifest.json lists %d images: %w", len(entries), errdefs.ErrInvalid)
	}
	out := make([]candidate, len(entries))
	for i, e := range entries {
		out[i] = candidate{names: e.RepoTags}
		out[i].err = out[i].fromDocker(sp, e.Config, e.Layers, limits)
	}
	return out, nil
}

func (c *candidate) fromDocker(sp *spool, config string, layers []string, limits Limits) error {
	cb, ok := sp.file(config)
	if !ok {
		return fmt.Errorf("configuration %.200q is not in the archive: %w", config, errdefs.ErrInvalid)
	}
	if err := c.readConfig(cb, ocispec.Descriptor{MediaType: images.MediaTypeDockerSchema2Config, Digest: cb.digest, Size: cb.size}, limits); err != nil {
		return err
	}
	if err := checkLayers(len(layers), c.image, limits); err != nil {
		return err
	}
	manifest := struct {
		SchemaVersion int                  `json:"schemaVersion"`
		MediaType     string               `json:"mediaType"`
		Config        ocispec.Descriptor   `json:"config"`
		Layers        []ocispec.Descriptor `json:"layers"`
	}{2, images.MediaTypeDockerSchema2Manifest, c.config.desc, make([]ocispec.Descriptor, 0, len(layers))}
	for _, name := range layers {
		lb, ok := sp.file(name)
		if !ok {
			return fmt.Errorf("layer %.200q is not in the archive: %w", name, errdefs.ErrInvalid)
		}
		desc := ocispec.Descriptor{Digest: lb.digest, Size: lb.size}
		var err error
		if desc.MediaType, err = dockerLayerType(lb); err != nil {
			return err
		}
		c.layers = append(c.layers, layerBlob{lb.open, desc})
		manifest.Layers = append(manifest.Layers, desc)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	c.manifest = document{ocispec.Descriptor{
		MediaType: manifest.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)),
	}, raw}
	return nil
}

// ociImages reads an OCI image layout.
// https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
func (sp *spool) ociImages(layout *blob, limits Limits) ([]candidate, error) {
	var version ocispec.ImageLayout
	if _, err := layout.json(ocispec.ImageLayoutFile, limits.MaxJSONBytes, &version); err != nil {
		return nil, err
	}
	if version.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("OCI layout of version %.20q, known is %s: %w", version.Version, ocispec.ImageLayoutVersion, errdefs.ErrUnsupported)
	}
	ib, ok := sp.file(ocispec.ImageIndexFile)
	if !ok {
		return nil, fmt.Errorf("archive has an OCI layout, but no %s: %w", ocispec.ImageIndexFile, errdefs.ErrInvalid)
	}
	var index ocispec.Index
	raw, err := ib.json(ocispec.ImageIndexFile, limits.MaxJSONBytes, &index)
	if err != nil {
		return nil, err
	}
	if _, err := checkDocument(ocispec.ImageIndexFile, ocispec.MediaTypeImageIndex, raw); err != nil {
		return nil, err
	}
	w := indexWalk{sp: sp, limits: limits}
	if err := w.index(index, nil, 1); err != nil {
		return nil, err
	}
	if len(w.found) == 0 {
		return nil, fmt.Errorf("%s lists no image: %w", ocispec.ImageIndexFile, errdefs.ErrInvalid)
	}
	return w.found, nil
}

// indexWalk collects the images under an index.
type indexWalk struct {
	sp     *spool
	limits Limits
	found  []candidate
	seen   int
}

// index visits the descriptors of an index. names are those of the descriptor
// that led to it.
func (w *indexWalk) index(index ocispec.Index, names []string, depth int) error {
	if depth > maxIndexDepth {
		return fmt.Errorf("indexes are nested more than %d deep: %w", maxIndexDepth, errdefs.ErrInvalid)
	}
	for _, d := range index.Manifests {
		if w.seen++; w.seen > maxImages {
			return fmt.Errorf("archive lists more than %d images: %w", maxImages, errdefs.ErrInvalid)
		}
		if isAttestation(d) {
			continue
		}
		own := append(names[:len(names):len(names)], descriptorNames(d)...)
		if !isIndexType(d.MediaType) {
			c := candidate{names: own}
			c.err = c.fromOCI(w.sp, d, w.limits)
			if c.err != nil && d.Platform != nil {
				// Where it is absent, its platform is all that is known.
				c.image.Platform = *d.Platform
			}
			w.found = append(w.found, c)
			continue
		}
		b, err := w.sp.blob(d, "index")
		if err != nil {
			return err
		}
		var next ocispec.Index
		raw, err := b.json("index "+d.Digest.String(), w.limits.MaxJSONBytes, &next)
		if err != nil {
			return err
		}
		if _, err := checkDocument("index "+d.Digest.String(), d.MediaType, raw); err != nil {
			return err
		}
		if err := w.index(next, own, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *candidate) fromOCI(sp *spool, d ocispec.Descriptor, limits Limits) error {
	b, err := sp.blob(d, "manifest")
	if err != nil {
		return err
	}
	raw, err := b.bytes("manifest "+d.Digest.String(), limits.MaxJSONBytes)
	if err != nil {
		return err
	}
	m, err := c.readManifest(d.MediaType, raw)
	if err != nil {
		return err
	}
	cb, err := sp.blob(m.Config, "configuration")
	if err != nil {
		return err
	}
	if err := c.readConfig(cb, m.Config, limits); err != nil {
		return err
	}
	if err := checkLayers(len(m.Layers), c.image, limits); err != nil {
		return err
	}
	for _, ld := range m.Layers {
		lb, err := sp.blob(ld, "layer")
		if err != nil {
			return err
		}
		c.layers = append(c.layers, layerBlob{lb.open, ld})
	}
	return nil
}

// readManifest takes the manifest of an image, of the media type that its descriptor says.
func (c *candidate) readManifest(mediaType string, raw []byte) (m ocispec.Manifest, err error) {
	d := digest.FromBytes(raw)
	what := "manifest " + d.String()
	if err := decodeJSON(what, raw, &m); err != nil {
		return m, err
	}
	if mediaType, err = checkDocument(what, mediaType, raw); err != nil {
		return m, err
	}
	c.manifest = document{ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, raw}
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, images.MediaTypeDockerSchema2Config:
	default:
		return m, fmt.Errorf("%s is of an artifact of type %.100q, not of an image: %w", what, m.Config.MediaType, errdefs.ErrInvalid)
	}
	for _, l := range m.Layers {
		if !images.IsLayerType(l.MediaType) || strings.HasSuffix(l.MediaType, "+encrypted") {
			return m, fmt.Errorf("layer %.100s is of type %.100q: %w", l.Digest, l.MediaType, errdefs.ErrUnsupported)
		}
	}
	return m, nil
}

func (c *candidate) readConfig(b *blob, desc ocispec.Descriptor, limits Limits) error {
	raw, err := b.bytes("configuration "+b.digest.String(), limits.MaxJSONBytes)
	if err != nil {
		return err
	}
	return c.setConfig(desc, raw)
}

// setConfig takes the configuration of an image.
func (c *candidate) setConfig(desc ocispec.Descriptor, raw []byte) error {
	what := "configuration " + desc.Digest.String()
	if err := decodeJSON(what, raw, &c.image); err != nil {
		return err
	}
	// A manifest given out as a configuration has none of these.
	if c.image.RootFS.Type != "layers" {
		return fmt.Errorf("%s: rootfs of type %.20q, not layers: %w", what, c.image.RootFS.Type, errdefs.ErrInvalid)
	}
	for _, id := range c.image.RootFS.DiffIDs {
		if err := id.Validate(); err != nil || id.Algorithm() != digest.SHA256 {
			return fmt.Errorf("%s: diff ID %.100q is no sha256 digest: %w", what, id, errdefs.ErrInvalid)
		}
	}
	c.config = document{desc, raw}
	return nil
}

func checkLayers(n int, config ocispec.Image, limits Limits) error {
	switch {
	case n == 0:
		return fmt.Errorf("image has no layers: %w", errdefs.ErrInvalid)
	case n > limits.MaxLayers:
		return fmt.Errorf("image has %d layers, the limit is %d: %w", n, limits.MaxLayers, errdefs.ErrInvalid)
	case n != len(config.RootFS.DiffIDs):
		return fmt.Errorf("manifest has %d layers, but the configuration %d diff IDs: %w", n, len(config.RootFS.DiffIDs), errdefs.ErrInvalid)
	}
	return nil
}

// blob finds the blob that d describes.
func (sp *spool) blob(d ocispec.Descriptor, what string) (*blob, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, fmt.Errorf("%s: digest %.100q: %v: %w", what, d.Digest, err, errdefs.ErrInvalid)
	}
	b, ok := sp.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%s %s is not in the archive: %w", what, d.Digest, errdefs.ErrInvalid)
	}
	if b.size != d.Size {
		return nil, fmt.Errorf("%s %s has %d bytes instead of %d: %w", what, d.Digest, b.size, d.Size, errdefs.ErrInvalid)
	}
	return b, nil
}

// checkDocument refuses a manifest or index that is ambiguous: one that a
// reader going by the descriptor's media type and another going by the fields
// would take for different things (CVE-2021-41190). It returns the media type.
func checkDocument(what, mediaType string, raw []byte) (string, error) {
	var doc struct {
		specs.Versioned
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
		Config    json.RawMessage `json:"config"`
		Layers    json.RawMessage `json:"layers"`
		FSLayers  json.RawMessage `json:"fsLayers"`
	}
	if err := decodeJSON(what, raw, &doc); err != nil {
		return "", err
	}
	if doc.SchemaVersion != 2 {
		return "", fmt.Errorf("%s has schema version %d, not 2: %w", what, doc.SchemaVersion, errdefs.ErrInvalid)
	}
	if mediaType == "" {
		mediaType = doc.MediaType
	}
	if doc.MediaType != "" && doc.MediaType != mediaType {
		return "", fmt.Errorf("%s is of type %.100q, its descriptor says %.100q: %w", what, doc.MediaType, mediaType, errdefs.ErrInvalid)
	}
	isIndex := doc.Manifests != nil
	isManifest := doc.Config != nil || doc.Layers != nil
	switch mediaType {
	case ocispec.MediaTypeImageIndex, images.MediaTypeDockerSchema2ManifestList:
		if isManifest || doc.FSLayers != nil {
			return "", fmt.Errorf("%s is an index with the fields of a manifest: %w", what, errdefs.ErrInvalid)
		}
	case ocispec.MediaTypeImageManifest, images.MediaTypeDockerSchema2Manifest:
		if isIndex || doc.FSLayers != nil {
			return "", fmt.Errorf("%s is a manifest with the fields of another document: %w", what, errdefs.ErrInvalid)
		}
	default:
		return "", fmt.Errorf("%s is of unknown type %.100q: %w", what, mediaType, errdefs.ErrUnsupported)
	}
	return mediaType, nil
}

func isIndexType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == images.MediaTypeDockerSchema2ManifestList
}

// isAttestation tells BuildKit's provenance records from images.
// https://github.com/moby/buildkit/blob/v0.20.0/docs/attestations/attestation-storage.md
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// descriptorNames are the names an index gives to an image: a full one
// by containerd and Docker, or whatever its maker liked by the specification.
func descriptorNames(d ocispec.Descriptor) []string {
	if name := d.Annotations[images.AnnotationImageName]; name != "" {
		return []string{name}
	}
	if name := d.Annotations[ocispec.AnnotationRefName]; name != "" {
		return []string{name}
	}
	return nil
}

// fits reports whether the image runs on platform. One that names no
// architecture is taken to.
func (c *candidate) fits(platform platforms.Matcher) bool {
	p := c.image.Platform
	if p.OS == "" && p.Architecture == "" {
		return true
	}
	return platform.Match(platforms.Normalize(p))
}
