package dockerapi

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/moby/moby/api/types/network"

	"novaagent/engine/errdefs"
)

// networkingConfig is the part of a create request that names endpoints.
type networkingConfig struct {
	EndpointsConfig map[string]*network.EndpointSettings
}

// refuse reports the fields of a create request that cannot be honoured yet. A field that is
// neither here nor in create.go has no effect in Docker on Linux, either.
func refuse(body *createRequest) error {
	c, h := body.Config, body.HostConfig
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"Healthcheck", c.Healthcheck != nil && len(c.Healthcheck.Test) > 0 && c.Healthcheck.Test[0] != "NONE"},
		{"HostConfig.VolumeDriver", h.VolumeDriver != "" && h.VolumeDriver != "local"},
		{"HostConfig.Annotations", len(h.Annotations) > 0},
		{"HostConfig.CgroupnsMode", h.CgroupnsMode.IsHost()},
		{"HostConfig.IpcMode", h.IpcMode != "" && h.IpcMode != "private"},
		{"HostConfig.Cgroup", h.Cgroup != ""},
		{"HostConfig.PidMode", h.PidMode != "" && h.PidMode != "private"},
		{"HostConfig.UTSMode", h.UTSMode != "" && h.UTSMode != "private"},
		{"HostConfig.UsernsMode", h.UsernsMode != "" && !h.UsernsMode.IsHost()},
		{"HostConfig.Runtime", h.Runtime != "" && h.Runtime != runtimeName && h.Runtime != "runc"},
		{"HostConfig.Umask", h.Umask != nil},
		{"HostConfig.Isolation", !h.Isolation.IsDefault()},
		{"HostConfig.Init", h.Init != nil && *h.Init},
		{"HostConfig.MaskedPaths", len(h.MaskedPaths) > 0 || (h.MaskedPaths == nil) != (h.ReadonlyPaths == nil)},
		{"HostConfig.ReadonlyPaths", len(h.ReadonlyPaths) > 0},
		{"HostConfig.CgroupParent", h.CgroupParent != ""},
		{"HostConfig.BlkioWeightDevice", len(h.BlkioWeightDevice) > 0},
		{"HostConfig.BlkioDeviceReadBps", len(h.BlkioDeviceReadBps) > 0},
		{"HostConfig.BlkioDeviceWriteBps", len(h.BlkioDeviceWriteBps) > 0},
		{"HostConfig.BlkioDeviceReadIOps", len(h.BlkioDeviceReadIOps) > 0},
		{"HostConfig.BlkioDeviceWriteIOps", len(h.BlkioDeviceWriteIOps) > 0},
		{"HostConfig.CpuRealtimePeriod", h.CPURealtimePeriod != 0},
		{"HostConfig.CpuRealtimeRuntime", h.CPURealtimeRuntime != 0},
		{"HostConfig.Devices", len(h.Devices) > 0},
		{"HostConfig.DeviceCgroupRules", len(h.DeviceCgroupRules) > 0},
		{"HostConfig.DeviceRequests", len(h.DeviceRequests) > 0},
		{"HostConfig.MemorySwappiness", h.MemorySwappiness != nil && *h.MemorySwappiness != -1},
		{"HostConfig.OomKillDisable", h.OomKillDisable != nil && *h.OomKillDisable},
		{"HostConfig.CpuCount", h.CPUCount != 0},
		{"HostConfig.CpuPercent", h.CPUPercent != 0},
		{"HostConfig.IOMaximumIOps", h.IOMaximumIOps != 0},
		{"HostConfig.IOMaximumBandwidth", h.IOMaximumBandwidth != 0},
	} {
		if field.set {
			return notYet(field.name)
		}
	}
	for option := range h.StorageOpt {
		if option != "size" {
			return notYet("HostConfig.StorageOpt " + option)
		}
	}
	return nil
}

func notYet(field string) error {
	return fmt.Errorf("%s is not available yet: %w", field, errdefs.ErrUnsupported)
}

// checkPlatform accepts this host's platform only.
func checkPlatform(platform string) error {
	if platform == "" || strings.HasPrefix(platform+"/", "linux/"+runtime.GOARCH+"/") || platform == "linux" {
		return nil
	}
	return fmt.Errorf("platform %q is not this host's, linux/%s: %w", platform, runtime.GOARCH, errdefs.ErrInvalid)
}
