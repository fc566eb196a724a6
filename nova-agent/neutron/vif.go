package neutron

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"novaagent/engine/errdefs"
)

// NetworkInfo describes the interfaces of an instance in the order in which
// they were attached. Its JSON is the network_info of Nova's InstanceInfoCache
// (nova/network/model.py), which "openstack server show" and the metadata service
// read their addresses from.
type NetworkInfo []VIF

// Text is a string that is null on the wire when it is empty.
type Text string

// MarshalJSON implements json.Marshaler.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(t))
}

// Version is an IP version, 4 or 6; 0 is null on the wire.
type Version int

// MarshalJSON implements json.Marshaler.
func (v Version) MarshalJSON() ([]byte, error) {
	if v == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(int(v))
}

// Meta is the free part of a model. Nova puts there what its model has no
// field for; what other releases add is kept.
type Meta map[string]any

// MarshalJSON implements json.Marshaler: never null.
func (m Meta) MarshalJSON() ([]byte, error) {
	if m == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(map[string]any(m))
}

// VIF is one interface: a Neutron port as the host sees it.
type VIF struct {
	ID      string   `json:"id"`      // of the port
	Address string   `json:"address"` // MAC
	Network *Network `json:"network"`
	// Type is Neutron's binding:vif_type: "bridge", "ovs", "tap", "unbound", "binding_failed" …
	Type             Text            `json:"type"`
	Details          Meta            `json:"details"` // binding:vif_details
	DevName          Text            `json:"devname"` // of the host end
	OVSInterfaceID   Text            `json:"ovs_interfaceid"`
	QBHParams        json.RawMessage `json:"qbh_params"`
	QBGParams        json.RawMessage `json:"qbg_params"`
	Active           bool            `json:"active"`
	VNICType         Text            `json:"vnic_type"`
	Profile          Meta            `json:"profile"`
	PreserveOnDelete bool            `json:"preserve_on_delete"` // the user made the port
	DelegateCreate   bool            `json:"delegate_create"`
	Meta             Meta            `json:"meta"`
}

// Network is what a VIF is attached to.
type Network struct {
	ID      string   `json:"id"`
	Bridge  Text     `json:"bridge"`
	Label   *string  `json:"label"`
	Subnets []Subnet `json:"subnets"`
	// Meta holds injected, tenant_id, mtu, physical_network, tunneled and
	// should_create_bridge.
	Meta Meta `json:"meta"`
}

// Subnet is a subnet of which the VIF has addresses.
type Subnet struct {
	CIDR    Text        `json:"cidr"`
	DNS     []IP        `json:"dns"`
	Gateway *IP         `json:"gateway"`
	IPs     []FixedIP   `json:"ips"`
	Routes  []HostRoute `json:"routes"`
	Version Version     `json:"version"`
	Meta    Meta        `json:"meta"` // dhcp_server, ipv6_address_mode
}

// IP is an address with its role: "gateway", "dns", "floating" or "fixed".
type IP struct {
	Address Text    `json:"address"`
	Type    Text    `json:"type"`
	Version Version `json:"version"`
	Meta    Meta    `json:"meta"`
}

// FixedIP is an address of the port itself.
type FixedIP struct {
	IP
	FloatingIPs []IP `json:"floating_ips"`
}

// HostRoute is a route that the subnet's owner wants in each host.
type HostRoute struct {
	CIDR      Text `json:"cidr"`
	Gateway   *IP  `json:"gateway"`
	Interface Text `json:"interface"`
	Meta      Meta `json:"meta"`
}

// maxNetworkInfo bounds what ParseNetworkInfo takes; Nova's column is 16 MiB
// and a real one has a few kB.
const maxNetworkInfo = 16 << 20

// ParseNetworkInfo reads the network_info of an InstanceInfoCache. "", "null" and
// "[]" are an instance without interfaces. Attributes it does not know go to
// Meta, as Nova's own hydrate does. ErrInvalid if it isn't what Nova writes.
func ParseNetworkInfo(text string) (NetworkInfo, error) {
	if len(text) > maxNetworkInfo {
		return nil, fmt.Errorf("network info of %d bytes: %w", len(text), errdefs.ErrInvalid)
	}
	if text == "" {
		return NetworkInfo{}, nil
	}
	var info NetworkInfo
	if err := decode([]byte(text), &info); err != nil {
		return nil, fmt.Errorf("network info: %v: %w", err, errdefs.ErrInvalid)
	}
	if info == nil {
		info = NetworkInfo{}
	}
	for i := range info {
		if info[i].ID == "" {
			return nil, fmt.Errorf("network info: interface %d has no id: %w", i, errdefs.ErrInvalid)
		}
	}
	return info, nil
}

// String is the JSON text that Nova keeps.
func (n NetworkInfo) String() string {
	if n == nil {
		n = NetworkInfo{}
	}
	b, err := json.Marshal(n)
	if err != nil {
		// Only values that came from JSON are inside.
		panic(fmt.Sprintf("neutron: network info cannot be encoded: %v", err))
	}
	return string(b)
}

// Find is the interface of a port.
func (n NetworkInfo) Find(portID string) (VIF, bool) {
	i := n.index(portID)
	if i < 0 {
		return VIF{}, false
	}
	return n[i], true
}

func (n NetworkInfo) index(portID string) int {
	return slices.IndexFunc(n, func(v VIF) bool { return v.ID == portID })
}

// preserved are the ports that outlive the instance: those the user made.
func (n NetworkInfo) preserved() map[string]bool {
	keep := map[string]bool{}
	for _, v := range n {
		if v.PreserveOnDelete {
			keep[v.ID] = true
		}
	}
	return keep
}

// HybridPlug tells whether Open vSwitch is joined through a Linux bridge of the port's own.
func (v VIF) HybridPlug() bool {
	b, _ := v.Details["ovs_hybrid_plug"].(bool)
	return b
}

// DatapathType is the Open vSwitch datapath that the port needs, "" for the bridge's own.
func (v VIF) DatapathType() string {
	s, _ := v.Details["datapath_type"].(string)
	return s
}

// MTU in octets; 0 if Neutron did not say.
func (v VIF) MTU() int {
	if v.Network == nil {
		return 0
	}
	return number(v.Network.Meta["mtu"])
}

// Addresses are the fixed addresses with the length of their subnet's prefix.
func (v VIF) Addresses() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range v.subnets() {
		cidr, err := netip.ParsePrefix(string(s.CIDR))
		if err != nil {
			continue
		}
		for _, ip := range s.IPs {
			if a, err := netip.ParseAddr(string(ip.Address)); err == nil && a.BitLen() == cidr.Addr().BitLen() {
				out = append(out, netip.PrefixFrom(a, cidr.Bits()))
			}
		}
	}
	return out
}

// Gateways are the default routes' next hops, the zero Addr where there is none:
// of each IP version that of the first subnet with a gateway, or with a host route to
// everywhere.
func (v VIF) Gateways() (v4, v6 netip.Addr) {
	take := func(gw netip.Addr) {
		switch {
		case gw.Is4() && !v4.IsValid():
			v4 = gw
		case gw.Is6() && !v6.IsValid():
			v6 = gw
		}
	}
	for _, s := range v.subnets() {
		take(s.gateway())
	}
	for _, r := range v.hostRoutes() {
		if r.To.Bits() == 0 {
			take(r.Via)
		}
	}
	return v4, v6
}

// NextHop is a route: To through Via.
type NextHop struct {
	To  netip.Prefix
	Via netip.Addr
}

// metadataService is where cloud-init looks for the metadata of its instance.
var metadataService = netip.MustParsePrefix("169.254.169.254/32")

// Routes are the subnets' host routes besides the default routes, which Gateways
// tells. Without an IPv4 gateway the metadata service is reached through the
// DHCP server, where Neutron's agent answers for it on isolated networks;
// Neutron's own dnsmasq hands out the same route.
func (v VIF) Routes() []NextHop {
	var out []NextHop
	metadata := false
	for _, r := range v.hostRoutes() {
		if r.To.Bits() > 0 {
			metadata = metadata || r.To == metadataService
			out = append(out, r)
		}
	}
	if gw, _ := v.Gateways(); gw.IsValid() || metadata {
		return out
	}
	for _, s := range v.subnets() {
		if a, err := netip.ParseAddr(s.dhcpServer()); err == nil && a.Is4() {
			return append(out, NextHop{To: metadataService, Via: a})
		}
	}
	return out
}

func (v VIF) hostRoutes() []NextHop {
	var out []NextHop
	for _, s := range v.subnets() {
		for _, r := range s.Routes {
			if r.Gateway == nil {
				continue
			}
			to, err1 := netip.ParsePrefix(string(r.CIDR))
			via, err2 := netip.ParseAddr(string(r.Gateway.Address))
			if err1 == nil && err2 == nil && via.Is4() == to.Addr().Is4() {
				out = append(out, NextHop{To: to.Masked(), Via: via})
			}
		}
	}
	return out
}

// DNSServers are the name servers of all subnets, each once, in order.
func (v VIF) DNSServers() []netip.Addr {
	var out []netip.Addr
	for _, s := range v.subnets() {
		for _, d := range s.DNS {
			if a, err := netip.ParseAddr(string(d.Address)); err == nil && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

func (v VIF) subnets() []Subnet {
	if v.Network == nil {
		return nil
	}
	return v.Network.Subnets
}

func (s Subnet) gateway() netip.Addr {
	if s.Gateway == nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(string(s.Gateway.Address))
	return a
}

func (s Subnet) dhcpServer() string {
	text, _ := s.Meta["dhcp_server"].(string)
	return text
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *VIF) UnmarshalJSON(b []byte) error {
	type plain VIF
	p := plain{VNICType: "normal"}
	if err := decode(b, &p); err != nil {
		return err
	}
	*v = VIF(p)
	if v.QBHParams == nil {
		v.QBHParams = json.RawMessage("null")
	}
	if v.QBGParams == nil {
		v.QBGParams = json.RawMessage("null")
	}
	return keepUnknown(b, &v.Meta, "id", "address", "network", "type", "details", "devname", "ovs_interfaceid",
		"qbh_params", "qbg_params", "active", "vnic_type", "profile", "preserve_on_delete", "delegate_create")
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Network) UnmarshalJSON(b []byte) error {
	type plain Network
	if err := decode(b, (*plain)(n)); err != nil {
		return err
	}
	if n.Subnets == nil {
		n.Subnets = []Subnet{}
	}
	return keepUnknown(b, &n.Meta, "id", "bridge", "label", "subnets")
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *Subnet) UnmarshalJSON(b []byte) error {
	type plain Subnet
	if err := decode(b, (*plain)(s)); err != nil {
		return err
	}
	if s.DNS == nil {
		s.DNS = []IP{}
	}
	if s.IPs == nil {
		s.IPs = []FixedIP{}
	}
	if s.Routes == nil {
		s.Routes = []HostRoute{}
	}
	return keepUnknown(b, &s.Meta, "cidr", "dns", "gateway", "ips", "routes", "version")
}

// UnmarshalJSON implements json.Unmarshaler.
func (i *IP) UnmarshalJSON(b []byte) error {
	type plain IP
	if err := decode(b, (*plain)(i)); err != nil {
		return err
	}
	return keepUnknown(b, &i.Meta, "address", "type", "version")
}

// UnmarshalJSON implements json.Unmarshaler; without it IP's would be promoted.
func (f *FixedIP) UnmarshalJSON(b []byte) error {
	var p struct {
		Address     Text    `json:"address"`
		Type        Text    `json:"type"`
		Version     Version `json:"version"`
		Meta        Meta    `json:"meta"`
		FloatingIPs []IP    `json:"floating_ips"`
	}
	if err := decode(b, &p); err != nil {
		return err
	}
	*f = FixedIP{IP: IP{Address: p.Address, Type: p.Type, Version: p.Version, Meta: p.Meta}, FloatingIPs: p.FloatingIPs}
	if f.FloatingIPs == nil {
		f.FloatingIPs = []IP{}
	}
	return keepUnknown(b, &f.Meta, "address", "type", "version", "floating_ips")
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *HostRoute) UnmarshalJSON(b []byte) error {
	type plain HostRoute
	if err := decode(b, (*plain)(r)); err != nil {
		return err
	}
	return keepUnknown(b, &r.Meta, "cidr", "gateway", "interface")
}

// keepUnknown moves the attributes of the object b that are not among known
// into meta, as nova.network.model.Model._set_meta does.
func keepUnknown(b []byte, meta *Meta, known ...string) error {
	var all map[string]any
	if err := decode(b, &all); err != nil {
		return err
	}
	if all == nil { // null
		return nil
	}
	if *meta == nil {
		*meta = Meta{}
	}
	for key, value := range all {
		if key != "meta" && !slices.Contains(known, key) {
			(*meta)[key] = value
		}
	}
	return nil
}

// decode is json.Unmarshal that keeps numbers as they were written.
func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("data after the value")
	}
	return nil
}

// number reads an integer out of decoded JSON; 0 if it isn't one.
func number(v any) int {
	switch n := v.(type) {
	case json.Number:
		i, err := n.Int64()
		if err == nil {
			return int(i)
		}
	case int:
		return n
	case float64:
		return int(n)
	}
	return 0
}
