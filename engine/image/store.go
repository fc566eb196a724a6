package image

import (
	"context"
	"io"
	"log/slog"

	"github.com/opencontainers/go-digest"
)

type Options struct {
	Logger *slog.Logger
	Limits Limits
}

type Store struct{}

// Open opens the store in dir, creating it if need be, and removes what
// imports that died have left. ErrConflict: another process has it open.
func Open(ctx context.Context, dir string, opts Options) (*Store, error) { return nil, nil }

// Close ends the use of the store. Running imports must have returned.
func (s *Store) Close() error { return nil }

// Import reads an archive that `docker save`, skopeo, podman or buildah wrote (docker or OCI layout) and adds one image of it.
func (s *Store) Import(ctx context.Context, r io.Reader, opts ImportOptions) (Image, error) { return Image{}, nil }

// Load adds all images of an archive that fit this platform.
func (s *Store) Load(ctx context.Context, r io.Reader, opts ImportOptions) ([]Image, error) { return nil, nil }

// ImportRootfs reads a tar of a root file system and makes a one-layer image of it with an empty configuration.
func (s *Store) ImportRootfs(ctx context.Context, r io.Reader, opts ImportOptions) (Image, error) { return Image{}, nil }

// Get finds an image by manifest digest, config digest, unique prefix of at least 4 hex digits of either, or name.
func (s *Store) Get(ref string) (Image, error) { return Image{}, nil }

// List returns all images, sorted by digest.
func (s *Store) List() []Image { return nil }

// Lowers returns the directories, topmost first, that overlaid make the image's root file system. No disk access.
func (s *Store) Lowers(ctx context.Context, d digest.Digest) ([]string, error) { return nil, nil }

// Use notes in memory that container uses image d; Open forgets: the engine calls it again for each of its records before it serves.
func (s *Store) Use(d digest.Digest, container string) error { return nil }

// Release ends the use of any image by container. 
func (s *Store) Release(container string) {}

// Users are the containers that use image d, sorted.
func (s *Store) Users(d digest.Digest) []string { return nil }

// Tag gives the image that ref finds the name, taking it from another if need be.
func (s *Store) Tag(ctx context.Context, ref, name string) error { return nil }

// Untag takes a name away; the image stays. changed is false if there was no such name.
func (s *Store) Untag(ctx context.Context, name string) (changed bool, err error) { return false, nil }

// Remove removes the image with all its names. ErrConflict while a container uses it; ErrNotFound.
func (s *Store) Remove(ctx context.Context, ref string) error { return nil }

// DiskUsage sums up.
func (s *Store) DiskUsage(ctx context.Context) (DiskUsage, error) { return DiskUsage{}, nil }
