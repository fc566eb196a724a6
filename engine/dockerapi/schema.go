package dockerapi

import (
	"encoding"
	"encoding/json"
	"path"
	"reflect"
	"strings"
	"time"
)

// schema is a JSON schema as OpenAPI 3.0 has them.
type schema map[string]any

// schemas makes them of Go types, as encoding/json writes those, and for one version.
type schemas struct {
	version int
	// named are the schemas of struct types, which others refer to.
	named map[string]schema
}

var (
	textType    = reflect.TypeFor[encoding.TextMarshaler]()
	jsonType    = reflect.TypeFor[json.Marshaler]()
	timeType    = reflect.TypeFor[time.Time]()
	rawJSONType = reflect.TypeFor[json.RawMessage]()
)

func (s *schemas) of(t reflect.Type) schema {
	switch {
	case t == timeType:
		return schema{"type": "string", "format": "date-time"}
	case t == rawJSONType:
		return schema{}
	case t.Implements(textType):
		return schema{"type": "string"}
	case t.Implements(jsonType) && t.Kind() != reflect.Pointer && t.Name() != "":
		// Made of bytes or numbers, but written in a way of its own.
		if t.Kind() != reflect.Struct {
			return schema{}
		}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return nullable(s.of(t.Elem()))
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32:
		return schema{"type": "integer"}
	case reflect.Int64:
		return schema{"type": "integer", "format": "int64"}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return schema{"type": "integer", "minimum": 0}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.String:
		return schema{"type": "string"}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "format": "byte", "nullable": true}
		}
		return schema{"type": "array", "items": s.of(t.Elem()), "nullable": true}
	case reflect.Array:
		return schema{"type": "array", "items": s.of(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": s.of(t.Elem()), "nullable": true}
	case reflect.Struct:
		return s.reference(t)
	}
	return schema{} // anything
}

// nullable lets s be null, too. A reference has no neighbours in OpenAPI 3.0.
func nullable(s schema) schema {
	if _, ok := s["$ref"]; ok {
		return schema{"nullable": true, "allOf": []schema{s}}
	}
	s["nullable"] = true
	return s
}

// reference refers to the schema of a struct, and makes it when it is the first.
func (s *schemas) reference(t reflect.Type) schema {
	if t.Name() == "" {
		return schema{"type": "object", "properties": s.properties(t)}
	}
	name := schemaName(t)
	if _, ok := s.named[name]; !ok {
		s.named[name] = schema{} // a type may contain itself
		s.named[name] = schema{"type": "object", "properties": s.properties(t)}
	}
	return schema{"$ref": "#/components/schemas/" + name}
}

// schemaName is PACKAGE.TYPE; the package's path is Docker's, or ours.
func schemaName(t reflect.Type) string {
	return path.Base(t.PkgPath()) + "." + strings.NewReplacer("[", "_", "]", "", "/", "_", ",", "_").Replace(t.Name())
}

func (s *schemas) properties(t reflect.Type) map[string]schema {
	out := map[string]schema{}
	eachField(t, func(owner reflect.Type, name string, f reflect.StructField) {
		delete(out, name) // one of an embedded struct is hidden, in all versions
		if inVersion(owner, name, s.version) {
			out[name] = s.of(f.Type)
		}
	})
	return out
}

// eachField calls visit with each field that encoding/json writes of the struct t, those of
// embedded structs before those that hide them, with the struct that declares it.
func eachField(t reflect.Type, visit func(owner reflect.Type, name string, f reflect.StructField)) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if f.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			eachField(inner, visit)
		}
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		inner := f.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		if f.PkgPath != "" || name == "-" || f.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			continue
		}
		if name == "" {
			name = f.Name
		}
		visit(t, name, f)
	}
}
