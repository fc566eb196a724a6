package dockerapi_test

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"novaagent/engine/dockerapi"
)

// contract is the API's OpenAPI document of one version, with the paths as expressions.
type contract struct {
	routes map[*regexp.Regexp]*openapi3.PathItem
}

var contracts sync.Map // of *contract, by minor version

var pathParam = regexp.MustCompile(`\{(id|name)\}`)

func contractOf(t testing.TB, minor int) *contract {
	if c, ok := contracts.Load(minor); ok {
		return c.(*contract)
	}
	data, err := json.Marshal(dockerapi.OpenAPI(minor))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	// What is not described must not come.
	for _, s := range doc.Components.Schemas {
		if s.Value.Type.Is("object") {
			s.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: new(bool)}
		}
	}
	c := &contract{routes: map[*regexp.Regexp]*openapi3.PathItem{}}
	for pattern, item := range doc.Paths.Map() {
		expr := pathParam.ReplaceAllStringFunc(pattern, func(p string) string {
			if p == "{id}" {
				return "[^/]+"
			}
			return ".+"
		})
		c.routes[regexp.MustCompile("^"+expr+"$")] = item
	}
	contracts.Store(minor, c)
	return c
}

var versionPrefix = regexp.MustCompile(`^/v1\.([0-9]+)(/.*)$`)

// newestMinor is the version that a path without one means.
const newestMinor = 57

// checkAnswer holds an answer of JSON against the API's description.
func checkAnswer(t testing.TB, method, path string, status int, body string) {
	t.Helper()
	u, err := url.ParseRequestURI("http://docker" + path)
	if err != nil {
		return
	}
	minor, route := newestMinor, u.Path
	if m := versionPrefix.FindStringSubmatch(u.Path); m != nil {
		minor, _ = strconv.Atoi(m[1])
		route = m[2]
	}
	if minor < 24 || minor > newestMinor {
		return
	}
	var longest string
	var op *openapi3.Operation
	for expr, item := range contractOf(t, minor).routes {
		if expr.MatchString(route) && len(expr.String()) > len(longest) && item.GetOperation(method) != nil {
			longest, op = expr.String(), item.GetOperation(method)
		}
	}
	if op == nil {
		if status < 400 {
			t.Errorf("%s %s answers %d and is not described", method, path, status)
		}
		return
	}
	answer := op.Responses.Status(status)
	if answer == nil {
		t.Errorf("%s %s: the status %d is not described (%.200s)", method, path, status, body)
		return
	}
	media := answer.Value.Content["application/json"]
	if media == nil {
		if len(answer.Value.Content) == 0 && body != "" {
			t.Errorf("%s %s: %d has a body: %.200s", method, path, status, body)
		}
		return
	}
	var v any
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		if !strings.Contains(media.Schema.Value.Format, "binary") && method != "HEAD" {
			t.Errorf("%s %s: %d is no JSON: %v: %.200s", method, path, status, err, body)
		}
		return
	}
	if err := media.Schema.Value.VisitJSON(v, openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil && media.Schema.Value.Format != "binary" {
		t.Errorf("%s %s: %d is not as described: %.2000v", method, path, status, err)
	}
}
