package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// bridgeUse tells bridges that differ in their settings.
type bridgeUse int

const (
	bridgeShared bridgeUse = iota // of a network
	bridgeOwn                     // of one hybrid endpoint
)

// join makes the device a port of a Linux bridge and brings it up.
func (s *session) join(e Endpoint, name string, use bridgeUse, device netlink.Link, create bool) error {
	defer s.m.bridges.lock(name)()
	// Neutron's agent deletes a bridge that it finds empty, maybe between our making
	// and joining it: then it is made again.
	for attempt := 0; ; attempt++ {
		bridge, err := s.ensureBridge(name, use, create)
		if err != nil {
			return err
		}
		if device.Attrs().MasterIndex == bridge.Attrs().Index {
			break
		}
		err = s.host.LinkSetMaster(device, bridge)
		if err == nil {
			break
		}
		if attempt >= 2 || !(errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.EINVAL)) {
			return fmt.Errorf("bridge %s: add %s: %w: %w", name, device.Attrs().Name, err, errdefs.ErrUnavailable)
		}
	}
	if e.Hairpin {
		if err := s.host.LinkSetHairpin(device, true); err != nil {
			return fmt.Errorf("bridge %s: hairpin of %s: %w: %w", name, device.Attrs().Name, err, errdefs.ErrUnavailable)
		}
	}
	if e.Isolated {
		if err := s.host.LinkSetIsolated(device, true); err != nil {
			return fmt.Errorf("bridge %s: isolate %s: %w: %w", name, device.Attrs().Name, err, errdefs.ErrUnavailable)
		}
	}
	return s.up(device)
}

// ensureBridge returns the bridge, making it if it may. The caller holds its lock.
func (s *session) ensureBridge(name string, use bridgeUse, create bool) (netlink.Link, error) {
	link, err := s.host.LinkByName(name)
	switch {
	case err == nil && link.Type() != "bridge":
		return nil, fmt.Errorf("device %s is a %s, not a bridge: %w", name, link.Type(), errdefs.ErrConflict)
	case err == nil:
	case !isNoDevice(err):
		return nil, unavailable(err)
	case !create:
		return nil, fmt.Errorf("bridge %s: %w", name, errdefs.ErrNotFound)
	default:
		if err := s.createBridge(name, use); err != nil {
			return nil, fmt.Errorf("bridge %s: create: %w: %w", name, err, errdefs.ErrUnavailable)
		}
		if link, err = s.host.LinkByName(name); err != nil {
			return nil, fmt.Errorf("bridge %s: %w: %w", name, err, errdefs.ErrUnavailable)
		}
	}
	if err := s.secureBridge(link); err != nil {
		return nil, fmt.Errorf("bridge %s: %w", name, err)
	}
	if link.Attrs().Flags&netUp != 0 {
		return link, nil
	}
	return link, s.up(link)
}

func (s *session) createBridge(name string, use bridgeUse) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if use == bridgeOwn {
		// Without ageing the bridge floods to its two ports: no packet is lost
		// while a MAC moves (Launchpad 1715317).
		zero := uint32(0)
		bridge.AgeingTime = &zero
	}
	err := s.host.LinkAdd(bridge)
	if errors.Is(err, syscall.EEXIST) { // Neutron's agent was faster
		return nil
	}
	if err != nil {
		return err
	}
	return s.host.LinkSetAlias(bridge, s.m.alias)
}

// secureBridge keeps the host out of the containers' network: it answers ARP on the
// bridge for addresses of the bridge alone, not for all of its own, and has no
// link-local address there (OSSN-0069). The settings are those that os-vif gives a bridge
// (vif_plug_linux_bridge/linux_net.py). Neutron's agent, which makes the bridge when it
// is the first, does not set them: then a host with an address that a tenant's
// subnet has too would take that tenant's packets.
func (s *session) secureBridge(bridge netlink.Link) error {
	name := bridge.Attrs().Name
	params := []kernel.Sysctl{
		{Path: "net/ipv4/conf/" + name + "/arp_ignore", Value: "1", Optional: true},
		{Path: "net/ipv4/conf/" + name + "/arp_announce", Value: "2", Optional: true},
	}
	addrs, err := s.host.AddrList(bridge, netlink.FAMILY_V6)
	if err != nil {
		return unavailable(err)
	}
	// An address that somebody gave the bridge (the host's own, on a provider network)
	// would go with IPv6.
	if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return !a.IP.IsLinkLocalUnicast() }) {
		params = append(params, kernel.Sysctl{Path: "net/ipv6/conf/" + name + "/disable_ipv6", Value: "1", Optional: true})
	}
	return kernel.SetSysctls(params...)
}

// dropBridge removes a bridge that was made here, if it has no ports.
func (s *session) dropBridge(name string) error {
	defer s.m.bridges.lock(name)()
	link, err := s.host.LinkByName(name)
	if isNoDevice(err) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if link.Type() != "bridge" || !strings.HasPrefix(link.Attrs().Alias, mark) {
		return nil // somebody else's
	}
	busy, err := hasPorts(link.Attrs().Index)
	if err != nil || busy {
		return err
	}
	return s.delete(link)
}

// deleteBridge removes the bridge of a hybrid endpoint, which nobody else uses.
func (s *session) deleteBridge(name string) error {
	defer s.m.bridges.lock(name)()
	link, err := s.host.LinkByName(name)
	if isNoDevice(err) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("device %s is a %s that is not ours: %w", name, link.Type(), errdefs.ErrConflict)
	}
	return s.delete(link)
}

func (s *session) delete(link netlink.Link) error {
	if err := s.host.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("device %s: delete: %w: %w", link.Attrs().Name, err, errdefs.ErrUnavailable)
	}
	return nil
}

// hasPorts tells whether a bridge has any port. The kernel does the filtering:
// a host has thousands of devices.
func hasPorts(bridge int) (bool, error) {
	req := nl.NewNetlinkRequest(syscall.RTM_GETLINK, syscall.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(syscall.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(syscall.IFLA_MASTER, nl.Uint32Attr(uint32(bridge))))
	msgs, err := req.Execute(syscall.NETLINK_ROUTE, syscall.RTM_NEWLINK)
	if err != nil {
		return false, fmt.Errorf("ports of a bridge: %w: %w", err, errdefs.ErrUnavailable)
	}
	for _, msg := range msgs {
		link, err := netlink.LinkDeserialize(nil, msg)
		// Kernels before 4.5 do not filter.
		if err == nil && link.Attrs().MasterIndex == bridge {
			return true, nil
		}
	}
	return false, nil
}

// joinHybrid puts the device on a bridge of its own and that on Open vSwitch
// (vif_plug_ovs/ovs.py, _plug_bridge).
func (s *session) joinHybrid(ctx context.Context, e Endpoint, device netlink.Link) error {
	bridge, inner, outer := e.hybridNames()
	made, err := s.hybridPair(e, inner, outer)
	if err != nil {
		return err
	}
	link, err := s.host.LinkByName(inner)
	if err != nil {
		return fmt.Errorf("device %s: %w: %w", inner, err, errdefs.ErrUnavailable)
	}
	if err := s.join(e, bridge, bridgeOwn, link, true); err != nil {
		return err
	}
	if err := s.m.ovs.addPort(ctx, s.portRow(e, made)); err != nil {
		return err
	}
	return s.join(e, bridge, bridgeOwn, device, true)
}

// hybridPair makes the pair between the endpoint's bridge and Open vSwitch.
func (s *session) hybridPair(e Endpoint, inner, outer string) (made bool, err error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = inner, e.MTU
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerMTU = outer, uint32(e.MTU)
	for attempt := 0; ; attempt++ {
		err = s.host.LinkAdd(veth)
		if err == nil {
			made = true
			break
		}
		if !errors.Is(err, syscall.EEXIST) || attempt > 1 {
			return false, fmt.Errorf("create device %s: %w: %w", inner, err, errdefs.ErrUnavailable)
		}
		ok, err := s.joined(inner, outer)
		if err != nil {
			return false, err
		}
		if ok {
			break
		}
		if err := errors.Join(s.deleteLink(inner), s.deleteLink(outer)); err != nil {
			return false, err
		}
	}
	for _, name := range []string{inner, outer} {
		if err := noIPv6(name); err != nil {
			return made, err
		}
		link, err := s.host.LinkByName(name)
		if err == nil {
			err = s.host.SetPromiscOn(link)
		}
		if err == nil && e.MTU != 0 && link.Attrs().MTU != e.MTU {
			err = s.host.LinkSetMTU(link, e.MTU)
		}
		if err == nil {
			err = s.host.LinkSetUp(link)
		}
		if err != nil {
			return made, fmt.Errorf("device %s: %w: %w", name, err, errdefs.ErrUnavailable)
		}
	}
	return made, nil
}

// joined tells whether two devices of the host are the ends of one pair.
func (s *session) joined(a, b string) (bool, error) {
	la, errA := s.host.LinkByName(a)
	lb, errB := s.host.LinkByName(b)
	for _, err := range []error{errA, errB} {
		if err != nil && !isNoDevice(err) {
			return false, unavailable(err)
		}
	}
	return errA == nil && errB == nil && la.Type() == "veth" && lb.Type() == "veth" &&
		la.Attrs().ParentIndex == lb.Attrs().Index && lb.Attrs().ParentIndex == la.Attrs().Index, nil
}

// portRow is what Open vSwitch is told of e. fresh devices replace a row that an
// earlier life of the host left.
func (s *session) portRow(e Endpoint, fresh bool) portRow {
	iface := e.OVS.IfaceID
	if iface == "" {
		iface = e.ID
	}
	ids := map[string]string{"iface-id": iface, "iface-status": "active", "attached-mac": e.MAC}
	if e.OVS.OwnerID != "" {
		ids["vm-uuid"] = e.OVS.OwnerID
	}
	return portRow{Bridge: e.Bridge, Name: e.ovsPort(), ExternalIDs: ids,
		CreateBridge: e.BridgeCreate, DatapathType: e.OVS.DatapathType, Fresh: fresh}
}
