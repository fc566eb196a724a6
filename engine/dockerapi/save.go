package dockerapi

import (
	"fmt"

	"novaagent/engine"
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
	wanted, err := r.platforms(48)
	if err != nil {
		return err
	}
	for _, name := range names {
		if len(wanted) == 0 {
			break
		}
		img, err := s.engine.Images().Get(name)
		if err != nil {
			return noImage(name, err)
		}
		if err := offers(name, &img, wanted); err != nil {
			return err
		}
	}
	archive, err := s.engine.Images().Save(r.Context(), names)
	if err != nil {
		return noImage(s.engine.Images().Missing(names), err)
	}
	defer archive.Close()
	err = r.send("application/x-tar", archive.Write)
	for _, d := range archive.Images() {
		if img, err := s.engine.Images().Get(d.String()); err == nil {
			s.tellImage(engine.ActionSave, &img)
		}
	}
	return err
}
