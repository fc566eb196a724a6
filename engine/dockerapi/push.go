package dockerapi

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/jsonstream"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/registry"
)

// imagePush sends a tag of a repository to its registry, or all.
func (s *server) imagePush(r *request) error {
	named, err := reference.ParseNormalizedNamed(r.vars["name"])
	if err != nil {
		return fmt.Errorf("invalid reference %.200q: %v: %w", r.vars["name"], err, errdefs.ErrInvalid)
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	wanted, err := r.platforms(46)
	if err != nil {
		return err
	}
	if len(wanted) > 1 {
		return fmt.Errorf("parameter platform is given %d times, a push has one: %w", len(wanted), errdefs.ErrInvalid)
	}
	if tag := r.query.Get("tag"); tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return fmt.Errorf("tag %.200q: %v: %w", tag, err, errdefs.ErrInvalid)
		}
	}
	if _, ok := named.(reference.Digested); ok {
		return fmt.Errorf("cannot push a digest reference: %w", errdefs.ErrInvalid) // Docker's words
	}
	refs, err := s.pushed(named)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		img, err := s.engine.Images().Get(ref.String())
		if err != nil {
			return noImage(reference.FamiliarString(ref), err)
		}
		if err := offers(reference.FamiliarString(ref), &img, wanted); err != nil {
			return err
		}
	}
	p := r.newProgress()
	p.say(jsonstream.Message{Status: "The push refers to repository [" + named.Name() + "]"})
	for _, ref := range refs {
		if err := s.pushOne(r.Context(), p, ref, auth); err != nil {
			return p.finish(err)
		}
	}
	return p.finish(nil)
}

// pushed are the tags that named means.
func (s *server) pushed(named reference.Named) ([]reference.NamedTagged, error) {
	var all []reference.NamedTagged
	for _, img := range s.engine.Images().List() {
		for _, name := range img.Names {
			other, err := reference.ParseNormalizedNamed(name)
			tagged, ok := other.(reference.NamedTagged)
			if err == nil && ok && other.Name() == named.Name() {
				all = append(all, tagged)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("An image does not exist locally with the tag: %s: %w", reference.FamiliarName(named), errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if reference.IsNameOnly(named) {
		return all, nil
	}
	for _, ref := range all {
		if ref.String() == named.String() {
			return []reference.NamedTagged{ref}, nil
		}
	}
	return nil, fmt.Errorf("tag does not exist: %s: %w", reference.FamiliarString(named), errdefs.ErrNotFound)
}

func (s *server) pushOne(ctx context.Context, p *progress, ref reference.NamedTagged, auth registry.Auth) error {
	img, err := s.engine.Images().Get(ref.String())
	if err != nil {
		return noImage(reference.FamiliarString(ref), err)
	}
	desc, err := s.registry.Push(ctx, s.engine.Images(), img.Digest, ref, auth, p.upload)
	if err != nil {
		return err
	}
	s.tellName(engine.ActionPush, ref, &img)
	p.say(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", ref.Tag(), desc.Digest, desc.Size)})
	aux, err := json.Marshal(map[string]any{"Tag": ref.Tag(), "Digest": desc.Digest, "Size": desc.Size})
	if err != nil {
		return err
	}
	p.say(jsonstream.Message{Aux: (*json.RawMessage)(&aux)})
	return nil
}

// upload says how a layer goes, in Docker's words.
func (p *progress) upload(u registry.PushProgress) {
	m := jsonstream.Message{ID: short(u.DiffID.Encoded()), Status: map[registry.PushStage]string{
		registry.PushPreparing: "Preparing", registry.PushWaiting: "Waiting", registry.PushUploading: "Pushing",
		registry.PushDone: "Pushed", registry.PushExists: "Layer already exists", registry.PushMounted: "Mounted from " + u.From,
	}[u.Stage]}
	if u.Stage == registry.PushUploading {
		m.Progress = &jsonstream.Progress{Current: u.Bytes, Total: u.Total}
	}
	p.say(m)
}
