package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
	"novaagent/tests/dockerregistry"
)

// isBlob tells whether a layer is asked for.
func isBlob(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && strings.Contains(r.Header.Get("Accept"), "layer")
}

func isManifest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }

// TestPullThroughFaults pulls from a registry that fails at first.
func TestPullThroughFaults(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	r.Put(t, "app", "v1", twoLayers(t))
	for name, handle := range map[string]func(w http.ResponseWriter, req *http.Request, n int, next http.Handler){
		"broken connections": func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if isBlob(req) && n <= 3 {
				cut(w, req, next, 300<<10)
			}
			next.ServeHTTP(w, req)
		},
		"broken connections, no ranges": func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			req.Header.Del("Range")
			if isBlob(req) && n <= 2 {
				cut(w, req, next, 300<<10)
			}
			next.ServeHTTP(w, req)
		},
		"busy": func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if n <= 2 {
				w.Header().Set("Retry-After", "0")
				w.WriteHeader(http.StatusTooManyRequests)
				return
			}
			next.ServeHTTP(w, req)
		},
		"unavailable": func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if n <= 2 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, req)
		},
		"silent once": func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if isBlob(req) && n == 1 {
				<-req.Context().Done()
				return
			}
			next.ServeHTTP(w, req)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, empty := newStore(t)
			f := newFront(t, r, handle)
			c := newClient(t, Options{Timeout: timeout})
			pulled, err := c.Pull(t.Context(), s, nameAt(t, f, "app:v1"), PullRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if len(pulled.Layers) != 2 || !pulled.New {
				t.Errorf("%+v", pulled)
			}
			if err := s.Remove(t.Context(), pulled.Image.Digest.String()); err != nil {
				t.Error(err)
			}
			empty()
		})
	}
}

// TestPullRefused pulls from registries that can't be served from. Nothing is left of it.
func TestPullRefused(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	r.Put(t, "app", "v1", twoLayers(t))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		t.Errorf("a foreign URL was asked: %s", req.URL)
	}))
	defer elsewhere.Close()
	// document answers all requests for manifests with one, whatever its digest, of a media type.
	document := func(mediaType string, raw []byte) func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
		return func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if !isManifest(req) {
				next.ServeHTTP(w, req)
				return
			}
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Docker-Content-Digest", digest.FromBytes(raw).String())
			w.Write(raw)
		}
	}
	empty := digest.FromString("")
	manifest := func(config, layer ocispec.Descriptor) []byte {
		m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{layer}}
		m.SchemaVersion = 2
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	config := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: empty, Size: 2}
	layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: empty, Size: 2}
	with := func(d ocispec.Descriptor, change func(*ocispec.Descriptor)) ocispec.Descriptor {
		change(&d)
		return d
	}
	oci := ocispec.MediaTypeImageManifest
	for _, tt := range []struct {
		name   string
		handle func(w http.ResponseWriter, req *http.Request, n int, next http.Handler)
		kind   error
		says   string
	}{
		{"always unavailable", func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, errdefs.ErrUnavailable, "503 Service Unavailable"},
		{"too many requests", func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
			w.Write([]byte(`{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}`))
		}, errdefs.ErrUnavailable, ""},
		{"altered blob", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if !isBlob(req) {
				next.ServeHTTP(w, req)
				return
			}
			changed(w, req, next, func(b []byte) []byte { b[len(b)/2]++; return b })
		}, errdefs.ErrInvalid, "digest"},
		{"longer blob", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if !isBlob(req) {
				next.ServeHTTP(w, req)
				return
			}
			changed(w, req, next, func(b []byte) []byte { return append(b, "more"...) })
		}, errdefs.ErrInvalid, "size"},
		{"shorter blob", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if !isBlob(req) {
				next.ServeHTTP(w, req)
				return
			}
			req.Header.Del("Range")
			changed(w, req, next, func(b []byte) []byte { return b[:len(b)/2] })
		}, errdefs.ErrUnavailable, "bytes"},
		{"endless blob", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if !isBlob(req) {
				next.ServeHTTP(w, req)
				return
			}
			for chunk := make([]byte, 64<<10); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, errdefs.ErrInvalid, "size"},
		{"absent blob", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if isBlob(req) {
				http.NotFound(w, req)
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrInvalid, "registry lacks blob"},
		{"redirect to a file", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if isBlob(req) {
				http.Redirect(w, req, "file:///etc/passwd", http.StatusTemporaryRedirect)
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrInvalid, `scheme "file"`},
		{"redirects in a circle", func(w http.ResponseWriter, req *http.Request, _ int, _ http.Handler) {
			http.Redirect(w, req, req.URL.Path, http.StatusTemporaryRedirect)
		}, errdefs.ErrUnavailable, "10 redirects"},
		{"silent", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if isBlob(req) {
				w.Header().Set("Content-Length", "1000000")
				w.Write([]byte("x"))
				http.NewResponseController(w).Flush()
				<-req.Context().Done()
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrUnavailable, "sent nothing for"},
		{"reset", func(_ http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) { panic(http.ErrAbortHandler) }, errdefs.ErrUnavailable, "EOF"},
		{"endless manifest", func(w http.ResponseWriter, req *http.Request, _ int, _ http.Handler) {
			w.Header().Set("Content-Type", oci)
			for chunk := bytes.Repeat([]byte(" "), 64<<10); req.Method == http.MethodGet; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, errdefs.ErrInvalid, "longer than"},
		{"giant manifest", func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
			w.Header().Set("Content-Type", oci)
			w.Header().Set("Docker-Content-Digest", empty.String())
			w.Header().Set("Content-Length", "1000000000000")
		}, errdefs.ErrNotFound, ""},
		{"manifest with another digest", func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if isManifest(req) && req.Method == http.MethodGet {
				changed(w, req, next, func(b []byte) []byte { return bytes.Replace(b, []byte("layers"), []byte("LAYERS"), 1) })
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrInvalid, "digest"},
		{"schema 1", document(images.MediaTypeDockerSchema1Manifest, []byte(`{"schemaVersion":1,"fsLayers":[]}`)), errdefs.ErrUnsupported, "schema 1"},
		{"no manifest", document("text/html", []byte("<html>")), errdefs.ErrUnsupported, "no image"},
		{"an index as a manifest", document(oci, []byte(`{"schemaVersion":2,"manifests":[],"config":{},"layers":[]}`)), errdefs.ErrInvalid, "fields of another"},
		{"an artifact", document(oci, manifest(with(config, func(d *ocispec.Descriptor) { d.MediaType = "application/vnd.example" }), layer)), errdefs.ErrInvalid, "artifact"},
		{"a foreign layer", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) {
			d.MediaType, d.URLs = images.MediaTypeDockerSchema2LayerForeignGzip, []string{elsewhere.URL}
		}))), errdefs.ErrUnsupported, "registries don't have"},
		{"a layer with a URL", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) { d.URLs = []string{elsewhere.URL} }))), errdefs.ErrInvalid, ""},
		{"an encrypted layer", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) { d.MediaType += "+encrypted" }))), errdefs.ErrUnsupported, "encrypted"},
		{"a giant layer", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) { d.Size = 1 << 62 }))), errdefs.ErrInvalid, "larger than"},
		{"a layer of negative size", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) { d.Size = -1 }))), errdefs.ErrInvalid, "-1 bytes"},
		{"a giant configuration", document(oci, manifest(with(config, func(d *ocispec.Descriptor) { d.Size = 1 << 30 }), layer)), errdefs.ErrInvalid, "the limit is"},
		{"no digest", document(oci, manifest(config, with(layer, func(d *ocispec.Descriptor) { d.Digest = "sha256:../../x" }))), errdefs.ErrInvalid, "digest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, empty := newStore(t)
			f := newFront(t, r, tt.handle)
			_, err := newClient(t, Options{Timeout: timeout}).Pull(t.Context(), s, nameAt(t, f, "app:v1"), PullRequest{})
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v; want %v and %q", err, tt.kind, tt.says)
			}
			t.Log(err)
			empty()
		})
	}
}

// TestPullCancelled ends a pull in the middle of a layer.
func TestPullCancelled(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	r.Put(t, "app", "v1", twoLayers(t))
	s, empty := newStore(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("the client is gone")
	f := newFront(t, r, func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
		if isBlob(req) && req.Header.Get("Range") == "" {
			changed(w, req, next, func(b []byte) []byte { return b[:len(b)/2] })
			http.NewResponseController(w).Flush()
			cancel(gone)
			<-req.Context().Done()
			return
		}
		next.ServeHTTP(w, req)
	})
	if _, err := newClient(t, Options{}).Pull(ctx, s, nameAt(t, f, "app:v1"), PullRequest{}); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	empty()
}

// TestSharedDownload pulls two images at the same time that share a layer. It is downloaded once, also when the
// pull that began it is given up.
func TestSharedDownload(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	base := layerTar(t, "base", 1<<20)
	for _, tag := range []string{"a", "b"} {
		i := twoLayers(t)
		i.Tars = [][]byte{base, layerTar(t, tag, 3000)}
		r.Put(t, "app", tag, i)
	}
	for _, giveUp := range []bool{false, true} {
		t.Run(fmt.Sprintf("given up %v", giveUp), func(t *testing.T) {
			s, empty := newStore(t)
			var began, both atomic.Int32
			wait, joined := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f := newFront(t, r, func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
				if isBlob(req) {
					began.Add(1)
					select {
					case <-wait:
					case <-req.Context().Done():
						return
					}
				}
				next.ServeHTTP(w, req)
			})
			c := newClient(t, Options{Downloads: 8})
			first, cancel := context.WithCancel(t.Context())
			defer cancel()
			pull := func(ctx context.Context, tag string) error {
				_, err := c.Pull(ctx, s, nameAt(t, f, "app:"+tag), PullRequest{Progress: func(p image.LayerProgress) {
					// Four layers wait: two pulls have joined all their downloads, or are about to.
					if p.Stage == image.LayerWaiting && both.Add(1) == 4 {
						once.Do(func() { close(joined) })
					}
				}})
				return err
			}
			errs := make(chan error, 2)
			go func() { errs <- pull(first, "a") }()
			go func() { errs <- pull(t.Context(), "b") }()
			<-joined
			if giveUp {
				cancel()
				if err := <-errs; !errors.Is(err, context.Canceled) {
					t.Errorf("given up: %v", err)
				}
			}
			close(wait)
			if !giveUp {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if err := <-errs; err != nil {
				t.Error(err)
			}
			// The one that is given up may be so before it or the other has begun.
			if n := began.Load(); n != 3 && !giveUp {
				t.Errorf("%d downloads of 3 layers", n)
			}
			for _, img := range s.List() {
				if err := s.Remove(t.Context(), img.Digest.String()); err != nil {
					t.Error(err)
				}
			}
			empty()
		})
	}
}

// TestMirror pulls an image of Docker Hub from a mirror.
func TestMirror(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	r.Put(t, "library/app", "v1", twoLayers(t))
	s, _ := newStore(t)
	c := newClient(t, Options{Mirrors: []string{"http://" + r.Addr}})
	pulled, err := c.Pull(t.Context(), s, name(t, "app:v1"), PullRequest{Auth: Auth{Username: "not", Password: "for a mirror"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(pulled.Names) != 1 || pulled.Names[0] != "docker.io/library/app:v1" {
		t.Errorf("names %q", pulled.Names)
	}
}

// TestCertificates pulls from a registry that wants to be checked, and to know its clients.
func TestCertificates(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{TLS: true, Known: true})
	certs := t.TempDir()
	c := newClient(t, Options{CertsDir: certs})
	c.networks = nil // so that a loopback address is no excuse
	ref := name(t, r.Addr+"/app:v1")
	inspect := func(kind error, says string) {
		t.Helper()
		if _, err := c.Inspect(t.Context(), ref, Auth{}); !errors.Is(err, kind) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %v and %q", err, kind, says)
		}
	}
	put := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(r.Certificates, from))
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Join(certs, r.Addr), 0o700), os.WriteFile(filepath.Join(certs, r.Addr, to), data, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	inspect(errdefs.ErrUnavailable, "unknown authority")
	put("ca.pem", "ca.crt")
	inspect(errdefs.ErrUnavailable, "") // an alert, or a closed connection
	put("client.key", "client.key")
	inspect(errdefs.ErrUnavailable, "has no certificate beside it")
	put("client.pem", "client.cert")
	inspect(errdefs.ErrNotFound, "manifest unknown")
	put("ca.key", "ca.crt")
	inspect(errdefs.ErrUnavailable, "holds no certificate")
}

// TestOptions has settings that are none.
func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{Insecure: []string{"http://x"}}, {Insecure: []string{"10.0.0.0/99"}}, {Mirrors: []string{"mirror.example.org"}},
		{Mirrors: []string{"ftp://mirror.example.org"}}, {Mirrors: []string{"https://user:x@mirror.example.org"}},
	} {
		if _, err := New(o); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	c := newClient(t, Options{Insecure: []string{"Example.org:5000", "10.0.0.0/8", "other.example.org"}})
	for host, want := range map[string]bool{
		"example.org:5000": true, "10.1.2.3:80": true, "127.0.0.5": true, "[::1]:5000": true, "localhost:5000": true,
		"other.example.org:443": true, "11.0.0.1": false, hubHost: false,
	} {
		if got := c.insecure(t.Context(), host); got != want {
			t.Errorf("insecure %s: %v", host, got)
		}
	}
}
