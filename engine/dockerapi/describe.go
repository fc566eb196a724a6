package dockerapi

import (
	"maps"
	"strings"
)

// operation describes a route, for its OpenAPI document (openapi.go) and the reference page
// (reference.go). The types of bodies come from Go types; schema.go reads them.
type operation struct {
	summary string
	params  []param
	// body is a value of the type of the request's JSON, or what else is sent as media; nil
	// if nothing is.
	body any
	// optional: the body may be left out.
	optional bool
	// status is that of success, 0 if the route is refused always; answer is a value of the type of its
	// JSON, or media; nil if nothing comes.
	status int
	answer any
	// also are other statuses of success, without a body.
	also []int
	// errors are the statuses of errors besides those that any route may answer.
	errors []int
	// since is the first minor version that has it, 0 for all.
	since int
}

// media are the types of a body that is no JSON document, one of which it has.
type media []string

// kind is the type of a parameter.
type kind string

const (
	kindBool kind = "boolean"
	kindInt  kind = "integer"
	kindText kind = "string"
	// kindTime is seconds since 1970 with a fraction if any, or RFC 3339.
	kindTime kind = "time"
	// kindList may be repeated.
	kindList kind = "list"
	// kindFilters is JSON, {"field": {"value": true}}, or the older {"field": ["value"]}.
	kindFilters kind = "filters"
)

// param is a parameter of the query, or a header.
type param struct {
	name   string
	kind   kind
	text   string
	header bool
	must   bool
	// since and until are the first and the last minor version that have it, 0 for no such bound.
	since, until int
	// fields are those of a filter.
	fields []string
}

func toggle(name, about string) param { return param{name: name, kind: kindBool, text: about} }
func number(name, about string) param { return param{name: name, kind: kindInt, text: about} }
func word(name, about string) param   { return param{name: name, kind: kindText, text: about} }
func when(name, about string) param   { return param{name: name, kind: kindTime, text: about} }
func many(name, about string) param   { return param{name: name, kind: kindList, text: about} }
func header(name, about string) param {
	return param{name: name, kind: kindText, text: about, header: true}
}

func filterBy(fields ...string) param {
	return param{name: "filters", kind: kindFilters, text: "What fits: fields " + strings.Join(fields, ", ") + ".", fields: fields}
}

func (p param) from(minor int) param { p.since = minor; return p }
func (p param) to(minor int) param   { p.until = minor; return p }
func (p param) needed() param        { p.must = true; return p }

// operations describe every route, by method and pattern.
var operations = joined(systemOperations, containerOperations, imageOperations, networkOperations, volumeOperations)

func joined(parts ...map[string]operation) map[string]operation {
	all := map[string]operation{}
	for _, part := range parts {
		maps.Copy(all, part)
	}
	return all
}

// key is a route's name in operations.
func (r *route) key() string { return r.method + " " + r.pattern }

// notAvailable describes a route that is refused always.
func notAvailable(summary string, status int) operation {
	return operation{summary: summary, errors: []int{status}}
}
