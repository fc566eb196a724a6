package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"novaagent/engine/image"
	"novaagent/tests/dockerregistry"
	"novaagent/tests/need"
)

// timeout is short, for registries that hang.
const timeout = 300 * time.Millisecond

// newStore opens a store; empty fails the test unless nothing is in it, not even what the next start would remove.
func newStore(t *testing.T) (s *image.Store, empty func()) {
	t.Helper()
	need.Root(t)
	before := goleak.IgnoreCurrent()
	dir := filepath.Join(t.TempDir(), "images")
	var log bytes.Buffer
	open := func() *image.Store {
		s, err := image.Open(context.Background(), dir, image.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s = open()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t, before)
	})
	return s, func() {
		t.Helper()
		for _, part := range []string{"content/blobs", "content/ingest", "spool", "snapshots/snapshots"} {
			err := filepath.WalkDir(filepath.Join(dir, part), func(path string, e fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if path != filepath.Join(dir, part) && (!e.IsDir() || part != "content/blobs") {
					t.Errorf("left behind: %s", path)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		*s = *open() //nolint:govet // the old one is closed
		if text := log.String(); strings.Contains(text, "leftovers") {
			t.Errorf("the next start: %s", text)
		}
	}
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func name(t testing.TB, text string) reference.NamedTagged {
	t.Helper()
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		t.Fatal(err)
	}
	return reference.TagNameOnly(ref).(reference.NamedTagged)
}

// layerTar is a tar of one file that does not compress.
func layerTar(t testing.TB, file string, size int) []byte {
	t.Helper()
	data := make([]byte, size)
	r := rand.New(rand.NewPCG(uint64(size), uint64(len(file))))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := w.WriteHeader(&tar.Header{Name: file, Mode: 0o644, Size: int64(size)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func twoLayers(t testing.TB) dockerregistry.Image {
	return dockerregistry.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, Format: "gzip",
		Tars: [][]byte{layerTar(t, "base", 1<<20), layerTar(t, "top", 3000)},
	}
}

// front stands before a registry and does it harm: handle answers a request, or passes it on with next.
type front struct {
	Addr string

	mu       sync.Mutex
	requests map[string]int // by method and path
}

func newFront(t testing.TB, r *dockerregistry.Registry, handle func(w http.ResponseWriter, req *http.Request, n int, next http.Handler)) *front {
	t.Helper()
	f := &front{requests: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: r.Addr})
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	proxy.Transport, proxy.ErrorLog = transport, log.New(io.Discard, "", 0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f.mu.Lock()
		key := req.Method + " " + req.URL.Path
		f.requests[key]++
		n := f.requests[key]
		f.mu.Unlock()
		handle(w, req, n, proxy)
	}))
	t.Cleanup(server.Close)
	f.Addr = strings.TrimPrefix(server.URL, "http://")
	return f
}

// changed passes a response on with another body.
func changed(w http.ResponseWriter, req *http.Request, next http.Handler, change func([]byte) []byte) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, req)
	for k, v := range rec.Header() {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(change(rec.Body.Bytes())) // the client may have seen enough
}

// cut sends the first bytes of a response and breaks the connection.
func cut(w http.ResponseWriter, req *http.Request, next http.Handler, bytes int) {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, req)
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:min(bytes, rec.Body.Len()-1)])
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}
