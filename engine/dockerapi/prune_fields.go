package dockerapi

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
)

// shape says which parts of a JSON document of a Go type a version of the API does not have.
type shape struct {
	// fields are those of an object that go or have something inside that does. Names are folded, as
	// encoding/json folds them.
	fields map[string]*shape
	// each is the shape of an array's elements or a map's values.
	each *shape
	// gone: the value goes; goneIfEmpty: if it says nothing.
	gone, goneIfEmpty bool
}

// shapeKey is what a shape depends on.
type shapeKey struct {
	of      reflect.Type
	version int
}

// shapes are those that were needed, by shapeKey. A nil *shape has nothing to take away.
var shapes sync.Map

func shapeOf(t reflect.Type, version int) *shape {
	key := shapeKey{t, version}
	if s, ok := shapes.Load(key); ok {
		return s.(*shape)
	}
	s := makeShape(t, version, map[reflect.Type]bool{})
	shapes.Store(key, s)
	return s
}

// makeShape looks through t. A type that contains itself is looked through once: none has a field
// of fields inside the second.
func makeShape(t reflect.Type, version int, above map[reflect.Type]bool) *shape {
	switch t.Kind() {
	case reflect.Pointer:
		return makeShape(t.Elem(), version, above)
	case reflect.Slice, reflect.Array, reflect.Map:
		if each := makeShape(t.Elem(), version, above); each != nil {
			return &shape{each: each}
		}
		return nil
	case reflect.Struct:
	default:
		return nil
	}
	if above[t] {
		return nil
	}
	above[t] = true
	defer delete(above, t)
	out := &shape{fields: map[string]*shape{}}
	eachField(t, func(owner reflect.Type, name string, f reflect.StructField) {
		inner := makeShape(f.Type, version, above)
		if rule := fieldIndex[fieldKey{owner, name}]; rule != nil {
			switch {
			case !rule.in(version):
				inner = &shape{gone: true}
			case rule.lacking != 0 && version >= rule.lacking:
				if inner == nil {
					inner = &shape{}
				}
				inner.goneIfEmpty = true
			}
		}
		// The outer of two fields of a name comes last, and counts.
		delete(out.fields, strings.ToLower(name))
		if inner != nil {
			out.fields[strings.ToLower(name)] = inner
		}
	})
	if len(out.fields) == 0 {
		return nil
	}
	return out
}

// prune returns doc, which is valid and compact JSON, without what goes.
func (s *shape) prune(doc []byte) []byte {
	if s == nil {
		return doc
	}
	out, _ := s.copyValue(make([]byte, 0, len(doc)), doc)
	return out
}

// copyValue appends the value that doc begins with to dst, and returns the rest of doc.
func (s *shape) copyValue(dst, doc []byte) (out, rest []byte) {
	switch {
	case s == nil || s.fields == nil && s.each == nil || doc[0] != '{' && doc[0] != '[':
		n := valueLen(doc)
		return append(dst, doc[:n]...), doc[n:]
	case doc[0] == '[':
		dst, doc = append(dst, '['), doc[1:]
		for doc[0] != ']' {
			if doc[0] == ',' {
				dst, doc = append(dst, ','), doc[1:]
			}
			dst, doc = s.each.copyValue(dst, doc)
		}
		return append(dst, ']'), doc[1:]
	}
	dst, doc = append(dst, '{'), doc[1:]
	for first := true; doc[0] != '}'; {
		if doc[0] == ',' {
			doc = doc[1:]
		}
		key := doc[:valueLen(doc)]
		value := doc[len(key)+1:]
		inner := s.each
		if s.fields != nil {
			inner = s.fields[fold(key)]
		}
		n := valueLen(value)
		doc = value[n:]
		if inner != nil && (inner.gone || inner.goneIfEmpty && isEmpty(value[:n])) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, key...), ':')
		dst, _ = inner.copyValue(dst, value)
	}
	return append(dst, '}'), doc[1:]
}

// fold is the name in a JSON string, as it is compared.
func fold(key []byte) string {
	name := string(key[1 : len(key)-1])
	if strings.IndexByte(name, '\\') >= 0 {
		_ = json.Unmarshal(key, &name) // it is valid
	}
	return strings.ToLower(name)
}

// isEmpty is omitempty's sense of it.
func isEmpty(value []byte) bool {
	switch string(value) {
	case `""`, "null", "[]", "{}", "0", "false":
		return true
	}
	return false
}

// valueLen is the length of the JSON value that doc begins with.
func valueLen(doc []byte) int {
	depth := 0
	for i := 0; i < len(doc); i++ {
		switch doc[i] {
		case '"':
			for i++; doc[i] != '"'; i++ {
				if doc[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return len(doc)
}

// encodeFor is v as a client of that version reads it, on a line of its own.
func encodeFor(v any, version int) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	if v == nil {
		return b.Bytes(), nil
	}
	s := shapeOf(reflect.TypeOf(v), version)
	if s == nil {
		return b.Bytes(), nil
	}
	return append(s.prune(bytes.TrimSuffix(b.Bytes(), []byte("\n"))), '\n'), nil
}
