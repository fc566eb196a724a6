package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

const (
	// downloadTries is how often a download is begun or resumed without getting further; Docker's
	// max-download-attempts is 5, too.
	downloadTries = 5
	// downloadPause is before the second try, and doubles.
	downloadPause = 100 * time.Millisecond
	// downloadStep is the least that counts as getting further.
	downloadStep = 64 << 10
)

// downloads are the blobs being downloaded, each once however many pulls want it.
type downloads struct {
	mu   sync.Mutex
	open map[digest.Digest]*download
}

// download is one of them. It ends when nobody wants it any more.
type download struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // after done

	mu     sync.Mutex
	users  int
	bytes  int64
	report map[int]func(int64)
	next   int
}

// fetchBlob has a blob downloaded into the store, or waits for a download of it that runs. The blob
// is under ctx's lease already.
func (s *Store) fetchBlob(ctx context.Context, r Remote, d ocispec.Descriptor, progress func(LayerProgress)) error {
	report := func(stage LayerStage, n int64) {
		progress(LayerProgress{Blob: d.Digest, Stage: stage, Bytes: n, Total: d.Size})
	}
	for {
		mine, err := s.joinDownload(ctx, r, d, func(n int64) { report(LayerDownloading, n) })
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && !mine:
			continue // with this pull's own credentials
		case err != nil:
			return err
		}
		report(LayerVerifying, d.Size)
		report(LayerDownloaded, d.Size)
		return nil
	}
}

// joinDownload waits for the download of d, which it begins if there is none; then mine is true.
func (s *Store) joinDownload(ctx context.Context, r Remote, d ocispec.Descriptor, report func(int64)) (mine bool, err error) {
	s.downloads.mu.Lock()
	dl := s.downloads.open[d.Digest]
	if mine = dl == nil; mine {
		dl = &download{done: make(chan struct{}), report: map[int]func(int64){}}
		var own context.Context
		own, dl.cancel = context.WithCancel(context.WithoutCancel(ctx))
		if s.downloads.open == nil {
			s.downloads.open = map[digest.Digest]*download{}
		}
		s.downloads.open[d.Digest] = dl
		go func() {
			// A lease of its own, since the pull that began it may end before the others.
			dl.err = s.leased(own, func(ctx context.Context) error { return s.download(ctx, r, d, dl.advance) })
			s.endDownload(d.Digest, dl)
			close(dl.done)
		}()
	}
	leave := dl.join(report)
	s.downloads.mu.Unlock()

	select {
	case <-dl.done:
		leave()
	case <-ctx.Done():
		s.downloads.mu.Lock()
		if last := leave(); last {
			dl.cancel()
			if s.downloads.open[d.Digest] == dl {
				delete(s.downloads.open, d.Digest)
			}
			s.downloads.mu.Unlock()
			<-dl.done // nothing of it is left
			return mine, context.Cause(ctx)
		}
		s.downloads.mu.Unlock()
		return mine, context.Cause(ctx)
	}
	dl.cancel()
	return mine, dl.err
}

func (s *Store) endDownload(d digest.Digest, dl *download) {
	s.downloads.mu.Lock()
	defer s.downloads.mu.Unlock()
	if s.downloads.open[d] == dl {
		delete(s.downloads.open, d)
	}
}

// join adds a pull that waits. leave ends that and tells whether it was the last.
func (dl *download) join(report func(int64)) (leave func() (last bool)) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.users++
	dl.next++
	key := dl.next
	dl.report[key] = report
	if dl.bytes > 0 {
		report(dl.bytes)
	}
	return func() bool {
		dl.mu.Lock()
		defer dl.mu.Unlock()
		delete(dl.report, key)
		dl.users--
		return dl.users == 0
	}
}

// advance tells those who wait that so many bytes are here.
func (dl *download) advance(n int64) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.bytes = n
	for _, report := range dl.report {
		report(n)
	}
}

// download writes a blob into the store, and leaves nothing if it fails.
func (s *Store) download(ctx context.Context, r Remote, d ocispec.Descriptor, progress func(int64)) (err error) {
	ref := "download-" + rand.Text()
	w, err := s.content.Writer(ctx, content.WithRef(ref), content.WithDescriptor(d))
	if cerrdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("store layer: %w", storeError(err))
	}
	defer func() {
		cerr := w.Close()
		if err == nil {
			return
		}
		abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		if aerr := s.content.Abort(abort, ref); aerr != nil && !cerrdefs.IsNotFound(aerr) {
			cerr = errors.Join(cerr, storeError(aerr))
		}
		err = errors.Join(err, cerr)
	}()
	step, n := everyStep(progress), int64(0)
	err = readRemote(ctx, r, d, func(p []byte) error {
		k, err := w.Write(p)
		n += int64(k)
		step(n)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.Commit(ctx, d.Size, d.Digest); err != nil && !cerrdefs.IsAlreadyExists(err) {
		if cerrdefs.IsFailedPrecondition(err) {
			return fmt.Errorf("what the registry sent is not blob %s: %v: %w", d.Digest, err, errdefs.ErrInvalid)
		}
		return fmt.Errorf("store layer: %w", storeError(err))
	}
	return nil
}

// readRemote passes the bytes of a blob to use, d.Size of them, resuming where a connection broke.
func readRemote(ctx context.Context, r Remote, d ocispec.Descriptor, use func([]byte) error) error {
	// A foreign URL would send the node wherever the image's author likes.
	d.URLs = nil
	buf := make([]byte, 128<<10)
	var offset int64
	tries, pause := 0, downloadPause
	for {
		began := offset
		err := func() error {
			body, err := r.Open(ctx, d, offset)
			if err != nil {
				return err
			}
			defer body.Close()
			for {
				n, err := body.Read(buf)
				if int64(n) > d.Size-offset {
					return fmt.Errorf("registry sends more than the %d bytes that the manifest says: %w", d.Size, errdefs.ErrInvalid)
				}
				if n > 0 {
					if err := use(buf[:n]); err != nil {
						return &useError{err}
					}
					offset += int64(n)
				}
				if err != nil {
					return err
				}
			}
		}()
		var used *useError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.As(err, &used):
			return storeError(used.err)
		case errors.Is(err, io.EOF) && offset == d.Size:
			return nil
		case errdefs.HasKind(err) && !errors.Is(err, errdefs.ErrUnavailable):
			return err
		}
		if offset-began >= downloadStep {
			tries, pause = 0, downloadPause
		}
		if tries++; tries >= downloadTries {
			switch {
			case errors.Is(err, io.EOF):
				return fmt.Errorf("registry sent %d of the %d bytes that the manifest says, and ended %d times: %w", offset, d.Size, tries, errdefs.ErrUnavailable)
			case errdefs.HasKind(err):
				return fmt.Errorf("after %d of %d bytes and %d tries: %w", offset, d.Size, tries, err)
			}
			return fmt.Errorf("after %d of %d bytes and %d tries: %v: %w", offset, d.Size, tries, err, errdefs.ErrUnavailable)
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// useError is an error of the reader's own side.
type useError struct{ err error }

func (e *useError) Error() string { return e.err.Error() }
