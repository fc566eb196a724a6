package imagebridge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"novaagent/engine/errdefs"
)

func TestEnsure(t *testing.T) {
	g := newGlance(t)
	g.add(id1, dockerArchive(t, 100_000), nil)
	var cached []bool
	var bytes atomic.Int64
	b, s := newBridge(t, func(o *Options) {
		o.OnEnsure = func(c bool) { cached = append(cached, c) }
		o.OnBytes = func(n int64) { bytes.Add(n) }
	})
	first, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user()})
	if err != nil {
		t.Fatal(err)
	}
	if got := first.Names; len(got) != 1 || got[0] != "glance.local/"+id1+":latest" {
		t.Errorf("names %v: those of the archive must not count", got)
	}
	if bytes.Load() != int64(len(g.data[id1])) {
		t.Errorf("%d bytes came of %d", bytes.Load(), len(g.data[id1]))
	}
	// Again: with the record nothing is asked, without it the record only.
	second, err := b.Ensure(t.Context(), Request{ID: id1, Record: g.record(t, id1), Session: g.user()})
	if err != nil || second.Digest != first.Digest {
		t.Fatalf("%v, %v", second.Digest, err)
	}
	if n := len(g.calls); n != 2 {
		t.Errorf("%d requests: %v", n, g.calls)
	}
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user()}); err != nil {
		t.Error(err)
	}
	if g.requests("/file") != 1 || len(cached) != 3 || cached[0] || !cached[1] || !cached[2] {
		t.Errorf("requests %v, cached %v", g.calls, cached)
	}
	// Without the right to read it, being cached does not help.
	stranger := &user{g.URL, "other", g.Client()}
	var e *Error
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Session: stranger}); !errors.As(err, &e) || e.Reason != Forbidden {
		t.Errorf("stranger: %v", err)
	}
	// What is cached survives a restart; what the store lost is fetched.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = New(b.opts); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Record: g.record(t, id1), Session: g.user()}); err != nil || g.requests("/file") != 1 {
		t.Errorf("after a restart: %v, %v", err, g.calls)
	}
	if err := s.Remove(t.Context(), string(first.Digest)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Record: g.record(t, id1), Session: g.user()}); err != nil || g.requests("/file") != 2 {
		t.Errorf("after its removal: %v, %v", err, g.calls)
	}
}

func TestFormats(t *testing.T) {
	rootfs := mktar(t, "bin/sh", "#!")
	for name, tt := range map[string]struct {
		data   []byte
		edits  map[string]any
		reason Reason // "" for success
		kind   error
		says   string
	}{
		"docker":              {dockerArchive(t, 100), nil, "", nil, ""},
		"rootfs":              {rootfs, map[string]any{"container_format": "bare"}, "", nil, ""},
		"md5 only":            {rootfs, map[string]any{"container_format": "bare", "os_hash_algo": nil, "os_hash_value": nil}, "", nil, ""},
		"unknown hash":        {rootfs, map[string]any{"container_format": "bare", "os_hash_algo": "whirlpool"}, "", nil, ""},
		"no checksum":         {rootfs, map[string]any{"os_hash_algo": nil, "os_hash_value": nil, "checksum": nil}, Corrupt, errdefs.ErrUnsupported, "no checksum"},
		"qcow2":               {rootfs, map[string]any{"container_format": "bare", "disk_format": "qcow2"}, BadFormat, errdefs.ErrUnsupported, `"qcow2"`},
		"ami":                 {rootfs, map[string]any{"container_format": "ami", "disk_format": "ami"}, BadFormat, errdefs.ErrUnsupported, `"ami"`},
		"no formats":          {rootfs, map[string]any{"container_format": nil, "disk_format": nil}, BadFormat, errdefs.ErrUnsupported, "accepted are"},
		"qcow2 data as raw":   {[]byte("QFI\xfb" + strings.Repeat("\x00", 2000)), map[string]any{"container_format": "bare"}, BadContent, errdefs.ErrInvalid, "qcow2"},
		"disk as rootfs":      {make([]byte, 1<<20), map[string]any{"container_format": "bare"}, BadContent, errdefs.ErrInvalid, "no files"},
		"rootfs as docker":    {rootfs, nil, BadContent, errdefs.ErrInvalid, "manifest.json"},
		"garbage":             {[]byte("garbage in, fault out"), nil, BadContent, errdefs.ErrInvalid, "archive is truncated"},
		"queued":              {rootfs, map[string]any{"status": "queued"}, NotActive, errdefs.ErrConflict, `"queued"`},
		"deactivated":         {rootfs, map[string]any{"status": "deactivated"}, NotActive, errdefs.ErrConflict, `"deactivated"`},
		"no data":             {nil, nil, NoData, errdefs.ErrInvalid, "no data"},
		"wrong hash":          {rootfs, map[string]any{"os_hash_value": strings.Repeat("0", 128)}, Corrupt, errdefs.ErrInvalid, "sha512"},
		"more than said":      {rootfs, map[string]any{"size": 100}, Corrupt, errdefs.ErrInvalid, "more than the 100 bytes"},
		"less than said":      {rootfs, map[string]any{"size": 1 << 20}, Corrupt, errdefs.ErrInvalid, "no more than"},
		"larger than allowed": {dockerArchive(t, 3<<20), nil, TooLarge, errdefs.ErrInvalid, "the disk is to have"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGlance(t)
			g.add(id1, tt.data, tt.edits)
			b, s := newBridge(t, nil)
			img, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user(), MaxBytes: 2 << 20})
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || e.Reason != tt.reason || !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, %v", img, err)
			}
			if text := err.Error(); !strings.Contains(text, id1) || !strings.Contains(text, "test image") || !strings.Contains(text, tt.says) {
				t.Errorf("error %q", text)
			}
			if n := len(s.List()); n > 0 {
				t.Errorf("%d images came into being", n)
			}
		})
	}
}

// TestFaults has a Glance that fails now and then, or for good.
func TestFaults(t *testing.T) {
	data := dockerArchive(t, 600_000)
	half := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "700000")
		_, _ = w.Write(data[:300_000])
		panic(http.ErrAbortHandler)
	}
	isFile := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/file") }
	status := func(code int) func(int, http.ResponseWriter, *http.Request) bool {
		return func(n int, w http.ResponseWriter, r *http.Request) bool {
			if n > 2 {
				return false
			}
			w.Header().Set("Retry-After", "0")
			http.Error(w, "out of order", code)
			return true
		}
	}
	for name, tt := range map[string]struct {
		fault  func(n int, w http.ResponseWriter, r *http.Request) bool
		reason Reason
		files  int // requests for data
	}{
		"lost, resumed": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if !isFile(r) || n > 1 {
				return false
			}
			half(w, r)
			return true
		}, "", 2},
		"lost, no ranges": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if !isFile(r) {
				return false
			}
			if n == 1 {
				half(w, r)
			}
			if r.Header.Get("Range") == "" {
				t.Error("no range asked for")
			}
			_, _ = w.Write(data)
			return true
		}, "", 2},
		"lost, other data then": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if !isFile(r) {
				return false
			}
			if n == 1 {
				half(w, r)
			}
			_, _ = w.Write(append(make([]byte, 300_000), make([]byte, len(data)-300_000)...))
			return true
		}, Corrupt, 2},
		"lost, wrong range then": {func(n int, w http.ResponseWriter, r *http.Request) bool {
			if !isFile(r) {
				return false
			}
			if n == 1 {
				half(w, r)
			}
			w.Header().Set("Content-Range", "bytes 5-10/700000")
			w.WriteHeader(http.StatusPartialContent)
			return true
		}, Unavailable, 0},
		"always lost": {func(_ int, _ http.ResponseWriter, r *http.Request) bool {
			if !isFile(r) {
				return false
			}
			panic(http.ErrAbortHandler)
		}, Unavailable, 0},
		"503 twice":      {status(http.StatusServiceUnavailable), "", 3},
		"500 twice":      {status(http.StatusInternalServerError), "", 3},
		"429 twice":      {status(http.StatusTooManyRequests), "", 3},
		"403":            {status(http.StatusForbidden), Forbidden, 0},
		"404":            {status(http.StatusNotFound), NotFound, 0},
		"record stalls":  {stallOn(func(r *http.Request) bool { return !isFile(r) }), Unavailable, 0},
		"data stall":     {stallOn(isFile), Unavailable, 4},
		"no JSON":        {answerOn(isFile, "<html>"), Unavailable, 0},
		"other image":    {answerOn(isFile, `{"id":"x"}`), Unavailable, 0},
		"endless record": {answerOn(isFile, `{"name":"`+strings.Repeat("x", 2<<20)), Unavailable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGlance(t)
			g.add(id1, data, nil)
			g.fault = tt.fault
			b, s := newBridge(t, func(o *Options) { o.Timeout = 200 * time.Millisecond })
			_, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user()})
			var e *Error
			switch {
			case tt.reason == "" && err != nil:
				t.Error(err)
			case tt.reason != "" && (!errors.As(err, &e) || e.Reason != tt.reason):
				t.Errorf("got %v", err)
			}
			if n := g.requests("/file"); tt.files > 0 && n != tt.files {
				t.Errorf("%d requests for data", n)
			}
			if n := len(s.List()); (n > 0) != (tt.reason == "") {
				t.Errorf("%d images", n)
			}
		})
	}
}

// stallOn answers some requests with silence, after a beginning.
func stallOn(which func(*http.Request) bool) func(int, http.ResponseWriter, *http.Request) bool {
	return func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if which(r) {
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(http.StatusOK)
			if err := http.NewResponseController(w).Flush(); err == nil {
				<-r.Context().Done()
			}
		}
		return which(r)
	}
}

func answerOn(not func(*http.Request) bool, text string) func(int, http.ResponseWriter, *http.Request) bool {
	return func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if not(r) {
			return false
		}
		_, _ = io.WriteString(w, text)
		return true
	}
}

func TestAbsentGlance(t *testing.T) {
	g := newGlance(t)
	u := g.user()
	g.Close()
	b, _ := newBridge(t, nil)
	_, err := b.Ensure(t.Context(), Request{ID: id1, Session: u})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), id1) {
		t.Errorf("got %v", err)
	}
	for _, bad := range []string{"", "x", "../../v3/users", id1 + "/file", strings.Repeat("1", 10_000)} {
		if _, err := b.Ensure(t.Context(), Request{ID: bad, Session: u}); !errors.Is(err, errdefs.ErrNotFound) || len(err.Error()) > 500 {
			t.Errorf("%.50q: %v", bad, err)
		}
	}
}

// TestOneDownload: many who want an image share one download, which goes on as
// long as one of them waits.
func TestOneDownload(t *testing.T) {
	g := newGlance(t)
	g.add(id1, dockerArchive(t, 100_000), nil)
	gate, asked := make(chan struct{}), make(chan struct{}, 100)
	g.fault = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/file") {
			asked <- struct{}{}
			select {
			case <-gate:
			case <-r.Context().Done():
				return true
			}
		}
		return false
	}
	b, s := newBridge(t, nil)
	req := Request{ID: id1, Record: g.record(t, id1), Session: g.user()}

	// The one who began it leaves; the others get it.
	first, leave := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.Ensure(first, req); !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
	})
	<-asked
	for range 20 {
		wg.Go(func() {
			if _, err := b.Ensure(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	for waiting := 0; waiting < 21; {
		b.mu.Lock()
		waiting = b.flights[id1].waiters
		b.mu.Unlock()
	}
	leave()
	for waiting := 21; waiting > 20; {
		b.mu.Lock()
		waiting = b.flights[id1].waiters
		b.mu.Unlock()
	}
	close(gate)
	wg.Wait()
	if n := g.requests("/file"); n != 1 {
		t.Errorf("%d downloads", n)
	}

	// Nobody waits any more: the download ends, and nothing is left.
	if _, err := b.Evict(t.Context(), -time.Hour); err != nil || len(s.List()) != 0 {
		t.Fatalf("evict: %v", err)
	}
	gate = make(chan struct{})
	alone, leave := context.WithCancel(t.Context())
	wg.Go(func() {
		if _, err := b.Ensure(alone, req); !errors.Is(err, context.Canceled) {
			t.Errorf("who left alone got %v", err)
		}
	})
	<-asked
	leave()
	wg.Wait()
	b.wg.Wait()
	if n := len(s.List()); n != 0 {
		t.Errorf("%d images", n)
	}
}

func TestCloseEndsDownloads(t *testing.T) {
	g := newGlance(t)
	g.add(id1, dockerArchive(t, 100), nil)
	asked := make(chan struct{})
	g.fault = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/file") {
			return false
		}
		close(asked)
		<-r.Context().Done()
		return true
	}
	b, _ := newBridge(t, nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user()}); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
	<-asked
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Record: g.record(t, id1), Session: g.user()}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

func TestEvict(t *testing.T) {
	const id2, id3 = "22222222-2222-3333-4444-555555555555", "33333333-2222-3333-4444-555555555555"
	g := newGlance(t)
	g.add(id1, dockerArchive(t, 100), nil)
	g.add(id2, dockerArchive(t, 100), nil) // the same image
	g.add(id3, dockerArchive(t, 200), nil)
	b, s := newBridge(t, nil)
	var digests []string
	for _, id := range []string{id1, id2, id3} {
		img, err := b.Ensure(t.Context(), Request{ID: id, Session: g.user()})
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, string(img.Digest))
	}
	if n, err := b.Evict(t.Context(), time.Hour); n != 0 || err != nil || len(s.List()) != 2 {
		t.Errorf("evicted %d young images, %v", n, err)
	}
	img, err := s.Get(digests[2])
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Use(img.Digest, "c"); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag(t.Context(), digests[0], "mine"); err != nil {
		t.Fatal(err)
	}
	// The first has a name of its own, the second is used.
	if n, err := b.Evict(t.Context(), -time.Hour); n != 0 || err != nil || len(s.List()) != 2 {
		t.Errorf("evicted %d images, %v", n, err)
	}
	if _, err := s.Untag(t.Context(), "mine"); err != nil {
		t.Fatal(err)
	}
	s.Release("c")
	if n, err := b.Evict(t.Context(), -time.Hour); n != 1 || err != nil || len(s.List()) != 1 {
		t.Errorf("evicted %d images, %v", n, err)
	}
	// An image whose entry is lost goes too.
	if _, err := b.Ensure(t.Context(), Request{ID: id3, Session: g.user()}); err != nil {
		t.Fatal(err)
	}
	if err := b.cache.drop(id3); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Evict(t.Context(), -time.Hour); n != 1 || err != nil {
		t.Errorf("evicted %d images, %v", n, err)
	}
}

func TestDamagedFile(t *testing.T) {
	g := newGlance(t)
	g.add(id1, dockerArchive(t, 100), nil)
	b, _ := newBridge(t, nil)
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Session: g.user()}); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"version":99}`, `{"version":1}`, `{"version":1,"images":{"x":{"digest":"../x"}}}`, "\x00\x00"} {
		if err := os.WriteFile(b.opts.File, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := New(b.opts)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if _, err := again.Ensure(t.Context(), Request{ID: id1, Record: g.record(t, id1), Session: g.user()}); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestDelete(t *testing.T) {
	g := newGlance(t)
	g.add(id1, nil, nil)
	b, _ := newBridge(t, nil)
	for range 2 {
		if err := b.Delete(t.Context(), g.user(), id1); err != nil {
			t.Error(err)
		}
	}
	if err := b.Delete(t.Context(), g.user(), "../users"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"id":"` + id1 + `","status":"active","size":5,"checksum":"x","container_format":"bare","disk_format":"raw","properties":{"os_hash_algo":"sha512"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseRecord(raw)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		_, _ = r.check()
		if d, err := r.digest(); err == nil && d.hash == nil {
			t.Error("no hash")
		}
		if !json.Valid(raw) {
			t.Error("no JSON was read")
		}
		rangeStart(string(raw))
	})
}
