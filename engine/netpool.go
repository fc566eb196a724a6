package engine

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// Pool is a subnet of a network.
type Pool struct {
	Subnet netip.Prefix
	// Range is the part that containers' addresses are chosen from; all of Subnet if it is the zero Prefix.
	Range   netip.Prefix `json:",omitzero"`
	Gateway netip.Addr   `json:",omitzero"`
	// Aux are addresses that no container gets, by what has them.
	Aux map[string]netip.Addr `json:",omitempty"`
	// Asked: somebody chose Subnet, so that he may choose addresses of it as well.
	Asked bool `json:",omitempty"`
}

// gatewayNames are the entries of Aux that say which gateway containers have, if not the host: moby's
// daemon/libnetwork/drivers/bridge.
var gatewayNames = []string{"DefaultGatewayIPv4", "DefaultGatewayIPv6"}

// router is the containers' gateway.
func (p *Pool) router() netip.Addr {
	for _, name := range gatewayNames {
		if a, ok := p.Aux[name]; ok {
			return a
		}
	}
	return p.Gateway
}

// validate reports what is wrong with a pool that somebody asked for, in moby's words (daemon/network).
func (p *Pool) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !p.Subnet.IsValid() {
		return errors.New("a subnet is needed for an ip-range, a gateway or an auxiliary address")
	}
	if p.Subnet != p.Subnet.Masked() {
		bad("invalid subnet %s: it should be %s", p.Subnet, p.Subnet.Masked())
	}
	if a := p.Subnet.Addr(); a.Is4In6() || a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() {
		bad("invalid subnet %s: a network cannot have it", p.Subnet)
	}
	if host := p.Subnet.Addr().BitLen() - p.Subnet.Bits(); host < 2 {
		bad("invalid subnet %s: it has no room for a gateway and a container", p.Subnet)
	}
	if r := p.Range; r.IsValid() {
		switch {
		case r.Addr().Is4() != p.Subnet.Addr().Is4() || !p.Subnet.Contains(r.Addr()) || r.Bits() < p.Subnet.Bits():
			bad("invalid ip-range %s: parent subnet %s doesn't contain ip-range", r, p.Subnet)
		case r != r.Masked():
			bad("invalid ip-range %s: it should be %s", r, r.Masked())
		}
	}
	if p.Gateway.IsValid() && !p.Subnet.Contains(p.Gateway) {
		bad("invalid gateway %s: parent subnet %s doesn't contain this address", p.Gateway, p.Subnet)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Aux)) {
		if !p.Subnet.Contains(p.Aux[name]) {
			bad("invalid auxiliary address %s: parent subnet %s doesn't contain this address", p.Aux[name], p.Subnet)
		}
	}
	return errors.Join(errs...)
}

// choosePools completes n's pools: it takes subnets for the families that have none, and a gateway for
// each, of ipv4 or those of IPv6. root tells this engine from others.
func (n *Network) choosePools(ipv4 []netip.Prefix, root string, others []Network) error {
	if n.IPAM == ipamNull || n.ConfigOnly {
		return nil
	}
	o, err := n.options()
	if err != nil {
		return err
	}
	var taken []netip.Prefix
	for _, other := range others {
		if !other.ConfigOnly {
			taken = append(taken, subnets(other.Pools)...)
		}
	}
	for _, family := range []struct {
		on, ipv6   bool
		candidates []netip.Prefix
	}{{n.IPv4, false, ipv4}, {n.IPv6, true, ipv6Subnets(root)}} {
		if !family.on {
			continue
		}
		if len(n.poolsOf(family.ipv6)) == 0 {
			subnet, err := network.FreeSubnet(family.candidates, taken)
			if err != nil {
				return err
			}
			n.Pools = append(n.Pools, Pool{Subnet: subnet})
		}
		for _, p := range n.poolsOf(family.ipv6) {
			if slices.ContainsFunc(taken, p.Subnet.Overlaps) {
				return fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %w", errdefs.ErrForbidden)
			}
			if !p.Gateway.IsValid() && !n.gatewayless(&o, family.ipv6) {
				p.Gateway = p.first()
				for aux := slices.Collect(maps.Values(p.Aux)); slices.Contains(aux, p.Gateway); {
					p.Gateway = p.Gateway.Next()
				}
			}
		}
	}
	return nil
}

// gatewayless says that nobody has a gateway's address in n unless it was asked for.
func (n *Network) gatewayless(o *networkOptions, ipv6 bool) bool {
	if n.shares() {
		return n.Internal || o.device == "" || o.routed()
	}
	return ipv6 && o.mode6 == network.ModeIsolated || !ipv6 && o.mode4 == network.ModeIsolated
}

// poolsOf are n's subnets of a family.
func (n *Network) poolsOf(ipv6 bool) (list []*Pool) {
	for i := range n.Pools {
		if n.Pools[i].Subnet.Addr().Is6() == ipv6 {
			list = append(list, &n.Pools[i])
		}
	}
	return list
}

// first is the lowest address that something may have.
func (p *Pool) first() netip.Addr {
	if p.Range.IsValid() && p.Range.Addr() != p.Subnet.Addr() {
		return p.Range.Addr()
	}
	return p.Subnet.Addr().Next()
}

// contains tells whether a container may have a.
func (p *Pool) contains(a netip.Addr) bool {
	// An IPv4 subnet's first and last address mean the subnet and everybody in it; an IPv6 subnet's first means its routers.
	return p.Subnet.Contains(a) && a != p.Subnet.Addr() && (a.Is6() || p.Subnet.Contains(a.Next()))
}

// pick is the lowest address of the pool that is not refused.
func (p *Pool) pick(refused func(netip.Addr) bool) (netip.Addr, bool) {
	in := p.Subnet
	if p.Range.IsValid() {
		in = p.Range
	}
	aux := map[netip.Addr]bool{p.Gateway: true}
	for _, a := range p.Aux {
		aux[a] = true
	}
	for a := p.first(); in.Contains(a) && p.contains(a); a = a.Next() {
		if !aux[a] && !refused(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// ipv6Subnets are subnets of a unique local prefix (RFC 4193) that is the root's own.
func ipv6Subnets(root string) []netip.Prefix {
	sum := sha256.Sum256([]byte(root))
	var list []netip.Prefix
	for i := range 256 {
		a := [16]byte{0: 0xfd}
		copy(a[1:6], sum[:])
		a[7] = byte(i)
		list = append(list, netip.PrefixFrom(netip.AddrFrom16(a), 64))
	}
	return list
}

// checkAddress refuses an address that cannot be a container's in n, in moby's words.
func (n *Network) checkAddress(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	if n.Predefined() {
		return fmt.Errorf("user specified IP address is supported on user defined networks only: %w", errdefs.ErrInvalid)
	}
	for _, p := range n.Pools {
		switch {
		case p.Subnet.Addr().Is6() != a.Is6():
		case !p.Asked:
			return fmt.Errorf("user specified IP address is supported only when connecting to networks with user configured subnets: %w", errdefs.ErrInvalid)
		case p.contains(a):
			return nil
		}
	}
	var all []string
	for _, p := range n.Pools {
		all = append(all, p.Subnet.String())
	}
	return fmt.Errorf("invalid IP address %s: no configured subnet of network %s contains it, which has %s: %w", a, n.Name, strings.Join(all, ", "), errdefs.ErrInvalid)
}
