package engine

import (
	"fmt"
	"maps"
	"slices"

	"novaagent/engine/errdefs"
)

// configure gives n what the network that its ConfigFrom names has, and refuses what cannot go with either kind, in moby's words
// (daemon/libnetwork, Network.validateConfiguration and applyConfigurationTo).
func (n *Network) configure(list []Network) error {
	if n.ConfigOnly {
		switch {
		case n.ConfigFrom != "":
			return fmt.Errorf("a configuration network cannot depend on another configuration network: %w", errdefs.ErrForbidden)
		case n.Internal || n.Attachable:
			return fmt.Errorf("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported: %w", errdefs.ErrForbidden)
		}
		n.Driver = driverNull
		return nil
	}
	if n.ConfigFrom == "" {
		return nil
	}
	if n.IPv6 || len(n.Labels) > 0 || n.IPAM != "" && n.IPAM != "default" || len(n.IPAMOptions) > 0 || len(n.Pools) > 0 {
		return fmt.Errorf("user specified configurations are not supported if the network depends on a configuration network: %w", errdefs.ErrForbidden)
	}
	if len(n.Options) > 0 {
		return fmt.Errorf("network driver options are not supported if the network depends on a configuration network: %w", errdefs.ErrForbidden)
	}
	i := slices.IndexFunc(list, func(o Network) bool { return o.ConfigOnly && (o.Name == n.ConfigFrom || o.ID == n.ConfigFrom) })
	if i < 0 {
		return fmt.Errorf("configuration network %q not found: %w", n.ConfigFrom, errdefs.ErrNotFound)
	}
	c := list[i]
	n.ConfigFrom = c.Name
	n.IPv4, n.IPv6, n.IPAM = c.IPv4, c.IPv6, c.IPAM
	n.Labels, n.Options, n.IPAMOptions = maps.Clone(c.Labels), maps.Clone(c.Options), maps.Clone(c.IPAMOptions)
	n.Pools = slices.Clone(c.Pools)
	return nil
}

// configUnusedLocked refuses the removal of a configuration that a network was made from. The caller holds e.gateways.mu.
func (e *Engine) configUnusedLocked(c *Network) error {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, n := range e.networks {
		if n.ConfigFrom == c.Name {
			return fmt.Errorf("configuration network %q is in use: %w", c.Name, errdefs.ErrForbidden)
		}
	}
	return nil
}
