package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
)

// metrics are the priorities of an endpoint's default routes; lower wins, 0 is the
// kernel's best.
type metrics struct{ v4, v6 int }

// ipv6Metric is the kernel's own for IPv6 routes without one (IP6_RT_PRIO_USER).
const ipv6Metric = 1024

// metricsOf lets the first endpoint with a gateway have the default route. The
// later ones' are kept behind it, each with a metric of its own.
func metricsOf(endpoints []Endpoint, i int) metrics {
	m := metrics{v4: 0, v6: ipv6Metric}
	for _, e := range endpoints[:i] {
		if e.Gateway4.IsValid() {
			m.v4 += 100
		}
		if e.Gateway6.IsValid() {
			m.v6 += 100
		}
	}
	return m
}

// addresses makes the device's global addresses those of e.
func (s *session) addresses(e Endpoint, guest netlink.Link, made bool) error {
	have := map[netip.Prefix]bool{}
	if !made {
		list, err := s.guest.AddrList(guest, netlink.FAMILY_ALL)
		if err != nil {
			return fmt.Errorf("addresses of %s: %w: %w", guest.Attrs().Name, err, errdefs.ErrUnavailable)
		}
		want := map[netip.Prefix]bool{}
		for _, a := range e.Addresses {
			want[a] = true
		}
		for _, a := range list {
			p, ok := prefixOf(a.IPNet)
			if !ok || p.Addr().IsLinkLocalUnicast() {
				continue
			}
			if have[p] = want[p]; !have[p] {
				if err := s.guest.AddrDel(guest, &a); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
					return fmt.Errorf("address %s: remove: %w: %w", p, err, errdefs.ErrUnavailable)
				}
			}
		}
	}
	for _, p := range slices.Concat(e.Addresses, e.LinkLocal) {
		if have[p] {
			continue
		}
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = syscall.IFA_F_NODAD
		}
		if err := s.guest.AddrReplace(guest, a); err != nil {
			return fmt.Errorf("address %s: %w: %w", p, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}

// routes makes the device's static routes those of e. The device is up: the kernel
// takes no routes before.
func (s *session) routes(e Endpoint, guest netlink.Link, made bool, m metrics) error {
	var want []netlink.Route
	index := guest.Attrs().Index
	for _, r := range e.Routes {
		want = append(want, e.route(index, ipNet(r.To.Masked()), r.Via, 0))
	}
	if e.Gateway4.IsValid() {
		want = append(want, e.route(index, everywhere4(), e.Gateway4, m.v4))
	}
	if e.Gateway6.IsValid() {
		want = append(want, e.route(index, everywhere6(), e.Gateway6, m.v6))
	}
	if !made {
		if err := s.dropRoutes(guest, want); err != nil {
			return err
		}
	}
	for i := range want {
		if err := s.guest.RouteReplace(&want[i]); err != nil {
			return fmt.Errorf("route to %s via %s: %w: %w", want[i].Dst, want[i].Gw, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}

// protocolStatic marks the routes that were made here (RTPROT_STATIC).
const protocolStatic = 4

func (e Endpoint) route(index int, to *net.IPNet, via netip.Addr, metric int) netlink.Route {
	r := netlink.Route{LinkIndex: index, Dst: to, Protocol: protocolStatic, Priority: metric}
	if metric == 0 && to.IP.To4() == nil {
		r.Priority = ipv6Metric
	}
	if !via.IsValid() || via.IsUnspecified() {
		r.Scope = netlink.SCOPE_LINK
		return r
	}
	r.Gw = via.AsSlice()
	if !e.onSubnet(via) {
		// A gateway outside the subnet is reached directly all the same: Neutron allows
		// it, and so do clouds that give each machine a /32.
		r.SetFlag(netlink.FLAG_ONLINK)
	}
	return r
}

// onSubnet tells whether the kernel finds a without being told that it is on the link.
func (e Endpoint) onSubnet(a netip.Addr) bool {
	if a.IsLinkLocalUnicast() && a.Is6() {
		return true
	}
	for _, p := range e.Addresses {
		if p.Masked().Contains(a) {
			return true
		}
	}
	return false
}

// dropRoutes removes the device's static routes that are not wanted any more.
func (s *session) dropRoutes(guest netlink.Link, want []netlink.Route) error {
	list, err := s.guest.RouteList(guest, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("routes of %s: %w: %w", guest.Attrs().Name, err, errdefs.ErrUnavailable)
	}
	for _, r := range list {
		if r.Protocol != protocolStatic || routeIn(r, want) {
			continue
		}
		if err := s.guest.RouteDel(&r); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("route to %s: remove: %w: %w", r.Dst, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}

func routeIn(r netlink.Route, list []netlink.Route) bool {
	for _, w := range list {
		if r.Gw.Equal(w.Gw) && r.Priority == w.Priority && sameNet(r.Dst, w.Dst) {
			return true
		}
	}
	return false
}

func sameNet(a, b *net.IPNet) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.String() == b.String()
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func everywhere4() *net.IPNet { return ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0)) }
func everywhere6() *net.IPNet { return ipNet(netip.PrefixFrom(netip.IPv6Unspecified(), 0)) }

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones), ok
}
