package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

const netUp = net.FlagUp

// mark begins the alias of the devices that were made here.
const mark = "nova-agent"

// plug makes endpoint e, the i-th of its container. It adds e to s.made once it has
// made a device of it.
func (s *session) plug(ctx context.Context, i int, e Endpoint, metrics metrics) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	if e.inside() {
		return s.plugInside(i, e, metrics)
	}
	host, guest, made, err := s.pair(i, e)
	if made {
		s.made = append(s.made, e)
	}
	if err != nil {
		return err
	}
	if err := s.configureGuest(e, guest, made); err != nil {
		return err
	}
	switch e.Kind {
	case KindBridge:
		err = s.join(e, e.Bridge, bridgeShared, host, e.BridgeCreate)
	case KindOVS:
		if err = s.up(host); err == nil {
			err = s.m.ovs.addPort(ctx, s.portRow(e, made))
		}
	case KindOVSHybrid:
		err = s.joinHybrid(ctx, e, host)
	case KindTap:
		err = s.up(host)
	}
	if err != nil {
		return err
	}
	// The inner end comes up last: the bridge then hears its announcement.
	if err := s.upGuest(guest); err != nil {
		return err
	}
	return s.routes(e, guest, made, metrics)
}

// pair returns the two ends of e's veth pair, making it if it is not there or not
// as it should be. made may be true when it fails.
func (s *session) pair(i int, e Endpoint) (host, guest netlink.Link, made bool, err error) {
	// Three rounds: a wrong pair is removed and made again; meanwhile another's
	// device may come in between.
	for range 3 {
		if host, guest, err = s.existing(e); err != nil {
			return nil, nil, false, err
		} else if host != nil {
			return host, guest, false, nil
		}
		host, guest, err = s.create(i, e)
		if err == nil {
			return host, guest, true, nil
		}
		if !errors.Is(err, syscall.EEXIST) {
			return nil, nil, host != nil, err
		}
	}
	return nil, nil, false, fmt.Errorf("device %s or its inner end exists again and again: %w: %w", e.HostName(), err, errdefs.ErrConflict)
}

// existing is the pair of e if both ends are where they belong. A pair that
// is not so (its namespace was another one, as after a crash) is removed.
func (s *session) existing(e Endpoint) (host, guest netlink.Link, err error) {
	host, err = s.host.LinkByName(e.HostName())
	if isNoDevice(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, unavailable(err)
	}
	if host.Type() != "veth" {
		return nil, nil, fmt.Errorf("device %s is a %s that is not ours: %w", e.HostName(), host.Type(), errdefs.ErrConflict)
	}
	attrs := host.Attrs()
	if id, err := s.host.GetNetNsIdByFd(s.ns.FD()); err == nil && id >= 0 && id == attrs.NetNsID {
		guest, err = s.guest.LinkByIndex(attrs.ParentIndex)
		if err == nil && guest.Type() == "veth" && guest.Attrs().ParentIndex == attrs.Index {
			return host, guest, nil
		}
	}
	s.m.log.Info("a device of another namespace is made again", "device", e.HostName())
	if err := s.deleteLink(e.HostName()); err != nil {
		return nil, nil, err
	}
	return nil, nil, nil
}

// create makes e's pair, each end in its namespace from the start.
func (s *session) create(i int, e Endpoint) (host, guest netlink.Link, err error) {
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = e.HostName(), e.MTU
	veth := netlink.NewVeth(attrs)
	veth.PeerHardwareAddr, veth.PeerMTU = mac, uint32(e.MTU)
	veth.PeerNamespace = netlink.NsFd(s.ns.FD())
	// Interfaces come and go: the name of e's position may be taken by another one.
	for n := range 100 {
		if veth.PeerName = e.guestName(i, n); veth.PeerName == "" {
			return nil, nil, fmt.Errorf("the container has a device %s already: %w", e.GuestDevice, errdefs.ErrConflict)
		}
		if err = s.host.LinkAdd(veth); !errors.Is(err, syscall.EEXIST) {
			break
		}
		if _, gone := s.guest.LinkByName(veth.PeerName); isNoDevice(gone) {
			break // it is the outer name that exists
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("create device %s: %w: %w", e.HostName(), err, errdefs.ErrUnavailable)
	}
	if err := s.host.LinkSetAlias(veth, s.m.alias); err != nil {
		return veth, nil, fmt.Errorf("device %s: alias: %w: %w", e.HostName(), err, errdefs.ErrUnavailable)
	}
	if guest, err = s.guest.LinkByName(veth.PeerName); err != nil {
		return veth, nil, fmt.Errorf("device %s: its inner end: %w: %w", e.HostName(), err, errdefs.ErrUnavailable)
	}
	if err := noIPv6(e.HostName()); err != nil {
		return veth, nil, err
	}
	return veth, guest, nil
}

// noIPv6 keeps the host from having a link-local address towards the container
// (OSSN-0069: the host's services would be reachable by it).
func noIPv6(device string) error {
	return kernel.SetSysctls(kernel.Sysctl{Path: "net/ipv6/conf/" + device + "/disable_ipv6", Value: "1", Optional: true})
}

// configureGuest gives the inner end its MAC, MTU, parameters and addresses.
func (s *session) configureGuest(e Endpoint, guest netlink.Link, made bool) error {
	attrs := guest.Attrs()
	if !made {
		if err := s.mac(e, guest); err != nil {
			return err
		}
		if err := s.mtu(e, guest); err != nil {
			return err
		}
	}
	if err := s.sysctls(e, attrs.Name); err != nil {
		return err
	}
	if e.OVS.DatapathType == "netdev" {
		// The userspace datapath reads frames from the host end as they are, and a
		// checksum that was left to "hardware" would be wrong for good.
		if err := s.ns.Do(func() error { return kernel.DisableTxChecksum(attrs.Name) }); err != nil {
			return err
		}
	}
	return s.addresses(e, guest, made)
}

// sysctls sets the parameters of e's device in the container.
func (s *session) sysctls(e Endpoint, device string) error {
	if len(e.Sysctls) == 0 {
		return nil
	}
	list := make([]kernel.Sysctl, len(e.Sysctls))
	for i, p := range e.Sysctls {
		list[i] = kernel.Sysctl{Path: p.path(device), Value: p.Value}
	}
	return s.ns.Do(func() error { return kernel.SetSysctls(list...) })
}

// mac corrects the MAC address of an existing device. An ipvlan has its parent's.
func (s *session) mac(e Endpoint, guest netlink.Link) error {
	if e.Kind == KindIPvlan {
		return nil
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
	}
	if bytes.Equal(guest.Attrs().HardwareAddr, mac) {
		return nil
	}
	if err := s.guest.LinkSetHardwareAddr(guest, mac); err != nil {
		return fmt.Errorf("device %s: MAC %s: %w: %w", guest.Attrs().Name, mac, err, errdefs.ErrUnavailable)
	}
	return nil
}

// mtu corrects the MTU of both ends of an existing pair.
func (s *session) mtu(e Endpoint, guest netlink.Link) error {
	if e.MTU == 0 {
		return nil
	}
	if guest.Attrs().MTU != e.MTU {
		if err := s.guest.LinkSetMTU(guest, e.MTU); err != nil {
			return fmt.Errorf("device %s: MTU %d: %w: %w", guest.Attrs().Name, e.MTU, err, errdefs.ErrUnavailable)
		}
	}
	if e.inside() {
		return nil
	}
	host, err := s.host.LinkByName(e.HostName())
	if err == nil && host.Attrs().MTU != e.MTU {
		err = s.host.LinkSetMTU(host, e.MTU)
	}
	if err != nil {
		return fmt.Errorf("device %s: MTU %d: %w: %w", e.HostName(), e.MTU, err, errdefs.ErrUnavailable)
	}
	return nil
}

func (s *session) upGuest(guest netlink.Link) error {
	if guest.Attrs().Flags&netUp != 0 {
		return nil
	}
	if err := s.guest.LinkSetUp(guest); err != nil {
		return fmt.Errorf("device %s: up: %w: %w", guest.Attrs().Name, err, errdefs.ErrUnavailable)
	}
	return nil
}

func (s *session) up(host netlink.Link) error {
	if err := s.host.LinkSetUp(host); err != nil {
		return fmt.Errorf("device %s: up: %w: %w", host.Attrs().Name, err, errdefs.ErrUnavailable)
	}
	return nil
}

// unplug removes e from the host.
func (s *session) unplug(ctx context.Context, e Endpoint) error {
	if e.inside() {
		return s.unplugInside(e)
	}
	var errs []error
	if port := e.ovsPort(); port != "" {
		errs = append(errs, s.m.ovs.removePort(ctx, port))
	}
	errs = append(errs, s.deleteLink(e.HostName()))
	switch e.Kind {
	case KindBridge:
		if e.BridgeCreate {
			errs = append(errs, s.dropBridge(e.Bridge))
		}
	case KindOVSHybrid:
		bridge, inner, _ := e.hybridNames()
		errs = append(errs, s.deleteLink(inner), s.deleteBridge(bridge))
	}
	return errors.Join(errs...)
}

// deleteLink removes a veth with its peer. Nil means that it is not there.
func (s *session) deleteLink(name string) error {
	link, err := s.host.LinkByName(name)
	if isNoDevice(err) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if link.Type() != "veth" {
		return fmt.Errorf("device %s is a %s that is not ours: %w", name, link.Type(), errdefs.ErrConflict)
	}
	// By index: the name may be another's by now.
	if err := s.host.LinkDel(link); err != nil && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("device %s: delete: %w: %w", name, err, errdefs.ErrUnavailable)
	}
	return nil
}

func isNoDevice(err error) bool {
	var none netlink.LinkNotFoundError
	return errors.As(err, &none) || errors.Is(err, syscall.ENODEV)
}
