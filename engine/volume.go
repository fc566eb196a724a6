package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// Volumes are directories that outlive containers, as Docker's driver "local" has them:
// ROOT/volumes/NAME/_data, beside volume.json, a copy of the record. Their files have the owners that
// containers see; each container's mount is idmapped, so that several can share them.
//
// A crash leaves a directory without a record (Open deletes it: nothing can have used it) or, if the power
// fails, a record without its directory (Open makes it again). volume.go makes and lists them,
// volume_remove.go removes, volume_mount.go mounts, volume_fill.go copies from the image.

const kindVolume store.Kind = "volume"

// AnonymousLabel marks the volumes that nobody gave a name, as in Docker.
const AnonymousLabel = "com.docker.volume.anonymous"

// Volume is the record of a volume.
type Volume struct {
	Name    string
	Created time.Time
	Labels  map[string]string `json:",omitempty"`
	// Driver is the plug-in whose it is, empty for the driver "local".
	Driver string `json:",omitempty"`
	// Options are the plug-in's, or the local driver's: type, device and o, as mount(8) has them. Type tmpfs keeps
	// the files in memory; type none with o=bind shows the directory device.
	Options map[string]string `json:",omitempty"`
}

// Anonymous says that nobody gave it a name.
func (v *Volume) Anonymous() bool { _, ok := v.Labels[AnonymousLabel]; return ok }

func (e *Engine) volumeDir(name string) string { return filepath.Join(e.volumesDir(), name) }

// VolumePath is where the files of the volume of that name are.
func (e *Engine) VolumePath(name string) string { return filepath.Join(e.volumeDir(name), "_data") }

// CreateVolume makes a volume, durably; of v, Created is ignored. An empty name makes up an
// anonymous one. If one of the name is there it is returned as it is.
//
// ErrInvalid: the name or an option is not allowed.
func (e *Engine) CreateVolume(ctx context.Context, v Volume) (Volume, error) {
	if v.Name == "" {
		v.Name, v.Labels = NewID(), anonymous(v.Labels)
	}
	if err := checkVolumeName(v.Name); err != nil {
		return Volume{}, err
	}
	if v.Driver == "" {
		if err := checkVolumeOptions(v.Options); err != nil {
			return Volume{}, fmt.Errorf("create %s: %w", v.Name, err)
		}
	}
	unlock, err := e.lockVolume(ctx, v.Name)
	if err != nil {
		return Volume{}, err
	}
	defer unlock()
	return e.ensureVolume(v)
}

func anonymous(labels map[string]string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[AnonymousLabel] = ""
	return labels
}

// lockVolume takes a volume's lock for an operation on nothing else.
func (e *Engine) lockVolume(ctx context.Context, name string) (unlock func(), err error) {
	leave, err := e.enter()
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", name, err)
	}
	release, err := e.volumeLocks.lock(ctx, name)
	if err != nil {
		leave()
		return nil, err
	}
	return func() { release(); leave() }, nil
}

// Volume returns the volume of that name, or ErrNotFound.
func (e *Engine) Volume(name string) (Volume, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	v, ok := e.volumes[name]
	if !ok {
		return Volume{}, fmt.Errorf("get %s: no such volume: %w", printable(name), errdefs.ErrNotFound)
	}
	return v, nil
}

// Volumes returns all volumes by name.
func (e *Engine) Volumes() []Volume {
	e.mu.RLock()
	list := slices.Collect(maps.Values(e.volumes))
	e.mu.RUnlock()
	slices.SortFunc(list, func(a, b Volume) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// VolumeUsers are the IDs of the containers that have the volume mounted or would when they start.
func (e *Engine) VolumeUsers(name string) []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var ids []string
	for id, t := range e.containers {
		if slices.ContainsFunc(t.rec.Mounts, func(m Mount) bool { return m.Type == MountVolume && m.Source == name }) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// VolumeBytes is the disk space that a volume's own files take: nothing, for one with options, and -1 for one of
// a plug-in, which does not tell.
func (e *Engine) VolumeBytes(ctx context.Context, name string) (int64, error) {
	v, err := e.Volume(name)
	if err == nil && v.Driver != "" {
		return -1, nil
	}
	if err != nil || len(v.Options) > 0 {
		return 0, err
	}
	var total int64
	seen := map[uint64]bool{} // inodes with several names
	err = filepath.WalkDir(e.VolumePath(name), func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // removed meanwhile
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok && !seen[st.Ino] {
				seen[st.Ino] = st.Nlink > 1
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total, err
}

// ensureVolume makes v if there is none of its name. The caller holds the volume's lock.
func (e *Engine) ensureVolume(v Volume) (Volume, error) {
	if have, err := e.Volume(v.Name); err == nil {
		if v.Driver != "" && v.Driver != have.Driver {
			return Volume{}, fmt.Errorf("create %s: conflict: volume name must be unique: it is there with another driver: %w", v.Name, errdefs.ErrConflict)
		}
		return have, nil
	}
	v.Created = time.Now().UTC()
	if v.Driver != "" {
		if err := e.callVolumePlugin(e.ctx, v.Driver, "Create", volumeCall{Name: v.Name, Opts: v.Options}, nil); err != nil {
			return Volume{}, fmt.Errorf("create %s: %w", v.Name, err)
		}
	}
	err := e.makeVolumeDir(&v)
	if err == nil {
		e.step("volume.files", v.Name)
		err = store.Put(e.db, kindVolume, v.Name, v)
	}
	if err != nil {
		return Volume{}, errors.Join(fmt.Errorf("create volume %s: %w", v.Name, err), e.deleteVolumeDir(v.Name))
	}
	e.mu.Lock()
	e.volumes[v.Name] = v
	e.mu.Unlock()
	e.step("volume.recorded", v.Name)
	e.events.emit(Event{Time: time.Now(), Kind: KindVolume, Action: ActionCreate, Volume: v.Name, Driver: v.Driver})
	return v, nil
}

// volumeFile is the copy of a volume's record, beside _data.
const volumeFile = "volume.json"

// makeVolumeDir makes v's directory, whole or not at all.
func (e *Engine) makeVolumeDir(v *Volume) (err error) {
	if err := e.deleteVolumeDir(v.Name); err != nil {
		return err
	}
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	half := filepath.Join(e.volumesDir(), hiddenVolume+NewID())
	defer func() {
		if err != nil {
			err = errors.Join(fileError(err), os.RemoveAll(half))
		}
	}()
	top := filepath.Join(half, "_data")
	if err := os.MkdirAll(top, 0o700); err != nil {
		return err
	}
	// Not by MkdirAll, which the umask would narrow.
	if err := os.Chmod(top, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(half, volumeFile), data, 0o600); err != nil {
		return err
	}
	return os.Rename(half, e.volumeDir(v.Name))
}

// hiddenVolume begins the names of what is in ROOT/volumes and no volume: half made or half removed.
const hiddenVolume = ".nova-agent-"

// reconcileVolumes reads the records and makes the directories agree with them.
func (e *Engine) reconcileVolumes() error {
	records, err := store.List[Volume](e.db, kindVolume)
	if records == nil {
		return fmt.Errorf("engine root %s: volumes: %w", e.opts.Root, err)
	}
	lost := err != nil || e.db.Quarantined() != ""
	if err != nil {
		e.log.Error("records of volumes cannot be read", "error", err)
	}
	list, err := os.ReadDir(e.volumesDir())
	if err != nil {
		return fmt.Errorf("engine root %s: volumes: %w", e.opts.Root, err)
	}
	for _, entry := range list {
		name := entry.Name()
		_, known := records[name]
		switch hidden := strings.HasPrefix(name, hiddenVolume); {
		case known:
			// A copy from the image that a crash cut short.
			err = os.RemoveAll(filepath.Join(e.volumeDir(name), fillDir))
		case lost && !hidden:
			var v Volume
			if v, err = e.readVolumeCopy(name); err == nil {
				e.log.Warn("a volume's record was rebuilt", "volume", name)
				records[name], err = v, store.Put(e.db, kindVolume, name, v)
			}
		case !hidden && checkVolumeName(name) != nil: // lost+found, say
		default:
			e.log.Warn("removing a stray", "what", "volume", "name", name)
			err = e.deleteVolumeDir(name)
		}
		if err != nil {
			e.log.Error("settling a volume", "volume", name, "error", err)
		}
	}
	for name, v := range records {
		v.Name = name
		if _, err := os.Lstat(e.VolumePath(name)); errors.Is(err, os.ErrNotExist) {
			e.log.Warn("a volume's files are missing; it is empty now", "volume", name)
			if err := e.makeVolumeDir(&v); err != nil {
				e.log.Error("settling a volume", "volume", name, "error", err)
			}
		}
		e.volumes[name] = v
	}
	return nil
}

func (e *Engine) readVolumeCopy(name string) (Volume, error) {
	var v Volume
	data, err := os.ReadFile(filepath.Join(e.volumeDir(name), volumeFile))
	if err == nil {
		err = json.Unmarshal(data, &v)
	}
	if err == nil && v.Name != name {
		err = fmt.Errorf("the record is of %s: %w", printable(v.Name), errdefs.ErrInvalid)
	}
	return v, err
}

// checkVolumeName is Docker's rule (moby's volume/local). A name has no "/" and does not begin with
// ".", so that it stays below ROOT/volumes and is never one of hiddenVolume.
func checkVolumeName(name string) error {
	if len(name) == 1 {
		return fmt.Errorf("create %s: volume name is too short, names should be at least two alphanumeric characters: %w", printable(name), errdefs.ErrInvalid)
	}
	ok := name != "" && len(name) <= 255
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && strings.ContainsRune("_.-", r))
	}
	if !ok {
		return fmt.Errorf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. "+
			"If you intended to pass a host directory, use absolute path: %w", printable(name), name[:min(len(name), 255)], errdefs.ErrInvalid)
	}
	return nil
}

// checkVolumeOptions accepts none, {type=tmpfs} and {type=none, o=bind}. Other file
// systems would be mounted with the agent's rights, which a socket's user should not get by the way.
func checkVolumeOptions(options map[string]string) error {
	if len(options) == 0 {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if name != "type" && name != "o" && name != "device" {
			return fmt.Errorf("invalid option: %q: %w", name, errdefs.ErrInvalid)
		}
	}
	for _, name := range []string{"device", "type"} {
		if options[name] == "" {
			return fmt.Errorf("missing required option: %q: %w", name, errdefs.ErrInvalid)
		}
	}
	flags := strings.Split(options["o"], ",")
	switch {
	case options["type"] == "tmpfs":
		return checkTmpfsOptions(flags)
	case options["type"] != "none" || !slices.Contains(flags, "bind") && !slices.Contains(flags, "rbind"):
		return fmt.Errorf("option type=%s is not available: use type=tmpfs, or type=none with o=bind: %w", printable(options["type"]), errdefs.ErrInvalid)
	case !filepath.IsAbs(options["device"]) || strings.ContainsRune(options["device"], 0):
		return fmt.Errorf("option device=%s is not an absolute path: %w", printable(options["device"]), errdefs.ErrInvalid)
	}
	for _, flag := range flags {
		if !slices.Contains([]string{"bind", "rbind", "rw", "ro"}, flag) {
			return fmt.Errorf("option o=%s is not available with type=none: use bind, rbind, ro, rw: %w", printable(flag), errdefs.ErrInvalid)
		}
	}
	return nil
}

func checkTmpfsOptions(flags []string) error {
	for _, flag := range flags {
		name, _, _ := strings.Cut(flag, "=")
		if !slices.Contains([]string{"", "size", "mode", "uid", "gid", "nr_inodes"}, name) || strings.ContainsRune(flag, 0) {
			return fmt.Errorf("option o=%s is not available with type=tmpfs: use size, mode, uid, gid, nr_inodes: %w", printable(flag), errdefs.ErrInvalid)
		}
	}
	return nil
}

// volumeSource is where the files of v really are. A tmpfs is mounted if it is not, as it is not after
// a reboot; it stays until the volume is removed. The caller holds the volume's lock.
func (e *Engine) volumeSource(v *Volume) (string, error) {
	if v.Driver != "" {
		return e.pluginPath(v)
	}
	path := e.VolumePath(v.Name)
	switch v.Options["type"] {
	case "none":
		return v.Options["device"], nil
	case "tmpfs":
		mounted, err := kernel.IsMountPoint(path)
		if err != nil || mounted {
			return path, err
		}
		if err := kernel.MountTmpfs(path, v.Options["o"]); err != nil {
			return path, fmt.Errorf("failed to mount local volume: %v: %w", err, errdefs.ErrInvalid)
		}
	}
	return path, nil
}
