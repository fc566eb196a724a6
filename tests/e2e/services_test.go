package e2e

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// TestServiceTellsTheTruth: what the API says of the host is what the host is.
func TestServiceTellsTheTruth(t *testing.T) {
	c := openCluster(t)
	services := c.admin.list(t, novaURL+"/os-services", "services", "binary", "nova-compute")
	if len(services) != 1 {
		t.Fatalf("compute services: %v", services)
	}
	if s := services[0]; s["state"] != "up" || s["status"] != "enabled" {
		t.Errorf("compute service is %v and %v", s["state"], s["status"])
	}

	hypervisors := c.admin.list(t, novaURL+"/os-hypervisors/detail", "hypervisors")
	if len(hypervisors) != 1 {
		t.Fatalf("hypervisors: %v", hypervisors)
	}
	h := hypervisors[0]
	if got := h["vcpus"].(float64); int(got) != runtime.NumCPU() {
		t.Errorf("hypervisor has %v vCPUs, the machine has %d", got, runtime.NumCPU())
	}
	memory := memoryMB(t)
	if got := int(h["memory_mb"].(float64)); got > memory || got < memory-1 {
		t.Errorf("hypervisor has %d MB, the machine has %d", got, memory)
	}
	if h["free_disk_gb"] == nil || h["local_gb"].(float64) <= 0 {
		t.Errorf("disk of the hypervisor: %v GB, %v free", h["local_gb"], h["free_disk_gb"])
	}
	if h["hypervisor_type"] == "fake" {
		t.Error("this is the reference compute service, not nova-agent")
	}

	providers := c.admin.list(t, placementURL+"/resource_providers", "resource_providers",
		"name", h["hypervisor_hostname"].(string))
	if len(providers) != 1 {
		t.Fatalf("resource providers: %v", providers)
	}
	inventory := c.admin.must(t, http.MethodGet,
		placementURL+"/resource_providers/"+providers[0]["uuid"].(string)+"/inventories", nil)["inventories"].(object)
	for class, want := range map[string]float64{"VCPU": h["vcpus"].(float64), "MEMORY_MB": h["memory_mb"].(float64), "DISK_GB": h["local_gb"].(float64)} {
		if got := inventory[class].(object)["total"].(float64); got != want {
			t.Errorf("inventory %s is %v, the hypervisor says %v", class, got, want)
		}
	}
	stats := c.statistics(t)
	if stats["count"].(float64) != 1 || stats["vcpus"] != h["vcpus"] {
		t.Errorf("hypervisor statistics: %v", stats)
	}
}

// TestUptime: `openstack hypervisor show` asks the agent for it.
func TestUptime(t *testing.T) {
	c := openCluster(t)
	for _, h := range c.admin.list(t, novaURL+"/os-hypervisors/detail", "hypervisors") {
		// Microversion 2.88 put uptime here; before, it has its own resource.
		got := c.admin.must(t, http.MethodGet, fmt.Sprintf("%s/os-hypervisors/%v/uptime", novaURL, h["id"]), nil)["hypervisor"].(object)
		if text, _ := got["uptime"].(string); !strings.Contains(text, "load average") {
			t.Errorf("uptime of %v: %q", h["hypervisor_hostname"], text)
		}
	}
}

// TestUsage: the numbers follow a server that comes and goes.
func TestUsage(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	before := c.statistics(t)
	s := c.boot(t, bootOptions{Flavor: "c1.small", Networks: []object{}})
	eventually(t, settle, "the hypervisor's usage grows by the flavor", func() bool {
		now := c.statistics(t)
		return now["vcpus_used"].(float64) == before["vcpus_used"].(float64)+1 &&
			now["memory_mb_used"].(float64) == before["memory_mb_used"].(float64)+256 &&
			now["running_vms"].(float64) == before["running_vms"].(float64)+1
	})
	s.delete()
	eventually(t, settle, "the hypervisor's usage is as before", func() bool {
		now := c.statistics(t)
		return now["vcpus_used"] == before["vcpus_used"] && now["memory_mb_used"] == before["memory_mb_used"] &&
			now["running_vms"] == before["running_vms"]
	})
}

func (c *cluster) statistics(t testing.TB) object {
	t.Helper()
	return c.admin.must(t, http.MethodGet, novaURL+"/os-hypervisors/statistics", nil)["hypervisor_statistics"].(object)
}

func memoryMB(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	kb, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return kb / 1024
}
