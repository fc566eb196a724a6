package dockerapi

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/volume"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// volumeDriver is the only driver there is.
const volumeDriver = "local"

func (s *server) volumeOf(v engine.Volume) volume.Volume {
	return volume.Volume{
		Name: v.Name, Driver: volumeDriver, Scope: "local", Mountpoint: s.engine.VolumePath(v.Name),
		CreatedAt: v.Created.Format(time.RFC3339), Labels: v.Labels, Options: v.Options,
	}
}

func (s *server) volumeList(r *request) error {
	f, err := r.filters("dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	var dangling []bool
	for _, v := range f["dangling"] {
		want, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("invalid filter 'dangling=[%s]': %w", v, errdefs.ErrInvalid)
		}
		dangling = append(dangling, want)
	}
	if len(dangling) > 1 && dangling[0] != dangling[1] {
		return fmt.Errorf("invalid filter 'dangling=[true false]': %w", errdefs.ErrInvalid)
	}
	answer := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	for _, v := range s.engine.Volumes() {
		if len(dangling) > 0 && dangling[0] != (len(s.engine.VolumeUsers(v.Name)) == 0) {
			continue
		}
		fits := f.any("driver", func(d string) bool { return d == volumeDriver }) &&
			f.any("name", func(pattern string) bool {
				match, err := regexp.MatchString(pattern, v.Name)
				return v.Name == pattern || err == nil && match
			}) && f.labels(v.Labels)
		if fits {
			answer.Volumes = append(answer.Volumes, s.volumeOf(v))
		}
	}
	return r.reply(http.StatusOK, answer)
}

func (s *server) volumeCreate(r *request) error {
	var body volume.CreateRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	if body.ClusterVolumeSpec != nil {
		return notASwarm(s, r)
	}
	if err := checkVolumeDriver(body.Driver); err != nil {
		return fmt.Errorf("create %s: %w", body.Name, err)
	}
	v, err := s.engine.CreateVolume(r.Context(), engine.Volume{Name: body.Name, Labels: body.Labels, Options: body.DriverOpts})
	if err != nil {
		return err
	}
	return r.reply(http.StatusCreated, s.volumeOf(v))
}

// checkVolumeDriver answers as a dockerd without plug-ins.
func checkVolumeDriver(name string) error {
	if name == "" || name == volumeDriver {
		return nil
	}
	return fmt.Errorf("error looking up volume plugin %s: plugin %q not found: %w", name, name, errdefs.ErrNotFound)
}

func (s *server) volumeInspect(r *request) error {
	v, err := s.engine.Volume(r.vars["name"])
	if err != nil {
		return err
	}
	return r.reply(http.StatusOK, s.volumeOf(v))
}

func (s *server) volumeRemove(r *request) error {
	err := s.engine.RemoveVolume(r.Context(), r.vars["name"])
	if err != nil && !(r.boolean("force", false) && errors.Is(err, errdefs.ErrNotFound)) {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) volumePrune(r *request) error {
	f, err := r.filters("all", "label", "label!")
	if err != nil {
		return err
	}
	all := r.version < 42 // before, there was no difference
	for _, v := range f["all"] {
		if all, err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("invalid filter 'all=[%s]': %w", v, errdefs.ErrInvalid)
		}
	}
	names, bytes, err := s.engine.PruneVolumes(r.Context(), func(v engine.Volume) bool {
		return !all && !v.Anonymous() || !f.labels(v.Labels) ||
			len(f["label!"]) > 0 && filters{"label": f["label!"]}.labels(v.Labels)
	})
	if err != nil {
		return err
	}
	if names == nil {
		names = []string{}
	}
	return r.reply(http.StatusOK, volume.PruneReport{VolumesDeleted: names, SpaceReclaimed: uint64(bytes)})
}
