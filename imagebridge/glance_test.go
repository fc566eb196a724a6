package imagebridge

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // Glance's
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"novaagent/engine/image"
	"novaagent/tests/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id1 = "11111111-2222-3333-4444-555555555555"

// glance is an image service that can be told to misbehave.
type glance struct {
	*httptest.Server
	mu      sync.Mutex
	records map[string]map[string]any
	data    map[string][]byte
	calls   []string
	// fault, if set, may answer a request itself: it returns true then. n
	// counts the requests for this path from 1.
	fault func(n int, w http.ResponseWriter, r *http.Request) bool
	count map[string]int
}

func newGlance(t *testing.T) *glance {
	t.Helper()
	g := &glance{records: map[string]map[string]any{}, data: map[string][]byte{}, count: map[string]int{}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
	})
	return g
}

func (g *glance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.calls = append(g.calls, r.Method+" "+r.URL.Path)
	g.count[r.URL.Path]++
	n, fault := g.count[r.URL.Path], g.fault
	id, isFile := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/images/"), "/file")
	rec, ok := g.records[id]
	data := g.data[id]
	g.mu.Unlock()
	switch {
	case fault != nil && fault(n, w, r):
	case r.Header.Get("X-Auth-Token") != "user-token":
		http.Error(w, "who are you", http.StatusUnauthorized)
	case !ok:
		http.Error(w, "no image", http.StatusNotFound)
	case r.Method == http.MethodDelete:
		g.mu.Lock()
		delete(g.records, id)
		g.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	case isFile && data == nil:
		w.WriteHeader(http.StatusNoContent)
	case isFile:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	default:
		if err := json.NewEncoder(w).Encode(rec); err != nil {
			panic(err)
		}
	}
}

// requests counts those that reached a path's end.
func (g *glance) requests(suffix string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, c := range g.calls {
		if strings.HasSuffix(c, suffix) {
			n++
		}
	}
	return n
}

// add stores an image as Glance would, with edits to its record.
func (g *glance) add(id string, data []byte, edits map[string]any) {
	sum, old := sha512.Sum512(data), md5.Sum(data) //nolint:gosec // Glance's
	rec := map[string]any{
		"id": id, "name": "test image", "status": "active", "size": len(data), "visibility": "private",
		"container_format": "docker", "disk_format": "raw", "min_disk": 0, "min_ram": 0,
		"checksum": hex.EncodeToString(old[:]), "os_hash_algo": "sha512", "os_hash_value": hex.EncodeToString(sum[:]),
	}
	for k, v := range edits {
		rec[k] = v
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records[id], g.data[id] = rec, data
}

// record is the record as nova-api would pass it on.
func (g *glance) record(t *testing.T, id string) json.RawMessage {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	m := map[string]any{"properties": map[string]any{}}
	for k, v := range g.records[id] {
		if !strings.HasPrefix(k, "os_") {
			m[k] = v
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// user is a session with a fixed token.
type user struct {
	url    string
	token  string
	client *http.Client
}

func (u *user) Endpoint(context.Context, string) (string, error) { return u.url, nil }

func (u *user) Do(req *http.Request) (*http.Response, error) {
	req.Header.Set("X-Auth-Token", u.token)
	return u.client.Do(req)
}

func (g *glance) user() *user { return &user{g.URL, "user-token", g.Client()} }

// newBridge makes a bridge over a new store, and checks that nothing half-made is left.
func newBridge(t *testing.T, edit func(*Options)) (*Bridge, *image.Store) {
	t.Helper()
	need.Root(t)
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	s, err := image.Open(t.Context(), filepath.Join(dir, "images"), image.Options{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Store: s, File: filepath.Join(dir, "glance.json"), Retries: 3, Backoff: time.Millisecond, Logger: quiet}
	if edit != nil {
		edit(&o)
	}
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "images/spool/*")); err != nil || len(left) > 0 {
			t.Errorf("left in the spool: %v, %v", left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b, s
}

func mktar(t testing.TB, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dockerArchive is what `docker save` writes, of about size bytes.
func dockerArchive(t testing.TB, size int) []byte {
	t.Helper()
	layer := mktar(t, "bin/sh", "#!", "data", strings.Repeat("0123456789abcdef", size/16))
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","config":{"Cmd":["/bin/sh"]},"rootfs":{"type":"layers","diff_ids":[%q]}}`,
		runtime.GOARCH, godigest.FromBytes(layer))
	return mktar(t, "layer.tar", string(layer), "config.json", config,
		"manifest.json", `[{"Config":"config.json","RepoTags":["ubuntu:latest"],"Layers":["layer.tar"]}]`)
}
