package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/engine/store"
)

const kindNetwork store.Kind = "network"

// bridgeName is the key of the bridge network's record, and its name in Docker's API.
const bridgeName = "bridge"

// BridgeNetwork is the network of containers in mode NetworkBridge. Its addresses stay the same
// as long as the engine's root does. The device and its rules are there while there is a
// container in it.
type BridgeNetwork struct {
	Device  string       // the Linux bridge
	Gateway netip.Prefix // the host's address in it, with the subnet's length
}

// bridge guards the device and the rules.
type bridge struct {
	mu        sync.Mutex
	chosen    BridgeNetwork        // once it was needed
	published map[string]published // by container
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
	e.bridge.mu.Lock()
	defer e.bridge.mu.Unlock()
	return e.bridgeLocked()
}

// bridgeLocked is BridgeNetwork with e.bridge.mu held.
func (e *Engine) bridgeLocked() (BridgeNetwork, error) {
	if e.bridge.chosen.Device != "" {
		return e.bridge.chosen, nil
	}
	n, err := store.Get[BridgeNetwork](e.db, kindNetwork, bridgeName)
	if errors.Is(err, errdefs.ErrNotFound) {
		var subnet netip.Prefix
		if subnet, err = network.FreeSubnet(bridgeSubnets()); err == nil {
			n = BridgeNetwork{Device: "na" + e.mark(), Gateway: netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits())}
			err = store.Put(e.db, kindNetwork, bridgeName, n)
		}
	}
	if err != nil {
		return BridgeNetwork{}, fmt.Errorf("bridge network: %w", err)
	}
	e.bridge.chosen = n
	return n, nil
}

// mark tells this engine's devices and tables from those of another one on the host.
func (e *Engine) mark() string { return rootMark(e.opts.Root) }

// natTable is the nftables table of the bridge network.
func (e *Engine) natTable() string { return "nova-agent-" + e.mark() }

// bridgeEndpointLocked makes an endpoint with the lowest address that no container has. The
// caller holds e.mu.
func (e *Engine) bridgeEndpointLocked(n BridgeNetwork, id string) (network.Endpoint, error) {
	taken := map[netip.Addr]bool{n.Gateway.Addr(): true}
	for _, t := range e.containers {
		for _, ep := range t.rec.Spec.Endpoints {
			for _, a := range ep.Addresses {
				taken[a.Addr()] = true
			}
		}
	}
	a := n.Gateway.Addr().Next()
	for taken[a] {
		a = a.Next()
	}
	if !n.Gateway.Contains(a) || !n.Gateway.Contains(a.Next()) { // the last one is for broadcasts
		return network.Endpoint{}, fmt.Errorf("no available IPv4 addresses on the bridge network %s: %w", n.Gateway.Masked(), errdefs.ErrExhausted)
	}
	octets := a.As4()
	return network.Endpoint{
		ID: id, Kind: network.KindBridge, Bridge: n.Device, BridgeCreate: true, Hairpin: true,
		HostDevice: "veth" + id[:10], GuestDevice: "eth0",
		// Of the address, as dockerd's were: a neighbour's cache stays right when a container comes in another's place.
		MAC:       fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", octets[0], octets[1], octets[2], octets[3]),
		Addresses: []netip.Prefix{netip.PrefixFrom(a, n.Gateway.Bits())}, Gateway4: n.Gateway.Addr(),
	}, nil
}

// openBridge makes the host the gateway of the bridge, which an endpoint has joined already and
// so keeps.
func (e *Engine) openBridge(ctx context.Context) error {
	e.bridge.mu.Lock()
	defer e.bridge.mu.Unlock()
	return e.openBridgeLocked(ctx)
}

// openBridgeLocked is openBridge with e.bridge.mu held. It also makes the published ports true.
func (e *Engine) openBridgeLocked(ctx context.Context) error {
	n, err := e.bridgeLocked()
	if err != nil {
		return err
	}
	return e.network.OpenNAT(ctx, network.NAT{Table: e.natTable(), Bridge: n.Device, Gateway: n.Gateway, Forwards: e.bridge.forwardsLocked()})
}

// closeBridge removes the rules if no container but the one with that ID needs them.
func (e *Engine) closeBridge(ctx context.Context, id string) error {
	e.bridge.mu.Lock()
	defer e.bridge.mu.Unlock()
	if _, err := store.Get[BridgeNetwork](e.db, kindNetwork, bridgeName); errors.Is(err, errdefs.ErrNotFound) {
		return nil // there never was one
	}
	// Who comes now finds the rules gone, or waits for the lock to add them.
	if e.onBridge(id) {
		return nil
	}
	return e.network.CloseNAT(ctx, e.natTable())
}

// onBridge tells whether a container other than that one is in the bridge network.
func (e *Engine) onBridge(but string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, t := range e.containers {
		if t.id != but && t.rec.Spec.NetworkMode == NetworkBridge {
			return true
		}
	}
	return false
}
