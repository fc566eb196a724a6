package dockerapi

import (
	"encoding/json"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

func (s *server) imageSave(r *request) error { return s.save(r, []string{r.vars["name"]}) }

func (s *server) imagesSave(r *request) error {
	names := r.query["names"]
	if len(names) == 0 {
		return fmt.Errorf("no images to save: parameter names is missing: %w", errdefs.ErrInvalid)
	}
	return s.save(r, names)
}

func (s *server) save(r *request, names []string) error {
	if len(r.query["platform"]) > 1 && r.version < 52 {
		return fmt.Errorf("multiple platform parameters are not supported in this API version; use API version 1.52 or later: %w", errdefs.ErrInvalid)
	}
	if err := r.imagePlatform(48); err != nil {
		return err
	}
	archive, err := s.engine.Images().Save(r.Context(), names)
	if err != nil {
		return noImage(strings.Join(names, ", "), err)
	}
	defer archive.Close()
	return r.send("application/x-tar", archive.Write)
}

// imagePlatform checks the parameter platform, JSON documents that must mean this host's: of an image no other
// is kept. Versions before since don't have it.
func (r *request) imagePlatform(since int) error {
	if r.version < since {
		return nil
	}
	for _, text := range r.query["platform"] {
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return fmt.Errorf("parameter platform: %v: %w", err, errdefs.ErrInvalid)
		}
		if err := checkPlatform(p.OS + "/" + p.Architecture); err != nil {
			return err
		}
	}
	return nil
}
