package dockerapi

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/system"

	"novaagent/engine"
)

// runtimeName is what GET /info calls the engine's own runtime.
const runtimeName = "nova-agent"

func (s *server) ping(r *request) error {
	h := r.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Builder-Version", "1") // the classic one: it gets to the message of POST /build
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return r.done(http.StatusOK)
	}
	r.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(r.w, "OK")
	return nil
}

func (s *server) version(r *request) error {
	kernel := kernelRelease()
	return r.reply(http.StatusOK, system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "nova-agent"},
		Version:       s.opts.Version,
		APIVersion:    versionText(maxVersion),
		MinAPIVersion: versionText(minVersion),
		Os:            "linux",
		Arch:          runtime.GOARCH,
		GoVersion:     runtime.Version(),
		KernelVersion: kernel,
		Components: []system.ComponentVersion{{
			Name: "Engine", Version: s.opts.Version,
			Details: map[string]string{
				"ApiVersion": versionText(maxVersion), "MinAPIVersion": versionText(minVersion), "Os": "linux",
				"Arch": runtime.GOARCH, "GoVersion": runtime.Version(), "KernelVersion": kernel,
			},
		}},
	})
}

func (s *server) info(r *request) error {
	info := system.Info{
		ID: s.engine.BootID(), Driver: "overlay", LoggingDriver: "json-file", CgroupDriver: "cgroupfs",
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true, PidsLimit: true,
		IPv4Forwarding: true, SystemTime: time.Now().Format(time.RFC3339Nano),
		KernelVersion: kernelRelease(), OperatingSystem: osName(), OSType: "linux", Architecture: machine(),
		NCPU: runtime.NumCPU(), MemTotal: memTotal(), DockerRootDir: s.engine.Root(),
		ServerVersion: s.opts.Version, NGoroutines: runtime.NumGoroutine(),
		Runtimes:       map[string]system.RuntimeWithStatus{runtimeName: {}},
		DefaultRuntime: runtimeName, LiveRestoreEnabled: true,
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=userns", "name=cgroupns"},
		Plugins: system.PluginsInfo{
			Log: []string{"json-file", "none"}, Network: []string{"bridge", "host", "null"}, Volume: []string{volumeDriver},
		},
		CgroupVersion: cgroupVersion(),
		Warnings:      []string{},
	}
	info.Name, _ = os.Hostname()
	for _, c := range s.engine.List() {
		info.Containers++
		switch {
		case c.State == engine.Paused:
			info.ContainersPaused++
		case c.State.Live():
			info.ContainersRunning++
		default:
			info.ContainersStopped++
		}
	}
	info.Images = len(s.engine.Images().List())
	return r.reply(http.StatusOK, info)
}

// cgroupVersion is 2 where the unified hierarchy has the controllers that limits need.
func cgroupVersion() string {
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && strings.Contains(string(controllers), "memory") {
		return "2"
	}
	return "1"
}

func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(release))
}

// machine is this architecture as uname has it.
func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

func osName() string {
	file, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(file)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}

func memTotal() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// eventMessage has the fields that clients up to 1.51 still find at the top.
type eventMessage struct {
	Status string `json:"status,omitempty"`
	ID     string `json:"id,omitempty"`
	From   string `json:"from,omitempty"`
	events.Message
}

func (s *server) events(r *request) error {
	f, err := r.filters("container", "event", "image", "label", "type", "daemon", "scope", "network", "volume", "plugin", "node", "service", "secret", "config")
	if err != nil {
		return err
	}
	since, err := r.moment("since")
	if err != nil {
		return err
	}
	until, err := r.moment("until")
	if err != nil {
		return err
	}
	stream := s.engine.SubscribeUntil(r.Context(), since, until)
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(r.w)
	if err := control.Flush(); err != nil {
		return nil
	}
	encoder := json.NewEncoder(r.w)
	for ev := range stream {
		if !wanted(f, ev) {
			continue
		}
		if encoder.Encode(messageOfEvent(ev)) != nil || control.Flush() != nil {
			return nil // the client is gone
		}
	}
	return nil
}

func wanted(f filters, ev engine.Event) bool {
	kind := events.ContainerEventType
	switch {
	case ev.Volume != "":
		kind = events.VolumeEventType
	case ev.Network.ID != "":
		kind = events.NetworkEventType
	}
	return f.any("type", func(v string) bool { return v == string(kind) }) &&
		f.any("volume", func(v string) bool { return v == ev.Volume }) &&
		f.any("network", func(v string) bool { return v == ev.Network.Name || v == ev.Network.ID }) &&
		(kind == events.ContainerEventType || len(f["container"]) == 0) &&
		f.any("scope", func(v string) bool { return v == "local" }) &&
		f.any("event", func(v string) bool { return v == string(ev.Action) }) &&
		f.any("container", func(v string) bool {
			return v == ev.Name || len(v) > 0 && strings.HasPrefix(ev.ID, v)
		}) &&
		f.any("image", func(v string) bool { return v == ev.Image }) &&
		f.labels(ev.Labels)
}

func messageOfEvent(ev engine.Event) eventMessage {
	if ev.Volume != "" {
		return messageOfVolume(ev)
	}
	if ev.Network.ID != "" {
		return messageOfNetwork(ev)
	}
	attributes := map[string]string{"name": ev.Name, "image": ev.Image}
	for k, v := range ev.Labels {
		attributes[k] = v
	}
	action := string(ev.Action)
	switch ev.Action {
	case engine.ActionDie:
		attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
	case engine.ActionKill:
		attributes["signal"] = strconv.Itoa(ev.Signal)
	case engine.ActionExecCreate, engine.ActionExecStart, engine.ActionExecDie:
		attributes["execID"] = ev.ExecID
		if ev.Action == engine.ActionExecDie {
			attributes["exitCode"] = strconv.Itoa(ev.Exit.Code)
		} else {
			action = fmt.Sprintf("%s: %s", action, ev.Command)
		}
	}
	return eventMessage{
		Status: action, ID: ev.ID, From: ev.Image,
		Message: events.Message{
			Type: events.ContainerEventType, Action: events.Action(action), Scope: "local",
			Actor: events.Actor{ID: ev.ID, Attributes: attributes},
			Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
		},
	}
}

// messageOfNetwork has the attributes that moby's daemon gives.
func messageOfNetwork(ev engine.Event) eventMessage {
	attributes := map[string]string{"name": ev.Network.Name, "type": ev.Network.Driver}
	if ev.ID != "" {
		attributes["container"] = ev.ID
	}
	return eventMessage{Message: events.Message{
		Type: events.NetworkEventType, Action: events.Action(ev.Action), Scope: "local",
		Actor: events.Actor{ID: ev.Network.ID, Attributes: attributes},
		Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}}
}

// messageOfVolume has the attributes that moby's volume service and daemon give.
func messageOfVolume(ev engine.Event) eventMessage {
	attributes := map[string]string{"driver": volumeDriver}
	switch ev.Action {
	case engine.ActionMount:
		attributes["container"], attributes["destination"] = ev.ID, ev.Mount.Target
		attributes["read/write"], attributes["propagation"] = strconv.FormatBool(!ev.Mount.ReadOnly), ""
	case engine.ActionUnmount:
		attributes["container"] = ev.ID
	}
	return eventMessage{Message: events.Message{
		Type: events.VolumeEventType, Action: events.Action(ev.Action), Scope: "local",
		Actor: events.Actor{ID: ev.Volume, Attributes: attributes},
		Time:  ev.Time.Unix(), TimeNano: ev.Time.UnixNano(),
	}}
}
