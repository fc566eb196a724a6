package e2e

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"novaagent/nova-agent/compute"
)

// TestAgentKilledAndUpgraded: containers run on without their agent, and the
// next one finds them as they are.
func TestAgentKilledAndUpgraded(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Groups: []string{"default", "web"}})
	ip := s.floatingIP()
	waitHTTP(t, ip)
	before := c.inside(t, s, "cat", "/proc/1/stat")

	c.control(t, "agent", "kill")
	eventually(t, settle, "the agent to be gone", func() bool { return c.pid("nova-agent") == 0 })
	if !answers(ip) {
		t.Error("the server does not answer while the agent is away")
	}
	c.control(t, "agent", "start")
	c.waitAgent(t)
	if after := c.inside(t, s, "cat", "/proc/1/stat"); startOf(after) != startOf(before) {
		t.Errorf("the first process is another one now")
	}
	if !strings.Contains(s.console(), s.Name+": booted") {
		t.Error("the console log was lost")
	}
	s.mustAction("os-stop", nil)
	s.wait("SHUTOFF")
}

// TestExitWhileAgentIsAway: what ended meanwhile is known at the next start.
func TestExitWhileAgentIsAway(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	s := c.boot(t, bootOptions{Networks: []object{}})
	pid := c.firstProcess(t, s)
	c.control(t, "agent", "kill")
	eventually(t, settle, "the agent to be gone", func() bool { return c.pid("nova-agent") == 0 })
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.control(t, "agent", "start")
	c.waitAgent(t)
	s.wait("SHUTOFF")
	if out, err := c.docker("inspect", "-f", "{{.State.ExitCode}}", "instance-"+s.ID); err != nil || strings.TrimSpace(out) != "137" {
		t.Errorf("exit code %q, %v; want 137", out, err)
	}
}

// TestShimKilled: the death of a shim costs its own container at most, and is
// seen.
func TestShimKilled(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	victim := c.boot(t, bootOptions{Networks: []object{}})
	other := c.boot(t, bootOptions{Networks: []object{}})
	if err := syscall.Kill(parentOf(t, c.firstProcess(t, victim)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	victim.wait("SHUTOFF")
	if got := other.show(); got["status"] != "ACTIVE" {
		t.Errorf("the other server is %v", got["status"])
	}
	c.inside(t, other, "true")
	victim.mustAction("os-start", nil)
	victim.wait("ACTIVE")
}

// waitAgent waits until Nova sees the restarted compute service and it answers.
func (c *cluster) waitAgent(t testing.TB) {
	t.Helper()
	eventually(t, settle, "the compute service to answer", func() bool {
		for _, h := range c.admin.list(t, novaURL+"/os-hypervisors", "hypervisors") {
			_, err := c.admin.do(http.MethodGet, novaURL+"/os-hypervisors/"+idOf(h)+"/uptime", nil)
			if err == nil || isStatus(err, http.StatusNotImplemented) { // Nova's fake driver
				return true
			}
		}
		return false
	})
}

func idOf(row object) string {
	switch id := row["id"].(type) {
	case string:
		return id
	case float64:
		return strconv.Itoa(int(id))
	}
	return ""
}

// firstProcess returns the host's pid of a container's first process.
func (c *cluster) firstProcess(t testing.TB, s *server) int {
	t.Helper()
	out, err := c.docker("inspect", "-f", "{{.State.Pid}}", "instance-"+s.ID)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || pid == 0 {
		t.Fatalf("pid of %s: %q", s.ID, out)
	}
	return pid
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	return parent
}

// startOf returns the start time in a line of /proc/PID/stat.
func startOf(stat string) string {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	return fields[19]
}

// TestKilledAtEachStep kills the agent, as kill -9 does, at each step of a build and of a
// delete, and starts it again. A build ends ACTIVE or in ERROR with a fault, a delete is
// completed, and nothing is left.
func TestKilledAtEachStep(t *testing.T) {
	c := openCluster(t)
	binary := filepath.Join(t.TempDir(), "nova-agent")
	build := exec.Command("go", "build", "-tags", "failpoint", "-o", binary, "../../nova-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		c.control(t, "agent", "restart")
		c.waitAgent(t)
	})
	for _, step := range compute.Steps {
		t.Run(step, func(t *testing.T) {
			checkLeaks(t, c)
			operation, _, _ := strings.Cut(step, ".")
			var s *server
			if operation == "delete" {
				s = c.boot(t, bootOptions{})
			}
			c.control(t, "agent", "stop")
			c.controlWith(t, []string{"NOVA_AGENT_BIN=" + binary, "NOVA_AGENT_KILL_AT=" + step}, "agent", "start")
			c.waitAgent(t)
			if operation == "delete" {
				if _, err := c.admin.do(http.MethodDelete, s.url(), nil); err != nil {
					t.Fatal(err)
				}
			} else {
				s = c.create(t, bootOptions{})
			}
			eventually(t, settle, "the agent to be killed at "+step, func() bool { return c.pid("nova-agent") == 0 })
			c.control(t, "agent", "start")
			c.waitAgent(t)
			if operation == "delete" {
				s.waitGone()
				return
			}
			eventually(t, settle, "the build to have ended", func() bool {
				status := s.show()["status"]
				return status == "ACTIVE" || status == "ERROR"
			})
			if record := s.show(); record["status"] == "ERROR" && record["fault"] == nil {
				t.Error("the server is in ERROR without a fault")
			}
		})
	}
}
