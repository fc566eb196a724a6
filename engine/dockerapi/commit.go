package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/distribution/reference"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
)

// commit makes an image of a container: what it changed is a new layer on its image.
func (s *server) commit(r *request) error {
	c, err := s.engine.Inspect(r.query.Get("container"))
	if err != nil {
		return err
	}
	if c.ImageDigest == "" {
		return fmt.Errorf("container %s was made of no image: %w", c.Spec.Name, errdefs.ErrInvalid)
	}
	name, err := commitName(r.query.Get("repo"), r.query.Get("tag"))
	if err != nil {
		return err
	}
	config, err := s.committed(r, &c)
	if err != nil {
		return err
	}
	// An instance of Nova's is not paused: Nova would see it.
	if r.boolean("pause", true) && c.State == engine.Running && c.Spec.Owner == engine.OwnerDocker {
		if err := s.engine.Pause(r.Context(), c.ID); err != nil {
			return err
		}
		// Whatever becomes of the client, the container goes on.
		defer func() {
			err := s.engine.Unpause(context.WithoutCancel(r.Context()), c.ID)
			if err != nil && !errors.Is(err, errdefs.ErrConflict) && !errors.Is(err, errdefs.ErrNotFound) {
				s.log.ErrorContext(r.Context(), "a container that was paused for a commit stays so", "container_id", c.ID, "error", err)
			}
		}()
	}
	layer, err := s.engine.Layer(r.Context(), c.ID)
	if err != nil {
		return err
	}
	defer layer.Close()
	img, err := s.engine.Images().Commit(r.Context(), images.Addition{
		Base: digest.Digest(c.ImageDigest), Layer: layer, Config: config, Name: name,
		Author: r.query.Get("author"), Comment: r.query.Get("comment"), CreatedBy: strings.Join(c.Process.Args, " "),
	})
	if err != nil {
		return err
	}
	shown := ""
	if name != "" {
		shown = familiar(name)
		s.tellTag(name, &img)
	}
	s.engine.Tell(c.ID, engine.ActionCommit, map[string]string{
		"comment": r.query.Get("comment"), "imageID": img.ConfigDigest.String(), "imageRef": shown,
	})
	return r.reply(http.StatusCreated, common.IDResponse{ID: img.ConfigDigest.String()})
}

// commitName is the name that repo and tag make, "" for none.
func commitName(repo, tag string) (string, error) {
	if repo == "" {
		return "", nil
	}
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return "", fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	if tag != "" {
		if named, err = reference.WithTag(reference.TrimNamed(named), tag); err != nil {
			return "", fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
		}
	}
	return reference.TagNameOnly(named).String(), nil
}

// committed is the configuration of the new image: what the request says, in its body and
// its changes, for the rest the container's, and the image's for what that doesn't say.
func (s *server) committed(r *request, c *engine.Container) (out dockerspec.DockerOCIImageConfig, err error) {
	asked := &container.Config{}
	if r.ContentLength != 0 {
		var body createRequest
		if err := r.decode(&body); err != nil {
			return out, err
		}
		if body.Config != nil {
			asked = body.Config
		}
	}
	if err := instructAll(asked, r.query["changes"]); err != nil {
		return out, err
	}
	front, err := requestOf(c)
	if err != nil {
		return out, err
	}
	base, err := s.engine.Images().DockerConfig(r.Context(), digest.Digest(c.ImageDigest))
	if err != nil {
		return out, err
	}
	own := container.Config{}
	if front.Config != nil {
		own = *front.Config
	}
	below := fromImage(base)
	own.Env, below.Env = joinEnv(own.Env, below.Env), nil
	merge(&own, below)
	merge(asked, &own)
	out = configOf(asked)
	out.Shell, out.Healthcheck = base.Shell, mergeHealth(mergeHealth(asked.Healthcheck, own.Healthcheck), base.Healthcheck)
	return out, nil
}

// configOf is a container's configuration as an image's.
func configOf(c *container.Config) dockerspec.DockerOCIImageConfig {
	out := dockerspec.DockerOCIImageConfig{ImageConfig: ocispec.ImageConfig{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
		WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
	}}
	out.OnBuild = c.OnBuild
	for port := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[port.String()] = struct{}{}
	}
	return out
}

// fromImage is an image's configuration as a container's.
func fromImage(c dockerspec.DockerOCIImageConfig) *container.Config {
	out := &container.Config{
		User: c.User, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Volumes: c.Volumes,
		WorkingDir: c.WorkingDir, Labels: c.Labels, StopSignal: c.StopSignal,
	}
	for text := range c.ExposedPorts {
		if port, err := network.ParsePort(text); err == nil {
			if out.ExposedPorts == nil {
				out.ExposedPorts = network.PortSet{}
			}
			out.ExposedPorts[port] = struct{}{}
		}
	}
	return out
}

// merge fills what c doesn't say from below (moby's daemon/commit.go, merge). What is below is not changed.
func merge(c, below *container.Config) {
	if c.User == "" {
		c.User = below.User
	}
	if c.WorkingDir == "" {
		c.WorkingDir = below.WorkingDir
	}
	if c.StopSignal == "" {
		c.StopSignal = below.StopSignal
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = below.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = below.Entrypoint
		}
	}
	var env []string
	for _, v := range append(append(env, below.Env...), c.Env...) {
		name, value, set := strings.Cut(v, "=")
		if set {
			env = setEnv(env, name, value)
		}
	}
	c.Env = env
	c.Labels = union(below.Labels, c.Labels)
	c.Volumes = union(below.Volumes, c.Volumes)
	c.ExposedPorts = union(below.ExposedPorts, c.ExposedPorts)
}

// joinEnv has the variables of env, then those of below that env does not name.
func joinEnv(env, below []string) []string {
	joined := slices.Clone(env)
	for _, v := range below {
		name, _, _ := strings.Cut(v, "=")
		if !slices.ContainsFunc(env, func(own string) bool { return own == name || strings.HasPrefix(own, name+"=") }) {
			joined = append(joined, v)
		}
	}
	return joined
}

// union has all of both, b's where both have a key; nil if there is nothing.
func union[K comparable, V any](a, b map[K]V) map[K]V {
	var out map[K]V
	for _, m := range []map[K]V{a, b} {
		for k, v := range m {
			if out == nil {
				out = map[K]V{}
			}
			out[k] = v
		}
	}
	return out
}
