package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"novaagent/tests/need"
)

const (
	keystoneURL  = "http://127.0.0.1:5000/v3"
	novaURL      = "http://127.0.0.1:8774/v2.1"
	neutronURL   = "http://127.0.0.1:9696/v2.0"
	glanceURL    = "http://127.0.0.1:9292/v2"
	placementURL = "http://127.0.0.1:8778"
)

// object is a JSON object of a REST API.
type object = map[string]any

// cluster is the running OpenStack.
type cluster struct {
	state string // CLUSTER_STATE
	admin *session
	demo  *session
}

// session is one user's token, in the project of the same name.
type session struct {
	token   string
	project string
	http    *http.Client
}

// openCluster finds the cluster, or ends the test.
func openCluster(t testing.TB) *cluster {
	t.Helper()
	need.Root(t)
	state := os.Getenv("CLUSTER_STATE")
	if state == "" {
		state = "/var/lib/nova-agent-cluster"
	}
	password, err := os.ReadFile(filepath.Join(state, "password"))
	if err != nil {
		need.Unmet(t, "a cluster (make cluster)")
	}
	c := &cluster{state: state}
	c.admin = login(t, "admin", strings.TrimSpace(string(password)))
	c.demo = login(t, "demo", strings.TrimSpace(string(password)))
	return c
}

func login(t testing.TB, user, password string) *session {
	t.Helper()
	domain := object{"name": "Default"}
	body, err := json.Marshal(object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{
			"user": object{"name": user, "domain": domain, "password": password}}},
		"scope": object{"project": object{"name": user, "domain": domain}}}})
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 2 * time.Minute}
	resp, err := client.Post(keystoneURL+"/auth/tokens", "application/json", bytes.NewReader(body))
	if err != nil {
		need.Unmet(t, "a running cluster (make cluster): "+err.Error())
	}
	defer resp.Body.Close()
	var answer struct {
		Token struct{ Project struct{ ID string } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("login as %s: %s %v", user, resp.Status, err)
	}
	return &session{token: resp.Header.Get("X-Subject-Token"), project: answer.Token.Project.ID, http: client}
}

// statusError is an answer with another status than 2xx.
type statusError struct {
	Code int
	Text string
}

func (e *statusError) Error() string { return e.Text }

// do sends one request. A body that is an io.Reader goes as it is, anything else
// as JSON; a nil answer is an answer without JSON.
func (s *session) do(method, target string, body any) (object, error) {
	var reader io.Reader
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case io.Reader:
		reader, contentType = b, "application/octet-stream"
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, target, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("X-Auth-Token", s.token)
	req.Header.Set("X-OpenStack-Nova-API-Version", "2.79")
	if strings.HasPrefix(target, placementURL) {
		req.Header.Set("OpenStack-API-Version", "placement 1.39")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, &statusError{resp.StatusCode, fmt.Sprintf("%s %s: %s: %s", method, target, resp.Status, text)}
	}
	if len(text) == 0 || !strings.Contains(resp.Header.Get("Content-Type"), "json") {
		return nil, nil
	}
	var answer object
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, target, err)
	}
	return answer, nil
}

// must is do for requests that have to succeed.
func (s *session) must(t testing.TB, method, target string, body any) object {
	t.Helper()
	answer, err := s.do(method, target, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// list returns the rows under key.
func (s *session) list(t testing.TB, target, key string, query ...string) []object {
	t.Helper()
	values := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		values.Add(query[i], query[i+1])
	}
	if len(values) > 0 {
		target += "?" + values.Encode()
	}
	var rows []object
	for _, row := range s.must(t, http.MethodGet, target, nil)[key].([]any) {
		rows = append(rows, row.(object))
	}
	return rows
}

// named returns the id of the row with that name.
func (s *session) named(t testing.TB, target, key, name string) string {
	t.Helper()
	for _, row := range s.list(t, target, key) {
		if row["name"] == name {
			return row["id"].(string)
		}
	}
	t.Fatalf("no %s named %s", key, name)
	return ""
}

func isStatus(err error, code int) bool {
	e, ok := err.(*statusError)
	return ok && e.Code == code
}

// eventually runs test until it returns true. The services offer no way to be
// told, so this asks again; limit is a generous end, not a measure.
func eventually(t testing.TB, limit time.Duration, what string, test func() bool) {
	t.Helper()
	end := time.Now().Add(limit)
	for !test() {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
