package image

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"

	"novaagent/engine/errdefs"
)

// normalName is the one form in which a reference is kept: with registry and
// tag, as Docker completes it ("busybox" is docker.io/library/busybox:latest).
// reference.FamiliarName turns it into what users read.
func normalName(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %.200q: %v: %w", name, err, errdefs.ErrInvalid)
	}
	if _, ok := ref.(reference.Digested); ok {
		return "", fmt.Errorf("image name %.200q: has a digest: %w", name, errdefs.ErrInvalid)
	}
	return ref.String(), nil
}

// recordName is normalName, or for a reference with a digest its repository and digest.
func recordName(name string) (string, error) {
	if ref, err := reference.ParseDockerRef(name); err == nil {
		if d, ok := ref.(reference.Canonical); ok && d.Digest().Algorithm() == digest.SHA256 {
			return ref.String(), nil
		}
	}
	return normalName(name)
}

// isDigestName tells names by digest from tags.
func isDigestName(name string) bool { return strings.Contains(name, "@") }

// Tag gives the image that ref finds a name, which it takes from another image
// if need be. ErrNotFound, ErrInvalid.
func (s *Store) Tag(ctx context.Context, ref, name string) error {
	name, err := normalName(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return err
	}
	if s.names[name] == r.image.Digest {
		return nil
	}
	return s.publishLocked(ctx, r, []string{name})
}

// Untag takes a name from its image, a tag or one of Image.Digests; the image stays even if it was
// the last. changed is false if no image has the name.
func (s *Store) Untag(ctx context.Context, name string) (changed bool, err error) {
	name, err = recordName(name)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.names[name]
	if !ok {
		return false, nil
	}
	if err := s.images.Delete(s.ctx(ctx), name); err != nil && !cerrdefs.IsNotFound(err) {
		return false, fmt.Errorf("image %s: untag %s: %w", d, name, storeError(err))
	}
	s.dropNameLocked(name)
	return true, nil
}

// Remove removes the image that ref finds, with all its names, and frees what
// no other image shares. ErrConflict while a container uses it, ErrNotFound.
func (s *Store) Remove(ctx context.Context, ref string) error {
	if err := s.forget(ctx, ref); err != nil {
		return err
	}
	s.freed(ctx, s.collect(context.WithoutCancel(ctx)))
	return nil
}

// freed reports that the space of a removed image is not yet free. That is no
// failure of the removal, and the next one or Open makes up for it.
func (s *Store) freed(ctx context.Context, err error) {
	if err != nil {
		s.log.WarnContext(ctx, "free the space of removed images", "error", err)
	}
}

// Discard removes an image that has no name, not even by digest, and no user; removed tells
// whether it had to go. It looks and acts in one step, so that a name that is
// given meanwhile keeps the image.
func (s *Store) Discard(ctx context.Context, d digest.Digest) (removed bool, err error) {
	s.mu.Lock()
	r, ok := s.records[d]
	if !ok || len(r.image.Names)+len(r.image.Digests) > 0 || r.users > 0 {
		s.mu.Unlock()
		return false, nil
	}
	err = s.forgetLocked(ctx, r)
	s.mu.Unlock()
	if err != nil {
		return false, err
	}
	s.freed(ctx, s.collect(context.WithoutCancel(ctx)))
	return true, nil
}

// forget removes the records of an image.
func (s *Store) forget(ctx context.Context, ref string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.findLocked(ref)
	if err != nil {
		return err
	}
	return s.forgetLocked(ctx, r)
}

func (s *Store) forgetLocked(ctx context.Context, r *record) error {
	d := r.image.Digest
	if r.users > 0 {
		return fmt.Errorf("image %s: used by %d containers, %s among them: %w", d, r.users, s.usersLocked(d)[0], errdefs.ErrConflict)
	}
	names := slices.Concat(r.image.Names, r.image.Digests)
	if err := s.deleteRecords(ctx, append(names, string(d))); err != nil {
		return fmt.Errorf("image %s: remove: %w", d, storeError(err))
	}
	for _, name := range names {
		delete(s.names, name)
	}
	delete(s.records, d)
	s.removals.Add(1)
	return nil
}

// deleteRecords removes image records in one transaction.
func (s *Store) deleteRecords(ctx context.Context, names []string) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		ctx := boltutil.WithTransaction(s.ctx(ctx), tx)
		for _, name := range names {
			if err := s.images.Delete(ctx, name); err != nil && !cerrdefs.IsNotFound(err) {
				return err
			}
		}
		return nil
	})
}

// publishLocked makes image r known on disk and in memory, with names besides
// those that it has. An image's own record, which keeps it from being
// collected, is named like its digest.
func (s *Store) publishLocked(ctx context.Context, r *record, names []string) error {
	target := r.image.Target
	err := s.db.Update(func(tx *bolt.Tx) error {
		ctx := boltutil.WithTransaction(s.ctx(ctx), tx)
		for _, name := range append([]string{string(target.Digest)}, names...) {
			img := images.Image{Name: name, Target: target}
			_, err := s.images.Create(ctx, img)
			if cerrdefs.IsAlreadyExists(err) && name != string(target.Digest) {
				_, err = s.images.Update(ctx, img, "target")
			}
			if err != nil && !cerrdefs.IsAlreadyExists(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("image %s: record: %w", target.Digest, storeError(err))
	}
	if _, ok := s.records[target.Digest]; !ok {
		s.addLocked(r)
	}
	for _, name := range names {
		s.nameLocked(target.Digest, name)
	}
	return nil
}

// addLocked puts an image into memory.
func (s *Store) addLocked(r *record) {
	s.records[r.image.Digest] = r
	for _, l := range r.image.Layers {
		s.diffIDs[l.Blob.Digest] = l.DiffID
	}
}

func (s *Store) nameLocked(d digest.Digest, name string) {
	s.dropNameLocked(name)
	s.names[name] = d
	list := s.records[d].namesLike(name)
	*list = append(slices.Clone(*list), name)
	slices.Sort(*list)
}

// namesLike is the list of an image's names that name belongs to.
func (r *record) namesLike(name string) *[]string {
	if isDigestName(name) {
		return &r.image.Digests
	}
	return &r.image.Names
}

func (s *Store) dropNameLocked(name string) {
	if r, ok := s.records[s.names[name]]; ok {
		list := r.namesLike(name)
		*list = slices.DeleteFunc(slices.Clone(*list), func(n string) bool { return n == name })
	}
	delete(s.names, name)
}

// Use keeps image d from being removed until container releases it. The use
// is noted in memory alone, so that starting a container costs no write: after
// Open the engine calls Use for each container it has a record of, before it
// lets anybody remove an image. ErrNotFound; ErrConflict if the container uses
// another image.
func (s *Store) Use(d digest.Digest, container string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[d]
	if !ok {
		return fmt.Errorf("image %s: %w", d, errdefs.ErrNotFound)
	}
	switch other, ok := s.users[container]; {
	case ok && other == d:
		return nil
	case ok:
		return fmt.Errorf("image %s: container %s uses image %s: %w", d, container, other, errdefs.ErrConflict)
	}
	s.users[container] = d
	r.users++
	return nil
}

// Release ends the use of an image by container, if it uses one.
func (s *Store) Release(container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.users[container]
	if !ok {
		return
	}
	delete(s.users, container)
	s.records[d].users--
}

// Users are the containers that use image d, sorted.
func (s *Store) Users(d digest.Digest) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.usersLocked(d)
}

func (s *Store) usersLocked(d digest.Digest) []string {
	var out []string
	for c, used := range s.users {
		if used == d {
			out = append(out, c)
		}
	}
	slices.Sort(out)
	return out
}

// normalNames normalises a list of names and removes doubles.
func normalNames(names []string) ([]string, error) {
	set := map[string]struct{}{}
	var errs []error
	for _, n := range names {
		n, err := normalName(n)
		errs = append(errs, err)
		set[n] = struct{}{}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(set)), nil
}
