package dockerapi

import (
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/common"
)

// openAPI answers the API's own description, of the version that is asked for.
func (s *server) openAPI(r *request) error {
	data, err := s.documents[r.version]()
	if err != nil {
		return err
	}
	r.w.Header().Set("Content-Type", "application/json")
	_, _ = r.w.Write(data) // the client is gone
	return nil
}

// OpenAPI is the OpenAPI 3.0 document of a minor version of the API, as GET /openapi.json answers it.
func OpenAPI(minor int) map[string]any {
	var table []compiled
	all, described := allRoutes()
	for _, r := range all {
		table = append(table, compile(r, described[r.key()]))
	}
	return document(table, minor)
}

// document describes the routes of table in one version.
func document(table []compiled, version int) map[string]any {
	types := &schemas{version: version, named: map[string]schema{}}
	paths := map[string]map[string]any{}
	for _, r := range table {
		if r.since > version {
			continue
		}
		if paths[r.pattern] == nil {
			paths[r.pattern] = map[string]any{}
		}
		paths[r.pattern][strings.ToLower(r.method)] = describe(&r, types)
	}
	types.of(reflect.TypeFor[common.ErrorResponse]())
	return map[string]any{
		"openapi": "3.0.3",
		"info": map[string]any{
			"title": "nova-agent: the Docker Engine API", "version": versionText(version),
			"description": "Versions " + versionText(minVersion) + " to " + versionText(maxVersion) + " are served, by the first part of the path.",
		},
		"servers":    []any{map[string]any{"url": "/v" + versionText(version)}},
		"paths":      paths,
		"components": map[string]any{"schemas": types.named},
	}
}

// describe is the Operation Object of a route.
func describe(r *compiled, types *schemas) map[string]any {
	out := map[string]any{
		"summary": r.summary, "operationId": operationID(r), "tags": []string{strings.Split(r.pattern, "/")[1]},
		"responses": answers(r, types),
	}
	if params := parameters(r, types.version); len(params) > 0 {
		out["parameters"] = params
	}
	if r.body != nil {
		out["requestBody"] = map[string]any{"required": !r.optional, "content": content(r.body, types)}
	}
	return out
}

// operationID is unique: the method and the words of the pattern.
func operationID(r *compiled) string {
	id := strings.ToLower(r.method)
	for word := range strings.FieldsFuncSeq(r.pattern, func(c rune) bool { return strings.ContainsRune("/{}._", c) }) {
		id += strings.ToUpper(word[:1]) + word[1:]
	}
	return id
}

// parameters are those of the path, the query and the header.
func parameters(r *compiled, version int) []any {
	var out []any
	for _, v := range variable.FindAllStringSubmatch(r.pattern, -1) {
		about := "Name or ID."
		if v[1] == "name" {
			about = "A name, which may contain slashes."
		}
		out = append(out, map[string]any{"name": v[1], "in": "path", "required": true, "description": about, "schema": schema{"type": "string"}})
	}
	for _, p := range r.params {
		if version < p.since || p.until != 0 && version > p.until {
			continue
		}
		in := "query"
		if p.header {
			in = "header"
		}
		param := map[string]any{"name": p.name, "in": in, "required": p.must, "description": p.text, "schema": p.schema()}
		if p.kind == kindFilters {
			delete(param, "schema")
			param["content"] = map[string]any{"application/json": map[string]any{"schema": p.schema()}}
		}
		out = append(out, param)
	}
	return out
}

func (p *param) schema() schema {
	list := schema{"type": "array", "items": schema{"type": "string"}}
	switch p.kind {
	case kindBool:
		// Anything but nothing, 0, no, false and none is true.
		return schema{"type": "boolean"}
	case kindInt:
		return schema{"type": "integer"}
	case kindList:
		return list
	case kindFilters:
		values := schema{"oneOf": []schema{list, {"type": "object", "additionalProperties": schema{"type": "boolean"}}}}
		fields := map[string]schema{}
		for _, f := range p.fields {
			fields[f] = values
		}
		return schema{"type": "object", "properties": fields, "additionalProperties": false}
	}
	return schema{"type": "string"}
}

// content is a body: JSON of a type, or media.
func content(body any, types *schemas) map[string]any {
	out := map[string]any{}
	if kinds, ok := body.(media); ok {
		for _, kind := range kinds {
			out[kind] = map[string]any{"schema": schema{"type": "string", "format": "binary"}}
		}
		return out
	}
	out["application/json"] = map[string]any{"schema": types.of(reflect.TypeOf(body))}
	return out
}

func answers(r *compiled, types *schemas) map[string]any {
	out := map[string]any{}
	put := func(status int, body any) {
		answer := map[string]any{"description": http.StatusText(status)}
		if body != nil {
			answer["content"] = content(body, types)
		}
		out[strconv.Itoa(status)] = answer
	}
	if r.status != 0 {
		put(r.status, r.answer)
	}
	for _, status := range r.also {
		put(status, nil)
	}
	for _, status := range r.failures() {
		put(status, common.ErrorResponse{})
	}
	return out
}

// failures are the statuses of the errors that a route may answer.
func (r *compiled) failures() []int {
	list := append([]int{http.StatusBadRequest, http.StatusForbidden, http.StatusInternalServerError}, r.errors...)
	if strings.Contains(r.pattern, "{") && r.status != 0 {
		list = append(list, http.StatusNotFound)
	}
	slices.Sort(list)
	return slices.Compact(list)
}
