package dockerapi

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// createRequest is what POST /containers/create takes, kept in Spec.Front for inspect.
type createRequest struct {
	*container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *networkingConfig `json:",omitempty"`
	// MacAddress is the first endpoint's, in versions up to 1.51.
	MacAddress string `json:",omitempty"`
}

// UnmarshalJSON takes Cmd and Entrypoint as strings, too, as Docker always has.
func (c *createRequest) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	changed := false
	for name, value := range fields {
		var text string
		if (strings.EqualFold(name, "Cmd") || strings.EqualFold(name, "Entrypoint")) && json.Unmarshal(value, &text) == nil && string(value) != "null" {
			list, err := json.Marshal([]string{text})
			if err != nil {
				return err
			}
			fields[name], changed = list, true
		}
	}
	if changed {
		var err error
		if data, err = json.Marshal(fields); err != nil {
			return err
		}
	}
	type plain createRequest
	return json.Unmarshal(data, (*plain)(c))
}

func (s *server) containerCreate(r *request) error {
	if r.ContentLength == 0 {
		return fmt.Errorf("invalid JSON: got EOF while reading request body: %w", errdefs.ErrInvalid)
	}
	var body createRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	if body.Config == nil {
		return fmt.Errorf("config cannot be empty in order to create a container: %w", errdefs.ErrInvalid)
	}
	if body.HostConfig == nil {
		body.HostConfig = &container.HostConfig{}
	}
	adapted, err := body.adapt(r.version)
	if err != nil {
		return err
	}
	spec, warnings, err := s.specOf(r, &body)
	if err != nil {
		return err
	}
	warnings = append(warnings, adapted...)
	if id, ok := spec.NetworkMode.Shared(); ok {
		if owner, err := s.engine.Inspect(id); err == nil { // inspect shows the ID, as Docker does
			body.HostConfig.NetworkMode = container.NetworkMode(engine.NetworkOf(owner.ID))
			if spec.Front, err = json.Marshal(body); err != nil {
				return err
			}
		}
	}
	c, err := s.engine.Create(r.Context(), spec)
	if err != nil {
		return err
	}
	return r.reply(http.StatusCreated, container.CreateResponse{ID: c.ID, Warnings: warnings})
}

// specOf translates a request. Everything it does not translate is refused by refuse.
func (s *server) specOf(r *request, body *createRequest) (engine.Spec, []string, error) {
	c, h := body.Config, body.HostConfig
	warnings := []string{}
	fail := func(err error) (engine.Spec, []string, error) { return engine.Spec{}, nil, err }
	if err := refuse(body); err != nil {
		return fail(err)
	}
	if c.Image == "" {
		return fail(fmt.Errorf("no command specified: %w", errdefs.ErrInvalid))
	}
	img, err := s.engine.Images().Get(c.Image)
	if err != nil {
		return fail(noImage(c.Image, err))
	}
	if r.version >= 41 {
		if err := checkPlatform(c.Image, r.query.Get("platform"), img.Config.Platform); err != nil {
			return fail(err)
		}
	}
	spec := engine.Spec{
		Name: strings.TrimPrefix(r.query.Get("name"), "/"), Owner: engine.OwnerDocker, Image: img.Digest.String(), ImageName: c.Image,
		Args: c.Cmd, Env: c.Env, WorkDir: c.WorkingDir, User: c.User, Groups: h.GroupAdd,
		Hostname: c.Hostname, Domainname: c.Domainname, Labels: c.Labels,
		TTY: c.Tty, OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce,
		Sysctls: h.Sysctls, AutoRemove: h.AutoRemove, Init: h.Init != nil && *h.Init, Umask: h.Umask,
		Annotations: h.Annotations, CgroupParent: h.CgroupParent,
		Volumes: anonymousVolumes(c), ImageVolumes: true, VolumesFrom: h.VolumesFrom,
	}
	if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		spec.NoEntrypoint = true
	} else {
		spec.Entrypoint = c.Entrypoint
	}
	if c.StopSignal != "" {
		if spec.StopSignal, err = engine.ParseSignal(c.StopSignal); err != nil {
			return fail(err)
		}
	}
	if c.StopTimeout != nil {
		spec.StopGrace = graceOf(*c.StopTimeout)
		if spec.StopGrace == 0 {
			spec.StopGrace = 1 // a nanosecond: 0 stands for the default
		}
	}
	h.Runtime = cmp.Or(h.Runtime, s.engine.DefaultRuntime()) // inspect shows it
	spec.Runtime = h.Runtime
	if spec.NetworkMode, err = networkOf(body); err != nil {
		return fail(err)
	}
	if spec.NetworkMode == engine.NetworkBridge {
		if spec.Networks, err = s.joinsOf(body); err != nil {
			return fail(err)
		}
	} else if err := alone(body); err != nil {
		return fail(err)
	}
	exposed, err := exposedPorts(body, img.Config.Config.ExposedPorts)
	if err != nil {
		return fail(err)
	}
	for _, port := range exposed {
		spec.Exposed = append(spec.Exposed, port.String())
	}
	if spec.Ports, err = portsOf(body, img.Config.Config.ExposedPorts, spec.NetworkMode); err != nil {
		return fail(err)
	}
	if spec.NetworkMode == engine.NetworkHost && spec.Hostname == "" && !h.UTSMode.IsHost() {
		if spec.Hostname, err = os.Hostname(); err != nil {
			return fail(err)
		}
	}
	if spec.Resources, err = resourcesOf(&h.Resources); err != nil {
		return fail(err)
	}
	more, err := s.moreResources(&h.Resources, &spec.Resources)
	if err != nil {
		return fail(err)
	}
	warnings = append(append(warnings, more...), privilegedWarnings(h)...)
	if spec.CDIDevices, err = cdiOf(h.DeviceRequests); err != nil {
		return fail(err)
	}
	if spec.Namespaces, err = namespacesOf(h); err != nil {
		return fail(err)
	}
	spec.Resources.OOMScoreAdj, spec.Resources.ShmBytes = h.OomScoreAdj, h.ShmSize
	if size := h.StorageOpt["size"]; size != "" {
		if spec.Resources.DiskBytes, err = units.RAMInBytes(size); err != nil {
			return fail(fmt.Errorf("HostConfig.StorageOpt size=%s: %v: %w", size, err, errdefs.ErrInvalid))
		}
	}
	if spec.Mounts, err = mountsOf(h); err != nil {
		return fail(err)
	}
	spec.VolumeDriver = engineDriver(h.VolumeDriver)
	if spec.Security, err = securityOf(h); err != nil {
		return fail(err)
	}
	for _, addr := range h.DNS {
		spec.DNS.Nameservers = append(spec.DNS.Nameservers, addr.String())
	}
	spec.DNS.Search, spec.DNS.Options, spec.DNS.Hosts = h.DNSSearch, h.DNSOptions, h.ExtraHosts
	h.LogConfig.Type = cmp.Or(h.LogConfig.Type, engine.LogJSONFile) // inspect shows what it is
	if spec.Log, err = logOf(h.LogConfig); err != nil {
		return fail(err)
	}
	spec.Restart = restartOf(h.RestartPolicy)
	imageConfig, err := s.imageConfig(r, img.Digest)
	if err != nil {
		return fail(err)
	}
	c.Healthcheck = mergeHealth(c.Healthcheck, imageConfig.Healthcheck) // inspect shows what it is
	if spec.Health, err = healthOf(c.Healthcheck, imageConfig); err != nil {
		return fail(err)
	}
	if spec.Front, err = json.Marshal(body); err != nil {
		return fail(err)
	}
	return spec, warnings, nil
}

func graceOf(seconds int) time.Duration { return time.Duration(seconds) * time.Second }

// networkName is the network that a request means: none at all is the bridge network.
func networkName(name string) string {
	if name == "" || name == "default" {
		return "bridge"
	}
	return name
}

// networkOf decides where the container's network is.
func networkOf(body *createRequest) (engine.NetworkMode, error) {
	mode := networkName(string(body.HostConfig.NetworkMode))
	body.HostConfig.NetworkMode = container.NetworkMode(mode) // inspect shows what it is
	if body.NetworkDisabled {
		mode = "none"
	}
	switch mode {
	case "none":
		return engine.NetworkNone, nil
	case "host":
		return engine.NetworkHost, nil
	}
	if other, ok := strings.CutPrefix(mode, "container:"); ok {
		return engine.NetworkOf(other), conflicts(body)
	}
	return engine.NetworkBridge, nil
}

// conflicts refuses what a container that shares another one's network cannot have of its own (moby,
// daemon/internal/runconfig).
func conflicts(body *createRequest) error {
	h := body.HostConfig
	for _, c := range []struct {
		set  bool
		what string
	}{
		{body.Hostname != "", "hostname and the network mode"},
		{len(h.Links) > 0, "container type network can't be used with links. This would result in undefined behavior"},
		{len(h.DNS) > 0, "dns and the network mode"},
		{len(h.DNSSearch)+len(h.DNSOptions) > 0, "dns search or options and the network mode"},
		{len(h.ExtraHosts) > 0, "custom host-to-IP mapping and the network mode"},
		{body.MacAddress != "", "mac-address and the network mode"},
		{len(h.PortBindings) > 0 || h.PublishAllPorts, "port publishing and the container type network mode"},
		{len(body.ExposedPorts) > 0, "port exposing and the container type network mode"},
	} {
		if c.set {
			return fmt.Errorf("conflicting options: %s: %w", c.what, errdefs.ErrInvalid)
		}
	}
	return nil
}

// alone refuses what only a container in networks of its own can have.
func alone(body *createRequest) error {
	mode := networkName(string(body.HostConfig.NetworkMode))
	if len(body.HostConfig.Links) > 0 {
		return fmt.Errorf("conflicting options: network mode %s can't be used with links. This would result in undefined behavior: %w", mode, errdefs.ErrInvalid)
	}
	if body.MacAddress != "" {
		return fmt.Errorf("conflicting options: mac-address and the network mode %s: %w", mode, errdefs.ErrInvalid)
	}
	if body.NetworkingConfig == nil {
		return nil
	}
	for name, e := range body.NetworkingConfig.EndpointsConfig {
		if networkName(name) != mode {
			return fmt.Errorf("conflicting options: a container of the network %s cannot be in the network %s as well: %w", mode, name, errdefs.ErrInvalid)
		}
		if e != nil && (e.IPAMConfig != nil || len(e.Links) > 0 || len(e.Aliases) > 0 || len(e.DriverOpts) > 0 || len(e.MacAddress) > 0) {
			return fmt.Errorf("NetworkingConfig.EndpointsConfig: the network %s has no addresses, names and options: %w", name, errdefs.ErrInvalid)
		}
	}
	return nil
}

func resourcesOf(r *container.Resources) (engine.Resources, error) {
	out := engine.Resources{
		MemoryBytes: r.Memory, MemoryReservationBytes: r.MemoryReservation,
		CPUs: r.CpusetCpus, Mems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
	}
	bad := func(field string, v any) (engine.Resources, error) {
		return out, fmt.Errorf("HostConfig.%s: %v is not allowed: %w", field, v, errdefs.ErrInvalid)
	}
	switch {
	case r.Memory < 0:
		return out, fmt.Errorf("Minimum memory limit allowed is 6MB: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	case r.CPUShares < 0:
		return bad("CpuShares", r.CPUShares)
	case r.NanoCPUs < 0:
		return bad("NanoCpus", r.NanoCPUs)
	case r.NanoCPUs > 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0):
		return out, fmt.Errorf("Conflicting options: Nano CPUs and CPU Period or Quota cannot both be set: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	switch {
	case r.MemorySwap < 0:
		out.SwapBytes = r.MemorySwap
	case r.MemorySwap == 0:
		out.SwapBytes = r.Memory // Docker's default: as much again
	case r.Memory == 0:
		return out, fmt.Errorf("You should always set the Memory limit when using Memoryswap limit, see usage: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	case r.MemorySwap < r.Memory:
		return out, fmt.Errorf("Minimum memoryswap limit should be larger than memory limit, see usage: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	default:
		out.SwapBytes = r.MemorySwap - r.Memory
	}
	if r.Memory == 0 {
		out.SwapBytes = 0
	}
	out.CPUShares = uint64(r.CPUShares)
	if r.NanoCPUs > 0 {
		out.CPUMilli = max(r.NanoCPUs/1_000_000, 1)
	}
	if r.CPUPeriod != 0 {
		out.CPUPeriod = time.Duration(r.CPUPeriod) * time.Microsecond
	}
	if r.CPUQuota > 0 && r.CPUQuota < 1000 {
		return out, fmt.Errorf("CPU cfs quota can not be less than 1ms (i.e. 1000): %w", errdefs.ErrInvalid)
	}
	if r.CPUQuota > 0 {
		period := r.CPUPeriod
		if period == 0 {
			period = 100_000
		}
		if period < 1000 {
			return bad("CpuPeriod", period)
		}
		out.CPUMilli = r.CPUQuota * 1000 / period
	}
	if r.PidsLimit != nil {
		out.PidsLimit = *r.PidsLimit
	}
	for _, u := range r.Ulimits {
		if u != nil {
			out.Ulimits = append(out.Ulimits, engine.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
		}
	}
	return out, nil
}

// mountsOf translates the three ways in which a client names mounts.
func mountsOf(h *container.HostConfig) ([]engine.Mount, error) {
	var out []engine.Mount
	for _, bind := range h.Binds {
		m, err := bindOf(bind)
		if err != nil {
			return nil, err
		}
		if m.Type == engine.MountVolume {
			m.Volume.Driver = engineDriver(h.VolumeDriver)
		}
		out = append(out, m)
	}
	for _, asked := range h.Mounts {
		m, err := mountOf(asked)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	for target, options := range h.Tmpfs {
		m, err := tmpfsOf(target, options)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// bindOf reads SOURCE:TARGET[:OPTIONS], where SOURCE is a host path or a volume, and TARGET alone.
func bindOf(bind string) (engine.Mount, error) {
	parts := strings.Split(bind, ":")
	bad := func(why string) (engine.Mount, error) {
		return engine.Mount{}, fmt.Errorf("HostConfig.Binds: invalid volume specification: '%s': %s: %w", bind, why, errdefs.ErrInvalid)
	}
	if len(parts) == 1 && path.IsAbs(bind) {
		return volumeBindOf(bind, "", bind, "")
	}
	if len(parts) < 2 || len(parts) > 3 || parts[0] == "" || parts[1] == "" {
		return bad("it is not SOURCE:TARGET[:OPTIONS]")
	}
	if !path.IsAbs(parts[0]) {
		return volumeBindOf(bind, parts[0], parts[1], strings.Join(parts[2:], ""))
	}
	m := engine.Mount{Type: engine.MountBind, Source: path.Clean(parts[0]), Target: parts[1], Recursive: true, CreateSource: true}
	if len(parts) == 2 {
		return m, nil
	}
	for option := range strings.SplitSeq(parts[2], ",") {
		switch option {
		case "rw", "", "z", "Z", "nocopy", "cached", "delegated", "consistent": // of SELinux, volumes and macOS
		case "ro":
			m.ReadOnly = true
		case "private", "rprivate", "slave", "rslave":
			m.Propagation = option
		case "shared", "rshared":
			return m, fmt.Errorf("HostConfig.Binds: '%s': propagation %s is not available yet: %w", bind, option, errdefs.ErrUnsupported)
		default:
			return bad("invalid mode: " + option)
		}
	}
	return m, nil
}

func mountOf(asked mount.Mount) (engine.Mount, error) {
	m := engine.Mount{Source: asked.Source, Target: asked.Target, ReadOnly: asked.ReadOnly}
	bad := func(what string) error {
		return fmt.Errorf("invalid mount config for type %q: %s: %w", asked.Type, what, errdefs.ErrInvalid)
	}
	switch {
	case asked.Target == "":
		return m, bad("field Target must not be empty")
	case asked.Source == "" && asked.Type == mount.TypeBind:
		return m, bad("field Source must not be empty")
	case asked.Source != "" && asked.Type == mount.TypeTmpfs:
		return m, bad("field Source must not be specified")
	}
	switch asked.Type {
	case mount.TypeBind:
		if o := asked.BindOptions; o == nil || !o.CreateMountpoint {
			if _, err := os.Lstat(asked.Source); errors.Is(err, fs.ErrNotExist) {
				return m, bad("bind source path does not exist: " + asked.Source)
			}
		}
		m.Type, m.Recursive = engine.MountBind, true
		if o := asked.BindOptions; o != nil {
			if o.Propagation == mount.PropagationShared || o.Propagation == mount.PropagationRShared {
				return m, fmt.Errorf("HostConfig.Mounts: propagation %s is not available yet: %w", o.Propagation, errdefs.ErrUnsupported)
			}
			m.Propagation, m.Recursive, m.CreateSource = string(o.Propagation), !o.NonRecursive, o.CreateMountpoint
			if o.ReadOnlyForceRecursive {
				return m, fmt.Errorf("HostConfig.Mounts: BindOptions.ReadOnlyForceRecursive is not available yet: %w", errdefs.ErrUnsupported)
			}
		}
	case mount.TypeVolume:
		return volumeMountOf(asked)
	case mount.TypeTmpfs:
		m.Type, m.NoSuid, m.NoDev, m.NoExec = engine.MountTmpfs, true, true, true
		if o := asked.TmpfsOptions; o != nil {
			m.SizeBytes, m.Mode = o.SizeBytes, uint32(o.Mode.Perm())
			if o.Mode&os.ModeSticky != 0 || uint32(o.Mode)&0o1000 != 0 {
				m.Mode |= 0o1000
			}
			for _, option := range o.Options {
				if len(option) != 1 || !tmpfsFlag(&m, option[0]) {
					return m, fmt.Errorf("HostConfig.Mounts: TmpfsOptions.Options %v: %w", option, errdefs.ErrUnsupported)
				}
			}
		}
	default:
		return m, bad("mount type unknown: use bind, tmpfs or volume")
	}
	return m, nil
}

// tmpfsOf reads `--tmpfs TARGET:OPTIONS`.
func tmpfsOf(target, options string) (engine.Mount, error) {
	m := engine.Mount{Type: engine.MountTmpfs, Target: target, NoSuid: true, NoDev: true, NoExec: true}
	for option := range strings.SplitSeq(options, ",") {
		name, value, _ := strings.Cut(option, "=")
		var err error
		switch name {
		case "":
		case "size":
			if strings.HasSuffix(value, "%") {
				return m, fmt.Errorf("HostConfig.Tmpfs: %s: a size in per cent is not available: %w", option, errdefs.ErrUnsupported)
			}
			m.SizeBytes, err = units.RAMInBytes(value)
		case "mode":
			var mode uint64
			mode, err = strconv.ParseUint(value, 8, 12)
			m.Mode = uint32(mode)
		case "uid", "gid":
			var id uint64
			id, err = strconv.ParseUint(value, 10, 16)
			if name == "uid" {
				m.UID = uint32(id)
			} else {
				m.GID = uint32(id)
			}
		default:
			if !tmpfsFlag(&m, option) {
				return m, fmt.Errorf("HostConfig.Tmpfs: invalid tmpfs option %q: %w", option, errdefs.ErrInvalid)
			}
		}
		if err != nil {
			return m, fmt.Errorf("HostConfig.Tmpfs: %s: %v: %w", option, err, errdefs.ErrInvalid)
		}
	}
	return m, nil
}

func tmpfsFlag(m *engine.Mount, flag string) bool {
	switch flag {
	case "rw":
	case "ro":
		m.ReadOnly = true
	case "exec", "noexec":
		m.NoExec = flag == "noexec"
	case "suid", "nosuid":
		m.NoSuid = flag == "nosuid"
	case "dev", "nodev":
		m.NoDev = flag == "nodev"
	default:
		return false
	}
	return true
}

func restartOf(p container.RestartPolicy) engine.RestartPolicy {
	return engine.RestartPolicy{Mode: engine.RestartMode(p.Name), MaxRetries: p.MaximumRetryCount}
}
