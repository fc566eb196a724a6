package dockerapi

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// TestEveryRouteIsDescribed: routes, outOfScope and operations name the same.
func TestEveryRouteIsDescribed(t *testing.T) {
	all, described := allRoutes()
	seen := map[string]bool{}
	for i := range all {
		r := &all[i]
		if seen[r.key()] {
			t.Errorf("%s is there twice", r.key())
		}
		seen[r.key()] = true
		o, ok := described[r.key()]
		switch {
		case !ok:
			t.Errorf("%s has no description: add it in describe_*.go", r.key())
		case o.summary == "" || !strings.HasSuffix(o.summary, ".") && !strings.HasSuffix(o.summary, "?"):
			t.Errorf("%s: the summary %q is no sentence", r.key(), o.summary)
		case o.status == 0 && len(o.errors) == 0:
			t.Errorf("%s has no status", r.key())
		}
		for _, p := range o.params {
			if p.name == "" || p.kind == kindFilters && len(p.fields) == 0 {
				t.Errorf("%s: parameter %+v", r.key(), p)
			}
		}
	}
	for key := range described {
		if !seen[key] {
			t.Errorf("%s is described and not served", key)
		}
	}
}

// openAPIDocument is the document of a version as a maintained library reads it.
func openAPIDocument(t *testing.T, version int) *openapi3.T {
	t.Helper()
	data, err := json.Marshal(OpenAPI(version))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatalf("%s: %v", versionText(version), err)
	}
	return doc
}

// TestOpenAPI: the document of each version is one, and has every route that is served and every field that
// the version has, and no other.
func TestOpenAPI(t *testing.T) {
	all, described := allRoutes()
	for version := minVersion; version <= maxVersion; version++ {
		doc := openAPIDocument(t, version)
		if err := doc.Validate(t.Context()); err != nil {
			t.Fatalf("%s: %v", versionText(version), err)
		}
		var have, want []string
		for pattern, item := range doc.Paths.Map() {
			for method, o := range item.Operations() {
				have = append(have, method+" "+pattern)
				if o.Summary == "" || o.Responses.Len() == 0 {
					t.Errorf("%s %s is not described", method, pattern)
				}
			}
		}
		for i := range all {
			if described[all[i].key()].since <= version {
				want = append(want, all[i].key())
			}
		}
		for _, f := range fields {
			s := doc.Components.Schemas[schemaName(reflect.TypeOf(f.of))]
			if s == nil {
				continue // embedded in another, or in no document
			}
			want := version >= f.since && (f.until == 0 || version <= f.until)
			if _, have := s.Value.Properties[f.name]; have != want {
				t.Errorf("%s: %T.%s: %v", versionText(version), f.of, f.name, have)
			}
		}
		slices.Sort(have)
		slices.Sort(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s: %s", versionText(version), diff)
		}
	}
}

// TestDockersRoutes: what Docker's own description of its newest API has is served, or refused with a reason.
func TestDockersRoutes(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var docker struct {
		Info  struct{ Version string }
		Paths map[string]map[string]yaml.Node
	}
	if err := yaml.Unmarshal(data, &docker); err != nil {
		t.Fatal(err)
	}
	if len(docker.Paths) < 50 {
		t.Fatalf("only %d paths in Docker's description", len(docker.Paths))
	}
	if docker.Info.Version != versionText(maxVersion) {
		t.Errorf("Docker describes version %s, the newest here is %s", docker.Info.Version, versionText(maxVersion))
	}
	_, described := allRoutes()
	for pattern, methods := range docker.Paths {
		for method := range methods {
			if key := strings.ToUpper(method) + " " + pattern; method != "parameters" && described[key].summary == "" {
				t.Errorf("%s is neither served nor refused", key)
			}
		}
	}
}

var update = flag.Bool("update", false, "write docs/docker-api-reference.md anew")

// TestReference: the page says what the tables say.
func TestReference(t *testing.T) {
	const page = "../../docs/docker-api-reference.md"
	if *update {
		if err := os.WriteFile(page, Reference(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(sourceOf(t, page), string(Reference())); diff != "" {
		t.Errorf("%s is not current (go test ./engine/dockerapi -run Reference -update):\n%s", page, diff)
	}
}
