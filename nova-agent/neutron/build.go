package neutron

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// surroundings are what a NetworkInfo says besides its ports.
type surroundings struct {
	networks  map[string]network
	subnets   map[string]subnet
	order     []string // of the subnets as Neutron listed them
	dhcp      map[string]string
	floating  map[portAddressKey][]string
	ovsBridge string
}

type portAddressKey struct{ port, address string }

// lookUp asks for the networks with their subnets and DHCP servers, and for the
// floating IPs of ports, all at once. It asks as the service, who alone
// sees provider attributes and other projects' networks.
func (c *Client) lookUp(ctx context.Context, networkIDs, portIDs []string) (*surroundings, error) {
	s := &surroundings{networks: map[string]network{}, subnets: map[string]subnet{},
		dhcp: map[string]string{}, floating: map[portAddressKey][]string{}, ovsBridge: c.opts.OVSBridge}
	networkIDs = uniq(networkIDs)
	if len(networkIDs) == 0 {
		return s, nil
	}
	admin := c.admin()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		var answer struct{ Networks []network }
		if err := admin.get(ctx, "/networks", url.Values{"id": networkIDs}, &answer); err != nil {
			return err
		}
		for _, n := range answer.Networks {
			s.networks[n.ID] = n
		}
		return nil
	})
	g.Go(func() error {
		var answer struct{ Subnets []subnet }
		if err := admin.get(ctx, "/subnets", url.Values{"network_id": networkIDs}, &answer); err != nil {
			return err
		}
		for _, n := range answer.Subnets {
			s.subnets[n.ID] = n
			s.order = append(s.order, n.ID)
		}
		return nil
	})
	g.Go(func() error {
		var answer struct{ Ports []port }
		q := url.Values{"network_id": networkIDs, "device_owner": {"network:dhcp"}, "fields": {"fixed_ips"}}
		if err := admin.get(ctx, "/ports", q, &answer); err != nil {
			return err
		}
		for _, p := range answer.Ports {
			seen := map[string]bool{}
			for _, a := range p.FixedIPs {
				// Of a port the first address in a subnet, of several ports
				// the last one's, as Nova picks.
				if !seen[a.SubnetID] {
					seen[a.SubnetID] = true
					s.dhcp[a.SubnetID] = a.IPAddress
				}
			}
		}
		return nil
	})
	if len(portIDs) > 0 {
		g.Go(func() error {
			var answer struct{ FloatingIPs []floatingIP }
			err := admin.get(ctx, "/floatingips", url.Values{"port_id": uniq(portIDs)}, &answer)
			if isStatus(err, http.StatusNotFound) { // no L3 service: no floating IPs
				return nil
			}
			if err != nil {
				return err
			}
			for _, f := range answer.FloatingIPs {
				k := portAddressKey{f.PortID, f.FixedIP}
				s.floating[k] = append(s.floating[k], f.Floating)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return s, nil
}

// vif describes a port (nova/network/neutron.py, _build_vif_model).
func (s *surroundings) vif(p port, preserve bool) (VIF, error) {
	n, err := s.network(p)
	if err != nil {
		return VIF{}, err
	}
	v := VIF{
		ID: p.ID, Address: p.MACAddress, Network: n,
		Type: Text(p.VIFType), Details: orEmpty(p.VIFDetails), Profile: orEmpty(p.Profile),
		DevName:   Text(cut("tap" + p.ID)),
		QBHParams: null, QBGParams: null,
		Active: p.active(), VNICType: "normal",
		PreserveOnDelete: preserve, DelegateCreate: true, Meta: Meta{},
	}
	if p.VNICType != nil {
		v.VNICType = Text(*p.VNICType)
	}
	if usesOVS(p) {
		v.OVSInterfaceID = Text(p.ID)
	}
	return v, nil
}

var null = []byte("null")

// nicNameLen is Nova's NIC_NAME_LEN.
const nicNameLen = 14

func cut(name string) string { return name[:min(len(name), nicNameLen)] }

func orEmpty(m Meta) Meta {
	if m == nil {
		return Meta{}
	}
	return m
}

// usesOVS tells whether the port is one of Open vSwitch's.
func usesOVS(p port) bool {
	plug, _ := p.VIFDetails["vhostuser_ovs_plug"].(bool)
	return p.VIFType == "ovs" || p.VIFType == "agilio_ovs" || (p.VIFType == "vhostuser" && plug)
}

func (s *surroundings) network(p port) (*Network, error) {
	meta := Meta{"injected": false}
	out := &Network{ID: p.NetworkID, Subnets: s.subnetsOf(p), Meta: meta}
	n, known := s.networks[p.NetworkID]
	if known {
		out.Label = &n.Name
		meta["tenant_id"], meta["mtu"] = n.TenantID, intOrNil(n.MTU)
	} else {
		meta["tenant_id"], meta["mtu"] = p.TenantID, nil
	}
	physical, tunneled, err := n.provider()
	if err != nil {
		return nil, err
	}
	meta["physical_network"], meta["tunneled"] = physical, tunneled

	named, _ := p.VIFDetails["bridge_name"].(string)
	fp, _ := p.VIFDetails["vhostuser_fp_plug"].(bool)
	switch {
	case usesOVS(p):
		out.Bridge = Text(cut(orDefault(named, s.ovsBridge)))
	case p.VIFType == "bridge":
		out.Bridge = Text(cut(orDefault(named, "brq"+p.NetworkID)))
		meta["should_create_bridge"] = true
	case p.VIFType == "vhostuser" && fp:
		out.Bridge = Text(cut(orDefault(named, "brq"+p.NetworkID)))
	case p.VIFType == "dvs":
		out.Bridge = Text(p.NetworkID)
	}
	return out, nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

func intOrNil(i int) any {
	if i == 0 {
		return nil
	}
	return i
}

// provider is the network's physical network, nil if it has none, and whether it
// is a tunnelled one (nova/network/neutron.py, _get_physnet_tunneled_info).
func (n network) provider() (physical any, tunneled bool, err error) {
	for _, s := range n.Segments {
		if s.PhysicalNetwork != "" {
			return string(s.PhysicalNetwork), false, nil
		}
	}
	if len(n.Segments) > 0 {
		return nil, false, fmt.Errorf("none of the segments of network %s provides a physical_network: %w", n.ID, errdefs.ErrInvalid)
	}
	if n.PhysicalNetwork != "" {
		physical = string(n.PhysicalNetwork)
	}
	switch n.NetworkType {
	case "gre", "vxlan", "geneve": // nova/network/constants.py, L3_NETWORK_TYPES
		tunneled = true
	}
	return physical, tunneled, nil
}

// subnetsOf are the subnets that the port has addresses in, with those.
func (s *surroundings) subnetsOf(p port) []Subnet {
	used := map[string]bool{}
	for _, a := range p.FixedIPs {
		used[a.SubnetID] = true
	}
	out := []Subnet{}
	for _, id := range s.order {
		if !used[id] {
			continue
		}
		n := s.subnets[id]
		cidr, err := netip.ParsePrefix(n.CIDR)
		if err != nil {
			continue
		}
		gateway := ip(n.GatewayIP, "gateway")
		t := Subnet{CIDR: Text(n.CIDR), Version: versionOf(cidr.Addr()), Gateway: &gateway,
			DNS: []IP{}, IPs: []FixedIP{}, Routes: []HostRoute{}, Meta: Meta{}}
		if n.IPv6AddressMode != "" {
			t.Meta["ipv6_address_mode"] = n.IPv6AddressMode
		}
		if server := s.dhcp[id]; server != "" {
			t.Meta["dhcp_server"] = server
		} else if n.EnableDHCP {
			// Nova's fall-back while Neutron has no DHCP port yet: the metadata
			// API would drop a null.
			t.Meta["dhcp_server"] = nil
			if n.GatewayIP != "" {
				t.Meta["dhcp_server"] = string(n.GatewayIP)
			}
		}
		for _, d := range n.DNS {
			t.DNS = append(t.DNS, ip(Text(d), "dns"))
		}
		for _, r := range n.HostRoutes {
			via := ip(Text(r.NextHop), "gateway")
			t.Routes = append(t.Routes, HostRoute{CIDR: Text(r.Destination), Gateway: &via, Meta: Meta{}})
		}
		for _, a := range p.FixedIPs {
			// By address, not by the subnet's ID, as Nova sorts them.
			addr, err := netip.ParseAddr(a.IPAddress)
			if err != nil || !cidr.Contains(addr) {
				continue
			}
			f := FixedIP{IP: ip(Text(a.IPAddress), "fixed"), FloatingIPs: []IP{}}
			for _, fl := range s.floating[portAddressKey{p.ID, a.IPAddress}] {
				f.FloatingIPs = append(f.FloatingIPs, ip(Text(fl), "floating"))
			}
			t.IPs = append(t.IPs, f)
		}
		out = append(out, t)
	}
	return out
}

func ip(address Text, role string) IP {
	i := IP{Address: address, Type: Text(role), Meta: Meta{}}
	if a, err := netip.ParseAddr(string(address)); err == nil {
		i.Version = versionOf(a)
	}
	return i
}

func versionOf(a netip.Addr) Version {
	if a.Is4() {
		return 4
	}
	return 6
}
