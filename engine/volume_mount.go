package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// planMounts are all mounts of a container: those of spec, then those of other containers, then
// anonymous volumes, each only where the ones before have nothing (moby's registerMountPoints and
// createContainerOSSpecificSettings).
func (e *Engine) planMounts(spec *Spec, declared map[string]struct{}) ([]Mount, error) {
	mounts := slices.Clone(spec.Mounts)
	taken := map[string]bool{}
	for i := range mounts {
		m := &mounts[i]
		taken[path.Clean(m.Target)] = true
		if m.Type == MountVolume && m.Source == "" {
			m.Source, m.Volume.Anonymous = NewID(), true
		}
	}
	inherited := map[string]Mount{} // of two containers the later wins
	for _, from := range spec.VolumesFrom {
		list, err := e.mountsOf(from)
		if err != nil {
			return nil, err
		}
		for _, m := range list {
			inherited[path.Clean(m.Target)] = m
		}
	}
	for _, target := range slices.Sorted(maps.Keys(inherited)) {
		if !taken[target] {
			taken[target] = true
			mounts = append(mounts, inherited[target])
		}
	}
	targets := slices.Clone(spec.Volumes)
	if spec.ImageVolumes {
		for _, target := range slices.Sorted(maps.Keys(declared)) {
			targets = append(targets, path.Clean("/"+target))
		}
	}
	if err := validateVolumes(targets); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
	}
	for _, target := range targets {
		if target = path.Clean(target); !taken[target] {
			taken[target] = true
			mounts = append(mounts, Mount{
				Type: MountVolume, Source: NewID(), Target: target, Volume: VolumeMount{Anonymous: true, Driver: spec.VolumeDriver},
			})
		}
	}
	return mounts, nil
}

// mountsOf are the volumes and binds of the container that from, ID[:MODE], names.
func (e *Engine) mountsOf(from string) ([]Mount, error) {
	ref, mode, _ := strings.Cut(from, ":")
	if ref == "" {
		return nil, fmt.Errorf("malformed volumes-from specification: %s: %w", printable(from), errdefs.ErrInvalid)
	}
	switch mode {
	case "", "rw", "ro", "z", "Z":
	default:
		return nil, fmt.Errorf("invalid mode: %s: %w", printable(mode), errdefs.ErrInvalid)
	}
	c, err := e.Inspect(ref)
	if err != nil {
		return nil, fmt.Errorf("volumes-from: %v: %w", err, errdefs.ErrInvalid)
	}
	var out []Mount
	for _, m := range c.Mounts {
		if m.Type == MountTmpfs {
			continue
		}
		m.ReadOnly = m.ReadOnly || mode == "ro"
		m.Volume.NoCopy = m.Type == MountVolume
		out = append(out, m)
	}
	return out, nil
}

func validateVolumes(targets []string) error {
	var errs []error
	for _, target := range targets {
		if !path.IsAbs(target) || path.Clean(target) == "/" || strings.ContainsRune(target, 0) {
			errs = append(errs, fmt.Errorf("invalid volume specification: '%s': the target must be an absolute path other than /", printable(target)))
		}
	}
	return errors.Join(errs...)
}

// validateVolumeMount has moby's words (volume/mounts, validateMountConfig).
func validateVolumeMount(m Mount) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf(`invalid mount config for type "volume": %s`, fmt.Sprintf(format, args...))
	}
	switch {
	case m.SizeBytes != 0 || m.Mode != 0 || m.UID != 0 || m.GID != 0 || m.CreateSource || m.Propagation != "":
		return bad("size, mode, owner and propagation are not for a volume")
	case m.Source == "" && m.ReadOnly:
		return bad("must not set ReadOnly mode when using anonymous volumes")
	case m.Source == "" && m.Volume.Subpath != "":
		return bad("must not set Subpath when using anonymous volumes")
	case m.Volume.Subpath != "" && (!filepath.IsLocal(m.Volume.Subpath) || strings.ContainsRune(m.Volume.Subpath, 0)):
		return bad("subpath must be a relative path within the volume")
	}
	var errs []error
	if m.Source != "" {
		errs = append(errs, checkVolumeName(m.Source))
	}
	if m.Volume.Driver == "" {
		errs = append(errs, checkVolumeOptions(m.Volume.Options))
	}
	return errors.Join(errs...)
}

// prepareVolumes makes sure that t's volumes are there, and fills the empty ones. Those of plug-ins
// are mounted for that moment.
func (e *Engine) prepareVolumes(ctx context.Context, t *tracked) (err error) {
	rec := e.record(t)
	for _, v := range e.pluginMounts(rec) {
		if err := e.makeVolume(ctx, v); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, e.unmountPlugins(context.WithoutCancel(ctx), t)) }()
	if err := e.mountPlugins(ctx, t); err != nil {
		return err
	}
	view := &imageView{engine: e, rec: rec}
	defer view.close()
	for _, m := range rec.Mounts {
		if m.Type != MountVolume {
			continue
		}
		if err := e.prepareVolume(ctx, rec, m, view); err != nil {
			return err
		}
	}
	return nil
}

// makeVolume makes v if there is none of its name.
func (e *Engine) makeVolume(ctx context.Context, v Volume) error {
	unlock, err := e.volumeLocks.lock(ctx, v.Name)
	if err != nil {
		return err
	}
	defer unlock()
	_, err = e.ensureVolume(v)
	return err
}

func (e *Engine) prepareVolume(ctx context.Context, rec *Container, m Mount, view *imageView) error {
	unlock, err := e.volumeLocks.lock(ctx, m.Source)
	if err != nil {
		return err
	}
	defer unlock()
	v, err := e.ensureVolume(volumeFor(m))
	if err != nil {
		return err
	}
	top, err := e.openVolume(&v, m)
	if err != nil {
		return err
	}
	defer top.Close()
	if m.Volume.NoCopy {
		return nil
	}
	return e.fill(ctx, rec, &v, m, top, view)
}

// volumeFor is the volume that m makes if it is not there.
func volumeFor(m Mount) Volume {
	v := Volume{Name: m.Source, Driver: m.Volume.Driver, Labels: m.Volume.Labels, Options: m.Volume.Options}
	if m.Volume.Anonymous {
		v.Labels = anonymous(v.Labels)
	}
	return v
}

// openVolume opens what m shows of v as a reference. A link in the volume, which its
// containers write, cannot lead the subpath out of it.
func (e *Engine) openVolume(v *Volume, m Mount) (*os.File, error) {
	source, err := e.volumeSource(v)
	if err != nil {
		return nil, err
	}
	top, err := kernel.OpenPath(source)
	if err != nil {
		return nil, fmt.Errorf("failed to mount local volume: %v: %w", err, errdefs.ErrInvalid)
	}
	if m.Volume.Subpath == "" {
		return top, nil
	}
	defer top.Close()
	sub, err := kernel.OpenInRoot(top, m.Volume.Subpath, kernel.OPath)
	if err != nil {
		return nil, fmt.Errorf("cannot access path %s of volume %s: %v: %w", printable(m.Volume.Subpath), v.Name, err, errdefs.ErrInvalid)
	}
	return sub, nil
}

// volumeBind is m as a bind mount, whose source is the file that is returned.
func (e *Engine) volumeBind(m Mount) (Mount, *os.File, error) {
	unlock, err := e.volumeLocks.lock(e.ctx, m.Source)
	if err != nil {
		return m, nil, err
	}
	defer unlock()
	// It cannot be removed while a container has it. If its record was lost it is a new one.
	v, err := e.ensureVolume(volumeFor(m))
	if err != nil {
		return m, nil, err
	}
	f, err := e.openVolume(&v, m)
	if err != nil {
		return m, nil, err
	}
	flags := strings.Split(v.Options["o"], ",")
	return Mount{
		Type: MountBind, Source: "/proc/self/fd/" + strconv.Itoa(int(f.Fd())), Target: m.Target,
		ReadOnly: m.ReadOnly || v.Driver == "" && v.Options["type"] == "none" && slices.Contains(flags, "ro"),
		NoSuid:   m.NoSuid, NoDev: m.NoDev, NoExec: m.NoExec,
		Recursive: slices.Contains(flags, "rbind"),
	}, f, nil
}

// heldFiles are open because something names them by descriptor.
type heldFiles []*os.File

func (h heldFiles) close() {
	for _, f := range h {
		f.Close()
	}
}

// emitMounts tells of the volumes that t's process got or had.
func (e *Engine) emitMounts(t *tracked, action Action) {
	rec := e.record(t)
	for _, m := range rec.Mounts {
		if m.Type == MountVolume {
			e.events.emit(Event{
				Time: time.Now(), Kind: KindVolume, Action: action, ID: rec.ID, Name: rec.Spec.Name, Owner: rec.Spec.Owner,
				State: rec.State, Volume: m.Source, Driver: e.driverOf(m.Source), Mount: m,
			})
		}
	}
}
