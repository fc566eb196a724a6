package dockerapi

import (
	"cmp"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Reference is docs/docker-api-reference.md: every route, and every field that depends on the
// version. `go test ./engine/dockerapi -run Reference -update` writes it anew.
func Reference() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, `# Docker API reference

Versions %s to %s. This page is written from the tables that serve the API (engine/dockerapi); the same, with all fields, is
answered by `+"`GET /openapi.json`"+`, or `+"`GET /v1.43/openapi.json`"+` as that version has it. [docker-api.md](docker-api.md) explains the whole.

Types are those of github.com/moby/moby/api/types. Every route may answer 400 (it was not understood), 403 (a web page or
an authorization plug-in) and 500. Errors are `+"`{\"message\": \"…\"}`"+`.

Parameters are of the query. A boolean is false if it is empty, 0, no, false or none. A time is seconds since 1970, with a fraction if any,
or RFC 3339. A list's parameter may be repeated. Filters are JSON, `+"`{\"field\": {\"value\": true}}`"+`.
`, versionText(minVersion), versionText(maxVersion))
	for _, area := range []struct {
		title string
		of    map[string]operation
	}{
		{"Containers", containerOperations}, {"Images", imageOperations}, {"Networks", networkOperations},
		{"Volumes", volumeOperations}, {"System", systemOperations},
	} {
		fmt.Fprintf(&b, "\n## %s\n", area.title)
		for i := range routes {
			if o, ok := area.of[routes[i].key()]; ok && o.status != 0 {
				section(&b, compile(routes[i], o))
			}
		}
	}
	b.WriteString("\n## Not available\n\nThese are answered with the reason.\n\n| route | status | |\n|---|---|---|\n")
	all, described := allRoutes()
	for i := range all {
		if o := described[all[i].key()]; o.status == 0 {
			fmt.Fprintf(&b, "| `%s` | %d | %s |\n", all[i].key(), o.errors[0], o.summary)
		}
	}
	versionTable(&b)
	return []byte(b.String())
}

// section describes one route.
func section(b *strings.Builder, r compiled) {
	fmt.Fprintf(b, "\n### `%s`\n\n%s", r.key(), r.summary)
	if r.since > 0 {
		fmt.Fprintf(b, " Since %s.", versionText(r.since))
	}
	b.WriteString("\n\n")
	if len(r.params) > 0 {
		b.WriteString("| parameter | type | |\n|---|---|---|\n")
		for _, p := range r.params {
			about := strings.TrimSpace(p.text + bounds(p.since, p.until))
			if p.must {
				about = strings.TrimSpace("Needed. " + about)
			}
			kind := string(p.kind)
			if p.header {
				kind = "header"
			}
			fmt.Fprintf(b, "| `%s` | %s | %s |\n", p.name, kind, about)
		}
		b.WriteString("\n")
	}
	if r.body != nil {
		optional := ""
		if r.optional {
			optional = ", which may be left out"
		}
		fmt.Fprintf(b, "Takes %s%s. ", bodyName(r.body), optional)
	}
	fmt.Fprintf(b, "Answers %d", r.status)
	if r.answer != nil {
		fmt.Fprintf(b, " with %s", bodyName(r.answer))
	}
	for _, status := range r.also {
		fmt.Fprintf(b, " or %d (%s)", status, strings.ToLower(http.StatusText(status)))
	}
	var errors []string
	for _, status := range r.failures() {
		if status != http.StatusBadRequest && status != http.StatusForbidden && status != http.StatusInternalServerError {
			errors = append(errors, strconv.Itoa(status))
		}
	}
	if len(errors) > 0 {
		fmt.Fprintf(b, "; errors %s", strings.Join(errors, ", "))
	}
	b.WriteString(".\n")
}

// bodyName names a body's type.
func bodyName(body any) string {
	if kinds, ok := body.(media); ok {
		return "`" + strings.Join(kinds, "` or `") + "`"
	}
	return "`" + strings.TrimPrefix(reflect.TypeOf(body).String(), "dockerapi.") + "`"
}

// bounds says which versions have something.
func bounds(since, until int) string {
	switch {
	case since > 0 && until > 0:
		return fmt.Sprintf(" From %s to %s.", versionText(since), versionText(until))
	case since > 0:
		return fmt.Sprintf(" Since %s.", versionText(since))
	case until > 0:
		return fmt.Sprintf(" Until %s.", versionText(until))
	}
	return ""
}

// versionTable lists the fields that not all versions have.
func versionTable(b *strings.Builder) {
	b.WriteString("\n## Fields by version\n\nThe other fields are the same in all versions.\n\n| type | field | |\n|---|---|---|\n")
	sorted := slices.Clone(fields)
	slices.SortStableFunc(sorted, func(x, y field) int {
		return cmp.Or(strings.Compare(bodyName(x.of), bodyName(y.of)), strings.Compare(x.name, y.name))
	})
	for _, f := range sorted {
		fmt.Fprintf(b, "| %s | `%s` | %s |\n", bodyName(f.of), f.name, strings.TrimSpace(bounds(f.since, f.until)))
	}
}
