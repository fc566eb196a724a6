// Package clients drives the project's Docker API with clients that are not the docker command line client, as they come from
// their makers: docker-py, dockerode, the Go client, and both docker-composes.
package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/enginetest"
	"novaagent/tests/leak"
	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// nova is `nova-agent standalone` in a network namespace of its own. At the end of the test nothing of
// what clients made may be left, on it or on the machine.
func nova(t *testing.T) *peer.Daemon {
	t.Helper()
	need.Root(t)
	program, err := filepath.Abs("../../bin/nova-agent")
	if err != nil {
		t.Fatal(err)
	}
	need.Command(t, program)
	dir := t.TempDir()
	cgroup := "/nova-agent-clients" + strings.ReplaceAll(dir, "/", "-")
	leak.CheckWith(t, leak.Options{Cgroups: []string{cgroup}, Dirs: []string{dir}, NoGoroutines: true})
	socket := filepath.Join(dir, "sock")
	d := peer.Start(t, "nova-agent", socket, program, "standalone", "--root", filepath.Join(dir, "root"), "--host", "unix://"+socket)
	t.Cleanup(func() { empty(t, d) })
	return d
}

// forServers runs a test against each server.
func forServers(t *testing.T, test func(*testing.T, *peer.Daemon)) {
	for name, start := range servers() {
		t.Run(name, func(t *testing.T) { test(t, start(t)) })
	}
}

// empty reports what is left on a server, and removes it.
func empty(t *testing.T, d *peer.Daemon) {
	var containers []struct {
		ID    string
		Names []string
	}
	var volumes struct{ Volumes []struct{ Name string } }
	var networks []struct{ ID, Name string }
	for path, answer := range map[string]any{"/containers/json?all=1": &containers, "/volumes": &volumes, "/networks": &networks} {
		if err := d.Call("GET", path, nil, answer); err != nil {
			t.Error(err)
		}
	}
	remove := func(path string, what any) {
		t.Errorf("left behind: %v", what)
		if err := d.Call("DELETE", path, nil, nil); err != nil {
			t.Error(err)
		}
	}
	for _, c := range containers {
		remove("/containers/"+c.ID+"?force=1&v=1", c.Names)
	}
	for _, v := range volumes.Volumes {
		remove("/volumes/"+v.Name, v.Name)
	}
	for _, n := range networks {
		if n.Name != "bridge" && n.Name != "host" && n.Name != "none" {
			remove("/networks/"+n.ID, n.Name)
		}
	}
}

// run runs a client of a Debian release ("" is the machine's own) in the network namespace of a server, and
// returns what it prints.
func run(t *testing.T, d *peer.Daemon, release string, args ...string) string {
	t.Helper()
	cmd := command(t, d, release, args...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

func command(t *testing.T, d *peer.Daemon, release string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := d.Command(t, release, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+d.Socket, "DOCKER_CONFIG="+t.TempDir(), "PYTHONPATH=", "PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8",
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd
}

// busybox is a file with an archive of busybox:latest.
func busybox(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busybox.tar")
	data := enginetest.Archive(t, "busybox:latest", ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}})
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// script copies a file of testdata to where it is seen with another /usr, too.
func script(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDockerPy runs docker-py 5.0.3 and 7.1.0.
func TestDockerPy(t *testing.T) {
	forServers(t, func(t *testing.T, d *peer.Daemon) {
		for _, r := range peer.Releases {
			t.Run(r.Name, func(t *testing.T) {
				t.Log(run(t, d, r.Name, append([]string{"python3", script(t, "docker_py.py"), busybox(t)}, without...)...))
			})
		}
	})
}

// TestDockerode runs npm's dockerode.
func TestDockerode(t *testing.T) {
	need.Command(t, "node")
	modules := filepath.Join(peer.Dir(), "npm/node_modules")
	if _, err := os.Stat(filepath.Join(modules, "dockerode")); err != nil {
		need.Unmet(t, "dockerode (tests/peer/fetch npm)")
	}
	forServers(t, func(t *testing.T, d *peer.Daemon) {
		cmd := command(t, d, "", append([]string{"node", script(t, "dockerode.mjs"), busybox(t)}, without...)...)
		cmd.Env = append(cmd.Env, "NODE_PATH="+modules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		t.Log(string(out))
	})
}
