package network

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Drift is one way in which an endpoint is not as it was plugged. Plug repairs it.
type Drift struct {
	EndpointID string
	Problem    string // for people: what is wrong with which device
}

// Check compares the endpoints with the kernel: whether each host end is there, up and
// joined to its bridge, and its inner end is in the namespace, up, with
// its MAC and addresses. It changes nothing. Open vSwitch's database is compared too.
func (m *Manager) Check(ctx context.Context, nsPath string, endpoints []Endpoint) ([]Drift, error) {
	if err := validateAll(endpoints); err != nil {
		return nil, err
	}
	ns, err := kernel.OpenNetNS(nsPath)
	if err != nil {
		return nil, err
	}
	s := &session{m: m, ns: ns}
	defer s.close()
	err = ns.Do(func() (err error) {
		s.guest, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
		return err
	})
	if err == nil {
		s.host, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	var out []Drift
	for _, e := range endpoints {
		problems, err := s.check(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: check: %w", e.ID, err)
		}
		for _, p := range problems {
			out = append(out, Drift{EndpointID: e.ID, Problem: p})
		}
	}
	return out, nil
}

func (s *session) check(ctx context.Context, e Endpoint) (problems []string, err error) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if e.inside() {
		guest, _, err := s.findInside(e)
		if err != nil {
			return nil, err
		}
		if guest == nil {
			bad("the device of the parent %s is not in the container", e.Parent)
			return problems, nil
		}
		return problems, s.checkGuest(e, guest, bad)
	}
	host, err := s.host.LinkByName(e.HostName())
	if isNoDevice(err) {
		bad("device %s is gone", e.HostName())
		return problems, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	if host.Attrs().Flags&netUp == 0 {
		bad("device %s is down", e.HostName())
	}
	switch e.Kind {
	case KindBridge:
		s.checkMember(host, e.Bridge, bad)
	case KindOVSHybrid:
		bridge, inner, outer := e.hybridNames()
		s.checkMember(host, bridge, bad)
		if ok, err := s.joined(inner, outer); err != nil {
			return nil, err
		} else if !ok {
			bad("devices %s and %s are no pair", inner, outer)
		}
	}
	if port := e.ovsPort(); port != "" {
		found, err := s.m.ovs.findPort(ctx, port)
		if err != nil {
			return nil, err
		}
		if found == "" {
			bad("Open vSwitch has no port %s", port)
		}
	}
	guest, err := s.guest.LinkByIndex(host.Attrs().ParentIndex)
	if isNoDevice(err) || (err == nil && guest.Attrs().ParentIndex != host.Attrs().Index) {
		bad("the inner end of %s is not in the container", e.HostName())
		return problems, nil
	}
	if err != nil {
		return nil, unavailable(err)
	}
	return problems, s.checkGuest(e, guest, bad)
}

func (s *session) checkMember(device netlink.Link, bridge string, bad func(string, ...any)) {
	link, err := s.host.LinkByName(bridge)
	if err != nil || device.Attrs().MasterIndex != link.Attrs().Index {
		bad("device %s is not on bridge %s", device.Attrs().Name, bridge)
	} else if link.Attrs().Flags&netUp == 0 {
		bad("bridge %s is down", bridge)
	}
}

func (s *session) checkGuest(e Endpoint, guest netlink.Link, bad func(string, ...any)) error {
	attrs := guest.Attrs()
	if attrs.Flags&netUp == 0 {
		bad("device %s in the container is down", attrs.Name)
	}
	if e.Kind != KindIPvlan && !strings.EqualFold(attrs.HardwareAddr.String(), e.MAC) {
		bad("device %s in the container has MAC %s instead of %s", attrs.Name, attrs.HardwareAddr, e.MAC)
	}
	list, err := s.guest.AddrList(guest, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("addresses of %s: %w: %w", attrs.Name, err, errdefs.ErrUnavailable)
	}
	have := map[netip.Prefix]bool{}
	for _, a := range list {
		if p, ok := prefixOf(a.IPNet); ok {
			have[p] = true
		}
	}
	for _, p := range e.Addresses {
		if !have[p] {
			bad("device %s in the container has lost address %s", attrs.Name, p)
		}
	}
	return nil
}

// Statistics counts an endpoint's traffic as the container sees it: received is what
// came to the container. Bytes are octets of Ethernet frames.
type Statistics struct {
	EndpointID           string
	HostDevice           string
	MAC                  string
	RxBytes, TxBytes     uint64
	RxPackets, TxPackets uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64
}

// Stats reads the counters of the endpoints that are plugged in the namespace at nsPath, in order. Endpoints that
// are not are left out.
func (m *Manager) Stats(_ context.Context, nsPath string, endpoints []Endpoint) ([]Statistics, error) {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return nil, unavailable(err)
	}
	s := &session{m: m, host: host}
	defer s.close()
	if err := s.openGuest(nsPath, endpoints); err != nil {
		return nil, err
	}
	var out []Statistics
	for _, e := range endpoints {
		var link netlink.Link
		switch {
		case !e.inside():
			link, err = host.LinkByName(e.HostName())
		case s.guest != nil:
			var found netlink.Link
			if found, _, err = s.findInside(e); found != nil {
				link = found
			}
		}
		if isNoDevice(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("endpoint %s: %w: %w", e.ID, err, errdefs.ErrUnavailable)
		}
		if link == nil || link.Attrs().Statistics == nil {
			continue
		}
		c := link.Attrs().Statistics
		if e.inside() {
			out = append(out, Statistics{EndpointID: e.ID, MAC: e.MAC,
				RxBytes: c.RxBytes, TxBytes: c.TxBytes, RxPackets: c.RxPackets, TxPackets: c.TxPackets,
				RxErrors: c.RxErrors, TxErrors: c.TxErrors, RxDropped: c.RxDropped, TxDropped: c.TxDropped})
			continue
		}
		// The host end's counters: what it sends is what the container receives.
		out = append(out, Statistics{EndpointID: e.ID, HostDevice: e.HostName(), MAC: e.MAC,
			RxBytes: c.TxBytes, TxBytes: c.RxBytes, RxPackets: c.TxPackets, TxPackets: c.RxPackets,
			RxErrors: c.TxErrors, TxErrors: c.RxErrors, RxDropped: c.TxDropped, TxDropped: c.RxDropped})
	}
	return out, nil
}

// Names are the host devices that an endpoint has, for those who look for strays.
func (e Endpoint) Names() []string {
	if e.inside() {
		return nil
	}
	names := []string{e.HostName()}
	if e.Kind == KindOVSHybrid {
		bridge, inner, outer := e.hybridNames()
		names = append(names, bridge, inner, outer)
	}
	return names
}

// validParam refuses parameters that are not a network namespace's.
func validParam(path string) error {
	if !strings.HasPrefix(path, "net/") || strings.Contains(path, "..") {
		return fmt.Errorf("kernel parameter %s is not one of a network namespace: %w", path, errdefs.ErrInvalid)
	}
	return nil
}
