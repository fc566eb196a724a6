package dockerapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"novaagent/engine/errdefs"
)

// adapt makes of a create request what it means in a version, where that is more than a field that
// is there or not (fields has those). It returns warnings for the client.
func (c *createRequest) adapt(version int) (warnings []string, err error) {
	invalid := func(format string, args ...any) ([]string, error) {
		return nil, fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errdefs.ErrInvalid)
	}
	h := c.HostConfig
	if version < 25 {
		h.AutoRemove = false // the client removes it
	}
	if version < 42 {
		h.ConsoleSize = [2]uint{}
	}
	if version < 44 && c.NetworkingConfig != nil && len(c.NetworkingConfig.EndpointsConfig) > 1 {
		return invalid("Container cannot be created with multiple network endpoints: %s",
			strings.Join(slices.Sorted(maps.Keys(c.NetworkingConfig.EndpointsConfig)), ", "))
	}
	for i := range h.Mounts {
		if err := adaptMount(&h.Mounts[i], version); err != nil {
			return invalid("%v", err)
		}
	}
	if version >= 48 && h.VolumeDriver != "" && slices.ContainsFunc(h.Mounts, func(m mount.Mount) bool {
		return m.Type == mount.TypeVolume && (m.VolumeOptions == nil || m.VolumeOptions.DriverConfig == nil || m.VolumeOptions.DriverConfig.Name == "")
	}) {
		warnings = append(warnings, "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. Use '--mount type=volume,volume-driver=...' instead")
	}
	warning, err := c.adaptMAC(version)
	if err != nil {
		return invalid("%v", err)
	}
	if warning != "" {
		warnings = append(warnings, warning)
	}
	if warning := c.adaptPorts(version); warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings, nil
}

func adaptMount(m *mount.Mount, version int) error {
	b := m.BindOptions
	if b != nil && version < 40 {
		b.NonRecursive = false
	}
	if b != nil && version < 42 {
		b.CreateMountpoint = false
	}
	for _, options := range []struct {
		name string
		of   mount.Type
		set  bool
		drop func()
	}{
		{"VolumeOptions", mount.TypeVolume, m.VolumeOptions != nil, func() { m.VolumeOptions = nil }},
		{"BindOptions", mount.TypeBind, m.BindOptions != nil, func() {}}, // an older engine refused it as well
		{"TmpfsOptions", mount.TypeTmpfs, m.TmpfsOptions != nil, func() { m.TmpfsOptions = nil }},
	} {
		switch {
		case !options.set || m.Type == options.of:
		case version >= 42:
			return fmt.Errorf("%s must not be specified on mount type %q", options.name, m.Type)
		default:
			options.drop()
		}
	}
	switch {
	case version < 44 && m.Type == mount.TypeBind && b != nil && b.ReadOnlyForceRecursive:
		return fmt.Errorf("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
	case version < 45 && m.VolumeOptions != nil && m.VolumeOptions.Subpath != "":
		return fmt.Errorf("VolumeOptions.Subpath needs API v1.45 or newer")
	case version < 48 && m.Type == mount.TypeImage:
		return fmt.Errorf("Mount type \"Image\" needs API v1.48 or newer") //nolint:staticcheck // Docker's words
	}
	return nil
}

// adaptMAC moves the container's MAC address, which requests up to 1.51 have, to its first endpoint.
func (c *createRequest) adaptMAC(version int) (warning string, err error) {
	if version < 44 && c.NetworkingConfig != nil {
		for _, ep := range c.NetworkingConfig.EndpointsConfig {
			if ep != nil {
				ep.MacAddress = nil // it is the endpoint's since 1.44
			}
		}
	}
	if c.MacAddress == "" {
		return "", nil
	}
	if version >= 44 {
		warning = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
	}
	mode := container.NetworkMode(networkName(string(c.HostConfig.NetworkMode)))
	if !mode.IsBridge() && !mode.IsUserDefined() {
		if version < 44 {
			return "", fmt.Errorf("conflicting options: mac-address and the network mode")
		}
		return warning, nil
	}
	var mac network.HardwareAddr
	if err := mac.UnmarshalText([]byte(c.MacAddress)); err != nil {
		return "", fmt.Errorf("MacAddress %q: %v", c.MacAddress, err)
	}
	if c.NetworkingConfig == nil {
		c.NetworkingConfig = &networkingConfig{}
	}
	if c.NetworkingConfig.EndpointsConfig == nil {
		c.NetworkingConfig.EndpointsConfig = map[string]*network.EndpointSettings{}
	}
	ep := c.NetworkingConfig.EndpointsConfig[string(mode)]
	if ep == nil {
		ep = &network.EndpointSettings{}
		c.NetworkingConfig.EndpointsConfig[string(mode)] = ep
	}
	if len(ep.MacAddress) > 0 && ep.MacAddress.String() != mac.String() {
		return "", fmt.Errorf("the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty")
	}
	ep.MacAddress = mac
	return warning, nil
}

// adaptPorts drops the ports with an empty list of bindings, since 1.53; before, they are published anywhere.
func (c *createRequest) adaptPorts(version int) (warning string) {
	var empty []string
	for port, bindings := range c.HostConfig.PortBindings {
		if len(bindings) > 0 {
			continue
		}
		empty = append(empty, port.String())
		if version >= 53 {
			delete(c.HostConfig.PortBindings, port)
		}
	}
	if version != 52 || len(empty) == 0 {
		return ""
	}
	slices.Sort(empty)
	return fmt.Sprintf("Following container port(s) have an empty list of port-bindings: %s. Starting with API 1.53, such bindings will be discarded.", strings.Join(empty, ", "))
}
