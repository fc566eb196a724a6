package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"novaagent/tests/need"
)

// TestBrokenLog: a log that nobody reads any more is no reason to end.
func TestBrokenLog(t *testing.T) {
	need.Root(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	p := newProcess(t, nil, "standalone", "--root", root, "--host", "unix://"+root+"/docker.sock", "--log-level", "debug")
	p.cmd.Stderr, p.cmd.Stdout = w, w
	p.start()
	p.expect("READY=1")
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	client := unixClient(t, root+"/docker.sock")
	for range 3 { // each is logged
		resp, err := client.Post("http://docker/images/create?fromImage=x", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotImplemented {
			t.Errorf("status %d; the test needs a request that is logged", resp.StatusCode)
		}
	}
	p.end()
}

// TestStandalone: the engine is served at a socket, one process has a directory, and a
// signal ends it in good order. The path of the socket is longer than an address of
// the kernel.
func TestStandalone(t *testing.T) {
	need.Root(t)
	root := filepath.Join(t.TempDir(), "root")
	socket := filepath.Join(t.TempDir(), strings.Repeat("d", 120), "docker.sock")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, nil, "standalone", "--root", root, "--host", "unix://"+socket)
	p.expect("READY=1")
	status, text := getVersion(t, socket)
	var answer struct{ APIVersion, Os string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusOK || answer.Os != "linux" {
		t.Errorf("version: %d %s %v", status, text, err)
	}
	second := startProcess(t, nil, "standalone", "--root", root, "--host", "unix://"+socket+"2")
	second.wait(1)
	if log := second.log(); !strings.Contains(log, "in use") || strings.Count(strings.TrimSpace(log), "\n") > 0 {
		t.Errorf("a second process on the same directory says:\n%s", log)
	}
	// Purge is for a service that is stopped.
	file := filepath.Join(t.TempDir(), "nova-agent.yaml")
	if err := os.WriteFile(file, []byte("state_dir: "+root+"\nrun_dir: "+root+"/run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	purge := startProcess(t, nil, "purge", "--config", file, "--yes")
	purge.wait(1)
	if !strings.Contains(purge.log(), "in use") {
		t.Errorf("purge under a running process says:\n%s", purge.log())
	}
	p.end()
	startProcess(t, nil, "purge", "--config", file, "--yes").wait(0)
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	// Again on the same directory.
	p = startProcess(t, nil, "standalone", "--root", root, "--host", "unix://"+socket, "--log-format", "json")
	p.expect("READY=1")
	p.logged(`"msg":"serving"`)
	p.end()
}

// getVersion reaches a socket whose path is too long for an address.
func getVersion(t *testing.T, socket string) (int, string) {
	t.Helper()
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	short := filepath.Join("/proc/self/fd", strconv.Itoa(int(dir.Fd())), filepath.Base(socket))
	return get(t, unixClient(t, short), "http://docker/version")
}

// TestListeners: several addresses at once, and what is refused.
func TestListeners(t *testing.T) {
	need.Root(t)
	root := t.TempDir()
	one, two := root+"/one.sock", root+"/two.sock"
	p := startProcess(t, nil, "standalone", "--root", root+"/root", "--host", "unix://"+one, "--host", "unix://"+two, "--socket-mode", "0600")
	p.expect("READY=1")
	for _, socket := range []string{one, two} {
		if status, text := get(t, unixClient(t, socket), "http://docker/_ping"); status != http.StatusOK {
			t.Errorf("%s: %d %s", socket, status, text)
		}
		if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", socket, info, err)
		}
	}
	p.end()
	for text, args := range map[string][]string{
		"TCP needs TLS":                {"--host", "tcp://0.0.0.0:0"},
		"every user of this host root": {"--host", "tcp://127.0.0.1:0"},
		"without client certificates":  {"--host", "tcp://127.0.0.1:0", "--tlscert", "x", "--tlsverify=false"},
		"TLS needs three files":        {"--host", "tcp://127.0.0.1:0", "--tlscert", "x"},
		"is no mode":                   {"--host", "unix://" + one, "--socket-mode", "rw"},
		"systemd passed no sockets":    {"--host", "fd://"},
	} {
		p := startProcess(t, nil, append([]string{"standalone", "--root", root + "/root"}, args...)...)
		p.wait(1)
		if !strings.Contains(p.log(), text) {
			t.Errorf("%v says:\n%s", args, p.log())
		}
	}
}

// TestSocketActivation: systemd opens the socket and passes it on.
func TestSocketActivation(t *testing.T) {
	need.Root(t)
	need.Command(t, "systemd-socket-activate")
	dir := t.TempDir()
	socket := dir + "/docker.sock"
	p := newProcess(t, nil)
	// It starts the program at the first connection.
	path, err := exec.LookPath("nova-agent")
	if err != nil {
		t.Fatal(err)
	}
	activate, err := exec.LookPath("systemd-socket-activate")
	if err != nil {
		t.Fatal(err)
	}
	var notify string
	for _, v := range p.cmd.Env {
		if strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			notify = v
		}
	}
	p.cmd.Path = activate
	p.cmd.Args = []string{"systemd-socket-activate", "-l", socket, "-E", notify, path, "standalone", "--root", dir + "/root", "--host", "fd://"}
	p.start()
	p.logged("Listening on " + socket)
	if status, text := get(t, unixClient(t, socket), "http://docker/_ping"); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	p.expect("READY=1")
	p.end()
}
