package dockerapi

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	dockerregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/registry"
)

// registryAuth reads the header with the credentials for a registry: JSON in base64url.
func (r *request) registryAuth() (registry.Auth, error) {
	text := strings.TrimRight(r.Header.Get(dockerregistry.AuthHeader), "=")
	if text == "" {
		return registry.Auth{}, nil
	}
	// Some clients use the other alphabet.
	raw, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(text))
	var a dockerregistry.AuthConfig
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	if err != nil {
		return registry.Auth{}, fmt.Errorf("invalid %s header: %v: %w", dockerregistry.AuthHeader, err, errdefs.ErrInvalid)
	}
	return authOf(a)
}

// authOf reads credentials; those of a client's configuration file may be in one field.
func authOf(a dockerregistry.AuthConfig) (registry.Auth, error) {
	if a.Auth != "" && a.Username == "" {
		raw, err := base64.StdEncoding.DecodeString(a.Auth)
		user, password, ok := strings.Cut(string(raw), ":")
		if err != nil || !ok {
			return registry.Auth{}, fmt.Errorf("credentials: field auth is not the base64 form of USER:PASSWORD: %w", errdefs.ErrInvalid)
		}
		a.Username, a.Password = user, strings.TrimRight(password, "\x00")
	}
	return registry.Auth{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}, nil
}

// registryLogin tries the credentials of docker login.
func (s *server) registryLogin(r *request) error {
	var body dockerregistry.AuthConfig
	if err := r.decode(&body); err != nil {
		return err
	}
	auth, err := authOf(body)
	if err != nil {
		return err
	}
	if auth.Username == "" && auth.IdentityToken == "" {
		return fmt.Errorf("login without a user name or an identity token: %w", errdefs.ErrInvalid)
	}
	identity, err := s.registry.Login(r.Context(), body.ServerAddress, auth)
	if err != nil {
		return err
	}
	return r.reply(http.StatusOK, dockerregistry.AuthResponse{Status: "Login Succeeded", IdentityToken: identity})
}

// distributionInspect tells what a registry has under a name.
func (s *server) distributionInspect(r *request) error {
	named, err := reference.ParseNormalizedNamed(r.vars["name"])
	if err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	found, err := s.registry.Inspect(r.Context(), reference.TagNameOnly(named), auth)
	if err != nil {
		return err
	}
	return r.reply(http.StatusOK, dockerregistry.DistributionInspect{Descriptor: found.Descriptor, Platforms: found.Platforms})
}

// registryConfig is how registries are reached.
func (s *server) registryConfig() dockerregistry.ServiceConfig {
	networks, hosts := s.registry.Insecure()
	mirrors := s.registry.Mirrors()
	out := dockerregistry.ServiceConfig{InsecureRegistryCIDRs: networks, Mirrors: mirrors, IndexConfigs: map[string]*dockerregistry.IndexInfo{
		registry.Hub: {Name: registry.Hub, Mirrors: mirrors, Secure: true, Official: true},
	}}
	for _, h := range hosts {
		out.IndexConfigs[h] = &dockerregistry.IndexInfo{Name: h, Mirrors: []string{}}
	}
	return out
}

const (
	defaultSearch = 25
	maxSearch     = 100
)

// imageSearch looks for repositories at a registry.
func (s *server) imageSearch(r *request) error {
	f, err := r.filters("is-automated", "is-official", "stars")
	if err != nil {
		return err
	}
	flags := map[string]*bool{}
	for _, name := range []string{"is-automated", "is-official"} {
		for _, v := range f[name] {
			b, err := strconv.ParseBool(v)
			if err != nil {
				return fmt.Errorf("invalid filter '%s=%s': %w", name, v, errdefs.ErrInvalid)
			}
			flags[name] = &b
		}
	}
	stars := 0
	for _, v := range f["stars"] {
		n, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("invalid filter 'stars=%s': %w", v, errdefs.ErrInvalid)
		}
		stars = max(stars, n)
	}
	limit, err := r.number("limit", defaultSearch)
	if err != nil {
		return err
	}
	if limit == 0 {
		limit = defaultSearch
	}
	if limit < 1 || limit > maxSearch {
		return fmt.Errorf("limit %d is outside the range of [1, %d]: %w", limit, maxSearch, errdefs.ErrInvalid)
	}
	term := r.query.Get("term")
	if term == "" || strings.Contains(term, "://") {
		return fmt.Errorf("invalid repository name: term %q is empty or has a scheme: %w", term, errdefs.ErrInvalid)
	}
	auth, err := r.registryAuth()
	if err != nil {
		return err
	}
	found, err := s.registry.Search(r.Context(), term, limit, auth)
	if err != nil {
		return err
	}
	out := []dockerregistry.SearchResult{}
	for _, x := range found {
		// No registry has automated repositories any more.
		if want := flags["is-automated"]; want != nil && *want {
			continue
		}
		if want := flags["is-official"]; want != nil && *want != x.Official || x.Stars < stars {
			continue
		}
		out = append(out, dockerregistry.SearchResult{Name: x.Name, Description: x.Description, StarCount: x.Stars, IsOfficial: x.Official})
	}
	return r.reply(http.StatusOK, out)
}

// platform reads a parameter like linux/arm64, nil if there is none.
func (r *request) platform() (*ocispec.Platform, error) {
	text := r.query.Get("platform")
	if text == "" {
		return nil, nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parameter platform: %v: %w", err, errdefs.ErrInvalid)
	}
	return &p, nil
}

// platforms reads parameters that are OCI platforms in JSON, as images of several platforms are asked for. Versions
// before since don't have them.
func (r *request) platforms(since int) ([]ocispec.Platform, error) {
	if r.version < since {
		return nil, nil
	}
	var out []ocispec.Platform
	for _, text := range r.query["platform"] {
		if text == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(text), &p); err != nil || p.OS == "" || p.Architecture == "" {
			return nil, fmt.Errorf("parameter platform: %.200q is no platform in JSON: %w", text, errdefs.ErrInvalid)
		}
		out = append(out, platforms.Normalize(p))
	}
	return out, nil
}
