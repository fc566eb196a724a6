package dockerapi

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
	"github.com/opencontainers/go-digest"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	images "novaagent/engine/image"
)

// diskUsage has the answers of all versions: lists up to 1.51, figures since, and both in 1.52.
type diskUsage struct {
	LayersSize  int64
	Images      []imageSummary
	Containers  []container.Summary
	Volumes     []volume.Volume
	BuildCache  []build.CacheRecord
	BuilderSize int64
	system.DiskUsage
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
	// verbose asks for the lists within the figures, and none for those of older versions beside them.
	verbose, asked := false, r.version >= 52 && r.query.Get("verbose") != ""
	if asked {
		var err error
		if verbose, err = strconv.ParseBool(r.query.Get("verbose")); err != nil {
			return fmt.Errorf("invalid value for verbose: %s: %w", r.query.Get("verbose"), errdefs.ErrInvalid)
		}
	}
	var answer diskUsage
	if wanted(system.ContainerObject) {
		if err := s.containerUsage(r, &answer); err != nil {
			return err
		}
	}
	if wanted(system.ImageObject) {
		if err := s.imageUsage(r, &answer); err != nil {
			return err
		}
	}
	if wanted(system.VolumeObject) {
		if err := s.volumeUsage(r, &answer); err != nil {
			return err
		}
	}
	if wanted(system.BuildCacheObject) {
		answer.BuildCache, answer.BuildCacheUsage = []build.CacheRecord{}, &build.DiskUsage{}
	}
	if verbose {
		if u := answer.ImageUsage; u != nil {
			for _, summary := range answer.Images {
				u.Items = append(u.Items, summary.Summary)
			}
		}
		if u := answer.ContainerUsage; u != nil {
			u.Items = answer.Containers
		}
		if u := answer.VolumeUsage; u != nil {
			u.Items = answer.Volumes
		}
	}
	if asked {
		answer.LayersSize, answer.Images, answer.Containers, answer.Volumes, answer.BuildCache = 0, nil, nil, nil, nil
	}
	return r.reply(http.StatusOK, answer)
}

func (s *server) containerUsage(r *request, answer *diskUsage) error {
	answer.Containers, answer.ContainerUsage = []container.Summary{}, &container.DiskUsage{}
	usage := answer.ContainerUsage
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
		usage.TotalCount++
		usage.TotalSize += size
		if c.State.Live() || c.State == engine.Restarting {
			usage.ActiveCount++
		} else {
			usage.Reclaimable += size
		}
	}
	return nil
}

// imageUsage lists the images, with the size of what each shares with others and the number of its containers.
func (s *server) imageUsage(r *request, answer *diskUsage) error {
	disk, err := s.engine.Images().DiskUsage(r.Context())
	if err != nil {
		return err
	}
	answer.Images, answer.LayersSize = []imageSummary{}, disk.Layers
	answer.ImageUsage = &image.DiskUsage{TotalSize: disk.Layers}
	usage := answer.ImageUsage
	list := s.engine.Images().List()
	users := layerUsers(list)
	active := map[digest.Digest]int64{} // layers of images in use, by size
	for i := range list {
		img := &list[i]
		summary := summaryOf(img, tagsOf(img))
		summary.SharedSize = sharedSize(img, users)
		summary.Containers = int64(len(s.engine.Images().Users(img.Digest)))
		answer.Images = append(answer.Images, summary)
		usage.TotalCount++
		if summary.Containers > 0 {
			usage.ActiveCount++
			for _, l := range img.Layers {
				active[l.ChainID] = l.Size
			}
		}
	}
	usage.Reclaimable = disk.Layers
	for _, size := range active {
		usage.Reclaimable -= size
	}
	usage.Reclaimable = max(0, usage.Reclaimable)
	return nil
}

// layerUsers counts the images that have each layer.
func layerUsers(list []images.Image) map[digest.Digest]int {
	users := map[digest.Digest]int{}
	for _, img := range list {
		for _, l := range img.Layers {
			users[l.ChainID]++
		}
	}
	return users
}

// sharedSize is the size of the layers of img that other images have, too.
func sharedSize(img *images.Image, users map[digest.Digest]int) (size int64) {
	for _, l := range img.Layers {
		if users[l.ChainID] > 1 {
			size += l.Size
		}
	}
	return size
}

func (s *server) volumeUsage(r *request, answer *diskUsage) error {
	answer.Volumes, answer.VolumeUsage = []volume.Volume{}, &volume.DiskUsage{}
	usage := answer.VolumeUsage
	for _, v := range s.engine.Volumes() {
		bytes, err := s.engine.VolumeBytes(r.Context(), v.Name)
		if r.Context().Err() != nil {
			return r.Context().Err()
		}
		if err != nil {
			continue // removed meanwhile
		}
		shown := s.volumeOf(r.Context(), v)
		shown.UsageData = &volume.UsageData{Size: bytes, RefCount: int64(len(s.engine.VolumeUsers(v.Name)))}
		answer.Volumes = append(answer.Volumes, shown)
		usage.TotalCount++
		usage.TotalSize += max(0, bytes) // a plug-in's is not known
		if shown.UsageData.RefCount > 0 {
			usage.ActiveCount++
		} else {
			usage.Reclaimable += max(0, bytes)
		}
	}
	return nil
}
