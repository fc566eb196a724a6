// Package peer starts real dockerds and podman, each in namespaces of its own, to hold this project beside them.
// tests/peer/fetch unpacks them.
package peer

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"novaagent/tests/need"
)

// Release is a Debian release whose dockerd is a peer.
type Release struct {
	Name   string // Debian's
	Docker string // the version of dockerd, as 20.10
}

// Releases are those that tests/peer/fetch unpacks, oldest first.
var Releases = []Release{{"bookworm", "20.10"}, {"trixie", "26.1"}}

// Dir is where tests/peer/fetch puts what it fetches.
func Dir() string { return cmp.Or(os.Getenv("NOVA_AGENT_PEERS"), "/var/cache/nova-agent-peers") }

// root is the directory of a release's packages.
func root(t testing.TB, release string) string {
	t.Helper()
	dir := filepath.Join(Dir(), release)
	if _, err := os.Stat(filepath.Join(dir, "usr/bin")); err != nil {
		need.Unmet(t, "the programs of "+release+" (tests/peer/fetch "+release+")")
	}
	return dir
}

// Daemon is a server of Docker's API.
type Daemon struct {
	Name   string
	Socket string
	PID    int // of its first process; 0 if Connect made it
	client *http.Client
}

// Connect returns the daemon that listens on a socket.
func Connect(name, socket string) *Daemon {
	return &Daemon{Name: name, Socket: socket, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// prepare gives a daemon what must be its own: the release's programs and libraries, and nothing of
// the machine's /etc and /run to write to. Its first process reaps all that is left to it.
const prepare = `set -e
mount --make-rprivate /
ip link set lo up
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p "$1/etc" "$1/etc-work" "$2/etc"
mount -t overlay -o lowerdir="$2/etc:/etc",upperdir="$1/etc",workdir="$1/etc-work" overlay /etc
mount --bind "$2/usr" /usr
shift 2
exec tini-static -- "$@"`

// Dockerd starts the release's dockerd with its files in a directory of the test's own.
func Dockerd(t testing.TB, r Release) *Daemon {
	t.Helper()
	need.Root(t)
	need.Command(t, "ip", "mount")
	usr := root(t, r.Name)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	cgroup := "/nova-agent-peer" + strings.ReplaceAll(dir, "/", "-")
	watch(t, dir, cgroup)
	d := start(t, "dockerd "+r.Docker, path("sock"), syscall.CLONE_NEWPID, "sh", "-c", prepare, "sh", dir, usr,
		"dockerd", "--data-root", path("data"), "--exec-root", path("exec"), "--pidfile", path("pid"), "--host", "unix://"+path("sock"),
		"--cgroup-parent", cgroup, "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2")
	t.Cleanup(func() { // what is frozen by cgroup v1 cannot be killed
		states, _ := filepath.Glob("/sys/fs/cgroup/freezer" + cgroup + "/*/freezer.state")
		for _, path := range states {
			_ = os.WriteFile(path, []byte("THAWED"), 0o644) // it is gone
		}
	})
	return d
}

// Podman starts the Docker API of Debian 12's podman with its files in a directory of the test's own. It runs containers
// with crun, its default, or runc where crun would not: with controllers in both versions of cgroups.
func Podman(t testing.TB) *Daemon {
	t.Helper()
	need.Root(t)
	need.Command(t, "ip", "mount")
	usr := root(t, "podman")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	watch(t, dir, "/libpod_parent")
	runtime := "runc"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		runtime = "crun"
	}
	return start(t, "podman", path("sock"), syscall.CLONE_NEWPID, "sh", "-c", prepare, "sh", dir, usr,
		"podman", "--root", path("data"), "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", runtime,
		"--storage-driver", "overlay", "system", "service", "--time", "0", "unix://"+path("sock"))
}

// Start runs another daemon, in network and mount namespaces of its own, that will listen on the socket.
func Start(t testing.TB, name, socket string, args ...string) *Daemon {
	t.Helper()
	return start(t, name, socket, 0, append([]string{"sh", "-c", `mount --make-rprivate / && ip link set lo up && exec "$@"`, "sh"}, args...)...)
}

// sweep waits until the test has ended, killed or not, and removes what a dockerd has outside of its namespaces: its
// files and its cgroups. Its processes have ended then, but for the last moments of them.
const sweep = `cat >/dev/null
for i in $(seq 100); do
	for f in "/sys/fs/cgroup/freezer$2"/*/freezer.state; do
		[ ! -e "$f" ] || echo THAWED >"$f"
	done
	for d in "/sys/fs/cgroup$2" /sys/fs/cgroup/*"$2"; do
		[ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} + 2>/dev/null
	done
	rm -rf "$1" 2>/dev/null
	left=$(ls -d "$1" "/sys/fs/cgroup$2" /sys/fs/cgroup/*"$2" 2>/dev/null)
	[ -n "$left" ] || exit 0
	sleep 0.1
done
echo "left behind: $left"
exit 1`

// watch starts a process that outlives the test, to sweep behind it.
func watch(t testing.TB, dir, cgroup string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", sweep, "sh", dir, cgroup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ctrl-c is for the test only
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, said.String())
		}
	})
}

func start(t testing.TB, name, socket string, flags uintptr, args ...string) *Daemon {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	// With the first process of a PID namespace all end; and it ends with this one.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | flags, Pdeathsig: syscall.SIGKILL, Setpgid: true,
	}
	started, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // Pdeathsig is about the thread
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		sig := syscall.SIGTERM
		if flags&syscall.CLONE_NEWPID != 0 {
			sig = syscall.SIGKILL // nothing is to be saved, and containers need not be waited for
		}
		cmd.Process.Signal(sig)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Errorf("%s did not end within a minute", name)
			cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("the log of %s:\n%s", name, text[max(0, len(text)-4096):])
		}
		log.Close()
	})
	d := Connect(name, socket)
	d.PID = cmd.Process.Pid
	t.Cleanup(d.client.CloseIdleConnections)
	// It is ready when it answers; daemons of different makers tell in no other way that all have.
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := d.client.Get("http://docker/_ping")
		if err == nil {
			resp.Body.Close()
			return d
		}
		select {
		case status := <-ended:
			ended <- status
			t.Fatalf("%s ended: %v", name, status)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", name, err)
		}
	}
}

// Clients is a Debian release's docker command line client and docker-compose.
type Clients struct {
	Release string
	Docker  string // its version, as 20.10
	Compose string // as 1.29
}

// AllClients are those that tests/peer/fetch unpacks, oldest first. Those of Debian testing are newer than they were when this was
// written, some day.
var AllClients = []Clients{{"bookworm", "20.10", "1.29"}, {"trixie", "26.1", "2.26"}, {"forky", "28.5", "2.40"}}

// Install puts into a directory for $PATH docker and docker-compose, which run those of the release in the network namespace
// of the daemon.
func (c Clients) Install(t testing.TB, d *Daemon, dir string) {
	t.Helper()
	for _, name := range []string{"docker", "docker-compose"} {
		args := d.Command(t, c.Release, "/usr/bin/"+name).Args
		for i, a := range args {
			args[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		// A script cannot take a variable away, and an empty one counts with the older clients.
		script := "#!/bin/sh\n[ -n \"$DOCKER_HOST\" ] || unset DOCKER_HOST\nexec " + strings.Join(args, " ") + ` "$@"` + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// Command is a program of a Debian release, in the daemon's network namespace if it has one of its own; of this machine, if the release is "".
func (d *Daemon) Command(t testing.TB, release string, args ...string) *exec.Cmd {
	t.Helper()
	need.Command(t, "nsenter", "unshare")
	var enter []string
	if d.PID != 0 {
		enter = []string{"nsenter", "-n", "-t", strconv.Itoa(d.PID)}
	}
	if release != "" {
		enter = append(enter, "unshare", "-m", "sh", "-c", `mount --bind "$1/usr" /usr && shift && PATH=/usr/sbin:/usr/bin exec "$@"`, "sh", root(t, release))
	}
	args = append(enter, args...)
	return exec.Command(args[0], args[1:]...)
}

// Do makes a request; the caller closes the body. An answer of 300 and more is an error with its text.
func (d *Daemon) Do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(v)
	case io.Reader:
		r = v
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil || resp.StatusCode < 300 {
		return resp, err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return nil, &StatusError{resp.StatusCode, fmt.Sprintf("%s: %s %s: %s: %s", d.Name, method, path, resp.Status, text)}
}

// StatusError is an answer of 300 and more.
type StatusError struct {
	Code int
	text string
}

func (e *StatusError) Error() string { return e.text }

// Call makes a request and decodes the answer into answer, unless that is nil.
func (d *Daemon) Call(method, path string, body, answer any) error {
	resp, err := d.Do(context.Background(), method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || answer == nil {
		return err
	}
	return json.Unmarshal(data, answer)
}
