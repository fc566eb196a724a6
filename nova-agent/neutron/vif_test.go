package neutron

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"novaagent/engine/errdefs"
)

func TestVIF(t *testing.T) {
	info, err := ParseNetworkInfo(`[{"id": "p", "address": "fa:16:3e:00:00:01", "type": "ovs",
		"details": {"ovs_hybrid_plug": true, "datapath_type": "netdev"}, "added_later": {"n": 12345678901234567890},
		"network": {"id": "n", "bridge": "br-int", "label": "", "meta": {"mtu": 1442}, "subnets": [
			{"cidr": "2001:db8::/64", "version": 6, "gateway": {"address": "fe80::1", "type": "gateway", "version": 6, "meta": {}},
			 "ips": [{"address": "2001:db8::5", "type": "fixed", "version": 6, "meta": {}, "floating_ips": []}],
			 "dns": [{"address": "2001:db8::53"}], "routes": [], "meta": {}},
			{"cidr": "10.0.0.0/24", "version": 4, "gateway": {"address": null},
			 "ips": [{"address": "10.0.0.5"}, {"address": "10.0.0.6"}],
			 "dns": [{"address": "8.8.8.8"}, {"address": "2001:db8::53"}],
			 "routes": [{"cidr": "192.0.2.9/24", "gateway": {"address": "10.0.0.9"}}], "meta": {"dhcp_server": "10.0.0.2"}}]}}]`)
	if err != nil {
		t.Fatal(err)
	}
	v := info[0]
	v4, v6 := v.Gateways()
	for _, tt := range []struct{ what, got, want any }{
		{"addresses", fmt.Sprint(v.Addresses()), "[2001:db8::5/64 10.0.0.5/24 10.0.0.6/24]"},
		{"gateway4", v4, netip.Addr{}},
		{"gateway6", v6, netip.MustParseAddr("fe80::1")},
		{"routes", fmt.Sprint(v.Routes()), "[{192.0.2.0/24 10.0.0.9} {169.254.169.254/32 10.0.0.2}]"},
		{"name servers", fmt.Sprint(v.DNSServers()), "[2001:db8::53 8.8.8.8]"},
		{"MTU", v.MTU(), 1442},
		{"hybrid", v.HybridPlug(), true},
		{"datapath", v.DatapathType(), "netdev"},
		{"vnic type", v.VNICType, Text("normal")},
		{"unknown attribute", strings.Contains(info.String(), `"added_later":{"n":12345678901234567890}`), true},
		{"empty label", strings.Contains(info.String(), `"label":""`), true},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, tt.got, tt.want)
		}
	}

	// A route to everywhere is a gateway, and the metadata service is reached through it.
	v.Network.Subnets[1].Routes[0].CIDR = "0.0.0.0/0"
	v4, _ = v.Gateways()
	if got := v.Routes(); v4 != netip.MustParseAddr("10.0.0.9") || len(got) != 0 {
		t.Errorf("gateway %v, routes %v", v4, got)
	}
}

func TestParseNetworkInfo(t *testing.T) {
	for _, text := range []string{"", "null", "[]"} {
		info, err := ParseNetworkInfo(text)
		if err != nil || info == nil || len(info) > 0 || info.String() != "[]" {
			t.Errorf("%q: %v, %v", text, info, err)
		}
	}
	for _, text := range []string{"{}", "[{}]", `[{"id":7}]`, "[]]", `[{"id":"x"`, strings.Repeat(" ", maxNetworkInfo+1)} {
		if _, err := ParseNetworkInfo(text); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestOpenVSwitch: how ports of other drivers than the recorded one are described.
func TestOpenVSwitch(t *testing.T) {
	s := &surroundings{networks: map[string]network{
		"vlan":  {ID: "vlan", Segments: []segment{{NetworkType: "vxlan"}, {NetworkType: "vlan", PhysicalNetwork: "physnet1"}}},
		"flat":  {ID: "flat", NetworkType: "flat", PhysicalNetwork: "physnet2"},
		"wrong": {ID: "wrong", Segments: []segment{{NetworkType: "vxlan"}}},
	}, ovsBridge: "br-int"}
	for _, tt := range []struct {
		p        port
		bridge   Text
		ovs      Text
		physical any
	}{
		{port{ID: "1", NetworkID: "vlan", VIFType: "ovs"}, "br-int", "1", "physnet1"},
		{port{ID: "2", NetworkID: "flat", VIFType: "ovs", VIFDetails: Meta{"bridge_name": "br-of-a-long-name"}}, "br-of-a-long-n", "2", "physnet2"},
		{port{ID: "3", NetworkID: "flat", VIFType: "tap"}, "", "", "physnet2"},
		{port{ID: "4", NetworkID: "unknown", VIFType: "bridge"}, "brqunknown", "", nil},
	} {
		v, err := s.vif(tt.p, false)
		if err != nil {
			t.Errorf("port %s: %v", tt.p.ID, err)
			continue
		}
		if v.Network.Bridge != tt.bridge || v.OVSInterfaceID != tt.ovs || v.Network.Meta["physical_network"] != tt.physical {
			t.Errorf("port %s: %+v", tt.p.ID, v)
		}
	}
	if _, err := s.vif(port{NetworkID: "wrong"}, false); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("no physical network: %v", err)
	}
}
