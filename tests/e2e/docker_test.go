package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"novaagent/tests/need"
)

// TestInstanceOverDocker: an instance is a container with labels, which everything that only looks works on, and
// which nothing that Nova must know of can be done to.
func TestInstanceOverDocker(t *testing.T) {
	need.Command(t, "docker")
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{})
	name, record := "instance-"+s.ID, s.show()
	docker := func(args ...string) string {
		t.Helper()
		out, err := c.docker(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for label, want := range map[string]any{
		"instance": s.ID, "instance.name": s.Name, "project": record["tenant_id"], "user": record["user_id"],
		"flavor": "c1.tiny", "image": record["image"].(object)["id"], "addresses": s.addresses("private")[0],
	} {
		if got := strings.TrimSpace(docker("ps", "--filter", "name="+name, "--format", `{{.Label "org.openstack.`+label+`"}}`)); got != want {
			t.Errorf("label %s is %q, want %v", label, got, want)
		}
	}
	if got := docker("ps", "--filter", "label=org.openstack.addresses="+s.addresses("private")[0], "--format", "{{.Names}}"); strings.TrimSpace(got) != name {
		t.Errorf("by its address: %q", got)
	}
	if log := docker("logs", name); !strings.Contains(log, s.Name+": booted") {
		t.Errorf("logs: %s", log)
	}
	if got := docker("exec", name, "hostname"); strings.TrimSpace(got) != s.Name {
		t.Errorf("exec: %q", got)
	}
	if got := docker("top", name); !strings.Contains(got, "CMD") || strings.Count(got, "\n") < 2 {
		t.Errorf("top: %s", got)
	}
	if got := docker("stats", "--no-stream", "--format", "{{.MemUsage}}", name); !strings.Contains(got, "/ ") || strings.HasPrefix(got, "0B") {
		t.Errorf("stats: %s", got)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("copied\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	docker("cp", file, name+":/root/file")
	docker("cp", name+":/root/file", filepath.Join(dir, "back"))
	if text, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || string(text) != "copied\n" {
		t.Errorf("cp: %q, %v", text, err)
	}
	if got := docker("diff", name); !strings.Contains(got, "A /root/file") {
		t.Errorf("diff: %s", got)
	}
	docker("commit", name, "committed:e2e")
	if got := docker("run", "--rm", "--network", "none", "--entrypoint", "", "committed:e2e", "cat", "/root/file"); got != "copied\n" {
		t.Errorf("commit: %q", got)
	}
	docker("rmi", "committed:e2e")

	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"rm", "-f", name}, "openstack server delete " + s.ID},
		{[]string{"rename", name, "mine"}, "openstack server set --name NAME " + s.ID},
		{[]string{"stop", name}, "openstack server stop " + s.ID},
		{[]string{"start", name}, "openstack server start " + s.ID},
		{[]string{"kill", name}, "openstack server stop " + s.ID},
		{[]string{"restart", name}, "openstack server reboot " + s.ID},
		{[]string{"pause", name}, "openstack server pause " + s.ID},
		{[]string{"unpause", name}, "openstack server unpause " + s.ID},
		{[]string{"update", "--memory", "64m", name}, "openstack server resize --flavor FLAVOR " + s.ID},
	} {
		if _, err := c.docker(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("docker %s: %v, want %q", strings.Join(tt.args, " "), err, tt.want)
		}
	}
	if now := s.show(); now["status"] != "ACTIVE" || now["name"] != s.Name {
		t.Errorf("the server is %v, %v", now["name"], now["status"])
	}
}

// TestDirectContainers: what containers of the Docker API take is reserved in Placement and used in Nova's record of
// the node, and given back.
func TestDirectContainers(t *testing.T) {
	need.Command(t, "docker")
	c := openCluster(t)
	checkLeaks(t, c)
	docker := func(args ...string) {
		t.Helper()
		if out, err := c.docker(args...); err != nil {
			t.Fatal(out, err)
		}
	}
	archive := filepath.Join(t.TempDir(), "direct.tar")
	if err := os.WriteFile(archive, dockerArchive(t, []string{"/bin/sleep", "1000"}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := c.docker("load", "-q", "-i", archive)
	if err != nil {
		t.Fatal(err)
	}
	_, image, _ := strings.Cut(strings.TrimSpace(out), ": ")
	t.Cleanup(func() { docker("rmi", "-f", image) })

	provider := c.admin.list(t, placementURL+"/resource_providers", "resource_providers")[0]["uuid"].(string)
	reserved := func() (cpus, memoryMB, diskGB float64) {
		got := c.admin.must(t, http.MethodGet, placementURL+"/resource_providers/"+provider+"/inventories", nil)["inventories"].(object)
		of := func(class string) float64 { return got[class].(object)["reserved"].(float64) }
		return of("VCPU"), of("MEMORY_MB"), of("DISK_GB")
	}
	cpus, memory, disk := reserved()
	before := c.statistics(t)
	docker("run", "-d", "--name", "direct-1", "--network", "none", "--cpus", "0.5", "-m", "300m", "--storage-opt", "size=1g", image)
	t.Cleanup(func() { c.docker("rm", "-f", "direct-1") })
	eventually(t, settle, "the limits are reserved", func() bool {
		nowCPUs, nowMemory, nowDisk := reserved()
		now := c.statistics(t)
		return nowCPUs == cpus+1 && nowMemory == memory+300 && nowDisk == disk+1 &&
			now["vcpus_used"].(float64) == before["vcpus_used"].(float64)+1 &&
			now["memory_mb_used"].(float64) == before["memory_mb_used"].(float64)+300
	})
	docker("update", "-m", "400m", "--memory-swap", "400m", "direct-1")
	eventually(t, settle, "the new limit is reserved", func() bool {
		_, now, _ := reserved()
		return now == memory+400
	})
	docker("stop", "-t", "0", "direct-1")
	eventually(t, settle, "of one that is stopped only the disk", func() bool {
		nowCPUs, nowMemory, nowDisk := reserved()
		return nowCPUs == cpus && nowMemory == memory && nowDisk == disk+1
	})
	docker("rm", "direct-1")
	eventually(t, settle, "all is given back", func() bool {
		nowCPUs, nowMemory, nowDisk := reserved()
		return nowCPUs == cpus && nowMemory == memory && nowDisk == disk
	})
}
