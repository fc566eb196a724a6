package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/engine/store"
)

const kindNetwork store.Kind = "network"

// bridgeName is the key of the bridge network's record, and its name in Docker's API.
const bridgeName = "bridge"

// BridgeNetwork is the network of containers that name none. Its addresses stay the same
// as long as the engine's root does. The device is there while there is a container in it.
type BridgeNetwork struct {
	Device  string       // the Linux bridge
	Gateway netip.Prefix // the host's address in it, with the subnet's length
}

// gateways are the devices and rules of the bridges. mu comes before Engine.mu.
type gateways struct {
	mu        sync.Mutex
	chosen    BridgeNetwork        // once it was needed
	published map[string]published // by container
	written   []network.Gateway    // that the rules were made of
	opening   bool                 // Open is at work, and writes the rules once, at its end
}

// bridgeSubnets are Docker's default address pools, the first of which that no route of the host
// overlaps with is taken (moby, daemon/libnetwork/ipamutils).
func bridgeSubnets() []netip.Prefix {
	var list []netip.Prefix
	for i := range byte(15) {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 17 + i, 0, 0}), 16))
	}
	for i := range byte(16) {
		list = append(list, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, i * 16, 0}), 20))
	}
	return list
}

// BridgeNetwork returns the bridge network; the first call chooses its addresses. ErrExhausted:
// no subnet is free on this host.
func (e *Engine) BridgeNetwork() (BridgeNetwork, error) {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	return e.bridgeLocked()
}

// bridgeLocked is BridgeNetwork with e.gateways.mu held.
func (e *Engine) bridgeLocked() (BridgeNetwork, error) {
	if e.gateways.chosen.Device != "" {
		return e.gateways.chosen, nil
	}
	n, err := store.Get[BridgeNetwork](e.db, kindNetwork, bridgeName)
	if errors.Is(err, errdefs.ErrNotFound) {
		var taken []netip.Prefix
		e.mu.RLock()
		for _, other := range e.networks {
			if !other.ConfigOnly {
				taken = append(taken, subnets(other.Pools)...)
			}
		}
		e.mu.RUnlock()
		var subnet netip.Prefix
		if subnet, err = network.FreeSubnet(e.opts.Subnets, taken); err == nil {
			n = BridgeNetwork{Device: "na" + e.mark(), Gateway: netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits())}
			if err = store.Put(e.db, kindNetwork, bridgeName, n); err == nil {
				err = e.copyNetwork(bridgeName, n)
			}
		}
	}
	if err != nil {
		return BridgeNetwork{}, fmt.Errorf("bridge network: %w", err)
	}
	e.gateways.chosen = n
	return n, nil
}

// defaultNetwork is the bridge network as one of many.
func (e *Engine) defaultNetwork() (Network, error) {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	return e.defaultNetworkLocked()
}

// defaultNetworkLocked is defaultNetwork with e.gateways.mu held.
func (e *Engine) defaultNetworkLocked() (Network, error) {
	b, err := e.bridgeLocked()
	if err != nil {
		return Network{}, err
	}
	return Network{
		ID: BridgeNetworkID, Name: bridgeName, Driver: DriverBridge, IPv4: true, Device: b.Device,
		Pools: []Pool{{Subnet: b.Gateway.Masked(), Gateway: b.Gateway.Addr()}},
	}, nil
}

// mark tells this engine's devices and tables from those of another one on the host.
func (e *Engine) mark() string { return rootMark(e.opts.Root) }

// natTable is the name of the engine's nftables tables.
func (e *Engine) natTable() string { return "nova-agent-" + e.mark() }

// openNetwork makes the device and the rules of a network that a container is about to join.
func (e *Engine) openNetwork(ctx context.Context, n *Network) error {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	return e.openNetworkLocked(ctx, n)
}

// openNetworkLocked is openNetwork with e.gateways.mu held. What is right already is left alone.
func (e *Engine) openNetworkLocked(ctx context.Context, n *Network) error {
	switch {
	case n.ConfigOnly:
		return nil
	case n.shares():
		o, err := n.options()
		if err != nil {
			return err
		}
		return e.network.OpenParent(ctx, network.Kind(n.Driver), n.Device, o.device == "")
	}
	g, err := n.gateway()
	if err != nil {
		return err
	}
	if err := e.network.OpenGateway(ctx, g); err != nil {
		return err
	}
	return e.ensureRulesLocked(ctx)
}

// gateway is what the host is to a bridge network.
func (n *Network) gateway() (network.Gateway, error) {
	o, err := n.options()
	if err != nil {
		return network.Gateway{}, err
	}
	g := network.Gateway{Bridge: n.Device, Internal: n.Internal, KeepSource: o.keepSource, Apart: o.apart, MTU: o.mtu, Subnets: subnets(n.Pools),
		Mode4: o.mode4, Mode6: o.mode6, Trusted: o.trusted}
	for _, p := range n.Pools {
		if p.Gateway.IsValid() && !(o.noGateway && p.Gateway.Is4()) && !n.gatewayless(&o, p.Gateway.Is6()) {
			g.Addresses = append(g.Addresses, netip.PrefixFrom(p.Gateway, p.Subnet.Bits()))
		}
	}
	return g, nil
}

// ensureRulesLocked writes the rules if a network came or went, or somebody flushed them with the
// rest of the host's. The caller holds e.gateways.mu.
func (e *Engine) ensureRulesLocked(ctx context.Context) error {
	if e.gateways.opening {
		return nil
	}
	list, err := e.openGatewaysLocked()
	if err != nil {
		return err
	}
	if slices.EqualFunc(list, e.gateways.written, sameGateway) && e.network.HasRules(e.natTable()) == (len(list) > 0) {
		return nil
	}
	return e.writeRulesLocked(ctx)
}

// sameGateway tells whether two make the same rules.
func sameGateway(a, b network.Gateway) bool {
	return a.Bridge == b.Bridge && slices.Equal(a.Subnets, b.Subnets) && a.Internal == b.Internal && a.KeepSource == b.KeepSource && a.Apart == b.Apart &&
		a.Mode4 == b.Mode4 && a.Mode6 == b.Mode6 && slices.Equal(a.Trusted, b.Trusted)
}

// writeRulesLocked makes the rules those of the networks and published ports that there are. The caller
// holds e.gateways.mu.
func (e *Engine) writeRulesLocked(ctx context.Context) error {
	if e.gateways.opening {
		return nil
	}
	list, err := e.openGatewaysLocked()
	if err != nil {
		return err
	}
	err = e.network.SetRules(ctx, network.Rules{Table: e.natTable(), Gateways: list, Forwards: e.gateways.forwardsLocked()})
	if err != nil {
		return err
	}
	e.gateways.written = list
	return nil
}

// openGatewaysLocked are the gateways of all bridge networks, in an order that stays; of the default one
// if a container is in it. The caller holds e.gateways.mu.
func (e *Engine) openGatewaysLocked() ([]network.Gateway, error) {
	var all []Network
	e.mu.RLock()
	for _, n := range e.networks {
		if n.bridged() {
			all = append(all, n)
		}
	}
	used := e.usedLocked(BridgeNetworkID)
	e.mu.RUnlock()
	if used {
		b, err := e.defaultNetworkLocked()
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	var list []network.Gateway
	for _, n := range all {
		g, err := n.gateway()
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b network.Gateway) int { return strings.Compare(a.Bridge, b.Bridge) })
	return list, nil
}

// usedLocked tells whether a container is in the network with that ID. The caller holds e.mu.
func (e *Engine) usedLocked(id string) bool {
	for _, t := range e.containers {
		if slices.ContainsFunc(t.claims, func(c claim) bool { return c.network == id }) {
			return true
		}
	}
	return false
}

// closeBridge removes the default bridge if no container is in it any more.
func (e *Engine) closeBridge(ctx context.Context) error {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	if e.gateways.opening {
		return nil // Open does, at its end
	}
	if e.gateways.chosen.Device == "" {
		if _, err := store.Get[BridgeNetwork](e.db, kindNetwork, bridgeName); errors.Is(err, errdefs.ErrNotFound) {
			return nil // there never was one
		}
	}
	// Who comes now finds it gone, or waits for the lock to make it.
	e.mu.RLock()
	used := e.usedLocked(BridgeNetworkID)
	e.mu.RUnlock()
	if used {
		return nil
	}
	b, err := e.bridgeLocked()
	if err != nil {
		return err
	}
	if err := e.network.CloseGateway(ctx, b.Device); err != nil {
		return err
	}
	return e.ensureRulesLocked(ctx)
}

// openNetworks makes the devices of all networks as the engine opens, and then the rules.
func (e *Engine) openNetworks(ctx context.Context) {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	e.mu.RLock()
	list := slices.Collect(maps.Values(e.networks))
	used := e.usedLocked(BridgeNetworkID)
	e.mu.RUnlock()
	if used {
		if b, err := e.defaultNetworkLocked(); err == nil {
			list = append(list, b)
		}
	}
	for _, n := range list {
		if err := e.openNetworkLocked(ctx, &n); err != nil {
			e.log.Error("a network cannot be opened; its containers cannot start", "network", n.Name, "error", err)
		}
	}
	e.gateways.opening = false
	err := e.writeRulesLocked(ctx)
	if len(list) == 0 && !e.network.HasRules(e.natTable()) {
		err = nil // a host without nftables runs containers that need none
	}
	if err != nil {
		e.log.Error("the rules of the networks cannot be written", "error", err)
	}
}
