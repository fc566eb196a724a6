package objects

import (
	"maps"
	"reflect"
)

type state uint8

const (
	unset state = iota // not on the wire at all
	null               // null on the wire
	held               // has a value
)

// marks is what is known of a field besides its value.
type marks struct {
	state   state
	changed bool
}

// Field is a field of a versioned object. Its zero value is unset: absent on the
// wire, which tells Nova nothing, whereas null is a value that Nova stores.
//
// A field that was changed is named in the object's changes, and only those are
// written by save and create. A value that is itself an object carries its own
// changes and makes its parent changed too; see Changes.
type Field[T any] struct {
	value T
	marks
}

// Of returns a changed field that holds v, for composite literals.
func Of[T any](v T) Field[T] {
	var f Field[T]
	f.Set(v)
	return f
}

// IsSet says whether the field is on the wire, null or not.
func (f *Field[T]) IsSet() bool { return f.state != unset }

// IsNull says whether the field is set to null.
func (f *Field[T]) IsNull() bool { return f.state == null }

// Get returns the value; ok is false if the field is unset or null. Maps, slices
// and objects are not copied: replace a map or slice with Set instead of
// writing into it, or the change is not seen.
func (f *Field[T]) Get() (v T, ok bool) { return f.value, f.state == held }

// Or returns the value, or def if the field is unset or null.
func (f *Field[T]) Or(def T) T {
	if f.state == held {
		return f.value
	}
	return def
}

// Value returns the value, or the zero T if the field is unset or null.
func (f *Field[T]) Value() T { return f.value }

// Set stores v and marks the field changed, even if it held v before, as Nova
// does. A nil object is null.
func (f *Field[T]) Set(v T) {
	f.Load(v)
	f.changed = true
}

// Load stores v and leaves the field unchanged: v is what Nova already knows.
func (f *Field[T]) Load(v T) {
	f.value, f.state, f.changed = v, held, false
	if isNilObject(v) {
		var zero T
		f.value, f.state = zero, null
	}
}

// SetNull stores null and marks the field changed.
func (f *Field[T]) SetNull() {
	var zero T
	f.value, f.state, f.changed = zero, null, true
}

// Unset takes the field off the wire, its change with it.
func (f *Field[T]) Unset() { *f = Field[T]{} }

// Changed says whether the field was changed since it came or since the last
// ResetChanges. It does not look into an object that the field holds.
func (f *Field[T]) Changed() bool { return f.changed }

// Put sets one key of a dict field: a changed copy of the map with it, as
// Nova replaces metadata and system_metadata as a whole.
func Put[V any](f *Field[map[string]V], key string, v V) {
	m := maps.Clone(f.value)
	if m == nil {
		m = make(map[string]V, 1)
	}
	m[key] = v
	f.Set(m)
}

// Delete removes keys of a dict field, in a changed copy. It does nothing if the
// field has none of them.
func Delete[V any](f *Field[map[string]V], keys ...string) {
	found := false
	for _, key := range keys {
		_, ok := f.value[key]
		found = found || ok
	}
	if !found {
		return
	}
	m := maps.Clone(f.value)
	for _, key := range keys {
		delete(m, key)
	}
	f.Set(m)
}

// Ptr returns a pointer to v, for values that may be null within a list or dict.
func Ptr[T any](v T) *T { return &v }

// slot is a *Field[T] to code that does not know T.
type slot interface {
	// parts returns a *T and the marks.
	parts() (value any, m *marks)
	// assign takes over value and marks of another field of the same T.
	assign(from slot)
}

func (f *Field[T]) parts() (any, *marks) { return &f.value, &f.marks }

func (f *Field[T]) assign(from slot) { *f = *from.(*Field[T]) }

func isNilObject(v any) bool {
	if v == nil {
		return true
	}
	o, ok := v.(Object)
	return ok && reflect.ValueOf(o).IsNil()
}
