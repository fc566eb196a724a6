package dockerapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"novaagent/engine"
	"novaagent/engine/dockerapi"
	"novaagent/tests/need"
)

// testPlugin is a plug-in as somebody would write one: a server of HTTP on a socket of its own.
type testPlugin struct {
	t   *testing.T
	dir string // of the volumes

	mu      sync.Mutex
	volumes map[string]map[string]string // options by name
	mounts  map[string]string            // volumes by the IDs of their mounts
	calls   []string
	decide  func(method string, asked map[string]any) (allow bool, msg string)
}

// newPlugin listens at a socket and implements both kinds.
func newPlugin(t *testing.T, socket string) *testPlugin {
	t.Helper()
	p := &testPlugin{t: t, dir: t.TempDir(), volumes: map[string]map[string]string{}, mounts: map[string]string{}}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: p}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	return p
}

func (p *testPlugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var in struct {
		Name, ID string
		Opts     map[string]string
	}
	var raw map[string]any
	decoder := json.NewDecoder(r.Body)
	_ = decoder.Decode(&raw) // an activation has no body
	again, _ := json.Marshal(raw)
	_ = json.Unmarshal(again, &in)
	method := strings.TrimPrefix(r.URL.Path, "/")
	p.calls = append(p.calls, method)
	answer := map[string]any{"Err": ""}
	fail := func(format string, args ...any) { answer["Err"] = fmt.Sprintf(format, args...) }
	_, have := p.volumes[in.Name]
	volume := func(name string) map[string]any {
		return map[string]any{"Name": name, "Mountpoint": filepath.Join(p.dir, name), "Status": map[string]any{"made": "by hand"}}
	}
	switch method {
	case "Plugin.Activate":
		answer = map[string]any{"Implements": []string{"VolumeDriver", "authz"}}
	case "VolumeDriver.Create":
		if in.Opts["fail"] != "" {
			fail("cannot make that: %s", in.Opts["fail"])
			break
		}
		p.volumes[in.Name] = in.Opts
		if err := os.MkdirAll(filepath.Join(p.dir, in.Name), 0o755); err != nil {
			fail("%v", err)
		}
	case "VolumeDriver.Get":
		if !have {
			fail("no such volume")
		}
		answer["Volume"] = volume(in.Name)
	case "VolumeDriver.List":
		var list []any
		for name := range p.volumes {
			list = append(list, volume(name))
		}
		answer["Volumes"] = list
	case "VolumeDriver.Mount":
		if !have || in.ID == "" || p.mounts[in.ID] != "" {
			fail("mount of %q by %q: there are %v", in.Name, in.ID, p.mounts)
			break
		}
		p.mounts[in.ID] = in.Name
		answer["Mountpoint"] = filepath.Join(p.dir, in.Name)
	case "VolumeDriver.Unmount":
		if p.mounts[in.ID] != in.Name {
			fail("unmount of %q by %q: there are %v", in.Name, in.ID, p.mounts)
		}
		delete(p.mounts, in.ID)
	case "VolumeDriver.Remove":
		delete(p.volumes, in.Name)
	case "VolumeDriver.Capabilities":
		answer["Capabilities"] = map[string]string{"Scope": "global"}
	case "AuthZPlugin.AuthZReq", "AuthZPlugin.AuthZRes":
		allow, msg := p.decide(strings.TrimPrefix(method, "AuthZPlugin."), raw)
		answer = map[string]any{"Allow": allow, "Msg": msg}
	default:
		http.NotFound(w, r)
		return
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (p *testPlugin) mounted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mounts)
}

// docker runs the docker command line client.
func (a *api) docker(t *testing.T, args ...string) (string, error) {
	t.Helper()
	need.Command(t, "docker")
	cmd := exec.Command("docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+a.socket, "DOCKER_CONFIG="+filepath.Dir(a.socket)+"/.docker", "DOCKER_CLI_HINTS=false")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// TestVolumePlugin: a plug-in's volumes with the docker client; every mount is taken back.
func TestVolumePlugin(t *testing.T) {
	a := newAPI(t)
	p := newPlugin(t, filepath.Join(filepath.Dir(a.socket), "plugins", "cupboard.sock"))
	must := func(want string, args ...string) {
		t.Helper()
		if out, err := a.docker(t, args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("docker %v: %v %s, want %s", args, err, out, want)
		}
	}
	must("cupboard", "info", "--format", "{{.Plugins.Volume}}")
	must("data", "volume", "create", "-d", "cupboard", "--label", "k=v", "-o", "color=red", "data")
	if p.volumes["data"]["color"] != "red" {
		t.Errorf("the plug-in got %v", p.volumes)
	}
	must("cupboard global "+p.dir+"/data by hand v", "volume", "inspect", "--format", `{{.Driver}} {{.Scope}} {{.Mountpoint}} {{.Status.made}} {{.Labels.k}}`, "data")
	must("data", "volume", "ls", "-q", "--filter", "driver=cupboard")
	must("hello", "run", "--rm", "--network", "none", "-v", "data:/data", "busybox", "sh", "-c", "echo hello > /data/file; cat /data/file")
	if text, err := os.ReadFile(filepath.Join(p.dir, "data", "file")); err != nil || string(text) != "hello\n" {
		t.Errorf("the plug-in's file: %q, %v", text, err)
	}
	if n := p.mounted(); n != 0 {
		t.Errorf("%d mounts are left", n)
	}
	// By the driver of the whole container, named and anonymous, and by --mount; what the image has comes first.
	must("hello", "run", "--rm", "--network", "none", "--volume-driver", "cupboard", "-v", "/anonymous", "-v", "second:/bin-copy",
		"--mount", "type=volume,src=third,dst=/third,volume-driver=cupboard,volume-opt=o=x", "-v", "data:/data:ro", "busybox", "cat", "/data/file")
	if p.volumes["third"]["o"] != "x" || p.volumes["second"] == nil && len(p.volumes) < 3 {
		t.Errorf("the plug-in has %v", p.volumes)
	}
	if len(p.volumes) != 3 {
		t.Errorf("the anonymous volume is left: %v", p.volumes)
	}
	must("", "run", "--network", "none", "--name", "keeper", "-d", "-v", "data:/data", "busybox", "sleep", "1000")
	if out, err := a.docker(t, "volume", "rm", "data"); err == nil || !strings.Contains(out, "in use") {
		t.Errorf("removed while it is used: %s", out)
	}
	if n := p.mounted(); n != 1 {
		t.Errorf("%d mounts of a running container", n)
	}
	must("data cupboard", "inspect", "--format", "{{range .Mounts}}{{.Name}} {{.Driver}} {{.Source}}{{end}}", "keeper")
	must("keeper", "restart", "-t", "0", "keeper")
	if n := p.mounted(); n != 1 {
		t.Errorf("%d mounts after a restart", n)
	}
	must("keeper", "rm", "-f", "keeper")
	if n := p.mounted(); n != 0 {
		t.Errorf("%d mounts after the removal", n)
	}
	// What fails says why, and leaves nothing.
	for text, args := range map[string][]string{
		"cannot make that: purpose":           {"volume", "create", "-d", "cupboard", "-o", "fail=purpose", "bad"},
		`plugin "absent" not found`:           {"volume", "create", "-d", "absent", "bad"},
		"volume name must be unique":          {"run", "--rm", "--network", "none", "--volume-driver", "cupboard", "-v", "local-one:/x", "busybox", "true"},
		"error looking up volume plugin":      {"run", "--pull", "never", "--rm", "--network", "none", "--mount", "type=volume,src=new,dst=/x,volume-driver=absent", "busybox", "true"},
		"plug-ins are not installed as image": {"plugin", "install", "--grant-all-permissions", "vieux/sshfs"},
	} {
		if strings.Contains(text, "unique") {
			must("local-one", "volume", "create", "local-one")
		}
		if out, err := a.docker(t, args...); err == nil || !strings.Contains(out, text) {
			t.Errorf("docker %v: %v %s, want %s", args, err, out, text)
		}
	}
	for _, name := range []string{"data", "second", "third", "local-one"} {
		must(name, "volume", "rm", name)
	}
	if len(p.volumes) != 0 || p.mounted() != 0 {
		t.Errorf("left: %v %v", p.volumes, p.mounts)
	}
	// A volume that the plug-in has on its own account is there, too.
	p.mu.Lock()
	p.volumes["foreign"] = nil
	p.mu.Unlock()
	must("foreign", "volume", "ls", "-q")
	must("cupboard", "volume", "inspect", "--format", "{{.Driver}}", "foreign")
}

// TestVolumePluginRestart: an agent that restarts neither mounts nor unmounts; what ended meanwhile is taken back.
func TestVolumePluginRestart(t *testing.T) {
	dir := t.TempDir()
	p := newPlugin(t, filepath.Join(dir, "plugins", "cupboard.sock"))
	root, socket := filepath.Join(dir, "root"), filepath.Join(dir, "sock")
	a := serve(t, root, socket)
	ctx := context.Background()
	run := func(name string) engine.Container {
		c, err := a.engine.Run(ctx, engine.Spec{
			Owner: engine.OwnerDocker, Name: name, Image: "busybox", Args: []string{"sleep", "1000"}, NetworkMode: engine.NetworkNone,
			Mounts: []engine.Mount{{Type: engine.MountVolume, Source: "shared", Target: "/data", Volume: engine.VolumeMount{Driver: "cupboard"}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stays, ends := run("stays"), run("ends")
	if n := p.mounted(); n != 2 {
		t.Fatalf("%d mounts", n)
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	if n := p.mounted(); n != 2 {
		t.Errorf("%d mounts while nobody serves", n)
	}
	process, err := os.FindProcess(ends.PID)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	a = serve(t, root, socket)
	if exit, err := a.engine.Wait(ctx, ends.ID, engine.WaitNotRunning); err != nil || exit.Code != 137 {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := a.engine.Remove(ctx, ends.ID, engine.RemoveOptions{}); err != nil {
		t.Error(err)
	}
	if n := p.mounted(); n != 1 {
		t.Errorf("%d mounts after one has ended", n)
	}
	if err := a.engine.Remove(ctx, stays.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if n := p.mounted(); n != 0 {
		t.Errorf("%d mounts at the end", n)
	}
	if err := errors.Join(a.engine.RemoveVolume(ctx, "shared"), a.close()); err != nil {
		t.Error(err)
	}
}

// TestAuthorization: a plug-in decides about requests and about their answers.
func TestAuthorization(t *testing.T) {
	a := newAPI(t)
	p := newPlugin(t, filepath.Join(filepath.Dir(a.socket), "elsewhere.sock"))
	specs := filepath.Join(filepath.Dir(a.socket), "specs")
	if err := os.MkdirAll(specs, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(specs, "guard.spec"), []byte("unix://"+filepath.Dir(a.socket)+"/elsewhere.sock\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []map[string]any
	p.decide = func(method string, in map[string]any) (bool, string) {
		in["method"] = method
		asked = append(asked, in)
		uri, _ := in["RequestUri"].(string)
		switch {
		case method == "AuthZReq" && strings.Contains(uri, "/containers/create"):
			return false, "nothing is made here"
		case method == "AuthZRes" && strings.Contains(uri, "/volumes"):
			return false, "volumes are secret"
		}
		return true, ""
	}
	socket := filepath.Join(filepath.Dir(a.socket), "guarded.sock")
	l, err := dockerapi.Listen("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	server := dockerapi.NewServer(dockerapi.New(a.engine, dockerapi.Options{Authorization: []string{"guard"}}))
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	guarded := &api{engine: a.engine, socket: socket}
	id := a.create(t, `,"OpenStdin":true,"StdinOnce":true,"Cmd":["cat"]`)
	if out, err := guarded.docker(t, "info", "--format", "{{.Plugins.Authorization}}"); err != nil || out != "[guard]" {
		t.Errorf("info: %v %s", err, out)
	}
	if out, err := guarded.docker(t, "create", "busybox"); err == nil || !strings.Contains(out, "authorization denied by plugin guard: nothing is made here") {
		t.Errorf("create: %v %s", err, out)
	}
	if out, err := guarded.docker(t, "volume", "ls"); err == nil || !strings.Contains(out, "authorization denied by plugin guard: volumes are secret") {
		t.Errorf("volume ls: %v %s", err, out)
	}
	if status, body := guarded.do(t, "POST", "/containers/create", `{"Image":"`+strings.Repeat("x", 2<<20)+`"}`); status != 403 || !strings.Contains(body, "too large") {
		t.Errorf("a body that cannot be judged: %d %.200s", status, body)
	}
	// Streams, and errors, pass through.
	conn, r := guarded.dial(t, "POST /containers/"+id+"/attach?stream=1&stdin=1&stdout=1"+upgrade)
	if head := readHead(t, r); !strings.Contains(head, "101 UPGRADED") {
		t.Errorf("attach: %s", head)
	}
	a.start(t, id)
	fmt.Fprint(conn, "through")
	conn.CloseWrite()
	if stdout, _ := readFrames(t, r); stdout != "through" {
		t.Errorf("the stream has %q", stdout)
	}
	if status, body := guarded.do(t, "GET", "/containers/absent/json", ""); status != 404 || !strings.Contains(body, "absent") {
		t.Errorf("an error: %d %s", status, body)
	}
	if out, err := guarded.docker(t, "logs", id); err != nil || out != "through" {
		t.Errorf("logs: %v %s", err, out)
	}
	p.mu.Lock()
	bodies := 0
	for _, in := range asked {
		if in["RequestMethod"] == nil || in["RequestUri"] == nil || in["RequestHeaders"] == nil {
			t.Errorf("it was asked %v", in)
		}
		if in["RequestBody"] != nil {
			bodies++
		}
		if in["method"] == "AuthZRes" && in["ResponseStatusCode"] == nil {
			t.Errorf("it was asked about the answer %v", in)
		}
	}
	p.mu.Unlock()
	if bodies == 0 {
		t.Error("it was shown no body")
	}
	// A plug-in that is gone refuses everything.
	if err := os.Remove(filepath.Join(specs, "guard.spec")); err != nil {
		t.Fatal(err)
	}
	if status, body := guarded.do(t, "GET", "/_ping", ""); status != 500 || !strings.Contains(body, "plugin guard failed with error") {
		t.Errorf("without the plug-in: %d %s", status, body)
	}
}
