package e2e

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// checkLeaks compares what is on the node and in the services now with what is
// there when the test and its other cleanups have ended. Call it first.
//
// Kernel objects go away a little after the call that removed them (the last
// veth of a namespace half a second later), hence the deadline.
func checkLeaks(t *testing.T, c *cluster) {
	t.Helper()
	before := c.belongings(t)
	t.Cleanup(func() {
		if t.Failed() {
			return // what a failed test leaves says nothing
		}
		var left []string
		end := time.Now().Add(30 * time.Second)
		for {
			left = left[:0]
			for _, thing := range c.belongings(t) {
				if !slices.Contains(before, thing) {
					left = append(left, thing)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// belongings lists everything that an instance may consist of.
func (c *cluster) belongings(t testing.TB) []string {
	t.Helper()
	var all []string
	add := func(kind string, names ...string) {
		for _, n := range names {
			all = append(all, kind+" "+n)
		}
	}
	add("mount", c.mounts(t)...)
	add("cgroup", c.cgroups()...)
	add("link", links(t)...)
	add("process", c.processes(t)...)
	add("file", c.files()...)
	for _, p := range c.admin.list(t, neutronURL+"/ports", "ports") {
		if owner, _ := p["device_owner"].(string); strings.HasPrefix(owner, "compute:") || owner == "" {
			add("port", p["id"].(string)+" of "+p["device_id"].(string))
		}
	}
	for _, p := range c.admin.list(t, placementURL+"/resource_providers", "resource_providers") {
		got := c.admin.must(t, http.MethodGet, placementURL+"/resource_providers/"+p["uuid"].(string)+"/allocations", nil)
		for consumer := range got["allocations"].(object) {
			add("allocation", consumer)
		}
	}
	return all
}

func (c *cluster) mounts(t testing.TB) []string {
	t.Helper()
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if strings.HasPrefix(fields[4], c.state) && !strings.Contains(fields[4], "/neutron/") {
			out = append(out, fields[4])
		}
	}
	return out
}

// cgroupParent is the one that devstack gives this cluster's agent.
func (c *cluster) cgroupParent() string { return "nova-agent-" + filepath.Base(c.state) + "/" }

// cgroups lists those of this cluster's agent, in every hierarchy.
func (c *cluster) cgroups() []string {
	var out []string
	// The walk races with groups that are being removed; what is gone is not left.
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, c.cgroupParent()) {
			out = append(out, path)
		}
		return nil
	})
	return out
}

func links(t testing.TB) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, l := range all {
		out = append(out, l.Name)
	}
	return out
}

// processes lists the shims and whatever runs beneath them.
func (c *cluster) processes(t testing.TB) []string {
	t.Helper()
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, dir := range dirs {
		group, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil || !strings.Contains(string(group), c.cgroupParent()) {
			continue
		}
		name, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || strings.HasPrefix(string(name), "shim") {
			continue // idle shims are kept warm; one beside a container shows as its process
		}
		out = append(out, fmt.Sprintf("%s %s", filepath.Base(dir), strings.TrimSpace(string(name))))
	}
	return out
}

// files lists the directories of containers and pinned namespaces.
func (c *cluster) files() []string {
	var out []string
	for _, pattern := range []string{
		"data/nova-agent/containers/*", "data/nova-agent/instances/*", "run/nova-agent/ns/*", "data/nova-agent/*/quota/*",
	} {
		found, err := filepath.Glob(filepath.Join(c.state, pattern))
		if err == nil {
			out = append(out, found...)
		}
	}
	return out
}
