package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/moby/moby/api/types/volume"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// volumeDriver is the engine's own; all others are plug-ins.
const volumeDriver = "local"

func (s *server) volumeOf(ctx context.Context, v engine.Volume) volume.Volume {
	out := volume.Volume{
		Name: v.Name, Driver: driverOf(&v), Scope: "local",
		CreatedAt: v.Created.Format(time.RFC3339), Labels: v.Labels, Options: v.Options,
	}
	if v.Driver == "" {
		out.Mountpoint = s.engine.VolumePath(v.Name)
		return out
	}
	out.Scope = s.engine.VolumeScope(ctx, &v)
	if detail, err := s.engine.VolumeDetail(ctx, &v); err != nil {
		s.log.WarnContext(ctx, "a volume's plug-in does not tell of it", "volume", v.Name, "error", err)
	} else {
		out.Mountpoint, out.Status = detail.Mountpoint, detail.Status
	}
	return out
}

func driverOf(v *engine.Volume) string {
	if v.Driver == "" {
		return volumeDriver
	}
	return v.Driver
}

// engineDriver is a driver's name as the engine has it.
func engineDriver(name string) string {
	if name == volumeDriver {
		return ""
	}
	return name
}

// volumePlugin is what plug-ins of volumes implement.
const volumePlugin = "VolumeDriver"

// volumePlugins are the names of the plug-ins that answer to be drivers of volumes.
func (s *server) volumePlugins(ctx context.Context) []string {
	var names []string
	for _, name := range s.engine.Plugins().Names() {
		if _, err := s.engine.Plugins().Get(ctx, name, volumePlugin); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// foreignVolumes are those that plug-ins have besides the ones that were made here.
func (s *server) foreignVolumes(ctx context.Context) (out []engine.Volume, warnings []string) {
	for _, driver := range s.volumePlugins(ctx) {
		list, err := s.engine.PluginVolumes(ctx, driver)
		if err != nil {
			warnings = append(warnings, messageOf(err))
			continue
		}
		for _, v := range list {
			if _, err := s.engine.Volume(v.Name); err != nil {
				created, _ := time.Parse(time.RFC3339, v.CreatedAt) // not all tell
				out = append(out, engine.Volume{Name: v.Name, Driver: driver, Created: created})
			}
		}
	}
	return out, warnings
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
	foreign, warnings := s.foreignVolumes(r.Context())
	answer := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: warnings}
	for _, v := range append(s.engine.Volumes(), foreign...) {
		if len(dangling) > 0 && dangling[0] != (len(s.engine.VolumeUsers(v.Name)) == 0) {
			continue
		}
		fits := f.any("driver", func(d string) bool { return d == driverOf(&v) }) &&
			f.any("name", func(pattern string) bool {
				match, err := regexp.MatchString(pattern, v.Name)
				return v.Name == pattern || err == nil && match
			}) && f.labels(v.Labels)
		if fits {
			answer.Volumes = append(answer.Volumes, s.volumeOf(r.Context(), v))
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
	v, err := s.engine.CreateVolume(r.Context(), engine.Volume{Name: body.Name, Driver: engineDriver(body.Driver), Labels: body.Labels, Options: body.DriverOpts})
	if err != nil {
		return err
	}
	return r.reply(http.StatusCreated, s.volumeOf(r.Context(), v))
}

func (s *server) volumeInspect(r *request) error {
	v, err := s.engine.Volume(r.vars["name"])
	if err != nil {
		foreign, _ := s.foreignVolumes(r.Context())
		i := slices.IndexFunc(foreign, func(f engine.Volume) bool { return f.Name == r.vars["name"] })
		if i < 0 {
			return err
		}
		v = foreign[i]
	}
	return r.reply(http.StatusOK, s.volumeOf(r.Context(), v))
}

func (s *server) volumeRemove(r *request) error {
	name, force := r.vars["name"], r.boolean("force", false)
	err := s.engine.RemoveVolume(r.Context(), name)
	if v, have := s.engine.Volume(name); force && err != nil && have == nil && v.Driver != "" {
		err = s.engine.ForgetVolume(r.Context(), name)
	}
	if err != nil && !(force && errors.Is(err, errdefs.ErrNotFound)) {
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
	s.engine.TellPrune(engine.KindVolume, uint64(bytes))
	return r.reply(http.StatusOK, volume.PruneReport{VolumesDeleted: names, SpaceReclaimed: uint64(bytes)})
}
