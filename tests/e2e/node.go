package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"novaagent/tests/need"
)

// control runs devstack/cluster.
func (c *cluster) control(t testing.TB, args ...string) {
	t.Helper()
	c.controlWith(t, nil, args...)
}

// controlWith is control with more in its environment.
func (c *cluster) controlWith(t testing.TB, env []string, args ...string) {
	t.Helper()
	cmd := exec.Command("../../devstack/cluster", args...)
	cmd.Env = append(append(os.Environ(), "CLUSTER_STATE="+c.state), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("devstack/cluster %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// docker runs the docker CLI against nova-agent's socket on the node.
func (c *cluster) docker(args ...string) (string, error) {
	cmd := exec.Command("docker", append([]string{"-H", "unix://" + filepath.Join(c.state, "run/nova-agent/docker.sock")}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// sql runs a statement in a database of the control plane and returns its rows.
func (c *cluster) sql(t testing.TB, database, statement string) string {
	t.Helper()
	out, err := exec.Command("mariadb", "--no-defaults", "-uroot", "-S", filepath.Join(c.state, "run/mysqld.sock"), "-N", database, "-e", statement).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", statement, err, out)
	}
	return string(out)
}

// inside runs a command in a server's container and returns what it printed.
func (c *cluster) inside(t testing.TB, s *server, command ...string) string {
	t.Helper()
	need.Command(t, "docker")
	out, err := c.docker(append([]string{"exec", "instance-" + s.ID}, command...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// pid returns a service's process, or 0 if it does not run.
func (c *cluster) pid(name string) int {
	text, err := os.ReadFile(filepath.Join(c.state, "run", name+".pid"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) != 2 {
		return 0
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil || !strings.Contains(string(stat), " "+fields[1]+" ") {
		return 0
	}
	return pid
}

// holdAgent stops the agent's process where it is, and returns what lets it go on.
func (c *cluster) holdAgent(t testing.TB) (resume func()) {
	t.Helper()
	pid := c.pid("nova-agent")
	if pid == 0 {
		t.Fatal("nova-agent does not run")
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume = sync.OnceFunc(func() {
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(resume)
	return resume
}

func ping(address string) bool {
	return exec.Command("ping", "-c1", "-W1", address).Run() == nil
}

// waitHTTP waits until the web server of image "web" answers at address.
func waitHTTP(t testing.TB, address string) {
	t.Helper()
	eventually(t, time.Minute, "http://"+address+"/ to answer", func() bool { return answers(address) })
}

func answers(address string) bool {
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + "/")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
