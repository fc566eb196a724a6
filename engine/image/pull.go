package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/pkg/labels"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// maxSources bounds the repositories that are remembered of a blob.
const maxSources = 8

// Remote has the blobs of an image elsewhere.
type Remote interface {
	// Open returns the bytes of blob d from offset on. What it returns need not be right: it
	// is bounded and verified by the caller. A download that ends with
	// an error of another kind than ErrUnavailable, or of none, is not tried again.
	Open(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error)
}

// Source is a repository that has an image: the registry's host, with its port if any, and the path.
type Source struct {
	Host, Repository string
}

// PullOptions say what to pull.
type PullOptions struct {
	// MediaType and Manifest are the image's manifest. The caller has verified its digest.
	MediaType string
	Manifest  []byte
	// Names are tags and references by digest that the image gets.
	Names []string
	// Source is noted with the blobs.
	Source Source
	// Platform is what the image must be for; nil takes any.
	Platform platforms.Matcher
	// Limits override the store's.
	Limits Limits
	// Progress, if set, is told how the layers come, from several goroutines. It must not block.
	Progress func(LayerProgress)
}

// LayerProgress is one report of a layer on its way.
type LayerProgress struct {
	// Blob is the layer's as the manifest lists it, compressed.
	Blob  digest.Digest
	Stage LayerStage
	// Bytes of Total have been downloaded or unpacked, with those two stages.
	Bytes, Total int64
}

// LayerStage is what is being done with a layer.
type LayerStage int

// The stages in their order; an image that is there goes from Announced to Exists.
const (
	LayerAnnounced LayerStage = iota
	LayerExists
	LayerWaiting
	LayerDownloading
	LayerVerifying
	LayerDownloaded
	LayerUnpacking
	LayerDone
)

// Pull adds an image whose blobs r has. Layers that are here already, or that another pull
// is downloading, aren't downloaded again. Blobs are kept. If it fails, or ctx ends, nothing of it stays
// but what other pulls are waiting for.
//
// Errors are those of Import, where ErrUnavailable means that r failed, and those of r.
func (s *Store) Pull(ctx context.Context, r Remote, opts PullOptions) (img Image, err error) {
	opts.Limits = opts.Limits.or(s.limits)
	if opts.Progress == nil {
		opts.Progress = func(LayerProgress) {}
	}
	defer func() { err = importError(ctx, err, nil) }()
	names, err := recordNames(opts.Names)
	if err != nil {
		return Image{}, err
	}
	if int64(len(opts.Manifest)) > opts.Limits.MaxJSONBytes {
		return Image{}, fmt.Errorf("manifest of %d bytes, the limit is %d: %w", len(opts.Manifest), opts.Limits.MaxJSONBytes, errdefs.ErrInvalid)
	}
	var c candidate
	m, err := c.readManifest(opts.MediaType, opts.Manifest)
	if err != nil {
		return Image{}, err
	}
	if err := checkPulled(m, opts.Limits); err != nil {
		return Image{}, err
	}
	err = s.leased(ctx, func(ctx context.Context) error {
		img, err = s.pull(ctx, r, c, m, names, opts)
		return err
	})
	return img, err
}

// checkPulled refuses descriptors that no honest manifest has.
func checkPulled(m ocispec.Manifest, limits Limits) error {
	left := limits.MaxArchiveBytes
	for _, d := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != digest.SHA256 {
			return fmt.Errorf("manifest lists the digest %.100q, which is not sha256: %w", d.Digest, errdefs.ErrInvalid)
		}
		if d.Size < 0 || d.Size > left {
			return fmt.Errorf("blob %s of %d bytes: %w", d.Digest, d.Size, tooLarge("image", limits.MaxArchiveBytes))
		}
		left -= d.Size
		if images.IsNonDistributable(d.MediaType) {
			return fmt.Errorf("layer %s is of type %.100q, which registries don't have (its URLs are %.200q): %w", d.Digest, d.MediaType, d.URLs, errdefs.ErrUnsupported)
		}
	}
	if m.Config.Size > limits.MaxJSONBytes {
		return fmt.Errorf("configuration %s of %d bytes, the limit is %d: %w", m.Config.Digest, m.Config.Size, limits.MaxJSONBytes, errdefs.ErrInvalid)
	}
	return nil
}

func (s *Store) pull(ctx context.Context, r Remote, c candidate, m ocispec.Manifest, names []string, opts PullOptions) (img Image, err error) {
	if img, here, err := s.nameWhole(ctx, c.manifest.desc.Digest, m, names, opts.Platform); here || err != nil {
		return img, err
	}
	raw, err := s.pullDocument(ctx, r, m.Config)
	if err != nil {
		return img, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	if err := c.setConfig(m.Config, raw); err != nil {
		return img, err
	}
	if err := checkLayers(len(m.Layers), c.image, opts.Limits); err != nil {
		return img, err
	}
	if err := c.checkPlatform(opts.Platform); err != nil {
		return img, err
	}
	downloads, err := s.pullLayers(ctx, r, m.Layers, opts)
	if err != nil {
		return img, err
	}
	defer downloads.stop()
	b := newBudget(opts.Limits)
	chains := identity.ChainIDs(slices.Clone(c.image.RootFS.DiffIDs))
	var below []string
	for i, desc := range m.Layers {
		if err := downloads.wait(ctx, desc.Digest); err != nil {
			return img, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(m.Layers), desc.Digest, err)
		}
		layer := layerBlob{desc: desc, open: func(ctx context.Context) (io.ReadCloser, error) { return s.openBlob(ctx, desc) }}
		c.layers = append(c.layers, layer)
		report := func(stage LayerStage) func(int64) {
			return func(n int64) {
				opts.Progress(LayerProgress{Blob: desc.Digest, Stage: stage, Bytes: n, Total: desc.Size})
			}
		}
		u, err := s.ensureLayer(ctx, layerJob{
			blob: layer, diffID: c.image.RootFS.DiffIDs[i], chain: chains[i], chains: chains[:i], below: below, budget: b,
			progress: everyStep(report(LayerUnpacking)),
		})
		if err != nil {
			return img, fmt.Errorf("layer %d of %d (%s): %w", i+1, len(m.Layers), desc.Digest, err)
		}
		below = u.onto(below)
		if !downloads.existed[desc.Digest] {
			report(LayerDone)(0)
		}
	}
	s.noteSource(ctx, opts.Source, append([]ocispec.Descriptor{m.Config}, m.Layers...)...)
	return s.finish(ctx, c, names, ImportOptions{KeepBlobs: true})
}

// nameWhole gives the names to an image that is here with all its blobs; then here is true.
func (s *Store) nameWhole(ctx context.Context, d digest.Digest, m ocispec.Manifest, names []string, p platforms.Matcher) (_ Image, here bool, err error) {
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if !s.hasBlob(ctx, b) {
			return Image{}, false, nil
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[d]
	if !ok {
		return Image{}, false, nil
	}
	if err := (&candidate{image: r.image.Config}).checkPlatform(p); err != nil {
		return Image{}, false, err
	}
	if err := s.publishLocked(ctx, r, names); err != nil {
		return Image{}, false, err
	}
	return r.snapshot(), true, nil
}

// checkPlatform refuses an image that doesn't fit p, which may be nil.
func (c *candidate) checkPlatform(p platforms.Matcher) error {
	if p == nil || c.fits(p) {
		return nil
	}
	return fmt.Errorf("image is for %.20s/%.20s, not for the wanted platform: %w", c.image.OS, c.image.Architecture, errdefs.ErrNotFound)
}

// pullDocument reads a small blob, from r if it isn't here.
func (s *Store) pullDocument(ctx context.Context, r Remote, d ocispec.Descriptor) ([]byte, error) {
	if raw, err := s.readBlob(ctx, d); err == nil {
		return raw, nil
	}
	var raw bytes.Buffer
	err := readRemote(ctx, r, d, func(p []byte) error {
		raw.Write(p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(raw.Bytes()); got != d.Digest {
		return nil, fmt.Errorf("what the registry sent has the digest %s: %w", got, errdefs.ErrInvalid)
	}
	return raw.Bytes(), nil
}

// openBlob reads a blob of the store.
func (s *Store) openBlob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := s.content.ReaderAt(s.ctx(ctx), d)
	if err != nil {
		return nil, storeError(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{content.NewReader(ra), ra}, nil
}

// everyStep calls f at most every few hundred kilobytes.
func everyStep(f func(int64)) func(int64) {
	return ImportOptions{Progress: func(p Progress) { f(p.Bytes) }}.report(Progress{})
}

// pulledLayers are the downloads of one pull.
type pulledLayers struct {
	cancel  context.CancelFunc
	routine sync.WaitGroup
	existed map[digest.Digest]bool
	results map[digest.Digest]chan error
}

// pullLayers begins to download the layers that aren't here. The caller stops it, which waits.
func (s *Store) pullLayers(ctx context.Context, r Remote, layers []ocispec.Descriptor, opts PullOptions) (*pulledLayers, error) {
	p := &pulledLayers{existed: map[digest.Digest]bool{}, results: map[digest.Digest]chan error{}}
	ctx, p.cancel = context.WithCancel(ctx)
	for _, d := range layers {
		opts.Progress(LayerProgress{Blob: d.Digest, Stage: LayerAnnounced})
	}
	for _, d := range layers {
		if p.results[d.Digest] != nil {
			continue
		}
		result := make(chan error, 1)
		p.results[d.Digest] = result
		// The lease comes first, so that the blob can't go between being found and being published.
		if err := s.holdBlob(ctx, d.Digest); err != nil {
			p.stop()
			return nil, err
		}
		if s.hasBlob(ctx, d) {
			p.existed[d.Digest] = true
			opts.Progress(LayerProgress{Blob: d.Digest, Stage: LayerExists})
			result <- nil
			continue
		}
		opts.Progress(LayerProgress{Blob: d.Digest, Stage: LayerWaiting})
		p.routine.Go(func() { result <- s.fetchBlob(ctx, r, d, opts.Progress) })
	}
	return p, nil
}

// hasBlob tells whether a blob is here.
func (s *Store) hasBlob(ctx context.Context, d ocispec.Descriptor) bool {
	info, err := s.content.Info(ctx, d.Digest)
	return err == nil && info.Size == d.Size
}

// wait waits for one blob, however often it is asked for.
func (p *pulledLayers) wait(ctx context.Context, d digest.Digest) error {
	select {
	case err := <-p.results[d]:
		p.results[d] <- err
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (p *pulledLayers) stop() {
	p.cancel()
	p.routine.Wait()
}

// noteSource remembers that a repository has blobs, so that a push to another one of that registry need
// not upload them. The key and the list are containerd's, which its client reads; hosts have no port there.
// Failing costs nothing but an upload.
func (s *Store) noteSource(ctx context.Context, src Source, blobs ...ocispec.Descriptor) {
	if src.Host == "" {
		return
	}
	key := sourceLabel(src.Host)
	for _, d := range blobs {
		info, err := s.content.Info(s.ctx(ctx), d.Digest)
		if err != nil {
			continue
		}
		var list []string
		if old := info.Labels[key]; old != "" {
			list = strings.Split(old, ",")
		}
		if slices.Contains(list, src.Repository) {
			continue
		}
		list = append(list, src.Repository)
		info.Labels = map[string]string{key: strings.Join(list[max(0, len(list)-maxSources):], ",")}
		if _, err := s.content.Update(s.ctx(ctx), info, "labels."+key); err != nil && !cerrdefs.IsNotFound(err) {
			s.log.WarnContext(ctx, "note where a blob is", "blob", d.Digest, "error", err)
		}
	}
}

func sourceLabel(host string) string {
	if name, _, ok := strings.Cut(host, ":"); ok {
		host = name
	}
	return labels.LabelDistributionSource + "." + host
}

// recordNames is normalNames for names that may have digests.
func recordNames(names []string) ([]string, error) {
	var out []string
	var errs []error
	for _, n := range names {
		n, err := recordName(n)
		errs = append(errs, err)
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), errors.Join(errs...)
}
