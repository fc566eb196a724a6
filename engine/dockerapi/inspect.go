package dockerapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/storage"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// inspectResponse has the fields of all versions: see versions.go.
type inspectResponse struct {
	container.InspectResponse
	Config          *inspectConfig
	HostConfig      *inspectHostConfig
	NetworkSettings networkSettings
}

type inspectConfig struct {
	*container.Config
	OnBuild    []string
	MacAddress string `json:",omitempty"`
}

// inspectHostConfig has limits that newer kernels don't have; they are never set.
type inspectHostConfig struct {
	*container.HostConfig
	KernelMemory, KernelMemoryTCP int64
}

type networkSettings struct {
	*container.NetworkSettings
	Bridge                 string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	SecondaryIPAddresses   []network.EndpointIPAMConfig
	SecondaryIPv6Addresses []network.EndpointIPAMConfig
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
}

// storageDriver is what the layers are mounted with.
const storageDriver = "overlay"

// stateOf is the container's state as Docker names it.
func stateOf(c *engine.Container) container.ContainerState {
	switch c.State {
	case engine.Creating, engine.Created:
		return container.StateCreated
	case engine.Running:
		return container.StateRunning
	case engine.Paused:
		return container.StatePaused
	case engine.Restarting:
		return container.StateRestarting
	case engine.Removing:
		if c.Error != "" {
			return container.StateDead
		}
		return container.StateRemoving
	}
	return container.StateExited
}

func (s *server) containerInspect(r *request) error {
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	asked, err := requestOf(&c)
	if err != nil {
		return err
	}
	showDefaults(asked.HostConfig)
	files := c.ID
	if owner, ok := c.Spec.NetworkMode.Shared(); ok {
		files = owner
	}
	answer := inspectResponse{
		InspectResponse: container.InspectResponse{
			ID: c.ID, Created: c.Created.Format(time.RFC3339Nano), Name: "/" + c.Spec.Name,
			Path: c.Process.Args[0], Args: c.Process.Args[1:],
			Image: c.ImageConfigDigest, RestartCount: c.Restarts,
			Driver: storageDriver, Platform: "linux",
			ResolvConfPath: s.engine.FilePath(files, "resolv.conf"), HostnamePath: s.engine.FilePath(files, "hostname"),
			HostsPath:   s.engine.FilePath(files, "hosts"),
			State:       inspectState(&c),
			Mounts:      s.mountPoints(&c),
			GraphDriver: &storage.DriverData{Name: storageDriver},
			Storage:     &storage.Storage{RootFS: &storage.RootFSStorage{Snapshot: &storage.RootFSStorageSnapshot{Name: storageDriver}}},
		},
		HostConfig: &inspectHostConfig{HostConfig: asked.HostConfig},
	}
	config := s.configOf(&c, asked)
	answer.Config = &inspectConfig{Config: config, OnBuild: config.OnBuild, MacAddress: asked.MacAddress}
	if c.Spec.Log.Driver == "" || c.Spec.Log.Driver == engine.LogJSONFile {
		answer.LogPath = s.engine.LogPath(c.ID)
	}
	if ids := s.engine.ExecIDs(c.ID); len(ids) > 0 {
		answer.ExecIDs = ids
	}
	if r.boolean("size", false) {
		written, err := s.engine.WrittenBytes(r.Context(), c.ID)
		if err != nil {
			return err
		}
		total := written + s.imageSize(&c)
		answer.SizeRw, answer.SizeRootFs = &written, &total
	}
	networks := networksOf(&c)
	if r.version < 45 {
		addAliases(networks, &c)
	}
	answer.NetworkSettings.NetworkSettings = &container.NetworkSettings{Networks: networks, Ports: s.portMap(&c, asked)}
	answer.NetworkSettings.SandboxID, answer.NetworkSettings.SandboxKey = s.sandboxOf(&c)
	// As in Docker: of the default bridge network, and for those of another door of the first.
	top := networks["bridge"]
	if len(c.Spec.Endpoints) > 0 && c.Spec.NetworkMode == engine.NetworkEndpoints {
		top = networks[c.Spec.Endpoints[0].ID]
	}
	if top != nil && top.EndpointID != "" {
		answer.NetworkSettings.EndpointID, answer.NetworkSettings.MacAddress = top.EndpointID, top.MacAddress.String()
		answer.NetworkSettings.IPAddress, answer.NetworkSettings.IPPrefixLen = text(top.IPAddress), top.IPPrefixLen
		answer.NetworkSettings.Gateway, answer.NetworkSettings.IPv6Gateway = text(top.Gateway), text(top.IPv6Gateway)
		answer.NetworkSettings.GlobalIPv6Address, answer.NetworkSettings.GlobalIPv6PrefixLen = text(top.GlobalIPv6Address), top.GlobalIPv6PrefixLen
	}
	return r.reply(http.StatusOK, answer)
}

// sandboxOf is the network namespace of a container that runs and has one of its own.
func (s *server) sandboxOf(c *engine.Container) (id, key string) {
	if _, shared := c.Spec.NetworkMode.Shared(); shared || !c.State.Live() || c.Spec.NetworkMode == engine.NetworkHost {
		return "", ""
	}
	return c.ID, s.engine.NetworkNamespacePath(c.ID)
}

// showDefaults fills in what took effect where nothing was asked for, as Docker does.
func showDefaults(h *container.HostConfig) {
	if h.LogConfig.Type == "" { // docker-py reads no log otherwise
		h.LogConfig.Type = "json-file"
	}
	if h.LogConfig.Config == nil {
		h.LogConfig.Config = map[string]string{}
	}
	h.RestartPolicy.Name = cmp.Or(h.RestartPolicy.Name, container.RestartPolicyDisabled)
	h.ShmSize = cmp.Or(h.ShmSize, engine.DefaultShmBytes)
	h.Runtime = cmp.Or(h.Runtime, engine.OwnRuntime) // made when there was no other
	if h.OomKillDisable == nil && cgroupVersion() == "1" {
		h.OomKillDisable = new(bool)
	}
	if !h.Privileged {
		masked, readonly := engine.DefaultPaths()
		if h.MaskedPaths == nil {
			h.MaskedPaths = masked
		}
		if h.ReadonlyPaths == nil {
			h.ReadonlyPaths = readonly
		}
	}
}

// addAliases gives the endpoints in user-defined networks the names as aliases that are in DNSNames
// since 1.44, and only there since 1.45.
func addAliases(networks map[string]*network.EndpointSettings, c *engine.Container) {
	hostname := c.Spec.Hostname
	if hostname == "" {
		hostname = c.ID[:12]
	}
	for name, ep := range networks {
		if !container.NetworkMode(name).IsUserDefined() {
			continue
		}
		for _, alias := range []string{c.ID[:12], hostname} {
			if !slices.Contains(ep.Aliases, alias) {
				ep.Aliases = append(ep.Aliases, alias)
			}
		}
	}
}

// text is v's text, "" for the zero address.
func text(v interface {
	IsValid() bool
	String() string
}) string {
	if !v.IsValid() {
		return ""
	}
	return v.String()
}

func inspectState(c *engine.Container) *container.State {
	at := func(t time.Time) string {
		if t.IsZero() {
			return "0001-01-01T00:00:00Z"
		}
		return t.Format(time.RFC3339Nano)
	}
	return &container.State{
		Status: stateOf(c), Running: c.State.Live(), Paused: c.State == engine.Paused,
		Restarting: c.State == engine.Restarting, OOMKilled: c.Exit.OOMKilled,
		Dead: stateOf(c) == container.StateDead, Pid: c.PID, ExitCode: c.Exit.Code, Error: withoutKinds(c.Error),
		StartedAt: at(c.Started), FinishedAt: at(c.Finished), Health: inspectHealth(c),
	}
}

// requestOf is what a client asked for when it made c; for those of another door, what
// it would have asked for.
func requestOf(c *engine.Container) (*createRequest, error) {
	if c.Spec.Owner == engine.OwnerDocker && c.Spec.Front != nil {
		var asked createRequest
		if err := json.Unmarshal(c.Spec.Front, &asked); err != nil {
			return nil, fmt.Errorf("container %s: its request: %w", c.Spec.Name, err)
		}
		return &asked, nil
	}
	r := &c.Spec.Resources
	h := &container.HostConfig{
		NetworkMode:   container.NetworkMode(c.Spec.NetworkMode),
		LogConfig:     container.LogConfig{Type: "json-file", Config: map[string]string{}},
		RestartPolicy: container.RestartPolicy{Name: "no"},
		Resources: container.Resources{
			Memory: r.MemoryBytes, NanoCPUs: r.CPUMilli * 1_000_000, CPUShares: int64(r.CPUShares), CpusetCpus: r.CPUs,
			MemorySwap: r.MemoryBytes + r.SwapBytes, PidsLimit: &r.PidsLimit,
		},
		ReadonlyRootfs: c.Spec.Security.ReadonlyRootfs,
	}
	return &createRequest{Config: &container.Config{Image: c.Spec.Image}, HostConfig: h}, nil
}

// brieflyOf is requestOf, but only what docker ps shows of it: a list of a thousand must not take a thousand times
// as long as an inspect. What is damaged is missing.
func brieflyOf(c *engine.Container) *createRequest {
	brief := struct {
		Image        string
		ExposedPorts network.PortSet
		HostConfig   struct {
			NetworkMode  container.NetworkMode
			PortBindings network.PortMap
		}
	}{}
	brief.HostConfig.NetworkMode = container.NetworkMode(c.Spec.NetworkMode)
	if c.Spec.Owner == engine.OwnerDocker && c.Spec.Front != nil {
		_ = json.Unmarshal(c.Spec.Front, &brief) // it was valid at the creation; a list shows the rest
	}
	return &createRequest{
		Config:     &container.Config{Image: brief.Image, ExposedPorts: brief.ExposedPorts},
		HostConfig: &container.HostConfig{NetworkMode: brief.HostConfig.NetworkMode, PortBindings: brief.HostConfig.PortBindings},
	}
}

// configOf is the configuration as it took effect.
func (s *server) configOf(c *engine.Container, asked *createRequest) *container.Config {
	config := *asked.Config
	config.Hostname = c.Spec.Hostname
	if config.Hostname == "" {
		config.Hostname = c.ID[:12]
	}
	config.Domainname = c.Spec.Domainname
	config.Env, config.WorkingDir, config.User = c.Process.Env, c.Process.WorkDir, c.Process.User
	config.Tty, config.OpenStdin, config.StdinOnce = c.Spec.TTY, c.Spec.OpenStdin, c.Spec.StdinOnce
	config.Labels = s.allLabels(c)
	if img, err := s.engine.Images().Get(c.ImageDigest); err == nil {
		image := img.Config.Config
		if len(config.Entrypoint) == 0 && !c.Spec.NoEntrypoint {
			config.Entrypoint = image.Entrypoint
			if len(config.Cmd) == 0 {
				config.Cmd = image.Cmd
			}
		}
		if c.Spec.Owner == engine.OwnerDocker {
			// Without what the engine itself adds, as HOSTNAME.
			config.Env = joinEnv(c.Spec.Env, image.Env)
			config.WorkingDir = cmp.Or(c.Spec.WorkDir, image.WorkingDir)
		}
		if c.Spec.ImageVolumes {
			config.Volumes = withImageVolumes(config.Volumes, image.Volumes)
		}
	}
	if c.Spec.Owner != engine.OwnerDocker {
		config.Cmd, config.Image = c.Process.Args, s.imageName(c, asked)
	}
	return &config
}

// imageName is what c's image is called: the name that was asked for, else one it has.
func (s *server) imageName(c *engine.Container, asked *createRequest) string {
	if c.Spec.Owner == engine.OwnerDocker && asked.Config.Image != "" {
		return asked.Config.Image
	}
	if img, err := s.engine.Images().Get(c.ImageDigest); err == nil && len(img.Names) > 0 {
		return familiar(img.Names[0])
	}
	return c.ImageConfigDigest
}

func (s *server) imageSize(c *engine.Container) int64 {
	img, err := s.engine.Images().Get(c.ImageDigest)
	if err != nil {
		return 0
	}
	return img.Size
}

var listFilters = []string{"ancestor", "before", "exited", "expose", "health", "id", "isolation", "is-task", "label",
	"name", "network", "publish", "since", "status", "volume"}

func (s *server) containerList(r *request) error {
	f, err := r.filters(listFilters...)
	if err != nil {
		return err
	}
	limit, err := r.number("limit", 0)
	if err != nil {
		return err
	}
	for _, v := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(v)); err != nil {
			return fmt.Errorf("invalid filter 'status=%s': %w", v, errdefs.ErrInvalid)
		}
	}
	for _, v := range f["health"] {
		if err := container.ValidateHealthStatus(container.HealthStatus(v)); err != nil {
			return fmt.Errorf("unrecognized filter value for health: %s: %w", v, errdefs.ErrInvalid)
		}
	}
	for _, v := range f["exited"] {
		if _, err := strconv.Atoi(v); err != nil {
			return fmt.Errorf("invalid filter 'exited=%s': %v: %w", v, err, errdefs.ErrInvalid)
		}
	}
	for _, v := range f["is-task"] {
		if !slices.Contains([]string{"true", "false", "1", "0"}, v) {
			return fmt.Errorf("invalid filter 'is-task=[%s]': %w", v, errdefs.ErrInvalid)
		}
	}
	for _, field := range []string{"publish", "expose"} {
		for _, v := range f[field] {
			if _, err := network.ParsePortRange(v); err != nil {
				return fmt.Errorf("invalid filter '%s=%s': %v: %w", field, v, err, errdefs.ErrInvalid)
			}
		}
	}
	all := r.boolean("all", false) || limit > 0 || len(f["status"]) > 0
	list := s.engine.List()
	if list, err = s.bounded(list, f); err != nil {
		return err
	}
	out := []container.Summary{}
	for i := range list {
		c := &list[i]
		if c.State == engine.Creating || !all && !c.State.Live() && c.State != engine.Restarting {
			continue
		}
		if !s.fits(c, f) {
			continue
		}
		summary := s.summary(c)
		if r.boolean("size", false) {
			if summary.SizeRw, err = s.engine.WrittenBytes(r.Context(), c.ID); err != nil {
				continue // removed meanwhile
			}
			summary.SizeRootFs = summary.SizeRw + s.imageSize(c)
		}
		out = append(out, summary)
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return r.reply(http.StatusOK, out)
}

// bounded applies the filters before and since, which name a container.
func (s *server) bounded(list []engine.Container, f filters) ([]engine.Container, error) {
	for field, keep := range map[string]func(c, mark engine.Container) bool{
		"before": func(c, mark engine.Container) bool { return c.Created.Before(mark.Created) },
		"since":  func(c, mark engine.Container) bool { return c.Created.After(mark.Created) },
	} {
		for _, ref := range f[field] {
			mark, err := s.engine.Inspect(ref)
			if err != nil {
				return nil, err
			}
			list = slices.DeleteFunc(list, func(c engine.Container) bool { return !keep(c, mark) })
		}
	}
	return list, nil
}

// matchesName is Docker's reading of the filter name: an expression, or that very text, for the name with or without
// its slash.
func matchesName(filter, name string) bool {
	if filter == name || filter == "/"+name {
		return true
	}
	expr, err := regexp.Compile(filter) // Go's takes a time linear in the text's length, whatever is asked
	return err == nil && (expr.MatchString(name) || expr.MatchString("/"+name))
}

func (s *server) fits(c *engine.Container, f filters) bool {
	return f.any("id", func(v string) bool { return strings.HasPrefix(c.ID, v) }) &&
		f.any("name", func(v string) bool { return matchesName(v, c.Spec.Name) }) &&
		f.any("status", func(v string) bool { return v == string(stateOf(c)) }) &&
		f.any("exited", func(v string) bool {
			code, err := strconv.Atoi(v)
			return err == nil && c.State == engine.Stopped && c.Exit.Code == code
		}) &&
		f.any("ancestor", func(v string) bool {
			img, err := s.engine.Images().Get(v)
			return err == nil && img.Digest.String() == c.ImageDigest
		}) &&
		f.any("network", func(v string) bool {
			for name, settings := range networksOf(c) {
				if v == name || v == settings.NetworkID {
					return true
				}
			}
			return false
		}) &&
		f.any("health", func(v string) bool { return v == string(healthStatus(c)) }) &&
		f.any("is-task", func(v string) bool { return v == "false" || v == "0" }) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(c.Mounts, func(m engine.Mount) bool { return m.Source == v || path.Clean(m.Target) == v })
		}) &&
		f.any("publish", func(v string) bool { return s.hasPort(c, v, true) }) &&
		f.any("expose", func(v string) bool { return s.hasPort(c, v, false) }) &&
		(len(f["label"]) == 0 || f.labels(s.allLabels(c)))
}

// labelAddresses is the label of an instance of Nova's that has the addresses of its ports.
const labelAddresses = "org.openstack.addresses"

// labelsOf are a container's labels. The ports of an instance come and go, so theirs is made here.
func labelsOf(c *engine.Container) map[string]string {
	labels := map[string]string{}
	for k, v := range c.Spec.Labels {
		labels[k] = v
	}
	if c.Spec.Owner == engine.OwnerNova && len(c.Spec.Endpoints) > 0 {
		var list []string
		for _, ep := range c.Spec.Endpoints {
			for _, address := range ep.Addresses {
				list = append(list, address.Addr().String())
			}
		}
		labels[labelAddresses] = strings.Join(list, ",")
	}
	return labels
}

// allLabels are those of the image, too.
func (s *server) allLabels(c *engine.Container) map[string]string {
	labels := map[string]string{}
	if img, err := s.engine.Images().Get(c.ImageDigest); err == nil {
		maps.Copy(labels, img.Config.Config.Labels)
	}
	maps.Copy(labels, labelsOf(c))
	return labels
}

// commandText is the column COMMAND of docker ps: arguments with spaces have quotes.
func commandText(args []string) string {
	words := slices.Clone(args)
	for i, word := range words {
		if i > 0 && strings.Contains(word, " ") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}

func (s *server) summary(c *engine.Container) container.Summary {
	asked := brieflyOf(c)
	out := container.Summary{
		ID: c.ID, Names: []string{"/" + c.Spec.Name}, Image: s.imageName(c, asked), ImageID: c.ImageConfigDigest,
		Command: commandText(c.Process.Args), Created: c.Created.Unix(), Ports: s.portSummaries(c, asked),
		Labels: s.allLabels(c), State: stateOf(c), Status: statusText(c, time.Now()),
		NetworkSettings: &container.NetworkSettingsSummary{Networks: networksOf(c)},
		Mounts:          s.mountPoints(c),
	}
	out.HostConfig.NetworkMode = string(asked.HostConfig.NetworkMode)
	return out
}

// statusText is the column STATUS of docker ps.
func statusText(c *engine.Container, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch stateOf(c) {
	case container.StateCreated:
		return "Created"
	case container.StateRunning:
		return "Up " + since(c.Started) + healthText(c)
	case container.StatePaused:
		return "Up " + since(c.Started) + " (Paused)"
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", c.Exit.Code, since(c.Finished))
	case container.StateRemoving:
		return "Removal In Progress"
	case container.StateDead:
		return "Dead"
	}
	return fmt.Sprintf("Exited (%d) %s ago", c.Exit.Code, since(c.Finished))
}
