package dockerapi_test

import (
	"bytes"
	"context"
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
	"novaagent/tests/need"
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
}

func serve(t testing.TB, root, socket string) *api {
	t.Helper()
	need.Root(t)
	cgroup := "/nova-agent-test-api" + strings.NewReplacer("/", "-", ".", "-").Replace(root)
	enginetest.Leaks(t, root, cgroup)
	e, err := engine.Open(context.Background(), engine.Options{
		Root: root, CgroupParent: cgroup, WarmShims: 1, Shim: shim.Program(t), Subnets: enginetest.Subnets(),
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
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
		errs = append(errs, server.Close())
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
		errs = append(errs, e.Close(), os.RemoveAll(root))
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
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			root := filepath.Join(env.WorkDir, ".engine")
			a := serve(env.T().(testing.TB), root, filepath.Join(env.WorkDir, ".docker.sock"))
			env.Setenv("DOCKER_HOST", "unix://"+a.socket)
			env.Setenv("DOCKER_CONFIG", filepath.Join(env.WorkDir, ".docker"))
			env.Setenv("DOCKER_CLI_HINTS", "false")
			env.Values["engine"] = a.engine
			env.Values["t"] = env.T()
			// Archives of busybox, of another image, and of one without a name.
			for name, data := range map[string][]byte{
				"busybox.tar": archive(env.T().(testing.TB)),
				"other.tar":   enginetest.Archive(env.T().(testing.TB), "other:latest", ocispec.ImageConfig{Labels: map[string]string{"which": "other"}}),
				"unnamed.tar": enginetest.Archive(env.T().(testing.TB), "", ocispec.ImageConfig{Cmd: []string{"unnamed"}}),
			} {
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
					return err
				}
			}
			env.Defer(func() {
				if err := a.close(); err != nil {
					env.T().(testing.TB).Error(err)
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
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
				_, err := ts.Value("engine").(*engine.Engine).Images().Load(context.Background(), bytes.NewReader(data), image.ImportOptions{ArchiveNames: true})
				ts.Check(err)
			},
			// await REF STATE: waits until a container is in a state.
			"await": func(ts *testscript.TestScript, neg bool, args []string) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				e := ts.Value("engine").(*engine.Engine)
				events := e.Subscribe(ctx, time.Time{})
				for {
					if c, err := e.Inspect(args[0]); err == nil && string(c.State) == args[1] || err != nil && args[1] == "gone" {
						return
					}
					if _, ok := <-events; !ok {
						ts.Fatalf("%s did not become %s", args[0], args[1])
					}
				}
			},
		},
	})
}
