package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"novaagent/engine/errdefs"
	"novaagent/engine/plugin"
)

// Volumes of plug-ins have a record, as those of the driver "local" have, and a directory that stays empty: their
// files are where the plug-in mounts them. A container's mount is announced to the plug-in by an ID that is a
// function of container and target, and noted in the container's record before. So every mount is taken back once,
// also after a crash between the two.

// volumePlugin is what such a plug-in implements.
const volumePlugin = "VolumeDriver"

// volumeCall is what methods of VolumeDriver take.
type volumeCall struct {
	Name string
	ID   string            `json:",omitempty"`
	Opts map[string]string `json:",omitempty"`
}

// PluginVolume is a volume as its plug-in tells of it.
type PluginVolume struct {
	Name, Mountpoint, CreatedAt string
	Status                      map[string]any
}

// Plugins finds plug-ins.
func (e *Engine) Plugins() plugin.Finder { return e.opts.Plugins }

func (e *Engine) callVolumePlugin(ctx context.Context, driver, method string, in volumeCall, out any) error {
	p, err := e.opts.Plugins.Get(ctx, driver, volumePlugin)
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("error looking up volume plugin %s: %w", driver, err)
	}
	if err != nil {
		return err
	}
	if out == nil {
		out = &struct{}{}
	}
	return p.Call(ctx, volumePlugin+"."+method, in, out)
}

// VolumeScope is local or, for a plug-in's that says so, global.
func (e *Engine) VolumeScope(ctx context.Context, v *Volume) string {
	var answer struct{ Capabilities struct{ Scope string } }
	if v.Driver == "" || e.callVolumePlugin(ctx, v.Driver, "Capabilities", volumeCall{}, &answer) != nil || answer.Capabilities.Scope != "global" {
		return "local"
	}
	return "global"
}

// VolumeDetail is what the plug-in of v tells of it, now.
func (e *Engine) VolumeDetail(ctx context.Context, v *Volume) (PluginVolume, error) {
	var answer struct{ Volume PluginVolume }
	err := e.callVolumePlugin(ctx, v.Driver, "Get", volumeCall{Name: v.Name}, &answer)
	return answer.Volume, err
}

// PluginVolumes are all volumes that the plug-in has, made here or not.
func (e *Engine) PluginVolumes(ctx context.Context, driver string) ([]PluginVolume, error) {
	var answer struct{ Volumes []PluginVolume }
	err := e.callVolumePlugin(ctx, driver, "List", volumeCall{}, &answer)
	return answer.Volumes, err
}

// mountID names a mount to the plug-in.
func mountID(containerID, target string) string {
	sum := sha256.Sum256([]byte(containerID + "\x00" + filepath.Clean(target)))
	return hex.EncodeToString(sum[:])
}

// pluginMounts are the mounts of rec whose volumes are plug-ins', with their volumes.
func (e *Engine) pluginMounts(rec *Container) map[string]Volume {
	out := map[string]Volume{}
	for _, m := range rec.Mounts {
		if m.Type != MountVolume {
			continue
		}
		v := volumeFor(m)
		if have, err := e.Volume(m.Source); err == nil {
			v = have
		}
		if v.Driver != "" {
			out[m.Target] = v
		}
	}
	return out
}

// mountPlugins has the plug-ins mount t's volumes. The caller holds t's lock, and takes them back with unmountPlugins,
// also after an error.
func (e *Engine) mountPlugins(ctx context.Context, t *tracked) error {
	mounts := e.pluginMounts(e.record(t))
	if len(mounts) == 0 {
		return nil
	}
	targets := slices.Sorted(maps.Keys(mounts))
	if err := e.amend(t, synced, func(c *Container) { c.PluginMounts = targets }); err != nil {
		return err
	}
	e.step("volume.plugin", t.id)
	for _, target := range targets {
		v := mounts[target]
		var answer struct{ Mountpoint string }
		if err := e.callVolumePlugin(ctx, v.Driver, "Mount", volumeCall{Name: v.Name, ID: mountID(t.id, target)}, &answer); err != nil {
			return fmt.Errorf("mount volume %s: %w", v.Name, err)
		}
		if !filepath.IsAbs(answer.Mountpoint) {
			return fmt.Errorf("mount volume %s: plugin %q says it is at %q: %w", v.Name, v.Driver, answer.Mountpoint, errdefs.ErrUnavailable)
		}
		e.mu.Lock()
		e.pluginPaths[v.Name] = answer.Mountpoint
		e.mu.Unlock()
	}
	e.step("volume.mounted", t.id)
	return nil
}

// unmountPlugins takes back what mountPlugins did. What fails stays noted, for the next time. The caller
// holds t's lock.
func (e *Engine) unmountPlugins(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	if len(rec.PluginMounts) == 0 {
		return nil
	}
	mounts := e.pluginMounts(rec)
	var errs []error
	var left []string
	for _, target := range rec.PluginMounts {
		v, ok := mounts[target]
		if !ok {
			continue
		}
		if err := e.callVolumePlugin(ctx, v.Driver, "Unmount", volumeCall{Name: v.Name, ID: mountID(t.id, target)}, nil); err != nil {
			errs, left = append(errs, fmt.Errorf("unmount volume %s: %w", v.Name, err)), append(left, target)
		}
	}
	return errors.Join(append(errs, e.amend(t, lazy, func(c *Container) { c.PluginMounts = left }))...)
}

// driverOf is the plug-in of the volume of that name, empty for "local".
func (e *Engine) driverOf(name string) string {
	v, _ := e.Volume(name) // one that is gone was anybody's
	return v.Driver
}

// MountedAt is where the plug-in has mounted v, if it did so since the engine was opened.
func (e *Engine) MountedAt(v *Volume) string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.pluginPaths[v.Name]
}

// pluginPath is where the plug-in has mounted a volume.
func (e *Engine) pluginPath(v *Volume) (string, error) {
	path := e.MountedAt(v)
	if path == "" {
		return "", fmt.Errorf("volume %s is not mounted by plugin %q: %w", v.Name, v.Driver, errdefs.ErrUnavailable)
	}
	return path, nil
}
