package dockerapi

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// anonymousVolumes are the targets of `-v TARGET`.
func anonymousVolumes(c *container.Config) []string {
	var targets []string
	for target := range c.Volumes {
		targets = append(targets, target)
	}
	slices.Sort(targets)
	return targets
}

// volumeBindOf reads NAME:TARGET[:OPTIONS], and TARGET alone.
func volumeBindOf(bind, name, target, options string) (engine.Mount, error) {
	m := engine.Mount{Type: engine.MountVolume, Source: name, Target: target}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "rw", "", "z", "Z", "cached", "delegated", "consistent":
		case "ro":
			m.ReadOnly = true
		case "nocopy":
			m.Volume.NoCopy = true
		default:
			return m, fmt.Errorf("HostConfig.Binds: invalid volume specification: '%s': invalid mode: %s: %w", bind, option, errdefs.ErrInvalid)
		}
	}
	return m, nil
}

// volumeMountOf reads --mount type=volume.
func volumeMountOf(asked mount.Mount) (engine.Mount, error) {
	m := engine.Mount{Type: engine.MountVolume, Source: asked.Source, Target: asked.Target, ReadOnly: asked.ReadOnly}
	bad := func(field string) (engine.Mount, error) {
		return m, fmt.Errorf("invalid mount config for type \"volume\": field %s must not be specified: %w", field, errdefs.ErrInvalid)
	}
	switch {
	case asked.BindOptions != nil:
		return bad("BindOptions")
	case asked.TmpfsOptions != nil:
		return bad("TmpfsOptions")
	case asked.ImageOptions != nil:
		return bad("ImageOptions")
	}
	o := asked.VolumeOptions
	if o == nil {
		return m, nil
	}
	m.Volume = engine.VolumeMount{NoCopy: o.NoCopy, Subpath: o.Subpath, Labels: o.Labels}
	if o.DriverConfig != nil {
		m.Volume.Driver = engineDriver(o.DriverConfig.Name)
		m.Volume.Options = o.DriverConfig.Options
	}
	return m, nil
}

func (s *server) mountPoints(c *engine.Container) []container.MountPoint {
	points := []container.MountPoint{}
	for _, m := range c.Mounts {
		p := container.MountPoint{
			Type: mount.Type(m.Type), Source: m.Source, Destination: path.Clean(m.Target), RW: !m.ReadOnly,
			Propagation: mount.Propagation(m.Propagation),
		}
		if m.ReadOnly {
			p.Mode = "ro"
		}
		switch m.Type {
		case engine.MountBind:
			if p.Propagation == "" {
				p.Propagation = mount.PropagationRPrivate
			}
		case engine.MountVolume:
			p.Name, p.Source, p.Driver = m.Source, s.engine.VolumePath(m.Source), volumeDriver
			if v, err := s.engine.Volume(m.Source); err == nil && v.Driver != "" {
				p.Source, p.Driver = s.engine.MountedAt(&v), v.Driver
			}
			if p.Mode == "" && !m.Volume.Anonymous {
				p.Mode = "z" // moby's setBindModeIfNull, with SELinux or without
			}
		}
		points = append(points, p)
	}
	return points
}

// withImageVolumes are the targets that config and the image name, as inspect shows them.
func withImageVolumes(config, image map[string]struct{}) map[string]struct{} {
	if len(image) == 0 {
		return config
	}
	all := map[string]struct{}{}
	for _, set := range []map[string]struct{}{config, image} {
		for target := range set {
			all[target] = struct{}{}
		}
	}
	return all
}
