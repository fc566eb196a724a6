package dockerapi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/opencontainers/go-digest"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
	"novaagent/registry"
)

// imageCreate pulls an image, or makes one of a root file system.
func (s *server) imageCreate(r *request) error {
	from, src := r.query.Get("fromImage"), r.query.Get("fromSrc")
	switch {
	case from != "" && src != "":
		return fmt.Errorf("fromImage and fromSrc exclude each other: %w", errdefs.ErrInvalid)
	case from != "":
		return s.imagePull(r, from)
	case src != "":
		return s.imageImport(r, src)
	}
	return fmt.Errorf("neither fromImage nor fromSrc is given: %w", errdefs.ErrInvalid)
}

// pullName is what a name and a tag, which may be a digest, mean. A name alone means all tags.
func pullName(name, tag string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(strings.TrimSuffix(name, ":"))
	if err == nil && tag != "" {
		if d, derr := digest.Parse(tag); derr == nil {
			named, err = reference.WithDigest(reference.TrimNamed(named), d)
		} else {
			named, err = reference.WithTag(reference.TrimNamed(named), tag)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("invalid reference %.200q: %v: %w", name, err, errdefs.ErrInvalid)
	}
	if d, ok := named.(reference.Digested); ok { // with a digest the tag means nothing
		if d.Digest().Algorithm() != digest.SHA256 {
			return nil, fmt.Errorf("invalid reference %.200q: digest is not sha256: %w", name, errdefs.ErrInvalid)
		}
		return reference.WithDigest(reference.TrimNamed(named), d.Digest())
	}
	return named, nil
}

func (s *server) imagePull(r *request, name string) error {
	named, err := pullName(name, r.query.Get("tag"))
	if err != nil {
		return err
	}
	platform, err := r.platform()
	if err != nil {
		return err
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	refs := []reference.Named{named}
	if reference.IsNameOnly(named) {
		tags, err := s.registry.Tags(r.Context(), named, auth)
		if err != nil {
			return pullError(named, err)
		}
		refs = nil
		for _, t := range tags {
			tagged, err := reference.WithTag(named, t)
			if err != nil {
				return fmt.Errorf("registry lists the tag %.100q: %v: %w", t, err, errdefs.ErrUnavailable)
			}
			refs = append(refs, tagged)
		}
		if len(refs) == 0 {
			return fmt.Errorf("repository %s has no tags: %w", reference.FamiliarName(named), errdefs.ErrNotFound)
		}
	}
	p := r.newProgress()
	fresh := false
	for _, ref := range refs {
		shown := ref.String()
		if t, ok := ref.(reference.Tagged); ok {
			shown = t.Tag()
		}
		pulled, err := s.registry.Pull(r.Context(), s.engine.Images(), ref, registry.PullRequest{
			Auth: auth, Platform: platform, Progress: func(l images.LayerProgress) { p.layer(l) },
			Found: func(digest.Digest) {
				p.say(jsonstream.Message{ID: shown, Status: "Pulling from " + reference.Path(ref)})
			},
		})
		if err != nil {
			return p.finish(pullError(ref, err))
		}
		s.tellName(engine.ActionPull, ref, &pulled.Image)
		fresh = fresh || pulled.New
		p.say(jsonstream.Message{Status: "Digest: " + pulled.Digest.String()})
	}
	status := "Status: Image is up to date for "
	if fresh {
		status = "Status: Downloaded newer image for "
	}
	p.say(jsonstream.Message{Status: status + reference.FamiliarString(named)})
	return p.finish(nil)
}

// pullError gives the refusal of a registry Docker's words and status: it does not tell what isn't there from
// what one may not see.
func pullError(ref reference.Named, err error) error {
	if errors.Is(err, errdefs.ErrDenied) {
		return fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': %v: %w",
			reference.FamiliarName(ref), messageOf(err), errdefs.ErrNotFound)
	}
	return err
}

// layer says how a layer comes, in Docker's words.
func (p *progress) layer(l images.LayerProgress) {
	m := jsonstream.Message{ID: short(l.Blob.Encoded()), Status: map[images.LayerStage]string{
		images.LayerAnnounced: "Pulling fs layer", images.LayerExists: "Already exists", images.LayerWaiting: "Waiting",
		images.LayerDownloading: "Downloading", images.LayerVerifying: "Verifying Checksum", images.LayerDownloaded: "Download complete",
		images.LayerUnpacking: "Extracting", images.LayerDone: "Pull complete",
	}[l.Stage]}
	if l.Stage == images.LayerDownloading || l.Stage == images.LayerUnpacking {
		m.Progress = &jsonstream.Progress{Current: l.Bytes, Total: l.Total}
	}
	p.say(m)
}
