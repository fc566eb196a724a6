package dockerapi

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/network"

	"novaagent/engine/errdefs"
)

// networkIDs are the two networks there are, with IDs that never change.
var networkIDs = map[string]string{
	"none": strings.Repeat("0", 63) + "1",
	"host": strings.Repeat("0", 63) + "2",
}

func networkOfName(name string) network.Network {
	driver := "null"
	if name == "host" {
		driver = "host"
	}
	return network.Network{
		Name: name, ID: networkIDs[name], Scope: "local", Driver: driver, EnableIPv4: true,
		IPAM:    network.IPAM{Driver: "default", Config: []network.IPAMConfig{}},
		Options: map[string]string{}, Labels: map[string]string{},
	}
}

func (s *server) networkList(r *request) error {
	f, err := r.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	out := []network.Summary{}
	for _, name := range []string{"host", "none"} {
		n := networkOfName(name)
		if f.any("driver", func(v string) bool { return v == n.Driver }) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
			f.any("scope", func(v string) bool { return v == n.Scope }) &&
			f.any("type", func(v string) bool { return v == "builtin" }) &&
			f.any("dangling", func(v string) bool { return v == "false" || v == "0" }) &&
			f.labels(n.Labels) {
			out = append(out, network.Summary{Network: n})
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
		answer := network.Inspect{Network: networkOfName(name), Containers: map[string]network.EndpointResource{}}
		for _, c := range s.engine.List() {
			if c.State.Live() && string(c.Spec.NetworkMode) == name {
				answer.Containers[c.ID] = network.EndpointResource{Name: c.Spec.Name}
			}
		}
		return r.reply(http.StatusOK, answer)
	}
	return fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
}
