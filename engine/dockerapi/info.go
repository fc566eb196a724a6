package dockerapi

import (
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"

	"novaagent/engine"
	client "novaagent/registry"
)

// infoResponse has the fields of all versions: see versions.go.
type infoResponse struct {
	system.Info
	RegistryConfig                           registryConfig
	ContainerdCommit, RuncCommit, InitCommit expectedCommit
	BridgeNfIptables, BridgeNfIp6tables      bool
	KernelMemory, KernelMemoryTCP            bool
}

type registryConfig struct {
	registry.ServiceConfig
	AllowNondistributableArtifactsCIDRs, AllowNondistributableArtifactsHostnames []string
}

// expectedCommit is that of a program which is not there: nova-agent needs none.
type expectedCommit struct {
	system.Commit
	Expected string
}

func (s *server) info(r *request) error {
	have, swap, forwards := controllers(), swapLimits(), forwarding()
	info := infoResponse{Info: system.Info{
		ID: s.engine.BootID(), Driver: storageDriver, DriverStatus: [][2]string{{"Backing Filesystem", fileSystem(s.engine.Root())}},
		LoggingDriver: "json-file", CgroupDriver: "cgroupfs", CgroupVersion: cgroupVersion(),
		MemoryLimit: have["memory"], SwapLimit: have["memory"] && swap, CPUCfsPeriod: have["cpu"], CPUCfsQuota: have["cpu"], CPUShares: have["cpu"],
		CPUSet: have["cpuset"], PidsLimit: have["pids"], IPv4Forwarding: forwards,
		NFd: openFiles(), NGoroutines: runtime.NumGoroutine(), NEventsListener: s.engine.Subscribers(), SystemTime: time.Now().Format(time.RFC3339Nano),
		KernelVersion: kernelRelease(), OperatingSystem: osName(), OSVersion: osVersion(), OSType: "linux", Architecture: machine(),
		NCPU: runtime.NumCPU(), MemTotal: memTotal(), DockerRootDir: s.engine.Root(), Labels: []string{},
		HTTPProxy: proxy("HTTP_PROXY"), HTTPSProxy: proxy("HTTPS_PROXY"), NoProxy: proxy("NO_PROXY"),
		ServerVersion: s.opts.Version, IndexServerAddress: "https://index." + client.Hub + "/v1/",
		Runtimes: s.runtimes(), DefaultRuntime: s.engine.DefaultRuntime(), LiveRestoreEnabled: true,
		Swarm:           swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive},
		SecurityOptions: []string{"name=seccomp,profile=builtin", "name=userns", "name=cgroupns"},
		Plugins: system.PluginsInfo{
			Log: engine.LogDrivers(), Network: []string{"bridge", "host", "null"}, Volume: append([]string{volumeDriver}, s.volumePlugins(r.Context())...),
			Authorization: s.opts.Authorization,
		},
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"},
		CDISpecDirs:     s.engine.CDISpecDirs(),
		Warnings:        warnings(have, swap, forwards),
	}, RegistryConfig: registryConfig{ServiceConfig: s.registryConfig()}}
	if r.version < 25 {
		info.SecurityOptions = []string{"seccomp", "userns"} // later ones have names
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

// runtimes are the engine's own, which has no path, and the OCI runtimes.
func (s *server) runtimes() map[string]system.RuntimeWithStatus {
	all := map[string]system.RuntimeWithStatus{engine.OwnRuntime: {}}
	for name, r := range s.engine.Runtimes() {
		all[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: r.Path, Args: r.Args}}
	}
	return all
}

// warnings say what the host lacks, in Docker's words where it has some.
func warnings(have map[string]bool, swap, forwards bool) []string {
	out := []string{}
	for _, w := range []struct {
		fine bool
		text string
	}{
		{have["memory"], "WARNING: No memory limit support"},
		{!have["memory"] || swap, "WARNING: No swap limit support"},
		{have["cpu"], "WARNING: No cpu cfs quota support"},
		{have["cpu"], "WARNING: No cpu shares support"},
		{have["cpuset"], "WARNING: No cpuset support"},
		{have["pids"], "WARNING: No pids limit support"},
		{have["blkio"], "WARNING: No blkio weight support"},
		{forwards, "WARNING: IPv4 forwarding is disabled"},
	} {
		if !w.fine {
			out = append(out, w.text)
		}
	}
	return out
}

// proxy is an environment variable of proxies, in capitals or not, without passwords.
func proxy(name string) string {
	value := os.Getenv(name)
	if value == "" {
		value = os.Getenv(strings.ToLower(name))
	}
	if u, err := url.Parse(value); err == nil && u.User != nil {
		u.User = url.UserPassword("xxxxx", "xxxxx")
		return u.String()
	}
	return value
}
