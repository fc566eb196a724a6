package dockerapi

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// cachePrefix begins the names of the images that the agent has from Glance (package imagebridge).
const cachePrefix = "glance.local/"

// until is the moment of the filter until, which only what is older fits: a time, or how
// long ago it was. The zero Time if there is no such filter.
func (f filters) until(now time.Time) (time.Time, error) {
	values := f["until"]
	switch {
	case len(values) == 0:
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, fmt.Errorf("more than one until filter specified: %w", errdefs.ErrInvalid)
	}
	if ago, err := time.ParseDuration(values[0]); err == nil {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, values[0], time.Local); err == nil {
			return t, nil
		}
	}
	if seconds, err := strconv.ParseFloat(values[0], 64); err == nil {
		return time.UnixMicro(int64(seconds * 1e6)), nil
	}
	return time.Time{}, fmt.Errorf("failed to parse value as time or duration: %q: %w", values[0], errdefs.ErrInvalid)
}

// prunable are the filters that all kinds of prune have: label, label! and until.
func (f filters) prunable(labels map[string]string, created, until time.Time) bool {
	if !until.IsZero() && !created.Before(until) || !f.labels(labels) {
		return false
	}
	for _, unwanted := range f["label!"] {
		if (filters{"label": {unwanted}}).labels(labels) {
			return false
		}
	}
	return true
}

// containerPrune removes the containers that don't run. Those of Nova stay.
func (s *server) containerPrune(r *request) error {
	f, err := r.filters("label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	var report container.PruneReport
	for _, c := range s.engine.List() {
		if c.Spec.Owner != engine.OwnerDocker || c.State != engine.Created && c.State != engine.Stopped || !f.prunable(c.Spec.Labels, c.Created, until) {
			continue
		}
		size, err := s.engine.WrittenBytes(r.Context(), c.ID)
		if err == nil {
			err = s.engine.Remove(r.Context(), c.ID, engine.RemoveOptions{})
		}
		switch {
		case r.Context().Err() != nil:
			return r.Context().Err()
		case errors.Is(err, errdefs.ErrNotFound), errors.Is(err, errdefs.ErrConflict):
			continue // removed or started meanwhile
		case err != nil:
			return err
		}
		report.ContainersDeleted = append(report.ContainersDeleted, c.ID)
		report.SpaceReclaimed += uint64(size)
	}
	s.engine.TellPrune(engine.KindContainer, report.SpaceReclaimed)
	return r.reply(http.StatusOK, report)
}

// imagePrune removes images without a name or, with dangling=false, all that no container uses. Those of
// Glance are the agent's own cache, which cleans up after itself.
func (s *server) imagePrune(r *request) error {
	f, err := r.filters("dangling", "label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	all := false
	for _, v := range f["dangling"] {
		dangling, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("invalid filter 'dangling=[%s]': %w", v, errdefs.ErrInvalid)
		}
		all = !dangling
	}
	store := s.engine.Images()
	before, err := store.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	var report image.PruneReport
	for _, img := range store.List() {
		if !f.prunable(img.Config.Config.Labels, createdAt(&img), until) || !all && len(img.Names) > 0 || isCached(img.Names) {
			continue
		}
		removed := false
		if all {
			err = store.Remove(r.Context(), img.Digest.String())
			removed = err == nil
		} else {
			// What has a digest only counts as dangling, too.
			if len(store.Users(img.Digest)) > 0 {
				continue
			}
			for _, n := range img.Digests {
				if _, err := store.Untag(r.Context(), n); err != nil {
					return err
				}
			}
			removed, err = store.Discard(r.Context(), img.Digest)
		}
		if err != nil && !errors.Is(err, errdefs.ErrConflict) && !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
		if !removed {
			continue
		}
		report.ImagesDeleted = append(report.ImagesDeleted, s.removed(&img)...)
	}
	after, err := store.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	report.SpaceReclaimed = uint64(max(0, before.Layers+before.Blobs-after.Layers-after.Blobs))
	s.engine.TellPrune(engine.KindImage, report.SpaceReclaimed)
	return r.reply(http.StatusOK, report)
}

// isCached tells whether an image is one of Glance.
func isCached(names []string) bool {
	for _, n := range names {
		if strings.HasPrefix(n, cachePrefix) {
			return true
		}
	}
	return false
}
