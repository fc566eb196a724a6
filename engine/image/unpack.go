package image

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/pipe"
)

// layerJob is one layer to have unpacked.
type layerJob struct {
	blob     layerBlob
	diffID   digest.Digest   // what the configuration claims
	chain    digest.Digest   // the layer with those below it
	chains   []digest.Digest // of the layers below, the base first
	below    []string        // directories of the layers below, topmost first
	budget   *budget
	keep     bool
	progress func(int64)
}

// ensureLayer has a layer unpacked, once for all imports that need it. Even if
// it is there already its blob is read and compared, unless these very bytes
// were before: naming the digest of somebody else's layer gives nothing.
func (s *Store) ensureLayer(ctx context.Context, j layerJob) (unpackedLayer, error) {
	unlock, err := s.chains.lock(ctx, j.chain)
	if err != nil {
		return unpackedLayer{}, err
	}
	defer unlock()
	// The lease comes first, so that the layer can't go between being found
	// and being published.
	if err := s.holdLayer(ctx, j.chain); err != nil {
		return unpackedLayer{}, err
	}
	u, err := s.unpacked(ctx, j.chain)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
		return s.unpackBlob(ctx, j)
	case err != nil:
		return u, err
	}
	s.mu.RLock()
	known := s.diffIDs[j.blob.desc.Digest] == j.diffID
	s.mu.RUnlock()
	if known && !j.keep {
		return u, nil
	}
	return u, s.readBlobOnce(ctx, j, func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
}

// holdLayer puts the layer of a chain ID, present or not, under ctx's lease.
func (s *Store) holdLayer(ctx context.Context, chain digest.Digest) error {
	id, _ := leases.FromContext(ctx)
	return storeError(s.leases.AddResource(ctx, leases.Lease{ID: id},
		leases.Resource{ID: string(chain), Type: "snapshots/" + snapshotter}))
}

// holdBlob puts a blob, present or not, under ctx's lease.
func (s *Store) holdBlob(ctx context.Context, d digest.Digest) error {
	id, _ := leases.FromContext(ctx)
	return storeError(s.leases.AddResource(ctx, leases.Lease{ID: id}, leases.Resource{ID: string(d), Type: "content"}))
}

// unpackBlob unpacks a layer.
func (s *Store) unpackBlob(ctx context.Context, j layerJob) (u unpackedLayer, err error) {
	parent := ""
	if n := len(j.chains); n > 0 {
		parent = string(j.chains[n-1])
	}
	w, err := s.begin(ctx, parent)
	if err != nil {
		return u, err
	}
	defer func() { err = w.end(ctx, err) }()
	err = s.readBlobOnce(ctx, j, func(r io.Reader) error {
		w.applied, err = applyLayer(ctx, w.dir, r, j.below, j.budget)
		return err
	})
	if err != nil {
		return u, err
	}
	return w.commit(ctx, j.chain)
}

// readBlobOnce passes the uncompressed stream of a layer to use, and verifies
// it after that. With j.keep the blob is stored on the way.
func (s *Store) readBlobOnce(ctx context.Context, j layerJob, use func(io.Reader) error) (err error) {
	f, err := j.blob.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	var raw io.Reader = &source{r: f, onBytes: j.progress}
	if j.keep {
		keep, err := s.keeper(ctx, j.blob.desc)
		if err != nil {
			return err
		}
		if keep != nil {
			defer func() { err = keep.end(ctx, err) }()
			raw = io.TeeReader(raw, keep)
		}
	}
	plain, _, err := decompress(raw)
	if err != nil {
		return layerError(err)
	}
	defer plain.Close()
	sum := sha256.New()
	stream := io.TeeReader(&bounded{r: plain, budget: &j.budget.stream, max: j.budget.limits.MaxUnpackedBytes}, sum)
	if err := use(stream); err != nil {
		return err
	}
	// A tar may be padded after its end, and a compressed stream has a
	// checksum there.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return layerError(err)
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != j.diffID {
		return fmt.Errorf("diff ID is %s, the configuration says %s: %w", got, j.diffID, errdefs.ErrInvalid)
	}
	return nil
}

// streamLayer is a layer that was unpacked as it came.
type streamLayer struct {
	diffID digest.Digest
	size   int64 // of the uncompressed tar
	again  bool  // it was there already
}

// stack are layers that another one goes on.
type stack struct {
	diffIDs []digest.Digest // the base first
	dirs    []string        // topmost first
}

// chain is the chain ID of the stack with more layers on it, "" if there are none at all.
func (k stack) chain(more ...digest.Digest) digest.Digest {
	if len(k.diffIDs)+len(more) == 0 {
		return ""
	}
	return identity.ChainID(append(slices.Clone(k.diffIDs), more...))
}

// blobChoice says what becomes of the stream that a layer is unpacked from.
type blobChoice int

const (
	dropBlob blobChoice = iota // its digest is taken
	keepBlob                   // it is stored
	// remakeBlob: the layer's blob is what writeLayer makes of its files, whenever somebody wants it. Nobody has seen the
	// stream, so its digest says nothing; and the disk, which all waits for, writes the files once.
	remakeBlob
)

// unpackStream unpacks a single layer from src while it is read.
func (s *Store) unpackStream(ctx context.Context, src *source, b *budget, choice blobChoice, below stack) (l streamLayer, err error) {
	w, err := s.begin(ctx, string(below.chain()))
	if err != nil {
		return l, err
	}
	defer func() { err = w.end(ctx, err) }()
	plain, _, err := decompress(src)
	if err != nil {
		return l, err
	}
	defer plain.Close()
	before := b.stream
	early := &earlySync{r: &bounded{r: plain, budget: &b.stream, max: b.limits.MaxUnpackedBytes}, dir: w.dir}
	defer func() { err = errors.Join(err, early.wait()) }()
	if choice == remakeBlob {
		if err := w.fill(ctx, early, below, b); err != nil {
			return l, err
		}
		made := &hashed{Hash: sha256.New()}
		early.begin() // beside the hashing
		if err := writeLayer(ctx, made, unpackedLayer{dir: w.dir, opaque: w.applied.opaqueRoot}); err != nil {
			return l, err
		}
		l = streamLayer{diffID: digest.NewDigest(digest.SHA256, made), size: made.size}
	} else {
		sum := sha256.New()
		var copied io.Writer = sum
		digested := func() digest.Digest { return digest.NewDigest(digest.SHA256, sum) }
		var kept *keeper
		if choice == keepBlob {
			if kept, err = s.keeper(ctx, ocispec.Descriptor{}); err != nil {
				return l, err
			}
			defer func() { err = kept.end(ctx, err) }()
			copied, digested = kept, kept.Digest
		}
		copying := copyAside(early, copied)
		if err := copying.end(w.fill(ctx, copying, below, b)); err != nil {
			return l, err
		}
		l = streamLayer{diffID: digested(), size: before - b.stream}
		if kept != nil {
			kept.desc = ocispec.Descriptor{Digest: l.diffID, Size: l.size}
		}
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		return l, err
	}
	chain := below.chain(l.diffID)
	unlock, err := s.chains.lock(ctx, chain)
	if err != nil {
		return l, err
	}
	defer unlock()
	if err := s.holdLayer(ctx, chain); err != nil {
		return l, err
	}
	if _, err := s.unpacked(ctx, chain); err == nil {
		l.again = true
		return l, nil
	}
	_, err = w.commit(ctx, chain)
	return l, err
}

// earlySync is a reader of a layer that has the disk begin to write while the rest is unpacked. The owner calls wait.
type earlySync struct {
	r     io.Reader
	dir   string
	since int // bytes since it began last

	group sync.WaitGroup
	mu    sync.Mutex
	busy  bool  // guarded by mu
	err   error // guarded by mu; an error of the disk is told once
}

// earlySyncBytes are much for a layer and little for a disk.
const earlySyncBytes = 64 << 20

func (e *earlySync) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	if e.since += n; e.since >= earlySyncBytes {
		e.begin()
	}
	return n, err
}

func (e *earlySync) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.busy || e.since < earlySyncBytes/16 { // not worth it
		return
	}
	e.busy, e.since = true, 0
	e.group.Go(func() {
		err := kernel.SyncFS(e.dir)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.busy, e.err = false, errors.Join(e.err, err)
	})
}

func (e *earlySync) wait() error {
	e.group.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// hashed is a hash that counts.
type hashed struct {
	hash.Hash
	size int64
}

func (h *hashed) Write(b []byte) (int, error) {
	h.size += int64(len(b))
	return h.Hash.Write(b)
}

// asideCopy is a reader of which another goroutine writes a copy, which takes as long as unpacking: the bytes are hashed
// and maybe stored. The owner calls end.
type asideCopy struct {
	io.Reader
	to   *pipe.Writer
	done chan error
}

func copyAside(r io.Reader, w io.Writer) *asideCopy {
	from, to := pipe.New()
	c := &asideCopy{Reader: io.TeeReader(r, to), to: to, done: make(chan error, 1)}
	go func() {
		_, err := io.Copy(w, from)
		from.Abort(err) // nobody waits for it unless it failed
		c.done <- err
	}()
	return c
}

// end waits for the copy of all that was read, and returns err or what went wrong with it.
func (c *asideCopy) end(err error) error {
	if err != nil {
		c.to.Abort(err)
		<-c.done
		return err
	}
	err = c.to.Close()
	return errors.Join(<-c.done, err)
}

// layerWriter is a snapshot being filled.
type layerWriter struct {
	s       *Store
	key     string
	dir     string
	applied applied
	done    bool
}

func (s *Store) begin(ctx context.Context, parent string) (*layerWriter, error) {
	w := &layerWriter{s: s, key: "import-" + rand.Text()}
	if _, err := s.layers.Prepare(ctx, w.key, parent); err != nil {
		return nil, fmt.Errorf("prepare layer: %w", storeError(err))
	}
	info, err := s.layers.Stat(ctx, w.key)
	if err != nil {
		return nil, w.end(ctx, storeError(err))
	}
	w.dir = info.Labels[labelUpperdir]
	return w, nil
}

// fill unpacks the stream of a layer, and reads it to its end.
func (w *layerWriter) fill(ctx context.Context, stream io.Reader, below stack, b *budget) (err error) {
	if w.applied, err = applyLayer(ctx, w.dir, stream, below.dirs, b); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return layerError(err)
	}
	return nil
}

// commit makes the layer findable by its chain ID.
func (w *layerWriter) commit(ctx context.Context, chain digest.Digest) (unpackedLayer, error) {
	var labels map[string]string
	if w.applied.opaqueRoot {
		labels = map[string]string{labelOpaque: "y"}
	}
	if err := w.s.layers.Commit(ctx, string(chain), w.key, snapshots.WithLabels(labels)); err != nil {
		return unpackedLayer{}, fmt.Errorf("commit layer: %w", storeError(err))
	}
	w.done = true
	return w.s.unpacked(ctx, chain)
}

// end removes the snapshot unless it was committed, and returns err.
func (w *layerWriter) end(ctx context.Context, err error) error {
	if w.done {
		return err
	}
	// The files go first: on a full disk their space is what the databases
	// need to record that the layer is gone.
	if rerr := removeContents(w.dir); rerr != nil {
		err = errors.Join(err, fmt.Errorf("remove layer: %w", rerr))
	}
	if rerr := w.s.layers.Remove(context.WithoutCancel(ctx), w.key); rerr != nil && !cerrdefs.IsNotFound(rerr) {
		return errors.Join(err, fmt.Errorf("remove layer: %w", storeError(rerr)))
	}
	return err
}

// removeContents empties a directory; "" is none.
func removeContents(dir string) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}

// keeper stores a layer's blob.
type keeper struct {
	content.Writer
	desc ocispec.Descriptor
}

// keeper returns nil if the blob is there already.
func (s *Store) keeper(ctx context.Context, desc ocispec.Descriptor) (*keeper, error) {
	w, err := s.content.Writer(ctx, content.WithRef("layer-"+rand.Text()), content.WithDescriptor(desc))
	if cerrdefs.IsAlreadyExists(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("store layer: %w", storeError(err))
	}
	return &keeper{w, desc}, nil
}

// end commits the blob, unless err, which it returns.
func (k *keeper) end(ctx context.Context, err error) error {
	defer k.Close()
	if err != nil {
		return err
	}
	if err := k.Commit(ctx, k.desc.Size, k.desc.Digest); err != nil && !cerrdefs.IsAlreadyExists(err) {
		return fmt.Errorf("store layer: %w", storeError(err))
	}
	return nil
}

// makeImage makes a manifest around config, the document that says what image does and maybe more.
func makeImage(image ocispec.Image, config any, layers ...ocispec.Descriptor) (candidate, error) {
	c := candidate{image: image}
	var err error
	if c.config, err = newDocument(ocispec.MediaTypeImageConfig, config); err != nil {
		return c, err
	}
	for _, l := range layers {
		c.layers = append(c.layers, layerBlob{desc: l})
	}
	c.manifest, err = newDocument(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    c.config.desc,
		Layers:    layers,
	})
	return c, err
}

func newDocument(mediaType string, v any) (document, error) {
	raw, err := json.Marshal(v)
	return document{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw}, err
}

// hostPlatform is what a root file system without a configuration is for.
func hostPlatform() ocispec.Platform {
	p := platforms.DefaultSpec()
	return ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// chainLocks are locks by chain ID.
type chainLocks struct {
	mu   sync.Mutex
	held map[digest.Digest]chan struct{}
}

// lock waits for the lock of chain and returns what releases it.
func (l *chainLocks) lock(ctx context.Context, chain digest.Digest) (unlock func(), err error) {
	for {
		l.mu.Lock()
		wait, taken := l.held[chain]
		if !taken {
			if l.held == nil {
				l.held = map[digest.Digest]chan struct{}{}
			}
			free := make(chan struct{})
			l.held[chain] = free
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(l.held, chain)
				close(free)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
