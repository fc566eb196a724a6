package dockerapi_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/engine"
	"novaagent/engine/dockerapi"
	"novaagent/engine/enginetest"
	"novaagent/engine/image"
	"novaagent/engine/plugin"
	"novaagent/engine/runtime"
	"novaagent/tests/need"
	"novaagent/tests/oci"
	"novaagent/tests/peer"
	"novaagent/tests/shim"
)

// busyboxArchive is an archive of busybox:latest, made once.
var busyboxArchive = struct {
	once sync.Once
	data []byte
}{}

func archive(t testing.TB) []byte {
	busyboxArchive.once.Do(func() {
		busyboxArchive.data = enginetest.Archive(t, "busybox:latest", ocispec.ImageConfig{
			Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "FROM_IMAGE=yes"},
			Labels: map[string]string{"from": "image"},
		})
	})
	return busyboxArchive.data
}

// api is an engine with its API on a socket.
type api struct {
	engine *engine.Engine
	socket string
	close  func() error
	// stop closes the engine and leaves its containers and files.
	stop func() error
}

func serve(t testing.TB, root, socket string) *api { return serveDefault(t, root, socket, "") }

// serveDefault is serve with a default runtime.
func serveDefault(t testing.TB, root, socket, defaultRuntime string) *api {
	t.Helper()
	need.Root(t)
	cgroup := "/nova-agent-test-api" + strings.NewReplacer("/", "-", ".", "-").Replace(root)
	enginetest.Leaks(t, root, cgroup)
	runtimes, err := oci.Runtimes()
	if err != nil {
		t.Fatal(err)
	}
	runtimes["missing"] = runtime.OCI{Path: "/no/runtime"}
	runtimes["broken"] = runtime.OCI{Path: "sh", Args: []string{"-c", `echo '{"level":"error","msg":"it is broken"}' >log; exit 1`}}
	e, err := engine.Open(context.Background(), engine.Options{
		Runtimes: runtimes, DefaultRuntime: defaultRuntime,
		Root: root, CgroupParent: cgroup, WarmShims: 1, Shim: shim.Program(t), Subnets: enginetest.Subnets(), JournalSocket: journalSocket(socket),
		CDISpecDirs: []string{filepath.Join(filepath.Dir(socket), "cdi")},
		Plugins:     plugin.Finder{Sockets: []string{filepath.Join(filepath.Dir(socket), "plugins")}, Specs: []string{filepath.Join(filepath.Dir(socket), "specs")}},
		Logger:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Images().Load(context.Background(), strings.NewReader(string(archive(t))), image.ImportOptions{ArchiveNames: true}); err != nil {
		t.Fatal(errors.Join(err, e.Close()))
	}
	l, err := dockerapi.Listen("unix://" + socket)
	if err != nil {
		t.Fatal(errors.Join(err, e.Close()))
	}
	server := dockerapi.NewServer(dockerapi.New(e, dockerapi.Options{Version: "0.0-test"}))
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	a := &api{engine: e, socket: socket}
	a.stop = func() error {
		err := server.Close()
		if s := <-served; !errors.Is(s, http.ErrServerClosed) {
			err = errors.Join(err, s)
		}
		return errors.Join(err, e.Close())
	}
	a.close = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var errs []error
		for _, c := range e.List() {
			errs = append(errs, e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true, Volumes: true}))
		}
		for _, v := range e.Volumes() {
			errs = append(errs, fmt.Errorf("volume %s was left behind", v.Name), e.RemoveVolume(ctx, v.Name))
		}
		networks, err := e.Networks()
		errs = append(errs, err)
		for _, n := range networks {
			if !n.Predefined() {
				errs = append(errs, fmt.Errorf("network %s was left behind", n.Name), e.RemoveNetwork(ctx, n.ID))
			}
		}
		errs = append(errs, a.stop(), os.RemoveAll(root))
		for _, dir := range cgroupDirs(cgroup) {
			os.Remove(filepath.Join(dir, "shims"))
			os.Remove(dir)
		}
		return errors.Join(errs...)
	}
	return a
}

func cgroupDirs(parent string) []string {
	all, _ := filepath.Glob("/sys/fs/cgroup/*" + parent)
	return append(all, "/sys/fs/cgroup"+parent)
}

// TestDockerCLI plays each script of testdata with the docker command line client against an engine of
// its own. $DOCKER_HOST is its socket; the image busybox is there.
func TestDockerCLI(t *testing.T) {
	need.Root(t)
	need.Command(t, "docker")
	testscript.Run(t, ownScripts(""))
}

// ownScripts plays the scripts against the project's own server, with a default runtime.
func ownScripts(defaultRuntime string) testscript.Params {
	return scripts("", func(env *testscript.Env) (*peer.Daemon, error) { return startDefault(env, defaultRuntime) })
}

// startEngine starts an engine for a script, and its API.
func startEngine(env *testscript.Env) (*peer.Daemon, error) { return startDefault(env, "") }

// startDefault is startEngine with a default runtime.
func startDefault(env *testscript.Env, defaultRuntime string) (*peer.Daemon, error) {
	a := serveDefault(env.T().(testing.TB), filepath.Join(env.WorkDir, ".engine"), filepath.Join(env.WorkDir, ".docker.sock"), defaultRuntime)
	env.Setenv("RUNTIME", cmp.Or(defaultRuntime, engine.OwnRuntime))
	env.Values["engine"], env.Values["api"] = a.engine, a
	env.Setenv("root", filepath.Join(env.WorkDir, ".engine"))
	env.Values["root"] = filepath.Join(env.WorkDir, ".engine")
	env.Defer(func() {
		if err := a.close(); err != nil {
			env.T().(testing.TB).Error(err)
		}
	})
	return peer.Connect("nova-agent", a.socket), nil
}

// scripts are the parameters of testdata's scripts; docker is the version of the dockerd they run against,
// none for the project's own, and start starts the server of a script.
func scripts(docker string, start func(*testscript.Env) (*peer.Daemon, error)) testscript.Params {
	return testscript.Params{
		Dir:             "testdata",
		ContinueOnError: true,
		Condition: func(cond string) (bool, error) {
			if version, ok := strings.CutPrefix(cond, "docker:"); ok {
				return version == docker, nil
			}
			if cond == "peer" {
				return docker != "", nil
			}
			if strings.HasPrefix(cond, "cli:") { // TestDockerCLIs knows
				return false, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(env *testscript.Env) error {
			t := env.T().(testing.TB)
			d, err := start(env)
			if err != nil {
				return err
			}
			env.Setenv("DOCKER_HOST", "unix://"+d.Socket)
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
			env.Setenv("DOCKER_CLI_HINTS", "false")
			// $ONHOST COMMAND: in the network namespace that the server publishes ports in.
			env.Setenv("ONHOST", "")
			if d.PID != 0 {
				env.Setenv("ONHOST", fmt.Sprintf("nsenter -n -t %d", d.PID))
			}
			env.Values["daemon"] = d
			env.Values["seen"], env.Values["receivers"] = &seen{}, map[string]*receiver{}
			env.Values["t"] = env.T()
			// Archives of busybox, of another image, and of one without a name.
			for name, data := range map[string][]byte{
				"busybox.tar": archive(t),
				"other.tar":   enginetest.Archive(t, "other:latest", ocispec.ImageConfig{Labels: map[string]string{"which": "other"}}),
				"unnamed.tar": enginetest.Archive(t, "", ocispec.ImageConfig{Cmd: []string{"unnamed"}}),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: withRegistry(withFieldCommands(map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// instance UUID COMMAND...: runs a container of Nova's.
			"instance": func(ts *testscript.TestScript, neg bool, args []string) {
				_, err := ts.Value("engine").(*engine.Engine).Run(context.Background(), engine.Spec{
					Owner: engine.OwnerNova, Name: "instance-" + args[0], Image: "busybox", Args: args[1:],
					Labels: map[string]string{"nova.project": "demo"}, OpenStdin: true,
				})
				ts.Check(err)
			},
			// image NAME TARGET...: loads a busybox image that declares volumes.
			"image": func(ts *testscript.TestScript, neg bool, args []string) {
				volumes := map[string]struct{}{}
				for _, target := range args[1:] {
					volumes[target] = struct{}{}
				}
				data := enginetest.Archive(ts.Value("t").(testing.TB), args[0], ocispec.ImageConfig{Cmd: []string{"sh"}, Volumes: volumes})
				ts.Check(ts.Value("daemon").(*peer.Daemon).Call("POST", "/images/load", data, nil))
			},
			// await REF STATE: waits until a container is in a state, as inspect tells it, stopped or gone.
			"await": func(ts *testscript.TestScript, neg bool, args []string) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				ts.Check(await(ctx, ts.Value("daemon").(*peer.Daemon), args[0], args[1]))
			},
		})),
	}
}

func await(ctx context.Context, d *peer.Daemon, ref, state string) error {
	resp, err := d.Do(ctx, "GET", "/events", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for events := json.NewDecoder(resp.Body); ; {
		var c struct{ State struct{ Status string } }
		err := d.Call("GET", "/containers/"+ref+"/json", nil, &c)
		var status *peer.StatusError
		switch {
		case errors.As(err, &status) && status.Code == http.StatusNotFound && state == "gone",
			c.State.Status == state, c.State.Status == "exited" && state == "stopped":
			return nil
		}
		var event json.RawMessage
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("%s did not become %s: %w", ref, state, err)
		}
	}
}
