package network

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Endpoints of the kinds macvlan and ipvlan have no end on the host: the kernel gives the container a device that shares
// one of the host's, its parent. They are found again by their alias, in the container's namespace, and
// end with it.

// inside tells whether e's only device is in the container.
func (e Endpoint) inside() bool { return e.Kind == KindMacvlan || e.Kind == KindIPvlan }

// insideAlias marks e's device.
func (e Endpoint) insideAlias() string { return mark + " endpoint " + e.ID }

var macvlanModes = map[string]netlink.MacvlanMode{
	"": netlink.MACVLAN_MODE_BRIDGE, "bridge": netlink.MACVLAN_MODE_BRIDGE, "private": netlink.MACVLAN_MODE_PRIVATE,
	"vepa": netlink.MACVLAN_MODE_VEPA, "passthru": netlink.MACVLAN_MODE_PASSTHRU,
}

var ipvlanModes = map[string]netlink.IPVlanMode{
	"": netlink.IPVLAN_MODE_L2, "l2": netlink.IPVLAN_MODE_L2, "l3": netlink.IPVLAN_MODE_L3, "l3s": netlink.IPVLAN_MODE_L3S,
}

var ipvlanFlags = map[string]netlink.IPVlanFlag{
	"": netlink.IPVLAN_FLAG_BRIDGE, "bridge": netlink.IPVLAN_FLAG_BRIDGE, "private": netlink.IPVLAN_FLAG_PRIVATE, "vepa": netlink.IPVLAN_FLAG_VEPA,
}

// validateInside reports what is wrong with the fields of these kinds.
func (e Endpoint) validateInside(bad func(string, ...any)) {
	if e.Parent == "" {
		bad("kind %s needs a parent", e.Kind)
	}
	_, macvlan := macvlanModes[e.Mode]
	_, ipvlan := ipvlanModes[e.Mode]
	_, flag := ipvlanFlags[e.Flag]
	if e.Kind == KindMacvlan && (!macvlan || e.Flag != "") || e.Kind == KindIPvlan && (!ipvlan || !flag) {
		bad("mode %q and flag %q are none of %s", e.Mode, e.Flag, e.Kind)
	}
}

// findInside is e's device, or nil. half are devices that a crash left before they had their alias: containers cannot make
// those themselves, since their parent is in another namespace.
func (s *session) findInside(e Endpoint) (found netlink.Link, half []netlink.Link, err error) {
	links, err := s.guest.LinkList()
	if err != nil {
		return nil, nil, fmt.Errorf("devices of the container: %w: %w", err, errdefs.ErrUnavailable)
	}
	for _, l := range links {
		switch kind := Kind(l.Type()); {
		case l.Attrs().Alias == e.insideAlias():
			found = l
		case (kind == KindMacvlan || kind == KindIPvlan) && l.Attrs().Alias == "" && l.Attrs().NetNsID >= 0:
			half = append(half, l)
		}
	}
	return found, half, nil
}

// plugInside makes e, the i-th endpoint of its container.
func (s *session) plugInside(i int, e Endpoint, metrics metrics) error {
	guest, half, err := s.findInside(e)
	if err != nil {
		return err
	}
	if err := s.deleteInside(half...); err != nil {
		return err
	}
	made := guest == nil
	if made {
		if guest, err = s.createInside(i, e); err != nil {
			return err
		}
		s.made = append(s.made, e)
	}
	if err := s.configureGuest(e, guest, made); err != nil {
		return err
	}
	if err := s.upGuest(guest); err != nil {
		return err
	}
	return s.routes(e, guest, made, metrics)
}

func (s *session) createInside(i int, e Endpoint) (netlink.Link, error) {
	parent, err := s.host.LinkByName(e.Parent)
	if isNoDevice(err) {
		return nil, fmt.Errorf("parent device %s: %w", e.Parent, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, unavailable(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.ParentIndex, attrs.MTU = parent.Attrs().Index, e.MTU
	attrs.Namespace = netlink.NsFd(s.ns.FD())
	if e.Kind == KindMacvlan {
		if attrs.HardwareAddr, err = net.ParseMAC(e.MAC); err != nil {
			return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
		}
	}
	for n := range 100 {
		if attrs.Name = e.guestName(i, n); attrs.Name == "" {
			return nil, fmt.Errorf("the container has a device %s already: %w", e.GuestDevice, errdefs.ErrConflict)
		}
		var device netlink.Link = &netlink.Macvlan{LinkAttrs: attrs, Mode: macvlanModes[e.Mode]}
		if e.Kind == KindIPvlan {
			device = &netlink.IPVlan{LinkAttrs: attrs, Mode: ipvlanModes[e.Mode], Flag: ipvlanFlags[e.Flag]}
		}
		if err = s.host.LinkAdd(device); !errors.Is(err, syscall.EEXIST) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return nil, lacking(e.Kind)
	case errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EINVAL):
		return nil, fmt.Errorf("device of %s: the parent %s takes none: it is a bridge's port, has devices of another kind or mode, or one in mode passthru, or a smaller MTU: %w: %w", e.Kind, e.Parent, err, errdefs.ErrConflict)
	case err != nil:
		return nil, fmt.Errorf("device of %s on %s: %w: %w", e.Kind, e.Parent, err, errdefs.ErrUnavailable)
	}
	guest, err := s.guest.LinkByName(attrs.Name)
	if err == nil {
		err = s.guest.LinkSetAlias(guest, e.insideAlias()) // the kernel takes none when it makes a device
	}
	if err != nil {
		return nil, fmt.Errorf("device %s in the container: %w: %w", attrs.Name, err, errdefs.ErrUnavailable)
	}
	return guest, nil
}

// unplugInside removes e's device. Nil means that it is not there.
func (s *session) unplugInside(e Endpoint) error {
	if s.guest == nil {
		return nil // its namespace is gone
	}
	guest, half, err := s.findInside(e)
	if err != nil {
		return err
	}
	if guest != nil {
		half = append(half, guest)
	}
	return s.deleteInside(half...)
}

func (s *session) deleteInside(list ...netlink.Link) error {
	for _, l := range list {
		if err := s.guest.LinkDel(l); err != nil && !errors.Is(err, syscall.ENODEV) {
			return fmt.Errorf("device %s in the container: delete: %w: %w", l.Attrs().Name, err, errdefs.ErrUnavailable)
		}
	}
	return nil
}

// OpenParent makes sure that containers can share a device of the host. One that is not there is made if its name
// is that of another device, a dot and the number of a VLAN, and with alone as a device that leads nowhere, so that
// containers reach each other only. It may be repeated.
//
// ErrUnsupported: the kernel lacks what is needed, which the error names. ErrInvalid: the device cannot be shared, or is not
// there. ErrUnavailable: the kernel failed.
func (m *Manager) OpenParent(_ context.Context, kind Kind, name string, alone bool) error {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return unavailable(err)
	}
	s := &session{m: m, host: host}
	defer s.close()
	if err := s.supports(kind); err != nil {
		return err
	}
	defer m.bridges.lock(name)()
	link, err := host.LinkByName(name)
	switch {
	case err == nil && link.Attrs().Flags&net.FlagLoopback != 0:
		return fmt.Errorf("loopback interface is not a valid %s parent link: %w", kind, errdefs.ErrInvalid)
	case err == nil && !strings.HasPrefix(link.Attrs().Alias, mark):
		return nil
	case err == nil:
	case !isNoDevice(err):
		return unavailable(err)
	case alone:
		// Not of the kind dummy, which not every kernel has: a bridge without ports does the same.
		if err := s.createBridge(name, bridgeShared); err != nil {
			return fmt.Errorf("device %s: create: %w: %w", name, err, errdefs.ErrUnavailable)
		}
		if err := noIPv6(name); err != nil {
			return err
		}
	default:
		if err := s.createVLAN(name); err != nil {
			return err
		}
	}
	if link, err = host.LinkByName(name); err != nil {
		return fmt.Errorf("device %s: %w: %w", name, err, errdefs.ErrUnavailable)
	}
	return s.up(link)
}

func (s *session) createVLAN(name string) error {
	dot := strings.LastIndex(name, ".")
	if dot < 0 {
		return fmt.Errorf("the parent device %s does not exist (invalid subinterface vlan name %s, example formatting is eth0.10): %w", name, name, errdefs.ErrInvalid)
	}
	id, err := strconv.Atoi(name[dot+1:])
	if err != nil || id < 1 || id > 4094 {
		return fmt.Errorf("vlan id must be between 1-4094, received: %s: %w", name[dot+1:], errdefs.ErrInvalid)
	}
	under, err := s.host.LinkByName(name[:dot])
	if isNoDevice(err) {
		return fmt.Errorf("failed to find master interface %s on the Docker host: %w", name[:dot], errdefs.ErrInvalid)
	}
	if err != nil {
		return unavailable(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = name, under.Attrs().Index
	vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: id}
	err = s.host.LinkAdd(vlan)
	switch {
	case errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Errorf("the parent device %s does not exist, and the kernel has no VLAN devices to make it with: load its module 8021q (CONFIG_VLAN_8021Q): %w", name, errdefs.ErrUnsupported)
	case err != nil && !errors.Is(err, syscall.EEXIST):
		return fmt.Errorf("device %s: create: %w: %w", name, err, errdefs.ErrUnavailable)
	case err == nil:
		err = s.host.LinkSetAlias(vlan, s.m.alias)
	default:
		return nil // somebody was faster, whose it is
	}
	if err != nil {
		return fmt.Errorf("device %s: alias: %w: %w", name, err, errdefs.ErrUnavailable)
	}
	return noIPv6(name)
}

// CloseParent removes a device that OpenParent made. Nil means that it is gone or not ours.
func (m *Manager) CloseParent(_ context.Context, name string) error {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return unavailable(err)
	}
	s := &session{m: m, host: host}
	defer s.close()
	defer m.bridges.lock(name)()
	link, err := host.LinkByName(name)
	if isNoDevice(err) {
		return nil
	}
	if err != nil {
		return unavailable(err)
	}
	if !strings.HasPrefix(link.Attrs().Alias, mark) || link.Type() != "vlan" && link.Type() != "bridge" {
		return nil
	}
	return s.delete(link)
}

// supports asks the kernel for a device of a kind on a parent that cannot be: it says which of the two it lacks.
func (s *session) supports(kind Kind) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex = "nova-agent-none", math.MaxInt32
	var device netlink.Link = &netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if kind == KindIPvlan {
		device = &netlink.IPVlan{LinkAttrs: attrs}
	}
	if err := s.host.LinkAdd(device); errors.Is(err, syscall.EOPNOTSUPP) {
		return lacking(kind)
	}
	return nil
}

func lacking(kind Kind) error {
	return fmt.Errorf("the kernel has no devices of the kind %s: load its module %s (CONFIG_%s), or use a network of another driver: %w",
		kind, kind, strings.ToUpper(string(kind)), errdefs.ErrUnsupported)
}

// openGuest opens the namespace at nsPath if one of the endpoints is in it only. A namespace that is not there is
// no error: what was in it is gone.
func (s *session) openGuest(nsPath string, endpoints []Endpoint) error {
	for _, e := range endpoints {
		if !e.inside() {
			continue
		}
		ns, err := kernel.OpenNetNS(nsPath)
		if errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		s.ns = ns
		return ns.Do(func() (err error) {
			s.guest, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
			return unavailable(err)
		})
	}
	return nil
}
