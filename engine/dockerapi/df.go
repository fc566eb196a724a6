package dockerapi

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// diskUsage is the answer up to API version 1.51; the types of later ones have another shape.
type diskUsage struct {
	LayersSize  int64
	Images      []image.Summary
	Containers  []container.Summary
	Volumes     []volume.Volume
	BuildCache  []build.CacheRecord
	BuilderSize int64 `json:",omitempty"`
}

// systemDF tells what takes disk space. There is no build cache.
func (s *server) systemDF(r *request) error {
	kinds := []system.DiskUsageObject{system.ContainerObject, system.ImageObject, system.VolumeObject, system.BuildCacheObject}
	wanted := func(system.DiskUsageObject) bool { return true }
	if types := r.query["type"]; len(types) > 0 && r.version >= 42 {
		for _, t := range types {
			if !slices.Contains(kinds, system.DiskUsageObject(t)) {
				return fmt.Errorf("unknown object type: %s: %w", t, errdefs.ErrInvalid)
			}
		}
		wanted = func(k system.DiskUsageObject) bool { return slices.Contains(types, string(k)) }
	}
	var answer diskUsage
	if wanted(system.ContainerObject) {
		answer.Containers = []container.Summary{}
		list := s.engine.List()
		for i := range list {
			c := &list[i]
			if c.State == engine.Creating {
				continue
			}
			size, err := s.engine.WrittenBytes(r.Context(), c.ID)
			if r.Context().Err() != nil {
				return r.Context().Err()
			}
			if err != nil {
				continue // removed meanwhile
			}
			summary := s.summary(c)
			summary.SizeRw, summary.SizeRootFs = size, size+s.imageSize(c)
			answer.Containers = append(answer.Containers, summary)
		}
	}
	if wanted(system.ImageObject) {
		usage, err := s.engine.Images().DiskUsage(r.Context())
		if err != nil {
			return err
		}
		answer.LayersSize, answer.Images = usage.Layers, s.imageUsage()
	}
	if wanted(system.VolumeObject) {
		answer.Volumes = []volume.Volume{}
		for _, v := range s.engine.Volumes() {
			bytes, err := s.engine.VolumeBytes(r.Context(), v.Name)
			if r.Context().Err() != nil {
				return r.Context().Err()
			}
			if err != nil {
				continue // removed meanwhile
			}
			shown := s.volumeOf(v)
			shown.UsageData = &volume.UsageData{Size: bytes, RefCount: int64(len(s.engine.VolumeUsers(v.Name)))}
			answer.Volumes = append(answer.Volumes, shown)
		}
	}
	if wanted(system.BuildCacheObject) {
		answer.BuildCache = []build.CacheRecord{}
	}
	return r.reply(http.StatusOK, answer)
}

// imageUsage lists the images, with the size of what each shares with others and the number of its containers.
func (s *server) imageUsage() []image.Summary {
	list := s.engine.Images().List()
	users := map[digest.Digest]int{} // of a layer
	for _, img := range list {
		for _, l := range img.Layers {
			users[l.ChainID]++
		}
	}
	out := []image.Summary{}
	for i := range list {
		img := &list[i]
		summary := summaryOf(img, tagsOf(img))
		summary.SharedSize = 0
		for _, l := range img.Layers {
			if users[l.ChainID] > 1 {
				summary.SharedSize += l.Size
			}
		}
		summary.Containers = int64(len(s.engine.Images().Users(img.Digest)))
		out = append(out, summary)
	}
	return out
}
