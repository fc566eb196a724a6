package engine

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"novaagent/engine/network"
)

// resolverPort is where a container's name service listens, if it can, so that a new agent's takes the
// old one's place. Programs of a container get ports from 32768 on.
const resolverPort = 28153

// openNames gives t a name service if it is in a network that has names, which the default one is not. The caller
// holds t's lock.
func (e *Engine) openNames(t *tracked) error {
	if !e.record(t).named() {
		e.closeNames(t)
		return nil
	}
	if t.names != nil {
		return nil
	}
	r, err := e.network.OpenResolver(e.netPath(t.id), resolverPort, &names{e, t})
	if err != nil {
		return err
	}
	t.names = r
	return nil
}

// closeNames ends t's name service. The caller holds t's lock.
func (e *Engine) closeNames(t *tracked) {
	if t.names == nil {
		return
	}
	if err := t.names.Close(); err != nil {
		e.log.Error("ending a container's name service", "container_id", t.id, "error", err)
	}
	t.names = nil
}

// named tells whether c is in a network that has names.
func (c *Container) named() bool {
	return c.Spec.NetworkMode == NetworkBridge &&
		slices.ContainsFunc(c.Spec.Networks, func(j Join) bool { return j.Network != BridgeNetworkID })
}

// names are those that one container sees.
type names struct {
	e *Engine
	t *tracked
}

// DNSNames are the names of c in a network: its own first.
func (c *Container) DNSNames(j Join) []string {
	list := append([]string{c.Spec.Name}, j.Aliases...)
	list = append(list, short(c.ID))
	if c.Spec.Hostname != "" {
		list = append(list, c.Spec.Hostname)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(name string) bool {
		again := seen[name]
		seen[name] = true
		return again
	})
}

// Lookup implements network.Names. As in Docker the container's networks are asked one after the other.
func (n *names) Lookup(name string) (list []netip.Addr, known bool) {
	n.e.mu.RLock()
	defer n.e.mu.RUnlock()
	for _, mine := range n.t.rec.Spec.Networks {
		if mine.Network == BridgeNetworkID {
			continue
		}
		plain := name
		if rest, ok := strings.CutSuffix(name, "."+strings.ToLower(mine.Name)); ok {
			plain = rest
		}
		for _, link := range mine.Links {
			if strings.ToLower(link.Alias) == plain {
				if t, err := n.e.findLocked(link.Container); err == nil {
					if a := t.addressesLocked(mine.Network); len(a) > 0 {
						return a, true
					}
				}
			}
		}
		for _, t := range n.e.containers {
			for _, theirs := range t.rec.Spec.Networks {
				if theirs.Network == mine.Network && slices.ContainsFunc(t.rec.DNSNames(theirs), func(s string) bool {
					s = strings.ToLower(s)
					return s == plain || s == name
				}) {
					list = append(list, t.addressesLocked(mine.Network)...)
				}
			}
		}
		if len(list) > 0 {
			return list, true
		}
	}
	return nil, false
}

// addressesLocked are t's addresses in a network, unless it is paused before its start or after its end. The caller
// holds Engine.mu.
func (t *tracked) addressesLocked(network string) (list []netip.Addr) {
	for _, c := range t.claims {
		if c.network != network {
			continue
		}
		for _, a := range c.endpoint.Addresses {
			list = append(list, a.Addr())
		}
	}
	return list
}

// Reverse implements network.Names.
func (n *names) Reverse(a netip.Addr) (string, bool) {
	n.e.mu.RLock()
	defer n.e.mu.RUnlock()
	for _, mine := range n.t.rec.Spec.Networks {
		if mine.Network == BridgeNetworkID {
			continue
		}
		for _, t := range n.e.containers {
			if slices.Contains(t.addressesLocked(mine.Network), a) {
				return t.rec.Spec.Name + "." + mine.Name, true
			}
		}
	}
	return "", false
}

// Upstream implements network.Names. A container that reaches nothing outside gets no answers from there, either.
func (n *names) Upstream() (list []network.Upstream) {
	rec := n.e.record(n.t)
	servers, inside := rec.Spec.DNS.Nameservers, true
	if len(servers) == 0 {
		if _, _, ok := rec.router(anyRouter); !ok {
			return nil
		}
		servers, inside = hostDNS().Nameservers, false
	}
	for _, s := range servers {
		if a, err := netip.ParseAddr(s); err == nil {
			list = append(list, network.Upstream{Address: a, Inside: inside})
		}
	}
	return list
}

// closeAllNames is for Close, when nothing else is at work.
func (e *Engine) closeAllNames() {
	for _, t := range slices.Collect(maps.Values(e.containers)) {
		e.closeNames(t)
	}
}
