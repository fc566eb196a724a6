package dockerapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/moby/moby/api/types/network"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// networkIDs are the three networks there are, with IDs that never change.
var networkIDs = map[string]string{
	"none":   strings.Repeat("0", 63) + "1",
	"host":   strings.Repeat("0", 63) + "2",
	"bridge": strings.Repeat("0", 63) + "3",
}

// networkSummary has the containers, too, which lists have up to 1.27.
type networkSummary struct {
	network.Network
	Containers map[string]network.EndpointResource
}

// endpointsIn are the running containers in a network.
func (s *server) endpointsIn(name string) map[string]network.EndpointResource {
	out := map[string]network.EndpointResource{}
	for _, c := range s.engine.List() {
		if c.State.Live() && string(c.Spec.NetworkMode) == name {
			out[c.ID] = endpointResource(&c)
		}
	}
	return out
}

func (s *server) networkOfName(name string) (network.Network, error) {
	n := network.Network{
		Name: name, ID: networkIDs[name], Scope: "local", Driver: name, EnableIPv4: true,
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	switch name {
	case "none":
		n.Driver = "null"
	case "bridge":
		b, err := s.engine.BridgeNetwork()
		if err != nil {
			return n, err
		}
		n.IPAM.Config = append(n.IPAM.Config, network.IPAMConfig{Subnet: b.Gateway.Masked(), Gateway: b.Gateway.Addr()})
		n.Options = map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
			"com.docker.network.bridge.name":                 b.Device,
		}
	}
	return n, nil
}

func (s *server) networkList(r *request) error {
	f, err := r.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	out := []networkSummary{}
	for _, name := range []string{"bridge", "host", "none"} {
		n, err := s.networkOfName(name)
		if err != nil {
			return err
		}
		if f.any("driver", func(v string) bool { return v == n.Driver }) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
			f.any("scope", func(v string) bool { return v == n.Scope }) &&
			f.any("type", func(v string) bool { return v == "builtin" }) &&
			f.any("dangling", func(v string) bool { return v == "false" || v == "0" }) &&
			f.labels(n.Labels) {
			out = append(out, networkSummary{Network: n, Containers: s.endpointsIn(name)})
		}
	}
	return r.reply(http.StatusOK, out)
}

func (s *server) networkInspect(r *request) error {
	ref := r.vars["id"]
	for name, id := range networkIDs {
		if ref != name && ref != id {
			continue
		}
		n, err := s.networkOfName(name)
		if err != nil {
			return err
		}
		return r.reply(http.StatusOK, network.Inspect{Network: n, Containers: s.endpointsIn(name)})
	}
	return fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
}

func endpointResource(c *engine.Container) network.EndpointResource {
	out := network.EndpointResource{Name: c.Spec.Name}
	if len(c.Spec.Endpoints) > 0 {
		settings := endpointSettings(c, 0)
		out.EndpointID, out.MacAddress = settings.EndpointID, settings.MacAddress
		out.IPv4Address = netip.PrefixFrom(settings.IPAddress, settings.IPPrefixLen)
	}
	return out
}
