package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestSecurityGroups: closed until a rule opens it, and closed again.
func TestSecurityGroups(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{})
	ip := s.floatingIP()
	eventually(t, settle, ip+" to answer pings", func() bool { return ping(ip) })
	if answers(ip) {
		t.Error("port 80 answers though no rule allows it")
	}
	s.mustAction("addSecurityGroup", object{"name": "web"})
	waitHTTP(t, ip)
	s.mustAction("removeSecurityGroup", object{"name": "web"})
	eventually(t, settle, "port 80 to be closed again", func() bool { return !answers(ip) })
}

// TestTwoNetworks: the second is dual-stack, with an MTU, a route and a name
// server of its own.
func TestTwoNetworks(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	second := c.makeNetwork(t, "second", 1300)
	c.makeSubnet(t, second, object{"ip_version": 4, "cidr": "203.0.113.0/24", "gateway_ip": nil,
		"host_routes":     []object{{"destination": "198.18.0.0/24", "nexthop": "203.0.113.9"}},
		"dns_nameservers": []string{"203.0.113.53"}})
	c.makeSubnet(t, second, object{"ip_version": 6, "cidr": "2001:db8:1::/64",
		"ipv6_address_mode": "dhcpv6-stateful", "ipv6_ra_mode": "dhcpv6-stateful"})

	s := c.boot(t, bootOptions{Networks: []object{{"uuid": c.network(t, "private")}, {"uuid": second}}})
	other := c.boot(t, bootOptions{Networks: []object{{"uuid": second}}})

	addresses := c.inside(t, s, "ip", "-o", "addr", "show", "dev", "eth1")
	for _, want := range s.addresses("second") {
		if !strings.Contains(addresses, want+"/") {
			t.Errorf("eth1 lacks %s:\n%s", want, addresses)
		}
	}
	if len(s.addresses("second")) != 2 {
		t.Errorf("addresses on second: %v, want IPv4 and IPv6", s.addresses("second"))
	}
	if got := strings.TrimSpace(c.inside(t, s, "cat", "/sys/class/net/eth1/mtu")); got != "1300" {
		t.Errorf("MTU of eth1 is %s, want 1300", got)
	}
	routes := c.inside(t, s, "ip", "route")
	for _, want := range []string{"default via 192.0.2.1 dev eth0", "198.18.0.0/24 via 203.0.113.9 dev eth1"} {
		if !strings.Contains(routes, want) {
			t.Errorf("no route %q in\n%s", want, routes)
		}
	}
	if got := c.inside(t, s, "cat", "/etc/resolv.conf"); !strings.Contains(got, "nameserver 203.0.113.53") {
		t.Errorf("resolv.conf: %q", got)
	}
	for _, address := range other.addresses("second") {
		eventually(t, settle, s.Name+" to reach "+address, func() bool {
			_, err := c.docker("exec", "instance-"+s.ID, "ping", "-c1", "-W2", address)
			return err == nil
		})
	}
}

// TestPort: a port made beforehand keeps its address, MAC and life.
func TestPort(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	port := c.demo.must(t, http.MethodPost, neutronURL+"/ports", object{"port": object{
		"network_id": c.network(t, "private"), "mac_address": "fa:16:3e:12:34:56",
		"fixed_ips": []object{{"ip_address": "192.0.2.77"}}}})["port"].(object)
	id := port["id"].(string)
	t.Cleanup(func() {
		if _, err := c.demo.do(http.MethodDelete, neutronURL+"/ports/"+id, nil); err != nil {
			t.Error(err)
		}
	})
	s := c.boot(t, bootOptions{Networks: []object{{"port": id}}})
	if got := strings.TrimSpace(c.inside(t, s, "cat", "/sys/class/net/eth0/address")); got != "fa:16:3e:12:34:56" {
		t.Errorf("MAC is %s", got)
	}
	s.delete()
	after := c.admin.must(t, http.MethodGet, neutronURL+"/ports/"+id, nil)["port"].(object)
	if after["device_id"] != "" || after["device_owner"] != "" || after["binding:host_id"] != "" {
		t.Errorf("the port is still bound: device %q of %q on %q", after["device_id"], after["device_owner"], after["binding:host_id"])
	}
}

// TestPortStaysDown: Neutron loses the moment at which a port was wired, as it does when two of its
// agents report at once. The boot goes on nevertheless.
func TestPortStaysDown(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	id := c.demo.must(t, http.MethodPost, neutronURL+"/ports", object{"port": object{
		"network_id": c.network(t, "private")}})["port"].(object)["id"].(string)
	t.Cleanup(func() {
		if _, err := c.demo.do(http.MethodDelete, neutronURL+"/ports/"+id, nil); err != nil {
			t.Error(err)
		}
	})
	// One reporter more than there is: when both real ones have reported the port is still
	// waited for, and its going is told to nobody.
	ours := "standard_attr_id = (SELECT standard_attr_id FROM ports WHERE id = '" + id + "')"
	c.sql(t, "neutron", "INSERT INTO provisioningblocks SELECT standard_attr_id, 'TEST' FROM ports WHERE id = '"+id+"'")
	s := c.create(t, bootOptions{Networks: []object{{"port": id}}})
	eventually(t, settle, "the port to be bound", func() bool {
		return c.admin.must(t, http.MethodGet, neutronURL+"/ports/"+id, nil)["port"].(object)["binding:vif_type"] == "bridge"
	})
	eventually(t, settle, "both agents to have reported", func() bool {
		return strings.TrimSpace(c.sql(t, "neutron", "SELECT entity FROM provisioningblocks WHERE "+ours)) == "TEST"
	})
	c.sql(t, "neutron", "DELETE FROM provisioningblocks WHERE "+ours)
	s.wait("ACTIVE")
}

// TestInterfaceAttach: a second NIC comes and goes while the server runs.
func TestInterfaceAttach(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	second := c.makeNetwork(t, "hotplug", 1400)
	c.makeSubnet(t, second, object{"ip_version": 4, "cidr": "203.0.113.0/24", "gateway_ip": nil})
	s := c.boot(t, bootOptions{})
	made := c.demo.must(t, http.MethodPost, s.url()+"/os-interface", object{"interfaceAttachment": object{"net_id": second}})["interfaceAttachment"].(object)
	address := made["fixed_ips"].([]any)[0].(object)["ip_address"].(string)
	eventually(t, settle, "eth1 to have "+address, func() bool {
		return strings.Contains(c.inside(t, s, "ip", "-o", "addr"), address+"/")
	})
	c.demo.must(t, http.MethodDelete, fmt.Sprintf("%s/os-interface/%s", s.url(), made["port_id"]), nil)
	eventually(t, settle, "eth1 to be gone", func() bool {
		return !strings.Contains(c.inside(t, s, "ip", "-o", "addr"), address+"/")
	})
	if len(s.addresses("private")) != 1 {
		t.Errorf("the first NIC is gone too: %v", s.show()["addresses"])
	}
}

func (c *cluster) makeNetwork(t testing.TB, name string, mtu int) string {
	t.Helper()
	id := c.demo.must(t, http.MethodPost, neutronURL+"/networks", object{"network": object{"name": name, "mtu": mtu}})["network"].(object)["id"].(string)
	t.Cleanup(func() {
		if _, err := c.demo.do(http.MethodDelete, neutronURL+"/networks/"+id, nil); err != nil {
			t.Error(err)
		}
	})
	return id
}

func (c *cluster) makeSubnet(t testing.TB, network string, fields object) {
	t.Helper()
	fields["network_id"] = network
	c.demo.must(t, http.MethodPost, neutronURL+"/subnets", object{"subnet": fields})
}
