package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

const (
	// leaseExpiry is a second guard beside Open's purge for what an
	// import has written so far.
	leaseExpiry = 24 * time.Hour
	// cleanupTimeout bounds the undoing of a failed import.
	cleanupTimeout = time.Minute
	// progressStep is the least number of bytes between two reports.
	progressStep = 256 << 10
)

// Import adds one image of an archive as `docker save`, skopeo, podman and
// buildah write them: with manifest.json, or an OCI layout, or both; plain
// or compressed as a whole; its layers plain, gzip or zstd.
//
// Of several images it takes the one that carries the name opts.Ref, or else
// the only one that fits this machine's platform. If these rules leave more
// than one, or none, the import is refused.
//
// r is read to its end before anything of it becomes visible. A reader that
// verifies what it passes on can thus still refuse, by an error in place of
// io.EOF; such an error comes back wrapped. Otherwise: ErrInvalid for an
// archive that is damaged, malformed, hostile or beyond the limits,
// ErrUnsupported for an image of another platform or with layers of an unknown
// type, ErrExhausted if the disk is full, ErrUnavailable if r failed.
func (s *Store) Import(ctx context.Context, r io.Reader, opts ImportOptions) (Image, error) {
	all, err := s.importArchive(ctx, r, opts, func(all []candidate) ([]candidate, error) {
		c, err := s.pick(all, opts)
		return []candidate{c}, err
	})
	if err != nil {
		return Image{}, err
	}
	return all[0], nil
}

// Load adds all images of an archive that fit this machine's platform, as
// `docker load` does. It is refused as a whole if there is none, but a failure
// leaves the images before it. Errors are those of Import.
func (s *Store) Load(ctx context.Context, r io.Reader, opts ImportOptions) ([]Image, error) {
	return s.importArchive(ctx, r, opts, func(all []candidate) ([]candidate, error) {
		return s.fitting(all, opts)
	})
}

// importArchive imports the images of an archive that pick chooses.
func (s *Store) importArchive(ctx context.Context, r io.Reader, opts ImportOptions,
	pick func([]candidate) ([]candidate, error),
) (_ []Image, err error) {
	opts.Limits = opts.Limits.or(s.limits)
	src := &source{r: r, max: opts.Limits.MaxArchiveBytes, onBytes: opts.report(Progress{Stage: StageReading})}
	defer func() { err = importError(ctx, err, src) }()

	own, err := normalNames(opts.Names)
	if err != nil {
		return nil, err
	}
	sp, err := readSpool(ctx, s.spoolDir(), src, opts.Limits)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sp.close()) }()
	all, err := sp.candidates(opts.Limits)
	if err != nil {
		return nil, err
	}
	picked, err := pick(all)
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, c := range picked {
		names := own
		if opts.ArchiveNames {
			theirs, err := normalNames(c.names)
			if err != nil {
				return nil, fmt.Errorf("archive: %w", err)
			}
			names = slices.Compact(slices.Sorted(slices.Values(append(theirs, own...))))
		}
		img, err := s.install(ctx, c, names, opts)
		if err != nil {
			return nil, err
		}
		out = append(out, img)
	}
	return out, nil
}

// pick chooses one image by the rules of Import.
func (s *Store) pick(all []candidate, opts ImportOptions) (candidate, error) {
	fit, err := s.fitting(all, opts)
	if err != nil {
		return candidate{}, err
	}
	// Several names of one image make several candidates.
	distinct := map[digest.Digest]bool{}
	for _, c := range fit {
		distinct[c.manifest.desc.Digest] = true
	}
	if len(distinct) > 1 {
		return candidate{}, fmt.Errorf("archive has %d images that fit (%s), and none is chosen by name: %w",
			len(distinct), nameList(fit), errdefs.ErrInvalid)
	}
	c := fit[0]
	for _, other := range fit[1:] {
		c.names = append(c.names[:len(c.names):len(c.names)], other.names...)
	}
	return c, nil
}

// fitting are the images that have the wanted name and run on this platform.
func (s *Store) fitting(all []candidate, opts ImportOptions) ([]candidate, error) {
	if opts.Ref != "" {
		want, err := normalName(opts.Ref)
		if err != nil {
			return nil, err
		}
		named := slices.DeleteFunc(slices.Clone(all), func(c candidate) bool {
			return !slices.ContainsFunc(c.names, func(n string) bool {
				got, err := normalName(n)
				return n == opts.Ref || err == nil && got == want
			})
		})
		if len(named) == 0 {
			return nil, fmt.Errorf("archive has no image %.200q, but %s: %w", opts.Ref, nameList(all), errdefs.ErrInvalid)
		}
		all = named
	}
	fit := all
	if !opts.AnyPlatform {
		var platform platforms.Matcher = s.platform
		if opts.Platform != nil {
			platform = opts.Platform
		}
		fit = slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !c.fits(platform) })
	}
	if len(fit) == 0 {
		p := all[0].image.Platform
		if opts.Platform != nil {
			return nil, fmt.Errorf("archive has no image for the wanted platform, but for %.20s/%.20s: %w", p.OS, p.Architecture, errdefs.ErrNotFound)
		}
		return nil, fmt.Errorf("image is for %.20s/%.20s, which this machine can't run: %w", p.OS, p.Architecture, errdefs.ErrUnsupported)
	}
	for _, c := range fit {
		if c.err != nil {
			return nil, c.err
		}
	}
	return fit, nil
}

// nameList names images in an error.
func nameList(all []candidate) string {
	const most = 5
	var names []string
	for _, c := range all {
		if len(c.names) == 0 {
			names = append(names, "<unnamed>")
		}
		names = append(names, c.names...)
	}
	rest := ""
	if len(names) > most {
		rest = fmt.Sprintf(" and %d more", len(names)-most)
		names = names[:most]
	}
	return fmt.Sprintf("%.500s%s", strings.Join(names, ", "), rest)
}

// ImportRootfs makes an image of one layer and an empty configuration from a
// tar of a root file system, plain, gzip or zstd. The same tar makes the
// same image. Reading and errors are as with Import.
func (s *Store) ImportRootfs(ctx context.Context, r io.Reader, opts ImportOptions) (_ Image, err error) {
	opts.Limits = opts.Limits.or(s.limits)
	src := &source{r: r, max: opts.Limits.MaxArchiveBytes, onBytes: opts.report(Progress{Stage: StageReading})}
	defer func() { err = importError(ctx, err, src) }()
	names, err := normalNames(opts.Names)
	if err != nil {
		return Image{}, err
	}
	var img Image
	var layer streamLayer
	err = s.leased(ctx, func(ctx context.Context) error {
		b := newBudget(opts.Limits)
		choice := dropBlob
		if opts.KeepBlobs {
			choice = keepBlob
		}
		layer, err = s.unpackStream(ctx, src, b, choice, stack{})
		if err != nil {
			return err
		}
		if b.entries == opts.Limits.MaxEntries {
			return fmt.Errorf("no files in it, so it is no tar of a root file system: %w", errdefs.ErrInvalid)
		}
		c, err := rootfsImage(layer, opts.Describe)
		if err != nil {
			return err
		}
		img, err = s.finish(ctx, c, names, opts)
		return err
	})
	if layer.again {
		if err := s.collect(context.WithoutCancel(ctx)); err != nil {
			s.log.WarnContext(ctx, "free the space of a layer that was unpacked twice", "error", err)
		}
	}
	return img, err
}

// leased runs f with a lease, under which what it writes is safe from the
// garbage collector until it is published. If f fails all of it goes. So does what
// was published and removed again meanwhile, which the lease has kept.
func (s *Store) leased(ctx context.Context, f func(context.Context) error) error {
	ctx = s.ctx(ctx)
	lease, err := s.leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(leaseExpiry))
	if err != nil {
		return storeError(err)
	}
	removals := s.removals.Load()
	err = f(leases.WithLease(ctx, lease.ID))

	cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if derr := s.leases.Delete(cleanup, lease); derr != nil && !cerrdefs.IsNotFound(derr) {
		err = errors.Join(err, storeError(derr))
	}
	if err == nil && s.removals.Load() == removals {
		return nil
	}
	cerr := s.collect(cleanup)
	if err != nil {
		return errors.Join(err, cerr)
	}
	s.freed(ctx, cerr)
	return nil
}

// install unpacks the layers of an image in a spool and makes it known.
func (s *Store) install(ctx context.Context, c candidate, names []string, opts ImportOptions) (img Image, err error) {
	err = s.leased(ctx, func(ctx context.Context) error {
		b := newBudget(opts.Limits)
		chains := identity.ChainIDs(slices.Clone(c.image.RootFS.DiffIDs))
		var below []string
		for i, l := range c.layers {
			u, err := s.ensureLayer(ctx, layerJob{
				blob: l, diffID: c.image.RootFS.DiffIDs[i], chain: chains[i], chains: chains[:i], below: below,
				budget: b, keep: opts.KeepBlobs,
				progress: opts.report(Progress{Stage: StageUnpacking, Layer: i + 1, Layers: len(c.layers)}),
			})
			if err != nil {
				return fmt.Errorf("layer %d of %d (%s): %w", i+1, len(c.layers), l.desc.Digest, err)
			}
			below = u.onto(below)
		}
		img, err = s.finish(ctx, c, names, opts)
		return err
	})
	return img, err
}

// finish stores the documents of an image whose layers are unpacked, and
// publishes it once all is on stable storage.
func (s *Store) finish(ctx context.Context, c candidate, names []string, opts ImportOptions) (Image, error) {
	chain := identity.ChainID(c.image.RootFS.DiffIDs)
	if err := s.writeDocument(ctx, c.config, map[string]string{labelSnapshot: string(chain)}); err != nil {
		return Image{}, err
	}
	refs := map[string]string{labelConfig: string(c.config.desc.Digest)}
	blobs := make([]ocispec.Descriptor, len(c.layers))
	for i, l := range c.layers {
		blobs[i] = l.desc
		if opts.KeepBlobs {
			refs[layerLabel(i)] = string(l.desc.Digest)
		}
	}
	if err := s.writeDocument(ctx, c.manifest, refs); err != nil {
		return Image{}, err
	}
	// Layers are not synced one by one. That an image is published is the
	// only thing that keeps its layers past the next Open.
	if err := kernel.SyncFS(s.dir); err != nil {
		return Image{}, err
	}
	r, err := s.newRecord(ctx, c.manifest.desc, c.config.desc.Digest, c.image, blobs, time.Now())
	if err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.publishLocked(ctx, r, names); err != nil {
		return Image{}, err
	}
	return s.records[r.image.Digest].snapshot(), nil
}

// writeDocument stores a small blob with labels, which are added to those it
// has if it is there already.
func (s *Store) writeDocument(ctx context.Context, d document, labels map[string]string) error {
	err := content.WriteBlob(ctx, s.content, "document-"+string(d.desc.Digest), bytes.NewReader(d.raw), d.desc, content.WithLabels(labels))
	if err != nil {
		return fmt.Errorf("store %s: %w", d.desc.Digest, storeError(err))
	}
	info, err := s.content.Info(ctx, d.desc.Digest)
	if err != nil {
		return fmt.Errorf("store %s: %w", d.desc.Digest, storeError(err))
	}
	var fields []string
	for k, v := range labels {
		if info.Labels[k] != v {
			fields = append(fields, "labels."+k)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	if _, err := s.content.Update(ctx, content.Info{Digest: d.desc.Digest, Labels: labels}, fields...); err != nil {
		return fmt.Errorf("label %s: %w", d.desc.Digest, storeError(err))
	}
	return nil
}

// report makes a function that reports progress p at some number of bytes.
func (o ImportOptions) report(p Progress) func(int64) {
	if o.Progress == nil {
		return nil
	}
	next := int64(0)
	return func(n int64) {
		if n < next {
			return
		}
		next = n + progressStep
		p.Bytes = n
		o.Progress(p)
	}
}

// dockerLayerType is the media type of a layer in an archive that names none.
func dockerLayerType(b *blob) (string, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 10)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	switch compression.DetectCompression(head[:n]) {
	case compression.Gzip:
		return images.MediaTypeDockerSchema2LayerGzip, nil
	case compression.Zstd:
		return images.MediaTypeDockerSchema2LayerZstd, nil
	}
	return images.MediaTypeDockerSchema2Layer, nil
}

// rootfsImage makes the documents of an image of one layer.
func rootfsImage(l streamLayer, describe func(*dockerspec.DockerOCIImage)) (candidate, error) {
	image := ocispec.Image{
		Platform: hostPlatform(),
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{l.diffID}},
		History:  []ocispec.History{{CreatedBy: "import of a root file system"}},
	}
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.diffID, Size: l.size}
	if describe == nil {
		return makeImage(image, image, desc)
	}
	config := dockerspec.DockerOCIImage{Image: image}
	describe(&config)
	image = config.Image
	image.Config = config.Config.ImageConfig
	return makeImage(image, config, desc)
}
