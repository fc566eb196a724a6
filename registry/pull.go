package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
)

// maxTags bounds the tags of a repository that are asked for.
const maxTags = 10_000

// PullRequest is an image to be pulled.
type PullRequest struct {
	Auth Auth
	// Platform picks one of several images, and refuses an image for another one. Nil picks
	// that of this machine, and takes whatever there is if there is only one.
	Platform *ocispec.Platform
	// Found, if set, is called once it is known what the registry has.
	Found func(digest.Digest)
	// Progress is that of image.PullOptions.
	Progress func(image.LayerProgress)
}

// Pulled is an image that was pulled.
type Pulled struct {
	image.Image
	// Digest is of what the registry has under the name: the manifest, or an index that lists it.
	Digest digest.Digest
	// New tells that the name meant another image before, or none.
	New bool
}

// Pull gets an image into a store. ref has a tag or a digest, by which it is named there. ErrNotFound,
// ErrDenied, ErrUnavailable, and what image.Store.Pull returns.
func (c *Client) Pull(ctx context.Context, store *image.Store, ref reference.Named, req PullRequest) (Pulled, error) {
	ctx = quiet(ctx)
	s := c.session(req.Auth)
	defer s.close()
	f, err := s.find(ctx, ref)
	if err != nil {
		return Pulled{}, err
	}
	m, err := f.manifest(ctx, req.Platform)
	if err != nil {
		return Pulled{}, err
	}
	if req.Found != nil {
		req.Found(f.desc.Digest)
	}
	canonical, err := reference.WithDigest(reference.TrimNamed(ref), f.desc.Digest)
	if err != nil {
		return Pulled{}, fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	names := []string{canonical.String()}
	if tagged, ok := ref.(reference.Tagged); ok {
		named, err := reference.WithTag(reference.TrimNamed(ref), tagged.Tag())
		if err != nil {
			return Pulled{}, fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
		}
		names = append(names, named.String())
	}
	opts := image.PullOptions{
		MediaType: m.desc.MediaType, Manifest: m.raw, Names: names, Progress: req.Progress,
		Source: image.Source{Host: reference.Domain(ref), Repository: repository(ref)},
	}
	if req.Platform != nil {
		opts.Platform = platforms.Only(*req.Platform)
	}
	before, berr := store.Get(ref.String())
	img, err := store.Pull(ctx, &remote{c, f.fetcher}, opts)
	if err != nil {
		return Pulled{}, err
	}
	return Pulled{Image: img, Digest: f.desc.Digest, New: berr != nil || before.Digest != img.Digest}, nil
}

// remote is an image.Remote.
type remote struct {
	c    *Client
	from remotes.Fetcher
}

// Open implements image.Remote. It waits until fewer than Options.Downloads run.
func (r *remote) Open(ctx context.Context, d ocispec.Descriptor, offset int64) (_ io.ReadCloser, err error) {
	select {
	case r.c.download <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() {
		if err != nil {
			<-r.c.download
		}
	}()
	body, err := r.from.Fetch(ctx, d)
	if err != nil {
		return nil, blobError(ctx, d, err)
	}
	if offset > 0 {
		seeker, ok := body.(io.Seeker)
		if !ok {
			return nil, errors.Join(fmt.Errorf("a download of this kind cannot be resumed: %w", errdefs.ErrUnsupported), body.Close())
		}
		if _, err := seeker.Seek(offset, io.SeekStart); err != nil {
			return nil, errors.Join(kindOf(ctx, err), body.Close())
		}
	}
	return &remoteBlob{ReadCloser: body, ctx: ctx, d: d, done: func() { <-r.c.download }}, nil
}

// remoteBlob is a download that gives its slot back.
type remoteBlob struct {
	io.ReadCloser
	ctx  context.Context // of the call to Open, as http.Request has one
	d    ocispec.Descriptor
	done func()
}

// Read implements io.Reader.
func (b *remoteBlob) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = blobError(b.ctx, b.d, err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *remoteBlob) Close() error {
	err := b.ReadCloser.Close()
	if b.done != nil {
		b.done()
		b.done = nil
	}
	return err
}

// blobError is an error of a blob that a manifest lists: it is not the caller's that it isn't there.
func blobError(ctx context.Context, d ocispec.Descriptor, err error) error {
	err = kindOf(ctx, err)
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("registry lacks blob %s, which the manifest lists: %w", d.Digest, errdefs.ErrInvalid)
	}
	return err
}

// Tags lists the tags of a repository. ErrNotFound, ErrDenied, ErrUnavailable.
func (c *Client) Tags(ctx context.Context, repo reference.Named, auth Auth) ([]string, error) {
	ctx = quiet(ctx)
	s := c.session(auth)
	defer s.close()
	h, err := s.own(reference.Domain(repo))
	if err != nil {
		return nil, err
	}
	base := h.Path + "/" + repository(repo) + "/tags/list"
	var tags []string
	for path := base + "?n=1000"; path != ""; {
		resp, err := s.get(ctx, h, path, "repository:"+repository(repo)+":pull")
		if err != nil {
			return nil, err
		}
		var page struct{ Tags []string }
		err = json.NewDecoder(resp.Body).Decode(&page)
		resp.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("list of tags: %v: %w", err, errdefs.ErrUnavailable)
		}
		tags = append(tags, page.Tags...)
		if len(tags) > maxTags {
			return nil, fmt.Errorf("repository %s has more than %d tags: %w", reference.FamiliarName(repo), maxTags, errdefs.ErrUnsupported)
		}
		next := nextPage(resp.Header.Get("Link"))
		if len(page.Tags) == 0 || next == "" {
			break
		}
		path = base + "?" + next
	}
	return tags, nil
}

// nextPage is the query of the page that a Link header leads to.
func nextPage(link string) string {
	target, rest, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rest, `rel="next"`) {
		return ""
	}
	u, err := url.Parse(target)
	if err != nil {
		return ""
	}
	return u.RawQuery
}
