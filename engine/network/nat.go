package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// NAT joins a bridge of containers to the outside: the host is their gateway, and what they
// send leaves under the host's addresses. IPv4 only.
type NAT struct {
	// Table is the name of the nftables table that holds the rules, which nobody else uses.
	Table string
	// Bridge is the Linux bridge of the endpoints.
	Bridge string
	// Gateway is the bridge's address in the containers' subnet, with the subnet's length.
	Gateway netip.Prefix
	// Forwards are the ports of the host that lead to containers.
	Forwards []Forward
}

// Forward leads what comes for a port of the host to a container.
type Forward struct {
	Proto string // "tcp" or "udp"
	// HostIP is the address it comes for; the zero Addr is any of the host's.
	HostIP   netip.Addr
	HostPort uint16
	To       netip.AddrPort
}

// Compare orders forwards by the host's port.
func (f Forward) Compare(g Forward) int {
	return cmp.Or(cmp.Compare(f.HostPort, g.HostPort), cmp.Compare(f.Proto, g.Proto), f.HostIP.Compare(g.HostIP))
}

func (n NAT) equal(o NAT) bool {
	return n.Table == o.Table && n.Bridge == o.Bridge && n.Gateway == o.Gateway && slices.Equal(n.Forwards, o.Forwards)
}

// OpenNAT gives the bridge, which must exist, the gateway's address, lets the host forward, and
// adds the rules. It may be repeated and then costs three requests to the kernel; rules that
// somebody flushed with the rest of the host's come back. No table but n.Table is touched.
//
// ErrNotFound: there is no such bridge. ErrUnavailable: the kernel failed, or has no nftables.
func (m *Manager) OpenNAT(_ context.Context, n NAT) error {
	defer m.bridges.lock(n.Bridge)()
	if err := addGateway(n); err != nil {
		return fmt.Errorf("bridge %s: %w", n.Bridge, err)
	}
	// A packet's way back comes in by any device, so that forwarding is for all or useless.
	if err := kernel.SetSysctls(kernel.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"}); err != nil {
		return err
	}
	// So that a port is reached from the host's own loopback address, too; see rules.
	if err := kernel.SetSysctls(kernel.Sysctl{Path: "net/ipv4/conf/" + n.Bridge + "/route_localnet", Value: "1"}); err != nil {
		return err
	}
	nft := &nftables.Conn{}
	if known, ok := m.tables.Load(n.Table); ok && n.equal(known.(NAT)) {
		if _, err := nft.ListTableOfFamily(n.Table, nftables.TableFamilyIPv4); err == nil {
			return nil
		}
	}
	// In one transaction: what an earlier version of this program left is replaced.
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.Table}
	nft.AddTable(t)
	nft.DelTable(t)
	n.rules(nft)
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("nftables: table %s: %w: %w", n.Table, err, errdefs.ErrUnavailable)
	}
	m.tables.Store(n.Table, n)
	return nil
}

func addGateway(n NAT) error {
	link, err := netlink.LinkByName(n.Bridge)
	if isNoDevice(err) {
		return errdefs.ErrNotFound
	}
	if err == nil {
		err = netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(n.Gateway)})
	}
	if err != nil {
		return fmt.Errorf("address %s: %w: %w", n.Gateway, err, errdefs.ErrUnavailable)
	}
	return nil
}

// CloseNAT removes a table that OpenNAT made. The gateway's address goes with the bridge. Nil
// means that it is not there.
func (m *Manager) CloseNAT(_ context.Context, table string) error {
	nft := &nftables.Conn{}
	nft.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: table})
	if err := nft.Flush(); err != nil && !errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("nftables: remove table %s: %w: %w", table, err, errdefs.ErrUnavailable)
	}
	return nil
}

// FreeSubnet is the first of the candidates that overlaps with no route of the host.
// ErrExhausted: all do.
func FreeSubnet(candidates []netip.Prefix) (netip.Prefix, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: syscall.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("routes of the host: %w: %w", err, errdefs.ErrUnavailable)
	}
	taken := func(p netip.Prefix) bool {
		for _, r := range routes {
			if to, ok := prefixOf(r.Dst); ok && to.Bits() > 0 && to.Overlaps(p) {
				return true
			}
		}
		return false
	}
	for _, p := range candidates {
		if !taken(p) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("each of %v overlaps with a route of the host: %w", candidates, errdefs.ErrExhausted)
}
