package imagebridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
)

// Options configure a Bridge.
type Options struct {
	// Store takes the images. It stays the caller's.
	Store *image.Store
	// File is the path of the bridge's memory.
	File string
	// Endpoint is Glance's URL; empty takes the catalogue's.
	Endpoint string
	// Retries of a request that got no answer, and of a download that broke
	// without progress since the last time. Negative means 0.
	Retries int
	// Backoff is the pause before the first retry; it doubles. Default 500 ms.
	Backoff time.Duration
	// Timeout bounds the wait for an answer and for the next byte of a
	// download. Default 60 s.
	Timeout time.Duration
	// DownloadTimeout bounds the download and import of an image as a whole.
	// Default 2 h.
	DownloadTimeout time.Duration
	// Limits of an import; the store's where unset.
	Limits image.Limits
	// OnEnsure, if set, is told of each image asked for whether it was here.
	OnEnsure func(cached bool)
	// OnBytes, if set, is told of bytes that came from Glance.
	OnBytes func(n int64)
	// Logger; nil means slog.Default.
	Logger *slog.Logger
}

// Bridge brings images from Glance. Its methods may be called concurrently.
type Bridge struct {
	opts  Options
	log   *slog.Logger
	cache *cache

	ctx  context.Context // ended by Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight // by image ID
	closed  bool
}

// flight is the one import of an image that all who want it wait for, or its
// eviction.
type flight struct {
	done    chan struct{} // closed at the end; img and err are set before
	img     image.Image
	err     error
	cancel  context.CancelFunc // nil for an eviction
	waiters int                // guarded by Bridge.mu
}

// Request asks for an image.
type Request struct {
	// ID is the image's, a UUID.
	ID string
	// Record is Glance's record of the image if the caller has it from
	// somebody whose right to the image was checked, as the image
	// argument of Nova's messages. Nil: it is read from Glance.
	Record json.RawMessage
	// Session is whose rights count.
	Session Session
	// MaxBytes is what the image may take, packed and unpacked; 0 is no bound.
	MaxBytes int64
}

// New makes a Bridge. A memory that cannot be read is logged and begun anew.
func New(opts Options) (*Bridge, error) {
	if opts.Backoff <= 0 {
		opts.Backoff = 500 * time.Millisecond
	}
	if opts.Timeout <= 0 {
		opts.Timeout = time.Minute
	}
	if opts.DownloadTimeout <= 0 {
		opts.DownloadTimeout = 2 * time.Hour
	}
	b := &Bridge{opts: opts, log: opts.Logger, flights: map[string]*flight{}}
	if b.log == nil {
		b.log = slog.Default()
	}
	var err error
	if b.cache, err = openCache(opts.File); err != nil {
		b.log.Warn("which images came from Glance is forgotten, they will be downloaded again", "file", opts.File, "error", err)
	}
	if err := b.cache.retain(b.has); err != nil {
		return nil, fmt.Errorf("image bridge: %s: %w", opts.File, err)
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b, nil
}

// Close ends running imports, waits for them, and writes the times of use.
func (b *Bridge) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.stop()
	b.wg.Wait()
	if err := b.cache.flush(); err != nil {
		return fmt.Errorf("image bridge: %s: %w", b.opts.File, err)
	}
	return nil
}

func (b *Bridge) has(digest string) bool {
	_, err := b.opts.Store.Get(digest)
	return err == nil
}

// Ensure makes an image of Glance be in the store: nothing is done but a look
// into memory if it is and the caller brings its record. However many ask at
// once, an image is downloaded once, as long as one of them still waits.
//
// The error is an *Error, which names image and reason and wraps one errdefs
// kind, or the context's.
func (b *Bridge) Ensure(ctx context.Context, req Request) (image.Image, error) {
	if !imageID.MatchString(req.ID) {
		return image.Image{}, &Error{Reason: NotFound, ImageID: fmt.Sprintf("%.80q", req.ID),
			Err: fmt.Errorf("not the ID of an image: %w", errdefs.ErrNotFound)}
	}
	rec, err := b.record(ctx, req)
	if err != nil {
		return image.Image{}, describe(rec, err)
	}
	f, err := rec.check()
	if err != nil {
		return image.Image{}, describe(rec, err)
	}
	if err := tooLarge(rec.Size, req.MaxBytes, "it has"); err != nil {
		return image.Image{}, describe(rec, err)
	}
	img, err := b.ensure(ctx, req.Session, rec, f)
	if err == nil {
		err = tooLarge(&img.Size, req.MaxBytes, "unpacked it takes")
	}
	return img, describe(rec, err)
}

// record is Glance's record of the wanted image.
func (b *Bridge) record(ctx context.Context, req Request) (Record, error) {
	if len(req.Record) > 0 {
		rec, err := parseRecord(req.Record)
		if err == nil && rec.ID == req.ID && rec.Status != "" && (rec.Checksum != "" || rec.HashValue != "") {
			return rec, nil
		}
	}
	return b.show(ctx, req.Session, req.ID)
}

func tooLarge(size *int64, limit int64, what string) error {
	if size == nil || limit <= 0 || *size <= limit {
		return nil
	}
	return faultf(TooLarge, "%s %d bytes, the disk is to have %d: %w", what, *size, limit, errdefs.ErrInvalid)
}

// ensure finds the image here, or joins or begins its import.
func (b *Bridge) ensure(ctx context.Context, s Session, rec Record, f format) (image.Image, error) {
	for {
		b.mu.Lock()
		if b.closed {
			b.mu.Unlock()
			return image.Image{}, b.ending()
		}
		fl, running := b.flights[rec.ID]
		if !running {
			if d, ok := b.cache.get(rec, time.Now()); ok {
				if img, err := b.opts.Store.Get(d); err == nil {
					b.mu.Unlock()
					b.observe(true)
					return img, nil
				}
			}
			fl = b.beginLocked(ctx, s, rec, f)
		}
		fl.waiters++
		b.mu.Unlock()

		img, err := b.wait(ctx, fl)
		switch {
		case !running:
			b.observe(false)
			return img, err
		case ctx.Err() != nil:
			return img, err
		case err != nil && !othersFault(err):
			return img, err
		}
		// What another began is over: the cache has the answer now, or it
		// was his own right to the image that was missing.
	}
}

func (b *Bridge) ending() error {
	return faultf(Unavailable, "nova-agent is ending: %w", errdefs.ErrUnavailable)
}

// othersFault reports whether a failure may be due to who began the import.
func othersFault(err error) bool {
	var f *fault
	return errors.As(err, &f) && (f.reason == Forbidden || f.reason == NotFound) || errors.Is(err, context.Canceled)
}

func (b *Bridge) observe(cached bool) {
	if b.opts.OnEnsure != nil {
		b.opts.OnEnsure(cached)
	}
}

// beginLocked starts the import of an image.
func (b *Bridge) beginLocked(ctx context.Context, s Session, rec Record, f format) *flight {
	late := faultf(Unavailable, "it could not be had within %s: %w", b.opts.DownloadTimeout, errdefs.ErrUnavailable)
	// The import outlives the one who began it, but keeps his log attributes.
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), b.opts.DownloadTimeout, late)
	fl := &flight{done: make(chan struct{}), cancel: cancel}
	b.flights[rec.ID] = fl
	b.wg.Go(func() {
		defer cancel()
		unhook := context.AfterFunc(b.ctx, cancel)
		defer unhook()
		fl.img, fl.err = b.fetch(ctx, s, rec, f)
		if fl.err != nil && b.ctx.Err() != nil {
			fl.err = b.ending()
		}
		b.land(rec.ID, fl)
	})
	return fl
}

// land ends a flight.
func (b *Bridge) land(id string, fl *flight) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.flights, id)
	close(fl.done)
}

// wait waits for a flight, and ends it if nobody waits any more.
func (b *Bridge) wait(ctx context.Context, fl *flight) (image.Image, error) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if fl.waiters--; fl.waiters == 0 && fl.cancel != nil {
			fl.cancel()
		}
	}()
	select {
	case <-fl.done:
		return fl.img, fl.err
	case <-ctx.Done():
		return image.Image{}, context.Cause(ctx)
	}
}

// fetch downloads and imports an image, and remembers it.
func (b *Bridge) fetch(ctx context.Context, s Session, rec Record, f format) (image.Image, error) {
	began := time.Now()
	d, err := b.newDownload(ctx, s, rec)
	if err != nil {
		return image.Image{}, err
	}
	defer d.close()
	opts := image.ImportOptions{Names: []string{storeName(rec.ID)}, Limits: b.opts.Limits}
	var img image.Image
	switch f {
	case archiveFormat:
		img, err = b.opts.Store.Import(ctx, d, opts)
	case rootfsFormat:
		img, err = b.opts.Store.ImportRootfs(ctx, d, opts)
	}
	if err != nil {
		return image.Image{}, err
	}
	if err := b.cache.put(entry{Record: rec, Digest: string(img.Digest), LastUsed: time.Now()}); err != nil {
		return image.Image{}, fmt.Errorf("remember it: %w", err)
	}
	b.log.InfoContext(ctx, "image downloaded from Glance and unpacked", "image", rec.ID, "name", rec.Name,
		"digest", string(img.Digest), "bytes", d.offset, "unpacked_bytes", img.Size, "seconds", time.Since(began).Seconds())
	return img, nil
}

// Delete deletes an image in Glance; nil if there is none.
func (b *Bridge) Delete(ctx context.Context, s Session, id string) error {
	if !imageID.MatchString(id) {
		return fmt.Errorf("image %.80q: not the ID of an image: %w", id, errdefs.ErrInvalid)
	}
	return describe(Record{ID: id}, b.delete(ctx, s, id))
}

const (
	storePrefix = "glance.local/"
	storeTag    = ":latest"
)

// storeName is the name of a Glance image in the store.
func storeName(id string) string { return storePrefix + strings.ToLower(id) + storeTag }

// Evict removes the images from Glance that no container uses and that nobody
// asked for since age ago, and returns how many. Names that others have given to
// an image keep it.
func (b *Bridge) Evict(ctx context.Context, age time.Duration) (removed int, err error) {
	since := time.Now().Add(-age)
	var errs []error
	for _, img := range b.opts.Store.List() {
		for _, name := range img.Names {
			id, ok := strings.CutPrefix(name, storePrefix)
			if !ok || len(b.opts.Store.Users(img.Digest)) > 0 {
				continue
			}
			gone, err := b.evict(ctx, strings.TrimSuffix(id, storeTag), img, since)
			errs = append(errs, err)
			if gone {
				removed++
			}
		}
		if ctx.Err() != nil {
			break
		}
	}
	errs = append(errs, b.cache.retain(b.has), b.cache.flush(), context.Cause(ctx))
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("evict images: %w", err)
	}
	return removed, nil
}

// evict takes the bridge's name from an image, and the image if it was the
// last. gone tells that the image is removed.
func (b *Bridge) evict(ctx context.Context, id string, img image.Image, since time.Time) (gone bool, err error) {
	b.mu.Lock()
	if _, busy := b.flights[id]; busy || b.closed || !b.cache.take(id, img.Created, since) {
		b.mu.Unlock()
		return false, nil
	}
	fl := &flight{done: make(chan struct{}), err: context.Canceled}
	b.flights[id] = fl
	b.mu.Unlock()
	defer b.land(id, fl)
	if _, err := b.opts.Store.Untag(ctx, storeName(id)); err != nil {
		return false, err
	}
	gone, err = b.opts.Store.Discard(ctx, img.Digest)
	if gone {
		b.log.InfoContext(ctx, "unused image removed", "image", id, "digest", string(img.Digest))
	}
	return gone, err
}
