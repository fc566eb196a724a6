package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/remotes"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
)

const (
	// pushTries is how often an upload is begun.
	pushTries = 4
	// pushStep is the least number of bytes between two reports.
	pushStep = 512 << 10
)

// PushStage is what is being done with a layer on its way to a registry.
type PushStage int

// The stages in their order; the last three are ends.
const (
	PushPreparing PushStage = iota
	PushWaiting
	PushUploading
	PushDone
	PushExists
	PushMounted
)

// PushProgress is one report of a push.
type PushProgress struct {
	DiffID digest.Digest
	Stage  PushStage
	// Bytes of Total have been sent, while uploading.
	Bytes, Total int64
	// From is the repository that a mounted layer is of.
	From string
}

// Push sends image d to the registry, repository and tag of ref. What the repository has isn't sent, and what
// another one of the registry has is mounted from there. It returns the descriptor of the manifest that
// the registry now has: not the image's own, if its layers had to be made again (image.Contents). progress
// is called from several goroutines.
//
// ErrNotFound: the image. ErrDenied, ErrUnavailable, ErrInvalid: what the registry says.
func (c *Client) Push(ctx context.Context, store *image.Store, d digest.Digest, ref reference.NamedTagged, auth Auth,
	progress func(PushProgress),
) (ocispec.Descriptor, error) {
	ctx = quiet(ctx)
	contents, err := store.Contents(ctx, d)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer contents.Close()
	s := c.session(auth)
	defer s.close()
	to, err := s.resolver.Pusher(ctx, ref.String())
	if err != nil {
		return ocispec.Descriptor{}, kindOf(ctx, err)
	}
	p := &push{s: s, store: store, to: to, contents: contents, progress: progress}
	if err := p.layers(ctx); err != nil {
		return ocispec.Descriptor{}, err
	}
	// Each is sent when all that it refers to is there.
	for _, doc := range []ocispec.Descriptor{contents.Config, contents.Manifest} {
		if err := p.blob(ctx, doc, func(PushProgress) {}); err != nil {
			return ocispec.Descriptor{}, fmt.Errorf("document %s: %w", doc.Digest, err)
		}
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(ref), contents.Manifest.Digest)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	src := image.Source{Host: reference.Domain(ref), Repository: repository(ref)}
	return contents.Manifest, store.Pushed(ctx, d, src, canonical.String())
}

// push is one of them.
type push struct {
	s        *session
	store    *image.Store
	to       remotes.Pusher
	contents *image.Contents
	progress func(PushProgress)
}

// layers sends all layers, some at the same time. The first that fails ends the others.
func (p *push) layers(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for i := range p.contents.Layers {
		p.progress(PushProgress{DiffID: p.contents.DiffIDs[i], Stage: PushPreparing})
	}
	sent := map[digest.Digest]bool{}
	var wg sync.WaitGroup
	for i, l := range p.contents.Layers {
		if sent[l.Digest] {
			continue
		}
		sent[l.Digest] = true
		report := func(r PushProgress) {
			r.DiffID = p.contents.DiffIDs[i]
			p.progress(r)
		}
		report(PushProgress{Stage: PushWaiting})
		wg.Go(func() {
			select {
			case p.s.c.upload <- struct{}{}:
				defer func() { <-p.s.c.upload }()
			case <-ctx.Done():
				return
			}
			if err := p.blob(ctx, l, report); err != nil {
				cancel(fmt.Errorf("layer %d of %d (%s): %w", i+1, len(p.contents.Layers), l.Digest, err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// blob sends a blob or document, unless it is there.
func (p *push) blob(ctx context.Context, d ocispec.Descriptor, report func(PushProgress)) error {
	d.Annotations = p.store.Sources(ctx, d.Digest)
	pause := firstPause
	for try := 1; ; try++ {
		err := p.once(ctx, d, report)
		if err == nil || ctx.Err() != nil || try == pushTries || !errors.Is(err, errdefs.ErrUnavailable) {
			return err
		}
		select {
		case <-time.After(pause):
			pause *= 2
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (p *push) once(ctx context.Context, d ocispec.Descriptor, report func(PushProgress)) error {
	// A registry that takes nothing any more is given up.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := 2 * p.s.c.opts.Timeout
	silent := time.AfterFunc(limit, func() {
		cancel(fmt.Errorf("registry took nothing for %s: %w", limit, errdefs.ErrUnavailable))
	})
	defer silent.Stop()

	w, err := p.to.Push(ctx, d)
	if cerrdefs.IsAlreadyExists(err) {
		status, _ := p.s.tracker.GetStatus(remotes.MakeRefKey(ctx, d)) // or else it is there
		if _, from, ok := strings.Cut(status.MountedFrom, "/"); ok {   // after the host
			report(PushProgress{Stage: PushMounted, From: from})
		} else {
			report(PushProgress{Stage: PushExists})
		}
		return nil
	}
	if err != nil {
		return kindOf(ctx, err)
	}
	defer w.Close()
	blob := p.contents.Blob(d.Digest)
	r := &uploading{ReadSeeker: io.NewSectionReader(blob, 0, blob.Size()), told: -pushStep}
	r.tell = func(n int64) {
		silent.Reset(limit)
		if n-r.told >= pushStep || n == d.Size {
			r.told = n
			report(PushProgress{Stage: PushUploading, Bytes: n, Total: d.Size})
		}
	}
	if err := content.Copy(ctx, w, r, d.Size, d.Digest); err != nil {
		return kindOf(ctx, err)
	}
	report(PushProgress{Stage: PushDone, Total: d.Size})
	return nil
}

// uploading is a blob being read; it can begin anew.
type uploading struct {
	io.ReadSeeker
	told, read int64
	tell       func(int64)
}

// Read implements io.Reader.
func (u *uploading) Read(b []byte) (int, error) {
	n, err := u.ReadSeeker.Read(b)
	u.read += int64(n)
	u.tell(u.read)
	return n, err
}

// Seek implements io.Seeker.
func (u *uploading) Seek(offset int64, whence int) (int64, error) {
	n, err := u.ReadSeeker.Seek(offset, whence)
	u.read, u.told = n, n-pushStep
	return n, err
}
