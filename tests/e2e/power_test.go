package e2e

import (
	"strings"
	"testing"
)

// TestPower walks a server through every power state; its address, MAC and
// files stay.
func TestPower(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Groups: []string{"default", "web"}})
	ip := s.floatingIP()
	waitHTTP(t, ip)
	address := s.addresses("private")[0]
	c.inside(t, s, "sh", "-c", "echo kept > /root/file")

	steps := []struct {
		action string
		body   any
		status string
		up     bool
	}{
		{"os-stop", nil, "SHUTOFF", false},
		{"os-start", nil, "ACTIVE", true},
		{"pause", nil, "PAUSED", false},
		{"unpause", nil, "ACTIVE", true},
		{"reboot", object{"type": "SOFT"}, "ACTIVE", true},
		{"reboot", object{"type": "HARD"}, "ACTIVE", true},
	}
	for _, step := range steps {
		s.mustAction(step.action, step.body)
		s.wait(step.status)
		if step.up {
			waitHTTP(t, ip)
			if got := strings.TrimSpace(c.inside(t, s, "cat", "/root/file")); got != "kept" {
				t.Errorf("after %s the file in the container reads %q", step.action, got)
			}
		} else if answers(ip) {
			t.Errorf("after %s the server still answers", step.action)
		}
		if got := s.addresses("private"); len(got) != 1 || got[0] != address {
			t.Errorf("after %s the addresses are %v, want %s", step.action, got, address)
		}
	}
	if boots := strings.Count(s.console(), s.Name+": booted"); boots < 4 {
		t.Errorf("the console log shows %d boots, want one for each start:\n%s", boots, s.console())
	}
}

// TestExit: a first process that ends by itself makes the server SHUTOFF, and
// the console log tells how it ended.
func TestExit(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	c.upload(t, "exits", "docker", dockerArchive(t,
		[]string{"sh", "-c", "until [ -e /end ]; do sleep 0.1; done; rm /end; echo at its end; exit 7"}))
	s := c.boot(t, bootOptions{Image: "exits", Networks: []object{}})
	c.inside(t, s, "sh", "-c", ": > /end")
	s.wait("SHUTOFF")
	if log := s.console(); !strings.Contains(log, "at its end\n[nova-agent: the process ended with exit code 7 ") {
		t.Errorf("the console log does not tell of the end:\n%s", log)
	}
	s.mustAction("os-start", nil)
	s.wait("ACTIVE")
}

// TestDiagnostics: both forms of it.
func TestDiagnostics(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{})
	got := c.admin.must(t, "GET", s.url()+"/diagnostics", nil)
	if got["state"] != "running" || got["num_nics"].(float64) != 1 {
		t.Errorf("diagnostics: %v", got)
	}
	s.mustAction("os-stop", nil)
	s.wait("SHUTOFF")
	if _, err := c.admin.do("GET", s.url()+"/diagnostics", nil); !isStatus(err, 409) {
		t.Errorf("diagnostics of a stopped server: %v, want 409", err)
	}
}

// TestUnsupported: what nova-agent lacks is refused at once, and the server is
// as it was.
func TestUnsupported(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Networks: []object{}})
	image := c.demo.named(t, glanceURL+"/images", "images", "web")
	for _, step := range []struct {
		action string
		body   any
	}{
		{"suspend", nil},
		{"rescue", object{}},
		{"shelve", nil},
		{"createImage", object{"name": "unsupported"}},
		{"createBackup", object{"name": "unsupported", "backup_type": "daily", "rotation": 1}},
		{"resize", object{"flavorRef": c.demo.named(t, novaURL+"/flavors", "flavors", "c1.small")}},
		{"rebuild", object{"imageRef": image}},
		{"os-migrateLive", object{"host": nil, "block_migration": "auto"}},
		{"trigger_crash_dump", nil},
		{"changePassword", object{"adminPass": "new"}},
		{"os-getVNCConsole", object{"type": "novnc"}},
	} {
		t.Run(step.action, func(t *testing.T) {
			// Calls are answered with an error; casts end in a failed action.
			_, err := c.admin.do("POST", s.url()+"/action", object{step.action: step.body})
			t.Logf("%v", err)
			eventually(t, settle, "no task under way", func() bool { return s.show()["OS-EXT-STS:task_state"] == nil })
			record := s.show()
			if record["status"] != "ACTIVE" {
				t.Errorf("the server is %v: %s", record["status"], faultOf(record))
			}
		})
	}
	for _, i := range c.demo.list(t, glanceURL+"/images", "images", "name", "unsupported") {
		if _, err := c.demo.do("DELETE", glanceURL+"/images/"+i["id"].(string), nil); err != nil {
			t.Error(err)
		}
	}
	if got := strings.TrimSpace(c.inside(t, s, "hostname")); got != s.Name {
		t.Errorf("the container is not as it was: hostname %q", got)
	}
}
