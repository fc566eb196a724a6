package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"novaagent/engine/errdefs"
)

const (
	// namespace is the containerd namespace of all records.
	namespace = "nova-agent"
	// snapshotter is the name of the overlay snapshotter in the records.
	snapshotter = "overlayfs"
	// openTimeout is how long Open waits for a process that has the store.
	openTimeout = 2 * time.Second
	// minPrefix is how many hex digits of a digest find an image.
	minPrefix = 4
)

// Options configure a Store.
type Options struct {
	// Logger gets what happens beside any call: leftovers removed by Open,
	// records that had to be dropped. Nil means slog.Default.
	Logger *slog.Logger
	// Limits are the defaults for imports.
	Limits Limits
	// Platform is what images must run on; nil means this machine.
	Platform platforms.MatchComparer
}

// Store is a collection of images in a directory. Its methods may be
// called concurrently.
type Store struct {
	dir      string
	log      *slog.Logger
	limits   Limits
	platform platforms.MatchComparer

	db        *metadata.DB
	bolt      *bolt.DB
	content   content.Store
	layers    snapshots.Snapshotter
	backends  []interface{ Close() error }
	images    images.Store
	leases    leases.Manager
	chains    chainLocks
	downloads downloads

	mu      sync.RWMutex
	records map[digest.Digest]*record
	names   map[string]digest.Digest
	users   map[string]digest.Digest // by container
	// diffIDs are of layer blobs that were verified. What was true of
	// bytes with a digest stays true, so entries outlive the images.
	diffIDs map[digest.Digest]digest.Digest

	removals atomic.Int64 // of images, so far
}

// record is an image in memory.
type record struct {
	image  Image
	lowers []string // topmost first
	users  int
}

// Open opens the store in dir, creating it if need be, and removes what
// imports that died have left. An image of which something is missing on
// disk is dropped, to be fetched again. ErrConflict: another process has the
// store open.
func Open(ctx context.Context, dir string, opts Options) (_ *Store, err error) {
	s := &Store{
		dir:      dir,
		log:      opts.Logger,
		limits:   opts.Limits.or(DefaultLimits()),
		platform: opts.Platform,
		records:  map[digest.Digest]*record{},
		names:    map[string]digest.Digest{},
		users:    map[string]digest.Digest{},
		diffIDs:  map[digest.Digest]digest.Digest{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.platform == nil {
		s.platform = platforms.Default()
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("image store %s: %w", dir, err), s.Close())
		}
	}()
	if err := s.openBackends(); err != nil {
		return nil, err
	}
	ctx = s.ctx(ctx)
	if err := s.purge(ctx); err != nil {
		return nil, err
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	if err := s.collect(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// openBackends opens the databases. Images are read by root alone: a layer may
// hold setuid programs and the secrets of a tenant.
func (s *Store) openBackends() error {
	for _, d := range []string{s.dir, s.spoolDir()} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return err
		}
	}
	var err error
	s.bolt, err = bolt.Open(filepath.Join(s.dir, "meta.db"), 0o600, &bolt.Options{Timeout: openTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return fmt.Errorf("in use by another process: %w", errdefs.ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("meta.db: %w", err)
	}
	blobs, err := contentlocal.NewStore(filepath.Join(s.dir, "content"))
	if err != nil {
		return err
	}
	overlayfs, err := overlay.NewSnapshotter(filepath.Join(s.dir, "snapshots"),
		overlay.WithUpperdirLabel, overlay.AsynchronousRemove)
	if err != nil {
		return err
	}
	s.backends = append(s.backends, overlayfs)
	s.db = metadata.NewDB(s.bolt, blobs, map[string]snapshots.Snapshotter{snapshotter: overlayfs})
	if err := s.db.Init(context.Background()); err != nil {
		return fmt.Errorf("meta.db: %w", err)
	}
	s.content = s.db.ContentStore()
	s.layers = s.db.Snapshotter(snapshotter)
	s.images = metadata.NewImageStore(s.db)
	s.leases = metadata.NewLeaseManager(s.db)
	return nil
}

// Close ends the use of the store. Running imports must have returned.
func (s *Store) Close() error {
	var errs []error
	for _, b := range s.backends {
		errs = append(errs, b.Close())
	}
	if s.bolt != nil {
		errs = append(errs, s.bolt.Close())
	}
	s.backends, s.bolt = nil, nil
	return errors.Join(errs...)
}

func (s *Store) ctx(ctx context.Context) context.Context {
	return namespaces.WithNamespace(ctx, namespace)
}

func (s *Store) spoolDir() string { return filepath.Join(s.dir, "spool") }

// Get finds an image by manifest or configuration digest, by at least four
// hex digits that only one image's digest or configuration digest begins
// with, or by name. ErrNotFound; ErrInvalid if the prefix fits several.
func (s *Store) Get(ref string) (Image, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return Image{}, err
	}
	return r.snapshot(), nil
}

// List returns all images, ordered by digest.
func (s *Store) List() []Image {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]Image, 0, len(s.records))
	for _, r := range s.records {
		out = append(out, r.snapshot())
	}
	slices.SortFunc(out, func(a, b Image) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return out
}

// Lowers returns the directories that make image d's root file system when
// overlaid, the topmost first. They hold plain ids from 0 to 65535, are never
// written again, and stay as long as the image: call Use first. Nothing is
// read from disk. ErrNotFound.
func (s *Store) Lowers(_ context.Context, d digest.Digest) ([]string, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.records[d]
	if !ok {
		return nil, fmt.Errorf("image %s: %w", d, errdefs.ErrNotFound)
	}
	return slices.Clone(r.lowers), nil
}

func (r *record) snapshot() Image {
	img := r.image
	img.Names, img.Digests = slices.Clone(img.Names), slices.Clone(img.Digests)
	return img
}

// findLocked is Get with s.mu held.
func (s *Store) findLocked(ref string) (*record, error) {
	if r, ok := s.records[digest.Digest(ref)]; ok {
		return r, nil
	}
	if name, err := recordName(ref); err == nil {
		if d, ok := s.names[name]; ok {
			return s.records[d], nil
		}
	}
	hex := strings.TrimPrefix(ref, "sha256:")
	if len(hex) < minPrefix || strings.Trim(hex, "0123456789abcdef") != "" {
		return nil, fmt.Errorf("image %.200q: %w", ref, errdefs.ErrNotFound)
	}
	var found *record
	for d, r := range s.records {
		if !strings.HasPrefix(d.Encoded(), hex) && !strings.HasPrefix(r.image.ConfigDigest.Encoded(), hex) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("image %q: several images' digests begin so: %w", ref, errdefs.ErrInvalid)
		}
		found = r
	}
	if found == nil {
		return nil, fmt.Errorf("image %q: %w", ref, errdefs.ErrNotFound)
	}
	return found, nil
}
