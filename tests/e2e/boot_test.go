package e2e

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// TestBoot: a server comes up on the network, with its flavor's limits and
// nothing of the host's identity.
func TestBoot(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Flavor: "c1.small", Groups: []string{"default", "web"},
		Extra: object{"metadata": object{"colour": "blue"}}})

	if got := s.addresses("private"); len(got) != 1 {
		t.Fatalf("addresses on private: %v", got)
	}
	ip := s.floatingIP()
	waitHTTP(t, ip)
	if !ping(ip) {
		t.Errorf("%s does not answer a ping", ip)
	}

	t.Run("console log", func(t *testing.T) {
		log := s.console()
		for _, want := range []string{s.Name + ": booted", s.addresses("private")[0]} {
			if !strings.Contains(log, want) {
				t.Errorf("console log lacks %q:\n%s", want, log)
			}
		}
	})
	t.Run("metadata service", func(t *testing.T) {
		var got struct {
			UUID string
			Meta map[string]string
		}
		text := c.inside(t, s, "wget", "-q", "-O", "-", "http://169.254.169.254/openstack/latest/meta_data.json")
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		if got.UUID != s.ID || got.Meta["colour"] != "blue" {
			t.Errorf("meta_data.json: %+v", got)
		}
	})
	t.Run("limits of the flavor", func(t *testing.T) {
		memory := strings.TrimSpace(c.inside(t, s, "sh", "-c",
			"cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes"))
		if memory != "268435456" {
			t.Errorf("memory limit is %s, want 256 MiB", memory)
		}
	})
	t.Run("identity", func(t *testing.T) {
		if got := strings.TrimSpace(c.inside(t, s, "hostname")); got != s.Name {
			t.Errorf("hostname is %q, want %q", got, s.Name)
		}
		ids := strings.Fields(c.inside(t, s, "cat", "/proc/self/uid_map"))
		if len(ids) != 3 || ids[0] != "0" || ids[1] == "0" || ids[2] != "65536" {
			t.Errorf("uid map %v: want 65536 ids of a range of its own", ids)
		}
		if mac := strings.TrimSpace(c.inside(t, s, "cat", "/sys/class/net/eth0/address")); mac != s.ports()[0]["mac_address"] {
			t.Errorf("MAC is %s, Neutron says %s", mac, s.ports()[0]["mac_address"])
		}
	})
	t.Run("port", func(t *testing.T) {
		p := s.ports()[0]
		if p["status"] != "ACTIVE" {
			t.Errorf("port is %v", p["status"])
		}
		record := s.show()
		if p["binding:host_id"] != record["OS-EXT-SRV-ATTR:host"] {
			t.Errorf("port is bound to %v, the server is on %v", p["binding:host_id"], record["OS-EXT-SRV-ATTR:host"])
		}
	})
	t.Run("action record", func(t *testing.T) {
		actions := c.demo.list(t, s.url()+"/os-instance-actions", "instanceActions")
		got := c.admin.must(t, http.MethodGet, s.url()+"/os-instance-actions/"+actions[0]["request_id"].(string), nil)["instanceAction"].(object)
		var found bool
		for _, e := range got["events"].([]any) {
			if event := e.(object); event["event"] == "compute__do_build_and_run_instance" {
				found = event["result"] == "Success"
			}
		}
		if !found {
			t.Errorf("no successful build event in %v", got["events"])
		}
	})
}

// TestBootWithoutNetwork: --network none.
func TestBootWithoutNetwork(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Networks: []object{}})
	if links := strings.Fields(c.inside(t, s, "ls", "/sys/class/net")); len(links) != 1 || links[0] != "lo" {
		t.Errorf("devices: %v, want only lo", links)
	}
}

// TestDeleteWhileBuilding: the user changes their mind at once.
func TestDeleteWhileBuilding(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	for range 5 {
		c.create(t, bootOptions{}).delete()
	}
}

// TestConfigDrive: its tree is mounted in the container, with the user data.
func TestConfigDrive(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	const script = "#!/bin/sh\necho hello\n"
	s := c.boot(t, bootOptions{Extra: object{"config_drive": true,
		"user_data": base64.StdEncoding.EncodeToString([]byte(script))}})
	var got struct{ UUID, Hostname string }
	text := c.inside(t, s, "cat", "/config-drive/openstack/latest/meta_data.json")
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if got.UUID != s.ID || got.Hostname != s.Name {
		t.Errorf("meta_data.json: %+v", got)
	}
	if got := c.inside(t, s, "cat", "/config-drive/openstack/latest/user_data"); got != script {
		t.Errorf("user_data: %q", got)
	}
	if network := c.inside(t, s, "cat", "/config-drive/openstack/latest/network_data.json"); !strings.Contains(network, s.addresses("private")[0]) {
		t.Errorf("network_data.json lacks %s: %s", s.addresses("private")[0], network)
	}
	if record := s.show(); record["config_drive"] != "True" {
		t.Errorf("the server's config_drive is %v", record["config_drive"])
	}
}
