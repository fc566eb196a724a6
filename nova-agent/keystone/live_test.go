package keystone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"novaagent/engine/errdefs"
	"novaagent/tests/cloud"
	"novaagent/tests/faultproxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func optionsOf(l cloud.Login) Options {
	return Options{Region: l.Region, Credentials: Credentials{
		AuthURL: l.AuthURL, Username: l.Username, Password: l.Password, ProjectName: l.Project,
		UserDomainName: l.UserDomain, ProjectDomainName: l.ProjectDomain}}
}

func newSession(t *testing.T, o Options) *Session {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// ask sends a request through do and returns the status and the answer.
func ask(t *testing.T, do func(*http.Request) (*http.Response, error), method, url string, body any, headers ...string) (int, []byte, error) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if body == nil {
		text = nil
	}
	req, err := http.NewRequestWithContext(deadline(t), method, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

// TestLogin: a crowd of requests makes one login, whose token Keystone knows.
func TestLogin(t *testing.T) {
	l := cloud.Admin(t)
	proxy := faultproxy.New(t, l.AuthURL)
	l.AuthURL = proxy.URL()
	s := newSession(t, optionsOf(l))
	tokens := make([]string, 20)
	var wait sync.WaitGroup
	for i := range tokens {
		wait.Go(func() {
			var err error
			if tokens[i], err = s.Token(deadline(t)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	for _, token := range tokens {
		if token == "" || token != tokens[0] {
			t.Fatalf("tokens differ: %q", tokens)
		}
	}
	if n := len(proxy.Seen()); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	project, err := s.ProjectID(deadline(t))
	if err != nil || project == "" {
		t.Errorf("project %q, %v", project, err)
	}
	status, text, err := ask(t, s.Do, "GET", l.AuthURL+"/auth/tokens", nil, "X-Subject-Token", tokens[0])
	if err != nil || status != 200 || !bytes.Contains(text, []byte(project)) {
		t.Errorf("the token: %d %s %v", status, text, err)
	}
}

func TestEndpoint(t *testing.T) {
	l := cloud.Admin(t)
	s := newSession(t, optionsOf(l))
	for _, service := range []string{"placement", "network", "image", "identity"} {
		url, err := s.Endpoint(deadline(t), service)
		if err != nil || !strings.HasPrefix(url, "http") || strings.HasSuffix(url, "/") {
			t.Errorf("%s: %q, %v", service, url, err)
		}
	}
	if _, err := s.Endpoint(deadline(t), "teapot"); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "teapot") {
		t.Errorf("got %v", err)
	}
	o := optionsOf(l)
	o.Region = "elsewhere"
	if _, err := newSession(t, o).Endpoint(deadline(t), "placement"); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "elsewhere") {
		t.Errorf("got %v", err)
	}
	// An override needs no Keystone, and is found by each name of the service.
	o.AuthURL = "http://127.0.0.1:1"
	o.Endpoints = map[string]string{"volumev3": "http://192.0.2.1/v3/"}
	for _, name := range []string{"volumev3", "block-storage"} {
		if url, err := newSession(t, o).Endpoint(deadline(t), name); err != nil || url != "http://192.0.2.1/v3" {
			t.Errorf("%s: %q, %v", name, url, err)
		}
	}
}

// TestRevokedToken: Keystone revokes the token, the next request gets a new one.
func TestRevokedToken(t *testing.T) {
	l := cloud.Admin(t)
	s, other := newSession(t, optionsOf(l)), newSession(t, optionsOf(l))
	token, err := s.Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	if status, text, err := ask(t, other.Do, "DELETE", l.AuthURL+"/auth/tokens", nil, "X-Subject-Token", token); err != nil || status != 204 {
		t.Fatalf("revoke: %d %s %v", status, text, err)
	}
	status, text, err := ask(t, s.Do, "GET", l.AuthURL+"/auth/projects", nil)
	if err != nil || status != 200 {
		t.Errorf("after the token was revoked: %d %s %v", status, text, err)
	}
	if again, _ := s.Token(deadline(t)); again == token {
		t.Error("the revoked token is still used")
	}
}

func TestScopes(t *testing.T) {
	l := cloud.Admin(t)
	o := optionsOf(l)
	o.SystemScope = true
	if _, err := newSession(t, o).Token(deadline(t)); err != nil {
		t.Errorf("system scope: %v", err)
	}
	// By IDs instead of names.
	s := newSession(t, optionsOf(l))
	token, err := s.Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	status, text, err := ask(t, s.Do, "GET", l.AuthURL+"/auth/tokens", nil, "X-Subject-Token", token)
	var answer struct {
		Token struct {
			User    struct{ ID string }
			Project struct{ ID string }
		}
	}
	if err := errors.Join(err, json.Unmarshal(text, &answer)); err != nil || status != 200 {
		t.Fatal(status, err)
	}
	o = Options{Credentials: Credentials{AuthURL: strings.TrimSuffix(l.AuthURL, "/v3"), UserID: answer.Token.User.ID, Password: l.Password, ProjectID: answer.Token.Project.ID}}
	if _, err := newSession(t, o).Token(deadline(t)); err != nil {
		t.Errorf("by IDs: %v", err)
	}
}

func TestApplicationCredential(t *testing.T) {
	l := cloud.Admin(t)
	s := newSession(t, optionsOf(l))
	token, err := s.Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	_, text, err := ask(t, s.Do, "GET", l.AuthURL+"/auth/tokens", nil, "X-Subject-Token", token)
	var who struct {
		Token struct{ User struct{ ID string } }
	}
	if err := errors.Join(err, json.Unmarshal(text, &who)); err != nil {
		t.Fatal(err)
	}
	base := l.AuthURL + "/users/" + who.Token.User.ID + "/application_credentials"
	name := "test-" + uuid.NewString()
	status, text, err := ask(t, s.Do, "POST", base, map[string]any{"application_credential": map[string]any{"name": name}})
	var made struct {
		Credential struct{ ID, Secret string } `json:"application_credential"`
	}
	if err := errors.Join(err, json.Unmarshal(text, &made)); err != nil || status != 201 {
		t.Fatalf("%d %s %v", status, text, err)
	}
	t.Cleanup(func() {
		req, err := http.NewRequest("DELETE", base+"/"+made.Credential.ID, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Do(req)
		if err != nil || resp.StatusCode != 204 {
			t.Error(resp, err)
			return
		}
		drain(resp)
	})
	for what, c := range map[string]Credentials{
		"by ID":   {AuthURL: l.AuthURL, ApplicationCredentialID: made.Credential.ID, ApplicationCredentialSecret: made.Credential.Secret},
		"by name": {AuthURL: l.AuthURL, ApplicationCredentialName: name, Username: l.Username, UserDomainName: l.UserDomain, ApplicationCredentialSecret: made.Credential.Secret},
	} {
		session := newSession(t, Options{Credentials: c})
		if _, err := session.Token(deadline(t)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestUser: a request's own token goes out, the service's token and the request ID
// beside it.
func TestUser(t *testing.T) {
	admin, demo := cloud.Admin(t), cloud.Demo(t)
	o := optionsOf(admin)
	image, err := newSession(t, o).Endpoint(deadline(t), "image")
	if err != nil {
		t.Fatal(err)
	}
	proxy := faultproxy.New(t, image)
	o.Service = newSession(t, optionsOf(admin))
	o.Endpoints = map[string]string{"image": proxy.URL()}
	s := newSession(t, o)
	token, err := newSession(t, optionsOf(demo)).Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	user := s.ForUser(token)
	url, err := user.Endpoint(deadline(t), "image")
	if err != nil {
		t.Fatal(err)
	}
	const id = "req-5a0e3f2e-0000-4000-8000-000000000000"
	withID := func(r *http.Request) (*http.Response, error) {
		return user.Do(r.WithContext(WithRequestID(r.Context(), id)))
	}
	if status, text, err := ask(t, withID, "GET", url+"/v2/images", nil); err != nil || status != 200 {
		t.Fatalf("%d %s %v", status, text, err)
	}
	service, err := o.Service.Token(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	seen := proxy.Seen()[0].Header
	if seen.Get("X-Auth-Token") != token || seen.Get("X-Service-Token") != service || seen.Get("X-Openstack-Request-Id") != id {
		t.Errorf("the headers are not the user's, the service's and the request's")
	}
	// Glance refuses a service token that has been revoked; a new one is fetched.
	proxy.Fail(faultproxy.Fault{Times: 1, Do: faultproxy.Status(401, "")})
	if status, text, err := ask(t, user.Do, "GET", url+"/v2/images", nil); err != nil || status != 200 {
		t.Errorf("%d %s %v", status, text, err)
	}
	if renewed := proxy.Seen()[2].Header.Get("X-Service-Token"); renewed == service {
		t.Error("the service token was not renewed")
	}
	// No token in the request's context: the service asks for itself.
	if status, _, err := ask(t, s.ForUser("").Do, "GET", url+"/v2/images", nil); err != nil || status != 200 {
		t.Errorf("without a user: %d %v", status, err)
	}
	// A token that is none is the service's to refuse.
	if status, _, err := ask(t, s.ForUser("gAAAAnonsense").Do, "GET", url+"/v2/images", nil); err != nil || status != 401 {
		t.Errorf("with nonsense: %d %v", status, err)
	}
}
