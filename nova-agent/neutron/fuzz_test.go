package neutron

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzParseNetworkInfo: what is accepted can be used, and is the same after it was
// written and read again.
func FuzzParseNetworkInfo(f *testing.F) {
	for _, op := range []string{"create", "add_port"} {
		for _, text := range savedCaches(f, op) {
			f.Add(text)
		}
	}
	f.Add(``)
	f.Add(`null`)
	f.Add(`[{"id":"x","network":null,"details":null,"meta":null,"new":[1e99]}]`)
	f.Add(`[{"id":"x","network":{"subnets":[{"cidr":"::/0","gateway":null,"ips":[{"address":"::1","floating_ips":null}],"routes":[{"cidr":"0.0.0.0/0","gateway":{"address":"1.2.3.4"}}],"dns":[{}],"meta":{"dhcp_server":7}}]}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		info, err := ParseNetworkInfo(text)
		if err != nil {
			return
		}
		for _, v := range info {
			v.Addresses()
			v.Gateways()
			v.Routes()
			v.DNSServers()
			v.MTU()
			v.HybridPlug()
			v.DatapathType()
		}
		once := info.String()
		again, err := ParseNetworkInfo(once)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		if d := cmp.Diff(once, again.String()); d != "" {
			t.Error(d)
		}
	})
}

// FuzzPort: any port that Neutron may describe becomes an interface or an error.
func FuzzPort(f *testing.F) {
	for _, e := range recording(f, "add_port") {
		f.Add([]byte(e.Response))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var answer struct {
			Port     port
			Ports    []port
			Networks []network
			Subnets  []subnet
		}
		if decode(text, &answer) != nil {
			return
		}
		s := &surroundings{networks: map[string]network{}, subnets: map[string]subnet{}, ovsBridge: "br-int"}
		for _, n := range answer.Networks {
			s.networks[n.ID] = n
		}
		for _, n := range answer.Subnets {
			s.subnets[n.ID] = n
			s.order = append(s.order, n.ID)
		}
		for _, p := range append(answer.Ports, answer.Port) {
			p.resourceRequest()
			p.allocated()
			v, err := s.vif(p, true)
			if err != nil {
				continue
			}
			if _, err := json.Marshal(NetworkInfo{v}); err != nil {
				t.Error(err)
			}
		}
	})
}
