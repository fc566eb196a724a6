package objects

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// codec reads and writes the values of one Go type. p and src are pointers to
// such a value.
type codec interface {
	decode(c *cursor, p any) error
	encode(b []byte, p any) ([]byte, error)
	clone(p, src any)
	// each calls f with every object directly within the value.
	each(p any, f func(Object))
}

// codecFor returns the codec of a field's type. It panics for a type that no
// field of Nova's has, which only a change of this package can bring about.
func codecFor(typ reflect.Type) codec {
	switch typ {
	case reflect.TypeFor[string]():
		return stringCodec{}
	case reflect.TypeFor[*string]():
		return optionalStringCodec{}
	case reflect.TypeFor[int64]():
		return intCodec{}
	case reflect.TypeFor[float64]():
		return floatCodec{}
	case reflect.TypeFor[bool]():
		return boolCodec{}
	case reflect.TypeFor[time.Time]():
		return timeCodec{}
	case reflect.TypeFor[NetworkModel]():
		return networkModelCodec{}
	case reflect.TypeFor[Object]():
		return objectCodec{typ: typ}
	}
	switch {
	case typ.Kind() == reflect.Slice:
		return sliceCodec{elem: codecFor(typ.Elem()), typ: typ}
	case typ.Kind() == reflect.Map && typ.Key().Kind() == reflect.String:
		return mapCodec{elem: codecFor(typ.Elem()), typ: typ}
	case typ.Kind() == reflect.Pointer && typ.Implements(reflect.TypeFor[Object]()):
		return objectCodec{typ: typ, name: reflect.New(typ.Elem()).Interface().(Object).ObjectName()}
	}
	panic(fmt.Sprintf("objects: no codec for %v", typ))
}

// plain is the part of a codec for values without pointers.
type plain[T any] struct{}

func (plain[T]) clone(p, src any)       { *p.(*T) = *src.(*T) }
func (plain[T]) each(any, func(Object)) {}

type stringCodec struct{ plain[string] }

// Like Nova, a number is accepted for a string, and a boolean is one to Python.
func (stringCodec) decode(c *cursor, p any) error {
	s, err := looseText(c)
	*p.(*string) = s
	return err
}

func looseText(c *cursor) (string, error) {
	switch b := c.peek(); {
	case b == '"':
		return string(c.stringBytes()), nil
	case b == '-' || '0' <= b && b <= '9':
		return string(c.scalar()), nil
	case b == 't':
		c.scalar()
		return "True", nil
	case b == 'f':
		c.scalar()
		return "False", nil
	}
	return "", wrongType("a string", c)
}

func (stringCodec) encode(b []byte, p any) ([]byte, error) {
	return appendString(b, *p.(*string)), nil
}

type optionalStringCodec struct{}

func (optionalStringCodec) decode(c *cursor, p any) error {
	if c.null() {
		*p.(**string) = nil
		return nil
	}
	s, err := looseText(c)
	*p.(**string) = &s
	return err
}

func (optionalStringCodec) encode(b []byte, p any) ([]byte, error) {
	s := *p.(**string)
	if s == nil {
		return append(b, "null"...), nil
	}
	return appendString(b, *s), nil
}

func (optionalStringCodec) clone(p, src any) {
	if s := *src.(**string); s != nil {
		*p.(**string) = Ptr(*s)
	}
}

func (optionalStringCodec) each(any, func(Object)) {}

type intCodec struct{ plain[int64] }

// Like Python's int(): fractions are cut off, text is parsed.
func (intCodec) decode(c *cursor, p any) error {
	number, err := numberText(c)
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(number, 64)
		if ferr != nil || math.Abs(f) >= 1<<63 || math.IsNaN(f) {
			return fmt.Errorf("not an integer of 64 bits")
		}
		n = int64(f)
	}
	*p.(*int64) = n
	return nil
}

func (intCodec) encode(b []byte, p any) ([]byte, error) {
	return strconv.AppendInt(b, *p.(*int64), 10), nil
}

func numberText(c *cursor) (string, error) {
	switch b := c.peek(); {
	case b == '"':
		return strings.TrimSpace(string(c.stringBytes())), nil
	case b == '-' || '0' <= b && b <= '9':
		return string(c.scalar()), nil
	case b == 't':
		c.scalar()
		return "1", nil
	case b == 'f':
		c.scalar()
		return "0", nil
	}
	return "", wrongType("a number", c)
}

type floatCodec struct{ plain[float64] }

func (floatCodec) decode(c *cursor, p any) error {
	number, err := numberText(c)
	if err != nil {
		return err
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return fmt.Errorf("not a finite number")
	}
	*p.(*float64) = f
	return nil
}

// Python keeps 1.0 apart from 1, so the fraction is written.
func (floatCodec) encode(b []byte, p any) ([]byte, error) {
	f := *p.(*float64)
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fmt.Errorf("%v has no form in JSON", f)
	}
	start := len(b)
	b = strconv.AppendFloat(b, f, 'g', -1, 64)
	if !slices.ContainsFunc(b[start:], func(c byte) bool { return c == '.' || c == 'e' }) {
		b = append(b, ".0"...)
	}
	return b, nil
}

type boolCodec struct{ plain[bool] }

// Nova's FlexibleBoolean reads words as oslo's strutils.bool_from_string does; its
// Boolean takes whatever Python finds true, of which numbers are accepted here.
func (boolCodec) decode(c *cursor, p any) error {
	var v bool
	switch b := c.peek(); {
	case b == 't', b == 'f':
		c.scalar()
		v = b == 't'
	case b == '-' || '0' <= b && b <= '9':
		f, _ := strconv.ParseFloat(string(c.scalar()), 64)
		v = f != 0
	case b == '"':
		switch strings.ToLower(strings.TrimSpace(string(c.stringBytes()))) {
		case "1", "t", "true", "on", "y", "yes":
			v = true
		case "", "0", "f", "false", "off", "n", "no":
		default:
			return fmt.Errorf("a string that is no boolean")
		}
	default:
		return wrongType("a boolean", c)
	}
	*p.(*bool) = v
	return nil
}

func (boolCodec) encode(b []byte, p any) ([]byte, error) {
	return strconv.AppendBool(b, *p.(*bool)), nil
}

type timeCodec struct{ plain[time.Time] }

// timeLayout is oslo's: whole seconds, always UTC.
const timeLayout = "2006-01-02T15:04:05Z"

func (timeCodec) decode(c *cursor, p any) error {
	s, err := c.text()
	if err != nil {
		return err
	}
	t, err := parseTime(s)
	*p.(*time.Time) = t
	return err
}

// parseTime accepts what oslo's ISO 8601 parser gets to see: any zone, none
// (which is UTC), a blank for the T, fractions.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("not a time")
}

func (timeCodec) encode(b []byte, p any) ([]byte, error) {
	t := p.(*time.Time).UTC()
	if y := t.Year(); y < 1 || y > 9999 {
		return nil, fmt.Errorf("year %d has no form in ISO 8601", y)
	}
	b = append(b, '"')
	b = t.AppendFormat(b, timeLayout)
	return append(b, '"'), nil
}

type networkModelCodec struct{ plain[NetworkModel] }

func (networkModelCodec) decode(c *cursor, p any) error {
	s, err := c.text()
	if err != nil {
		return err
	}
	inner, err := newCursor([]byte(s))
	if err != nil {
		return fmt.Errorf("network model: text is not JSON")
	}
	if b := inner.peek(); b != '[' && b != '{' {
		return wrongType("a network model", inner)
	}
	if _, err := inner.raw(); err != nil {
		return err
	}
	*p.(*NetworkModel) = NetworkModel(s)
	return nil
}

// Nova can't read an empty text, so an empty model is the empty list.
func (networkModelCodec) encode(b []byte, p any) ([]byte, error) {
	m := *p.(*NetworkModel)
	if m == "" {
		m = "[]"
	}
	return appendString(b, string(m)), nil
}

// sliceCodec is for list and set. Neither may hold null, unless it is a list of
// optional strings.
type sliceCodec struct {
	elem codec
	typ  reflect.Type
}

func (s sliceCodec) decode(c *cursor, p any) error {
	list := reflect.MakeSlice(s.typ, 0, 0)
	err := c.elements(func() error {
		n := list.Len()
		list = reflect.Append(list, reflect.Zero(s.typ.Elem()))
		if err := s.elem.decode(c, list.Index(n).Addr().Interface()); err != nil {
			return fmt.Errorf("element %d: %w", n, err)
		}
		return nil
	})
	reflect.ValueOf(p).Elem().Set(list)
	return err
}

func (s sliceCodec) encode(b []byte, p any) ([]byte, error) {
	list := reflect.ValueOf(p).Elem()
	b = append(b, '[')
	for i := range list.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = s.elem.encode(b, list.Index(i).Addr().Interface()); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

func (s sliceCodec) clone(p, src any) {
	from := reflect.ValueOf(src).Elem()
	if from.IsNil() {
		return
	}
	list := reflect.MakeSlice(s.typ, from.Len(), from.Len())
	for i := range from.Len() {
		s.elem.clone(list.Index(i).Addr().Interface(), from.Index(i).Addr().Interface())
	}
	reflect.ValueOf(p).Elem().Set(list)
}

func (s sliceCodec) each(p any, f func(Object)) {
	list := reflect.ValueOf(p).Elem()
	for i := range list.Len() {
		s.elem.each(list.Index(i).Addr().Interface(), f)
	}
}

// mapCodec is for dict, whose keys are always strings on the wire.
type mapCodec struct {
	elem codec
	typ  reflect.Type
}

func (m mapCodec) decode(c *cursor, p any) error {
	dict := reflect.MakeMap(m.typ)
	err := c.members(func(key []byte) error {
		name := string(key)
		value := reflect.New(m.typ.Elem())
		if err := m.elem.decode(c, value.Interface()); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		dict.SetMapIndex(reflect.ValueOf(name), value.Elem())
		return nil
	})
	reflect.ValueOf(p).Elem().Set(dict)
	return err
}

func (m mapCodec) encode(b []byte, p any) ([]byte, error) {
	dict := reflect.ValueOf(p).Elem()
	keys := make([]string, 0, dict.Len())
	for _, key := range dict.MapKeys() {
		keys = append(keys, key.String())
	}
	slices.Sort(keys)
	b = append(b, '{')
	value := reflect.New(m.typ.Elem())
	for i, key := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		value.Elem().Set(dict.MapIndex(reflect.ValueOf(key)))
		var err error
		if b, err = m.elem.encode(b, value.Interface()); err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
	}
	return append(b, '}'), nil
}

func (m mapCodec) clone(p, src any) {
	from := reflect.ValueOf(src).Elem()
	if from.IsNil() {
		return
	}
	dict := reflect.MakeMapWithSize(m.typ, from.Len())
	for key, v := range from.Seq2() {
		in, out := reflect.New(m.typ.Elem()), reflect.New(m.typ.Elem())
		in.Elem().Set(v)
		m.elem.clone(out.Interface(), in.Interface())
		dict.SetMapIndex(key, out.Elem())
	}
	reflect.ValueOf(p).Elem().Set(dict)
}

// No dict of Nova's holds objects.
func (mapCodec) each(any, func(Object)) {}

// objectCodec is for an object within an object: of one struct, or of any if
// name is empty.
type objectCodec struct {
	typ  reflect.Type
	name string
}

func (o objectCodec) decode(c *cursor, p any) error {
	object, err := decodeObject(c, nil, o.name)
	if err != nil {
		return err
	}
	reflect.ValueOf(p).Elem().Set(reflect.ValueOf(object))
	return nil
}

func (objectCodec) encode(b []byte, p any) ([]byte, error) {
	object := objectAt(p)
	if object == nil {
		return nil, fmt.Errorf("null where an object is needed")
	}
	return appendObject(b, object)
}

func (objectCodec) clone(p, src any) {
	if object := objectAt(src); object != nil {
		reflect.ValueOf(p).Elem().Set(reflect.ValueOf(cloneObject(object)))
	}
}

func (objectCodec) each(p any, f func(Object)) {
	if object := objectAt(p); object != nil {
		f(object)
	}
}

// objectAt returns the object at p, a pointer to a pointer or to an Object; nil
// if there is none.
func objectAt(p any) Object {
	v := reflect.ValueOf(p).Elem()
	if v.IsNil() {
		return nil
	}
	return v.Interface().(Object)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
