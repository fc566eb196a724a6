package image

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// Labels by which containerd's garbage collector finds what an image needs.
// https://github.com/containerd/containerd/blob/v2.0.0/docs/garbage-collection.md
const (
	labelConfig   = "containerd.io/gc.ref.content.config"
	labelLayer    = "containerd.io/gc.ref.content.l."
	labelSnapshot = "containerd.io/gc.ref.snapshot." + snapshotter
	labelUpperdir = "containerd.io/snapshot/overlay.upperdir"
	// labelOpaque marks a layer that hides all those below it.
	labelOpaque = "nova-agent/opaque-root"
)

// purge removes what imports left that did not end: their spools, leases and
// half-written blobs. Their layers are unreferenced after that, and collect
// removes those.
func (s *Store) purge(ctx context.Context) error {
	spools, err := os.ReadDir(s.spoolDir())
	if err != nil {
		return err
	}
	for _, e := range spools {
		if err := os.RemoveAll(filepath.Join(s.spoolDir(), e.Name())); err != nil {
			return err
		}
	}
	held, err := s.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range held {
		if err := s.leases.Delete(ctx, l, leases.SynchronousDelete); err != nil && !cerrdefs.IsNotFound(err) {
			return err
		}
	}
	writes, err := s.content.ListStatuses(ctx)
	if err != nil {
		return err
	}
	for _, w := range writes {
		if err := s.content.Abort(ctx, w.Ref); err != nil && !cerrdefs.IsNotFound(err) {
			return err
		}
	}
	if n := len(spools) + len(held) + len(writes); n > 0 {
		s.log.InfoContext(ctx, "removed leftovers of interrupted image imports", "count", n)
	}
	return nil
}

// load reads all images into memory.
func (s *Store) load(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.images.List(ctx)
	if err != nil {
		return err
	}
	var broken []string
	for _, img := range all {
		if img.Name != string(img.Target.Digest) {
			continue
		}
		r, err := s.read(ctx, img)
		if err != nil {
			s.log.ErrorContext(ctx, "image is damaged and dropped", "image", img.Name, "error", err)
			broken = append(broken, img.Name)
			continue
		}
		s.addLocked(r)
	}
	for _, img := range all {
		switch _, ok := s.records[img.Target.Digest]; {
		case img.Name == string(img.Target.Digest):
		case ok:
			s.nameLocked(img.Target.Digest, img.Name)
		default:
			broken = append(broken, img.Name)
		}
	}
	if len(broken) == 0 {
		return nil
	}
	return s.deleteRecords(ctx, broken)
}

// read makes the record of an image from what is on disk.
func (s *Store) read(ctx context.Context, img images.Image) (*record, error) {
	raw, err := s.readBlob(ctx, img.Target)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var m ocispec.Manifest
	if err := decodeJSON("manifest", raw, &m); err != nil {
		return nil, err
	}
	if raw, err = s.readBlob(ctx, m.Config); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	var config ocispec.Image
	if err := decodeJSON("configuration", raw, &config); err != nil {
		return nil, err
	}
	return s.newRecord(ctx, img.Target, m.Config.Digest, config, m.Layers, img.CreatedAt)
}

// readBlob reads a small blob and verifies it.
func (s *Store) readBlob(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	raw, err := content.ReadBlob(ctx, s.content, d)
	if err != nil {
		return nil, storeError(err)
	}
	if got := digest.FromBytes(raw); got != d.Digest {
		return nil, fmt.Errorf("blob %s has the digest %s: %w", d.Digest, got, errdefs.ErrInvalid)
	}
	return raw, nil
}

// newRecord makes the record of an image whose layers are unpacked.
func (s *Store) newRecord(ctx context.Context, target ocispec.Descriptor, configDigest digest.Digest, config ocispec.Image,
	blobs []ocispec.Descriptor, created time.Time,
) (*record, error) {
	ids := config.RootFS.DiffIDs
	if len(ids) != len(blobs) || len(ids) == 0 {
		return nil, fmt.Errorf("%d layers and %d diff IDs: %w", len(blobs), len(ids), errdefs.ErrInvalid)
	}
	r := &record{image: Image{
		Digest: target.Digest, Target: target, ConfigDigest: configDigest, Config: config, Created: created,
	}}
	chains := identity.ChainIDs(append([]digest.Digest(nil), ids...))
	for i, chain := range chains {
		u, err := s.unpacked(ctx, chain)
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
		r.image.Layers = append(r.image.Layers, Layer{DiffID: ids[i], ChainID: chain, Blob: blobs[i], Size: u.size})
		r.image.Size += u.size
		r.lowers = u.onto(r.lowers)
	}
	return r, nil
}

// unpackedLayer is a layer on disk.
type unpackedLayer struct {
	dir    string
	size   int64
	opaque bool // hides all below
}

// onto puts the layer on those below, topmost first.
func (u unpackedLayer) onto(below []string) []string {
	if u.opaque {
		return []string{u.dir}
	}
	return append([]string{u.dir}, below...)
}

// unpacked finds the layer of a chain ID. ErrNotFound.
func (s *Store) unpacked(ctx context.Context, chain digest.Digest) (unpackedLayer, error) {
	info, err := s.layers.Stat(ctx, string(chain))
	if err != nil {
		return unpackedLayer{}, storeError(err)
	}
	u := unpackedLayer{dir: info.Labels[labelUpperdir], opaque: info.Labels[labelOpaque] != ""}
	if fi, err := os.Lstat(u.dir); err != nil || !fi.IsDir() {
		return u, fmt.Errorf("directory of layer %s is missing: %w", chain, errdefs.ErrNotFound)
	}
	usage, err := s.layers.Usage(ctx, string(chain))
	if err != nil {
		return u, storeError(err)
	}
	u.size = usage.Size
	return u, nil
}

// collect removes all layers and blobs that no image and no running import
// refers to.
func (s *Store) collect(ctx context.Context) error {
	if _, err := s.db.GarbageCollect(s.ctx(ctx)); err != nil {
		return fmt.Errorf("collect garbage: %w", storeError(err))
	}
	return nil
}

// DiskUsage sums up what the store takes.
func (s *Store) DiskUsage(ctx context.Context) (DiskUsage, error) {
	var u DiskUsage
	err := s.content.Walk(s.ctx(ctx), func(i content.Info) error {
		u.Blobs += i.Size
		return nil
	})
	if err != nil {
		return u, fmt.Errorf("image store %s: %w", s.dir, storeError(err))
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	used := map[digest.Digest]bool{}
	sizes := map[digest.Digest]int64{}
	for _, r := range s.records {
		u.Images++
		if r.users > 0 {
			u.Used++
		}
		for _, l := range r.image.Layers {
			sizes[l.ChainID] = l.Size
			used[l.ChainID] = used[l.ChainID] || r.users > 0
		}
	}
	for chain, size := range sizes {
		u.Layers += size
		if !used[chain] {
			u.Reclaimable += size
		}
	}
	return u, nil
}

// BlobBytes is the disk space that the manifest, configuration and kept layer blobs of an image take.
func (s *Store) BlobBytes(ctx context.Context, img *Image) int64 {
	var sum int64
	all := []digest.Digest{img.Digest, img.ConfigDigest}
	for _, l := range img.Layers {
		all = append(all, l.Blob.Digest)
	}
	for _, d := range all {
		if info, err := s.content.Info(s.ctx(ctx), d); err == nil {
			sum += info.Size
		}
	}
	return sum
}

func layerLabel(i int) string { return labelLayer + strconv.Itoa(i) }
