package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/tests/cloud"
	"novaagent/tests/faultproxy"
)

var expiry = regexp.MustCompile(`"expires_at": ?"[^"]*"`)

// expiring changes when the tokens of a Keystone end.
func expiring(in time.Duration) faultproxy.Action {
	return faultproxy.Rewrite(func(text []byte) []byte {
		end := time.Now().UTC().Add(in).Format("2006-01-02T15:04:05.000000Z")
		return expiry.ReplaceAll(text, []byte(`"expires_at": "`+end+`"`))
	})
}

// oneLogin is a Keystone that answers every login as the real one answered the first: logins
// cost it a lot of processor time, and these tests make many.
func oneLogin(t *testing.T, l cloud.Login) string {
	t.Helper()
	proxy := faultproxy.New(t, l.AuthURL)
	var mu sync.Mutex
	var answer *httptest.ResponseRecorder
	real, err := url.Parse(proxy.URL())
	if err != nil {
		t.Fatal(err)
	}
	real.Path = ""
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	forward := httputil.NewSingleHostReverseProxy(real)
	forward.Transport = transport
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/auth/tokens") {
			forward.ServeHTTP(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if answer == nil {
			answer = httptest.NewRecorder()
			forward.ServeHTTP(answer, r)
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(server.Close)
	o := optionsOf(l)
	o.AuthURL = server.URL + "/v3"
	if _, err := newSession(t, o).Token(deadline(t)); err != nil {
		t.Fatal(err)
	}
	return o.AuthURL
}

// TestLoginFaults: what goes wrong once is repeated, what stays wrong has a kind.
func TestLoginFaults(t *testing.T) {
	l := cloud.Admin(t)
	l.AuthURL = oneLogin(t, l)
	garbage := faultproxy.Rewrite(func([]byte) []byte { return []byte(`{"token": {"catalog": 7`) })
	// All at once: they wait most of the time.
	var wait sync.WaitGroup
	defer wait.Wait()
	for name, do := range map[string]faultproxy.Action{
		"reset": faultproxy.Reset(), "lost": faultproxy.Lose(), "cut off": faultproxy.Truncate(100), "garbage": garbage,
		"500": faultproxy.Status(500, "{}"), "503": faultproxy.Status(503, "<html>", "Retry-After", "1"), "429": faultproxy.Status(429, ""),
		"endless": faultproxy.Flood(201, 64<<20), "hang": faultproxy.Hang(), "ended token": expiring(-time.Minute),
	} {
		proxy := faultproxy.New(t, l.AuthURL)
		o := optionsOf(l)
		o.AuthURL = proxy.URL()
		if name == "hang" {
			o.Timeout = 5 * time.Second
		}
		first := newSession(t, o)
		if name == "hang" {
			o.Timeout = 200 * time.Millisecond
		}
		second := newSession(t, o)
		wait.Go(func() {
			proxy.Fail(faultproxy.Fault{Path: "/auth/tokens", Times: 1, Do: do})
			if _, err := first.Token(deadline(t)); err != nil {
				t.Errorf("%s once: %v", name, err)
			}
			proxy.Heal()
			proxy.Fail(faultproxy.Fault{Path: "/auth/tokens", Do: do})
			_, err := second.Token(deadline(t))
			if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), l.Username) {
				t.Errorf("%s always: %v", name, err)
			}
			if n := len(proxy.Seen()); n != attempts {
				t.Errorf("%s: %d attempts, want %d", name, n, attempts)
			}
		})
	}
	proxy := faultproxy.New(t, l.AuthURL)
	proxy.Down()
	o := optionsOf(l)
	o.AuthURL = proxy.URL()
	if _, err := newSession(t, o).Token(deadline(t)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("refused: %v", err)
	}
}

// TestRefusedCredentials: no retry helps, and no password is repeated.
func TestRefusedCredentials(t *testing.T) {
	l := cloud.Admin(t)
	l.Password = "not-the-secret"
	_, err := newSession(t, optionsOf(l)).Token(deadline(t))
	if !errors.Is(err, errdefs.ErrInvalid) || strings.Contains(err.Error(), l.Password) {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"401", l.Username, l.AuthURL} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	for _, o := range []Options{{}, {Credentials: Credentials{AuthURL: "http://k"}}, {Credentials: Credentials{AuthURL: "http://k", Username: "u"}}} {
		if _, err := New(o); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestSecretsAreNotPrinted, by whatever prints the options.
func TestSecretsAreNotPrinted(t *testing.T) {
	o := Options{Credentials: Credentials{Username: "nova", Password: "s3cret", ApplicationCredentialSecret: "s3cret"}}
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "options", o, "credentials", o.Credentials)
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", o), fmt.Sprintf("%#v", o), fmt.Sprintf("%v", &o), out.String()} {
		if strings.Contains(text, "s3cret") || !strings.Contains(text, "nova") {
			t.Errorf("printed: %s", text)
		}
	}
}

// TestRedirects: neither a password nor a token follows a redirect to another host; on
// the same host it does.
func TestRedirects(t *testing.T) {
	l := cloud.Admin(t)
	proxy, elsewhere := faultproxy.New(t, l.AuthURL), faultproxy.New(t, l.AuthURL)
	o := optionsOf(l)
	s := newSession(t, o)
	for _, code := range []int{301, 302, 303, 307, 308} {
		proxy.Heal()
		proxy.Fail(faultproxy.Fault{Path: "/auth/projects", Do: faultproxy.Status(code, "", "Location", elsewhere.URL()+"/auth/projects")})
		if status, _, err := ask(t, s.Do, "GET", proxy.URL()+"/auth/projects", nil); status != code || err != nil {
			t.Errorf("%d: got %d, %v", code, status, err)
		}
	}
	proxy.Heal()
	proxy.Fail(faultproxy.Fault{Path: "/moved", Do: faultproxy.Status(307, "", "Location", proxy.URL()+"/auth/projects")})
	if status, _, err := ask(t, s.Do, "GET", proxy.URL()+"/moved", nil); status != 200 || err != nil {
		t.Errorf("on the same host: got %d, %v", status, err)
	}
	proxy.Heal()
	proxy.Fail(faultproxy.Fault{Path: "/moved", Do: faultproxy.Status(307, "", "Location", proxy.URL()+"/moved")})
	if status, _, err := ask(t, s.Do, "GET", proxy.URL()+"/moved", nil); status != 307 || err != nil {
		t.Errorf("in a circle: got %d, %v", status, err)
	}
	proxy.Heal()
	proxy.Fail(faultproxy.Fault{Path: "/auth/tokens", Do: faultproxy.Status(307, "", "Location", elsewhere.URL()+"/auth/tokens")})
	o.AuthURL = proxy.URL()
	if _, err := newSession(t, o).Token(deadline(t)); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("login: %v", err)
	}
	if seen := elsewhere.Seen(); len(seen) > 0 {
		t.Errorf("the other host heard %d requests", len(seen))
	}
}

// TestCatalogue: interfaces count in their order, regions exclude, names have aliases.
func TestCatalogue(t *testing.T) {
	l := cloud.Admin(t)
	proxy := faultproxy.New(t, l.AuthURL)
	proxy.Fail(faultproxy.Fault{Path: "/auth/tokens", Do: faultproxy.Rewrite(func(text []byte) []byte {
		var login map[string]map[string]any
		if err := json.Unmarshal(text, &login); err != nil {
			t.Error(err)
			return text
		}
		at := func(iface, region, url string) map[string]any {
			return map[string]any{"interface": iface, "region": region, "region_id": region, "url": url}
		}
		login["token"]["catalog"] = []map[string]any{
			{"type": "block-storage", "endpoints": []any{at("public", "one", "http://volumes/")}},
			{"type": "image", "endpoints": []any{at("public", "one", "http://public-1"), at("admin", "one", "http://admin-1"), at("internal", "one", "http://internal-1"), at("public", "two", "http://public-2/")}},
			{"type": "empty", "endpoints": []any{}},
		}
		changed, err := json.Marshal(login)
		if err != nil {
			t.Error(err)
		}
		return changed
	})})
	o := optionsOf(l)
	o.AuthURL = proxy.URL()
	first := newSession(t, o)
	if _, err := first.Token(deadline(t)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		region     string
		interfaces []string
		service    string
		want       string
	}{
		{"one", nil, "image", "http://internal-1"},
		{"one", []string{"public"}, "image", "http://public-1"},
		{"one", []string{"admin", "public"}, "image", "http://admin-1"},
		{"two", nil, "image", "http://public-2"},
		{"two", []string{"admin"}, "image", ""},
		{"", nil, "image", "http://internal-1"},
		{"one", nil, "volumev3", "http://volumes"},
		{"one", nil, "block-storage", "http://volumes"},
		{"three", nil, "image", ""},
		{"one", nil, "empty", ""},
	} {
		o.Region, o.Interfaces = tt.region, tt.interfaces
		s := newSession(t, o)
		s.token, s.expires, s.catalogue = first.token, first.expires, first.catalogue // a login takes long
		got, err := s.Endpoint(deadline(t), tt.service)
		if got != tt.want || (tt.want == "") != errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%+v: got %q, %v", tt, got, err)
		}
	}
}

// TestReplaceCancelled: a refused token is not replaced for a request that has ended,
// while another one's login hangs.
func TestReplaceCancelled(t *testing.T) {
	s := newSession(t, optionsOf(cloud.Admin(t)))
	s.turn <- struct{}{}
	defer s.unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.replace(ctx, "refused"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestRenewal: a token that ends soon is replaced, and serves on while Keystone is away.
func TestRenewal(t *testing.T) {
	l := cloud.Admin(t)
	proxy := faultproxy.New(t, l.AuthURL)
	o := optionsOf(l)
	o.AuthURL = proxy.URL()
	s := newSession(t, o)
	proxy.Fail(faultproxy.Fault{Times: 1, Do: expiring(time.Minute)})
	first, err := s.Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy.Down()
	if again, err := s.Token(deadline(t)); err != nil || again != first {
		t.Errorf("while Keystone is away: %v", err)
	}
	proxy.Up(t)
	if again, err := s.Token(deadline(t)); err != nil || again == first {
		t.Errorf("once Keystone is back: the same token, or %v", err)
	}
	if n := len(proxy.Seen()); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
}

// TestCancelled: who waits behind another one's login that hangs can give up.
func TestCancelled(t *testing.T) {
	l := cloud.Admin(t)
	proxy := faultproxy.New(t, l.AuthURL)
	hanging := make(chan struct{})
	proxy.Fail(faultproxy.Fault{Do: faultproxy.After(func() { close(hanging) }, faultproxy.Hang())})
	o := optionsOf(l)
	o.AuthURL = proxy.URL()
	s := newSession(t, o)
	first, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Token(first)
		done <- err
	}()
	<-hanging
	second, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Token(second); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	stop()
	if err := <-done; !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestRequestFaults: a service's troubles, seen through Do.
func TestRequestFaults(t *testing.T) {
	l := cloud.Admin(t)
	o := optionsOf(l)
	o.AuthURL = oneLogin(t, l)
	s := newSession(t, o)
	o.Timeout = 2 * time.Second
	hasty := newSession(t, o)
	proxy := faultproxy.New(t, l.AuthURL)
	path := proxy.URL() + "/auth/projects"
	do := func() (int, error) {
		status, _, err := ask(t, s.Do, "GET", path, nil)
		return status, err
	}
	for name, action := range map[string]faultproxy.Action{"reset": faultproxy.Reset(), "cut off": faultproxy.Truncate(5)} {
		proxy.Heal()
		proxy.Fail(faultproxy.Fault{Path: "/auth/projects", Do: action})
		if _, err := do(); err == nil {
			t.Errorf("%s: no error", name)
		} else if name != "cut off" && !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	proxy.Heal()
	proxy.Fail(faultproxy.Fault{Path: "/auth/projects", Do: faultproxy.Hang()})
	if _, _, err := ask(t, hasty.Do, "GET", path, nil); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("hang: %v", err)
	}
	proxy.Heal()
	proxy.Fail(faultproxy.Fault{Path: "/auth/projects", Do: faultproxy.Status(401, "")})
	if status, err := do(); status != 401 || err != nil {
		t.Errorf("401 for ever: %d, %v", status, err)
	}
	if n := len(proxy.Seen()); n != 2 {
		t.Errorf("401 for ever: %d requests, want 2", n)
	}
	// Nobody listens, and then somebody does.
	proxy.Heal()
	proxy.Down()
	refused := time.AfterFunc(firstPause/2, func() { proxy.Up(t) })
	defer refused.Stop()
	if status, err := do(); status != 200 || err != nil {
		t.Errorf("after a restart: %d, %v", status, err)
	}
	proxy.Down()
	if _, err := do(); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestStalledBody: an answer that stops in the middle ends with an error.
func TestStalledBody(t *testing.T) {
	l := cloud.Admin(t)
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-stop:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(stop)
	o := optionsOf(l)
	o.AuthURL, o.Timeout = oneLogin(t, l), 2*time.Second
	s := newSession(t, o)
	_, _, err := ask(t, s.Do, "GET", server.URL, nil)
	if !errors.Is(err, errStalled) || !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestTLS: certificates are checked against cafile, unless told not to.
func TestTLS(t *testing.T) {
	l := cloud.Admin(t)
	target, err := url.Parse(l.AuthURL)
	if err != nil {
		t.Fatal(err)
	}
	target.Path = ""
	forward := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{}
	forward.Transport = transport
	defer transport.CloseIdleConnections()
	server := httptest.NewUnstartedServer(forward)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	var ca bytes.Buffer
	if err := pem.Encode(&ca, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}); err != nil {
		t.Fatal(err)
	}
	file, empty := filepath.Join(t.TempDir(), "ca.pem"), filepath.Join(t.TempDir(), "empty.pem")
	if err := errors.Join(os.WriteFile(file, ca.Bytes(), 0o600), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	o := optionsOf(l)
	o.AuthURL = server.URL + "/v3"
	for name, tt := range map[string]struct {
		tls  TLS
		want error
	}{
		"the authority is known":     {TLS{CAFile: file}, nil},
		"no check":                   {TLS{Insecure: true}, nil},
		"the authority is not known": {TLS{}, errdefs.ErrUnavailable},
	} {
		o.TLS = tt.tls
		if _, err := newSession(t, o).Token(deadline(t)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []TLS{{CAFile: "/does/not/exist"}, {CAFile: empty}, {CertFile: file, KeyFile: file}} {
		o.TLS = bad
		if _, err := New(o); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
