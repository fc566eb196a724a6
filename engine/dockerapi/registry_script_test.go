package dockerapi_test

import (
	"archive/tar"
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/image"
	"novaagent/tests/dockerregistry"
)

// registries are those that run, by address.
var registries sync.Map

// rootfs is a tar of enginetest.Rootfs, made once.
var rootfs struct {
	once sync.Once
	data []byte
}

// registryCommands are what scripts need of registries.
var registryCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	// registry NAME [tls] [basic|token]: runs a registry; $NAME is its address.
	"registry": func(ts *testscript.TestScript, neg bool, args []string) {
		var o dockerregistry.Options
		for _, a := range args[1:] {
			switch a {
			case "tls":
				o.TLS = true
			case "basic":
				o.Basic = true
			case "token":
				o.Token = true
			default:
				ts.Fatalf("registry: what is %s", a)
			}
		}
		r := dockerregistry.Start(ts.Value("t").(testing.TB), o)
		ts.Setenv(args[0], r.Addr)
		registries.Store(r.Addr, r)
	},
	// remote ADDR/REPO:TAG FORMAT [ARCH...]: puts an image of two layers, busybox and /etc/which with the architecture, into a plain
	// registry; for several architectures an index.
	"remote": func(ts *testscript.TestScript, neg bool, args []string) {
		t := ts.Value("t").(testing.TB)
		addr, rest, _ := strings.Cut(args[0], "/")
		repo, tag, _ := strings.Cut(rest, ":")
		r := registryAt(ts, addr)
		arches := args[2:]
		if len(arches) == 0 {
			arches = []string{runtime.GOARCH}
		}
		var images []dockerregistry.Image
		for _, arch := range arches {
			arch = strings.Replace(arch, "host", runtime.GOARCH, 1)
			images = append(images, dockerregistry.Image{
				Platform: ocispec.Platform{OS: "linux", Architecture: arch}, Format: args[1], Tars: [][]byte{rootfsTar(t), whichTar(t, arch+" "+tag)},
				Config: ocispec.ImageConfig{Cmd: []string{"cat", "/etc/which"}, Env: []string{"PATH=/bin"}},
			})
		}
		ts.Setenv("DIGEST", r.Put(t, repo, tag, images...).Digest.String())
	},
	// unkept: loads the image unkept without keeping its layers, as images of Glance are.
	"unkept": func(ts *testscript.TestScript, neg bool, args []string) {
		data := enginetest.Archive(ts.Value("t").(testing.TB), "unkept", ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
		_, err := ts.Value("engine").(*engine.Engine).Images().Load(context.Background(), bytes.NewReader(data), image.ImportOptions{ArchiveNames: true})
		ts.Check(err)
	},
	// searchable NAME: a registry that can be searched, and does nothing else.
	"searchable": func(ts *testscript.TestScript, neg bool, args []string) {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/search" {
				http.NotFound(w, r)
				return
			}
			w.Write([]byte(`{"num_results":2,"query":"` + r.URL.Query().Get("q") + `","results":[
				{"name":"` + r.URL.Query().Get("q") + `","description":"the one","star_count":42,"is_official":true},
				{"name":"x/` + r.URL.Query().Get("q") + `","description":"another","star_count":3}]}`))
		}))
		ts.Defer(server.Close)
		ts.Setenv(args[0], strings.TrimPrefix(server.URL, "http://"))
	},
	// fileserver NAME FILE: $NAME is a URL of the file.
	"fileserver": func(ts *testscript.TestScript, neg bool, args []string) {
		data := ts.ReadFile(args[1])
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/file" {
				http.NotFound(w, r)
				return
			}
			w.Write([]byte(data))
		}))
		ts.Defer(server.Close)
		ts.Setenv(args[0], server.URL)
	},
}

// withRegistry adds the commands above.
func withRegistry(cmds map[string]func(ts *testscript.TestScript, neg bool, args []string)) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	maps.Copy(cmds, registryCommands)
	return cmds
}

func registryAt(ts *testscript.TestScript, addr string) *dockerregistry.Registry {
	r, ok := registries.Load(addr)
	if !ok {
		ts.Fatalf("no registry at %s", addr)
	}
	return r.(*dockerregistry.Registry)
}

func rootfsTar(t testing.TB) []byte {
	rootfs.once.Do(func() {
		dir := t.TempDir()
		enginetest.Rootfs(t, dir)
		rootfs.data = enginetest.Tar(t, dir)
	})
	return rootfs.data
}

func whichTar(t testing.TB, text string) []byte {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: "etc/which", Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
