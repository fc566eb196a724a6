package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

// Kind says what the host end of an endpoint is joined to.
type Kind string

const (
	// KindBridge: a Linux bridge shared by the network's endpoints, as Neutron's
	// Linux bridge agent expects it.
	KindBridge Kind = "bridge"
	// KindOVS: a port of an Open vSwitch bridge.
	KindOVS Kind = "ovs"
	// KindOVSHybrid: a Linux bridge of its own, joined to Open vSwitch by a
	// second veth pair, so that iptables rules on the bridge can filter.
	KindOVSHybrid Kind = "ovs-hybrid"
	// KindTap: nothing; the host routes to the device (Calico).
	KindTap Kind = "tap"
	// KindMacvlan: no host end; the container's device shares Parent under a MAC address of its own.
	KindMacvlan Kind = "macvlan"
	// KindIPvlan: no host end; the container's device shares Parent and its MAC address.
	KindIPvlan Kind = "ipvlan"
)

// NameLen is the longest device name Nova and os-vif make (NIC_NAME_LEN).
// The kernel would take one more.
const NameLen = 14

// Endpoint is one network interface of a container.
type Endpoint struct {
	// ID names the endpoint: the Neutron port's UUID, or an id of the caller.
	// The names of host devices derive from it.
	ID   string
	Kind Kind
	// HostDevice is the host end of the veth pair; "tap" and the first 11
	// characters of ID if empty.
	HostDevice string `json:",omitempty"`
	// Bridge is the Linux bridge (KindBridge) or the Open vSwitch bridge
	// (KindOVS, KindOVSHybrid) that the host end belongs to.
	Bridge string `json:",omitempty"`
	// BridgeCreate lets Plug make Bridge if it does not exist.
	BridgeCreate bool `json:",omitempty"`
	// Hairpin lets the bridge send the endpoint its own packets back, which a Forward to its own
	// container does where the host filters bridged packets (net.bridge.bridge-nf-call-iptables).
	Hairpin bool `json:",omitempty"`
	// Isolated keeps the bridge from passing packets between this endpoint and others that are.
	Isolated bool `json:",omitempty"`
	OVS      OVS  `json:",omitzero"`
	// Parent is the host's device that KindMacvlan and KindIPvlan share, Mode and Flag how, as ip-link(8) has
	// them: bridge, private, vepa or passthru; l2, l3 or l3s with bridge, private or vepa. Empty are the first.
	Parent string `json:",omitempty"`
	Mode   string `json:",omitempty"`
	Flag   string `json:",omitempty"`

	// GuestDevice is the name inside the container; "eth" and the position in
	// the list if empty. If another device has it already, the next number
	// is taken: eth2 for eth1. An endpoint keeps its name as long as it is plugged.
	GuestDevice string `json:",omitempty"`
	// MAC is the address of the inner end, six octets with colons; empty for KindIPvlan.
	MAC string
	// Addresses are the inner end's, with the length of their subnet's prefix.
	Addresses []netip.Prefix `json:",omitempty"`
	// LinkLocal are addresses besides, which nobody finds by a name.
	LinkLocal []netip.Prefix `json:",omitempty"`
	// Gateway4 and Gateway6 are the default routes' next hops; the zero Addr is
	// none, the unspecified address makes everything reachable on the link. Of several
	// endpoints with a gateway the first one's route wins by its metric.
	Gateway4 netip.Addr `json:",omitzero"`
	Gateway6 netip.Addr `json:",omitzero"`
	Routes   []Route    `json:",omitempty"`
	// MTU in octets, of both ends; 0 leaves the kernel's 1500.
	MTU int `json:",omitempty"`
	// Sysctls are set for the inner end before it comes up.
	Sysctls []DeviceSysctl `json:",omitempty"`
}

// DeviceSysctl is a parameter of a device: Path is that of a network namespace's with DeviceName in place of the device's name,
// as in "net/ipv4/conf/IFNAME/forwarding".
type DeviceSysctl struct{ Path, Value string }

// DeviceName stands for a device's name in the path of a DeviceSysctl.
const DeviceName = "IFNAME"

func (p DeviceSysctl) path(device string) string {
	return strings.Replace(p.Path, DeviceName, device, 1)
}

// OVS is what Open vSwitch is told of an endpoint. Neutron's agent and OVN's
// controller find the port by IfaceID.
type OVS struct {
	IfaceID string `json:",omitempty"` // external_ids:iface-id; Endpoint.ID if empty
	OwnerID string `json:",omitempty"` // external_ids:vm-uuid
	// DatapathType is "system", "netdev" or empty for the bridge's own.
	DatapathType string `json:",omitempty"`
}

// Route is a route inside the container besides those to the subnets and the
// default routes.
type Route struct {
	To netip.Prefix
	// Via is the next hop; the zero Addr makes To reachable on the link.
	Via netip.Addr `json:",omitzero"`
}

// HostName is the name of the endpoint's host end.
func (e Endpoint) HostName() string {
	if e.HostDevice != "" {
		return e.HostDevice
	}
	return deviceName("tap", e.ID)
}

// guestName is the device's name inside: i is the endpoint's position, try counts the
// names that were found taken. "" when there is no other name.
func (e Endpoint) guestName(i, try int) string {
	if e.GuestDevice == "" {
		return fmt.Sprintf("eth%d", i+try)
	}
	if try == 0 {
		return e.GuestDevice
	}
	stem := strings.TrimRight(e.GuestDevice, "0123456789")
	first, err := strconv.Atoi(e.GuestDevice[len(stem):])
	if err != nil {
		return ""
	}
	if name := fmt.Sprintf("%s%d", stem, first+try); len(name) <= 15 {
		return name
	}
	return ""
}

// hybridNames are the three devices of KindOVSHybrid besides the host end: the
// Linux bridge, its veth and the other end of that, which is the Open vSwitch port.
func (e Endpoint) hybridNames() (bridge, inner, outer string) {
	return deviceName("qbr", e.ID), deviceName("qvb", e.ID), deviceName("qvo", e.ID)
}

// ovsPort is the name of the endpoint's Open vSwitch port, "" if it has none.
func (e Endpoint) ovsPort() string {
	switch e.Kind {
	case KindOVS:
		return e.HostName()
	case KindOVSHybrid:
		_, _, outer := e.hybridNames()
		return outer
	}
	return ""
}

// deviceName is prefix and id cut to NameLen.
func deviceName(prefix, id string) string {
	name := prefix + id
	if len(name) > NameLen {
		name = name[:NameLen]
	}
	return name
}

// Validate reports what is wrong with e, as ErrInvalid. Plug calls it, so that
// a bad endpoint leaves no half of itself.
func (e Endpoint) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if e.ID == "" {
		bad("it has no ID")
	}
	switch e.Kind {
	case KindBridge, KindOVS, KindOVSHybrid:
		if e.Bridge == "" {
			bad("kind %s needs a bridge", e.Kind)
		}
	case KindTap:
	case KindMacvlan, KindIPvlan:
		e.validateInside(bad)
	default:
		bad("kind %q is not one of bridge, ovs, ovs-hybrid, tap, macvlan, ipvlan", e.Kind)
	}
	for _, name := range []string{e.HostName(), e.Bridge, e.Parent, e.GuestDevice} {
		if err := ValidName(name); err != nil {
			errs = append(errs, err)
		}
	}
	if mac, err := net.ParseMAC(e.MAC); e.Kind != KindIPvlan && (err != nil || len(mac) != 6 || mac[0]&1 != 0) {
		bad("MAC %q is not a unicast Ethernet address", e.MAC)
	}
	if e.MTU != 0 && (e.MTU < 68 || e.MTU > 65535) {
		bad("MTU %d is not between 68 and 65535", e.MTU)
	}
	for _, a := range slices.Concat(e.Addresses, e.LinkLocal) {
		if !a.IsValid() || a.Addr().IsMulticast() || a.Addr().IsUnspecified() || a.Addr().Is4In6() {
			bad("address %s cannot be a device's", a)
		}
	}
	if e.Gateway4.IsValid() && !e.Gateway4.Is4() {
		bad("gateway %s is not IPv4", e.Gateway4)
	}
	if e.Gateway6.IsValid() && !e.Gateway6.Is6() {
		bad("gateway %s is not IPv6", e.Gateway6)
	}
	for _, r := range e.Routes {
		if !r.To.IsValid() || (r.Via.IsValid() && r.Via.Is4() != r.To.Addr().Is4()) {
			bad("route to %s via %s mixes address families", r.To, r.Via)
		}
	}
	for _, p := range e.Sysctls {
		if err := validParam(p.Path); err != nil || strings.Count(p.Path, "/"+DeviceName+"/") != 1 {
			bad("parameter %q is not one of a device", p.Path)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("endpoint %s: %w: %w", e.ID, errors.Join(errs...), errdefs.ErrInvalid)
	}
	return nil
}

// named tells whether e's devices can have names at all.
func (e Endpoint) named() bool {
	return e.ID != "" && ValidName(e.HostName()) == nil && ValidName(e.Bridge) == nil
}

// ValidName refuses what the kernel would refuse as a device name, and what is a path in /proc/sys.
func ValidName(name string) error {
	if len(name) > 15 || name == "." || name == ".." || name == "all" || name == "default" ||
		strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == '/' || r == ':' || r == '%' || r > '~' }) {
		return fmt.Errorf("%q cannot be a device's name", name)
	}
	return nil
}
