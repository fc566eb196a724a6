package network

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"github.com/google/nftables"
	mdlayher "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Gateway makes the host the router of a Linux bridge of containers.
type Gateway struct {
	Bridge string
	// Addresses are the host's on the bridge, each with its subnet's length. Subnets whose gateway is
	// not the host are in Subnets only.
	Addresses []netip.Prefix
	// Subnets are the containers'.
	Subnets []netip.Prefix
	// Internal lets nothing pass between the bridge and the outside.
	Internal bool
	// Mode4 and Mode6 say how the containers and the outside reach each other, by family.
	Mode4, Mode6 GatewayMode
	// KeepSource lets packets leave under the containers' addresses, also in the mode ModeNAT.
	KeepSource bool
	// Trusted are devices of the host from which all of the containers' ports are reached.
	Trusted []string
	// Apart keeps the containers from each other.
	Apart bool
	// MTU of the bridge, 0 for the kernel's.
	MTU int
}

// GatewayMode is Docker's: com.docker.network.bridge.gateway_mode_ipv4 and _ipv6.
type GatewayMode string

const (
	// ModeNAT: the outside sees the host's addresses, and reaches what Forwards lead to.
	ModeNAT GatewayMode = "nat"
	// ModeUnprotected is ModeNAT, and whoever has a route reaches the containers' addresses.
	ModeUnprotected GatewayMode = "nat-unprotected"
	// ModeRouted: the outside sees the containers' addresses, and reaches those of their ports that are published.
	ModeRouted GatewayMode = "routed"
	// ModeIsolated is for internal networks: the host has no address there, either.
	ModeIsolated GatewayMode = "isolated"
)

func (g Gateway) mode(ipv6 bool) GatewayMode {
	if ipv6 {
		return g.Mode6
	}
	return g.Mode4
}

// Rules are all that an engine wants of the host's packet filter, in nftables tables of its own: one
// named Table for IPv4, and for IPv6 if a gateway has it.
type Rules struct {
	Table    string
	Gateways []Gateway
	// Forwards are the ports of the host that lead to containers.
	Forwards []Forward
}

// Forward leads what comes for a port of the host to a container.
type Forward struct {
	Proto string // "tcp" or "udp"
	// HostIP is the address it comes for; the zero Addr is any of the host's, of To's family.
	HostIP   netip.Addr
	HostPort uint16
	To       netip.AddrPort
	// Direct lets the outside reach To itself, in ModeRouted; then there is no port of the host.
	Direct bool
}

// Compare orders forwards by the host's port.
func (f Forward) Compare(g Forward) int {
	return cmp.Or(cmp.Compare(f.HostPort, g.HostPort), cmp.Compare(f.Proto, g.Proto), f.HostIP.Compare(g.HostIP), f.To.Compare(g.To))
}

func (g Gateway) has(ipv6 bool) bool {
	return slices.ContainsFunc(g.Subnets, func(p netip.Prefix) bool { return p.Addr().Is6() == ipv6 })
}

func (r Rules) hasIPv6() bool {
	return slices.ContainsFunc(r.Gateways, func(g Gateway) bool { return g.has(true) })
}

// OpenGateway makes the bridge if it is not there, gives it its addresses and lets the host forward. It may be
// repeated. The bridge stays until CloseGateway.
//
// ErrConflict: a device of that name is no bridge. ErrUnavailable: the kernel failed.
func (m *Manager) OpenGateway(_ context.Context, g Gateway) error {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return unavailable(err)
	}
	s := &session{m: m, host: host}
	defer s.close()
	defer m.bridges.lock(g.Bridge)()
	link, err := s.ensureBridge(g.Bridge, bridgeShared, true)
	if err != nil {
		return err
	}
	fail := func(err error) error { return fmt.Errorf("bridge %s: %w", g.Bridge, err) }
	if g.MTU != 0 && link.Attrs().MTU != g.MTU {
		if err := host.LinkSetMTU(link, g.MTU); err != nil {
			return fail(fmt.Errorf("MTU %d: %w: %w", g.MTU, err, errdefs.ErrUnavailable))
		}
	}
	// A bridge has the lowest address of its ports, unless it is set: a container that comes would change it, and what
	// the others' neighbour caches say would be wrong for half a minute.
	if mac := bridgeMAC(g.Bridge); strings.HasPrefix(link.Attrs().Alias, mark) && !bytes.Equal(link.Attrs().HardwareAddr, mac) {
		if err := host.LinkSetHardwareAddr(link, mac); err != nil {
			return fail(fmt.Errorf("MAC %s: %w: %w", mac, err, errdefs.ErrUnavailable))
		}
	}
	conf4, conf6 := "net/ipv4/conf/"+g.Bridge, "net/ipv6/conf/"+g.Bridge
	var params []kernel.Sysctl
	if g.has(false) {
		// A packet's way back comes in by any device, so that forwarding is for all or useless.
		params = append(params, kernel.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"},
			// So that a port is reached from the host's own loopback address, too; see rules.
			kernel.Sysctl{Path: conf4 + "/route_localnet", Value: "1"})
	}
	if g.has(true) {
		params = append(params, kernel.Sysctl{Path: conf6 + "/disable_ipv6", Value: "0"},
			kernel.Sysctl{Path: conf6 + "/accept_ra", Value: "0"}, kernel.Sysctl{Path: conf6 + "/accept_dad", Value: "0"},
			kernel.Sysctl{Path: "net/ipv6/conf/all/forwarding", Value: "1"})
	}
	if err := kernel.SetSysctls(params...); err != nil {
		return fail(err)
	}
	for _, p := range g.Addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = syscall.IFA_F_NODAD
		}
		if err := host.AddrReplace(link, a); err != nil {
			return fail(fmt.Errorf("address %s: %w: %w", p, err, errdefs.ErrUnavailable))
		}
	}
	return nil
}

// bridgeMAC is a bridge's own address.
func bridgeMAC(name string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(name))
	return append(net.HardwareAddr{0x02, 0x42}, sum[:4]...)
}

// CloseGateway removes the bridge if OpenGateway or Plug made it and it has no ports. Nil means
// that it is gone or not ours.
func (m *Manager) CloseGateway(_ context.Context, bridge string) error {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return unavailable(err)
	}
	s := &session{m: m, host: host}
	defer s.close()
	return s.dropBridge(bridge)
}

// families are the tables there may be.
var families = []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyIPv6}

// SetRules makes r's tables what r says, in one transaction; without gateways there are none. No other
// table is touched.
//
// ErrUnavailable: the kernel failed, or has no nftables.
func (m *Manager) SetRules(_ context.Context, r Rules) error {
	nft, err := manyMessages()
	if err != nil {
		return err
	}
	for _, family := range families {
		// Whatever an earlier version of this program left is replaced. To delete a table that is not there
		// is an error, to add one that is there is none.
		t := &nftables.Table{Family: family, Name: r.Table}
		nft.AddTable(t)
		nft.DelTable(t)
		if err := r.add(nft, family); err != nil {
			return err
		}
	}
	err = nft.Flush()
	if errors.Is(err, syscall.EAFNOSUPPORT) && !r.hasIPv6() {
		if nft, err = manyMessages(); err != nil { // a host without IPv6
			return err
		}
		t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: r.Table}
		nft.AddTable(t)
		nft.DelTable(t)
		if err := r.add(nft, nftables.TableFamilyIPv4); err != nil {
			return err
		}
		err = nft.Flush()
	}
	if err != nil {
		return fmt.Errorf("nftables: table %s: %w: %w", r.Table, err, errdefs.ErrUnavailable)
	}
	return nil
}

// manyMessages is a connection for large transactions. The kernel acknowledges each of their messages before any is
// read, and 200 of these are too many for a socket's usual buffer.
func manyMessages() (*nftables.Conn, error) {
	const enough = 16 << 20
	nft, err := nftables.New(nftables.WithSockOptions(func(c *mdlayher.Conn) error {
		return errors.Join(c.SetReadBuffer(enough), c.SetWriteBuffer(enough))
	}))
	return nft, unavailable(err)
}

// HasRules tells whether the table is there: who loads the host's firewall anew may have flushed it.
func (m *Manager) HasRules(table string) bool {
	_, err := (&nftables.Conn{}).ListTableOfFamily(table, nftables.TableFamilyIPv4)
	return err == nil
}

// AddForwards adds to the table what leads to one container, at the same cost however many there are.
//
// ErrNotFound: the table is not there, or not as SetRules makes it: call that.
func (m *Manager) AddForwards(_ context.Context, table string, list []Forward) error {
	return changeForwards(table, list, (*nftables.Conn).SetAddElements)
}

// RemoveForwards takes back what AddForwards did. ErrNotFound: some of it is not there.
func (m *Manager) RemoveForwards(_ context.Context, table string, list []Forward) error {
	return changeForwards(table, list, (*nftables.Conn).SetDeleteElements)
}

func changeForwards(table string, list []Forward, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(list) == 0 {
		return nil
	}
	nft := &nftables.Conn{}
	for _, family := range families {
		sets := portSets(&nftables.Table{Family: family, Name: table})
		for i, elements := range elementsOf(list, family) {
			if len(elements) == 0 {
				continue
			}
			if err := change(nft, sets[i], elements); err != nil {
				return fmt.Errorf("nftables: table %s: %w: %w", table, err, errdefs.ErrUnavailable)
			}
		}
	}
	if err := nft.Flush(); errors.Is(err, syscall.ENOENT) {
		return fmt.Errorf("nftables: table %s: %w: %w", table, err, errdefs.ErrNotFound)
	} else if err != nil {
		return fmt.Errorf("nftables: table %s: %w: %w", table, err, errdefs.ErrUnavailable)
	}
	return nil
}

// FreeSubnet is the first of the candidates that overlaps with no route of the host and none of
// taken. ErrExhausted: all do.
func FreeSubnet(candidates, taken []netip.Prefix) (netip.Prefix, error) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: syscall.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("routes of the host: %w: %w", err, errdefs.ErrUnavailable)
	}
	taken = slices.Clone(taken)
	for _, r := range routes {
		if to, ok := prefixOf(r.Dst); ok && to.Bits() > 0 {
			taken = append(taken, to)
		}
	}
	for _, p := range candidates {
		if !slices.ContainsFunc(taken, p.Overlaps) {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("all predefined address pools have been fully subnetted: each overlaps with a network or a route of the host: %w", errdefs.ErrExhausted)
}
