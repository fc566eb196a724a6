package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
)

// ForgetFlows makes the kernel forget the UDP flows that come for the forwards' ports of the host, or were led to where they
// lead. It is called when a forward comes or goes: the kernel asks the rules about a flow's first packet only, and UDP has
// no last one, so that a client that goes on sending would be led where it was led before.
//
// ErrUnavailable: the kernel failed.
func (m *Manager) ForgetFlows(_ context.Context, list []Forward) error {
	var errs []error
	for _, ipv6 := range []bool{false, true} {
		f := flows{}
		for _, fw := range list {
			if fw.Proto == "udp" && fw.To.Addr().Is6() == ipv6 {
				f.forwards = append(f.forwards, fw)
			}
		}
		if len(f.forwards) == 0 {
			continue
		}
		addresses, err := netlink.AddrList(nil, family(ipv6))
		if err != nil {
			return fmt.Errorf("addresses of the host: %w: %w", err, errdefs.ErrUnavailable)
		}
		f.host = map[netip.Addr]bool{}
		for _, a := range addresses {
			if p, ok := prefixOf(a.IPNet); ok {
				f.host[p.Addr()] = true
			}
		}
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.InetFamily(family(ipv6)), f); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("flows of published ports: %w: %w", errs[0], errdefs.ErrUnavailable)
	}
	return nil
}

func family(ipv6 bool) int {
	if ipv6 {
		return syscall.AF_INET6
	}
	return syscall.AF_INET
}

// flows match what comes for forwards of one family.
type flows struct {
	forwards []Forward
	host     map[netip.Addr]bool // its addresses
}

// MatchConntrackFlow implements netlink.CustomConntrackFilter.
func (f flows) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != syscall.IPPROTO_UDP {
		return false
	}
	asked, _ := netip.AddrFromSlice(flow.Forward.DstIP)
	answers, _ := netip.AddrFromSlice(flow.Reverse.SrcIP)
	asked, answers = asked.Unmap(), answers.Unmap()
	return slices.ContainsFunc(f.forwards, func(fw Forward) bool {
		if answers == fw.To.Addr() && flow.Reverse.SrcPort == fw.To.Port() {
			return true
		}
		anyAddress := !fw.HostIP.IsValid() || fw.HostIP.IsUnspecified()
		return !fw.Direct && flow.Forward.DstPort == fw.HostPort && f.host[asked] && (anyAddress || fw.HostIP == asked)
	})
}
