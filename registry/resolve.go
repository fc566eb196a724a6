package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

const (
	// maxManifest bounds a manifest or index, as in package image.
	maxManifest = 4 << 20
	// maxDepth bounds indexes in indexes.
	maxDepth = 4
)

// found is what a registry has under a name.
type found struct {
	desc    ocispec.Descriptor // of the manifest or index
	raw     []byte
	fetcher remotes.Fetcher
}

// find asks a registry for what it has under a name, which has a tag or a digest.
func (s *session) find(ctx context.Context, ref reference.Named) (found, error) {
	name, desc, err := s.resolver.Resolve(ctx, ref.String())
	if err = kindOf(ctx, err); errors.Is(err, errdefs.ErrNotFound) {
		return found{}, fmt.Errorf("manifest for %s not found: manifest unknown: manifest unknown: %w", reference.FamiliarString(ref), errdefs.ErrNotFound)
	}
	if err != nil {
		return found{}, err
	}
	f := found{desc: desc}
	if f.fetcher, err = s.resolver.Fetcher(ctx, name); err != nil {
		return found{}, kindOf(ctx, err)
	}
	switch desc.MediaType {
	case images.MediaTypeDockerSchema1Manifest, "application/vnd.docker.distribution.manifest.v1+json":
		return found{}, fmt.Errorf("%s has a manifest of Docker's schema 1, which is not supported any more: push it again with a newer tool: %w",
			reference.FamiliarString(ref), errdefs.ErrUnsupported)
	}
	asked := desc
	if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		asked.MediaType = ocispec.MediaTypeImageManifest // or it would be looked for among the blobs
	}
	if f.raw, err = document(ctx, f.fetcher, asked); err != nil {
		return found{}, err
	}
	if !images.IsManifestType(desc.MediaType) && !images.IsIndexType(desc.MediaType) {
		// A registry of plain files says text/plain or the like; the document itself must say it.
		var typed struct{ MediaType string }
		if json.Unmarshal(f.raw, &typed) != nil || !images.IsManifestType(typed.MediaType) && !images.IsIndexType(typed.MediaType) {
			return found{}, fmt.Errorf("%s is of type %.100q, which is no image: %w", reference.FamiliarString(ref), desc.MediaType, errdefs.ErrUnsupported)
		}
		f.desc.MediaType = typed.MediaType
	}
	return f, nil
}

// document reads and verifies a manifest, index or configuration.
func document(ctx context.Context, from remotes.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
		return nil, fmt.Errorf("digest %.100q is not sha256: %w", d.Digest, errdefs.ErrInvalid)
	}
	if d.Size < 0 || d.Size > maxManifest {
		return nil, fmt.Errorf("document %s of %d bytes, the limit is %d: %w", d.Digest, d.Size, maxManifest, errdefs.ErrInvalid)
	}
	d.URLs = nil
	r, err := from.Fetch(ctx, d)
	if err != nil {
		return nil, kindOf(ctx, err)
	}
	defer r.Close()
	raw, err := io.ReadAll(r)
	if err != nil {
		return nil, kindOf(ctx, err)
	}
	if got := digest.FromBytes(raw); int64(len(raw)) != d.Size || got != d.Digest {
		return nil, fmt.Errorf("registry sent %d bytes with the digest %s instead of %d with %s: %w", len(raw), got, d.Size, d.Digest, errdefs.ErrInvalid)
	}
	return raw, nil
}

// manifest is the image that fits a platform: what was found, or the best one of the index that was.
func (f found) manifest(ctx context.Context, p *ocispec.Platform) (found, error) {
	var matcher platforms.MatchComparer = platforms.Default()
	wanted := platforms.DefaultSpec()
	if p != nil {
		matcher, wanted = platforms.Only(*p), *p
	}
	for range maxDepth {
		if !images.IsIndexType(f.desc.MediaType) {
			return f, nil
		}
		list, err := f.entries()
		if err != nil {
			return f, err
		}
		list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.Platform == nil || !matcher.Match(*d.Platform) })
		if len(list) == 0 {
			return f, fmt.Errorf("no matching manifest for %s in the manifest list entries: %w", platforms.FormatAll(wanted), errdefs.ErrNotFound)
		}
		slices.SortStableFunc(list, func(a, b ocispec.Descriptor) int {
			switch {
			case matcher.Less(*a.Platform, *b.Platform):
				return -1
			case matcher.Less(*b.Platform, *a.Platform):
				return 1
			}
			return 0
		})
		f.desc = list[0]
		if f.raw, err = document(ctx, f.fetcher, f.desc); err != nil {
			return f, err
		}
	}
	return f, fmt.Errorf("indexes are nested more than %d deep: %w", maxDepth, errdefs.ErrInvalid)
}

// entries are the images that an index lists; records about images are left out.
func (f found) entries() ([]ocispec.Descriptor, error) {
	var index struct {
		SchemaVersion int
		Manifests     []ocispec.Descriptor
		Layers        json.RawMessage
	}
	if err := json.Unmarshal(f.raw, &index); err != nil {
		return nil, fmt.Errorf("index %s: %v: %w", f.desc.Digest, err, errdefs.ErrInvalid)
	}
	if index.SchemaVersion != 2 || index.Layers != nil {
		return nil, fmt.Errorf("index %s is not one, or a manifest as well: %w", f.desc.Digest, errdefs.ErrInvalid)
	}
	return slices.DeleteFunc(index.Manifests, func(d ocispec.Descriptor) bool {
		return d.Annotations["vnd.docker.reference.type"] != "" || d.Platform != nil && d.Platform.OS == "unknown"
	}), nil
}

// Inspection is what a registry has under a name.
type Inspection struct {
	Descriptor ocispec.Descriptor
	Platforms  []ocispec.Platform
}

// Inspect asks what a registry has under a name, which has a tag or a digest. ErrNotFound, ErrDenied, ErrUnavailable.
func (c *Client) Inspect(ctx context.Context, ref reference.Named, auth Auth) (Inspection, error) {
	ctx = quiet(ctx)
	s := c.session(auth)
	defer s.close()
	f, err := s.find(ctx, ref)
	if err != nil {
		return Inspection{}, err
	}
	out := Inspection{Descriptor: f.desc, Platforms: []ocispec.Platform{}}
	if images.IsIndexType(f.desc.MediaType) {
		list, err := f.entries()
		if err != nil {
			return Inspection{}, err
		}
		for _, d := range list {
			if d.Platform != nil {
				out.Platforms = append(out.Platforms, *d.Platform)
			}
		}
		return out, nil
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(f.raw, &m); err != nil {
		return Inspection{}, fmt.Errorf("manifest %s: %v: %w", f.desc.Digest, err, errdefs.ErrInvalid)
	}
	raw, err := document(ctx, f.fetcher, m.Config)
	if err != nil {
		return Inspection{}, err
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return Inspection{}, fmt.Errorf("configuration %s: %v: %w", m.Config.Digest, err, errdefs.ErrInvalid)
	}
	if config.OS != "" {
		out.Platforms = append(out.Platforms, config.Platform)
	}
	return out, nil
}

// repository is the path of a name at its registry.
func repository(ref reference.Named) string { return reference.Path(ref) }

// serverOf is the host that users mean by an address: with or without a scheme and a path.
func serverOf(address string) string {
	address = strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	host, _, _ := strings.Cut(address, "/")
	if host == "" || host == hubIndex || host == hubHost || host == Hub {
		return Hub
	}
	return host
}
