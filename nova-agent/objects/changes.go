package objects

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"novaagent/engine/errdefs"
)

// whatChanged is the key of an object_action reply that lists what is still
// changed after the action.
const whatChanged = "obj_what_changed"

// Changes lists the fields of o that are changed: those that were set, those that
// hold a changed object, and "objects" of a list with a changed element.
// It is what goes out as nova_object.changes.
func Changes(o Object) []string {
	if opaque, ok := o.(*Opaque); ok {
		return opaque.Changed
	}
	p, v := planOf(o)
	var names []string
	for i := range p.fields {
		f := &p.fields[i]
		value, m := f.slotOf(v).parts()
		if m.state == unset {
			continue
		}
		if m.changed || m.state == held && (f.nested || p.isList) && f.anyChanged(value) {
			names = append(names, f.name)
		}
	}
	return append(names, o.header().changed...)
}

func (f *fieldPlan) anyChanged(value any) bool {
	changed := false
	f.codec.each(value, func(o Object) { changed = changed || len(Changes(o)) > 0 })
	return changed
}

// ResetChanges forgets all changes of o and of every object within.
func ResetChanges(o Object) {
	Walk(o, func(o Object) { resetOwn(o) })
}

func resetOwn(o Object) {
	o.header().changed = nil
	if opaque, ok := o.(*Opaque); ok {
		opaque.Changed = nil
		return
	}
	p, v := planOf(o)
	for i := range p.fields {
		_, m := p.fields[i].slotOf(v).parts()
		m.changed = false
	}
}

// Walk calls f with o and then with every object within it.
func Walk(o Object, f func(Object)) {
	f(o)
	p, v := planOf(o)
	if p == nil {
		return
	}
	for i := range p.fields {
		field := &p.fields[i]
		if len(field.subobjects) == 0 {
			continue
		}
		if value, m := field.slotOf(v).parts(); m.state == held {
			field.codec.each(value, func(o Object) { Walk(o, f) })
		}
	}
}

// ApplyUpdates merges the first half of an object_action reply into o: each value
// replaces the field's, and what is changed after that is what obj_what_changed
// lists. Objects within o that the updates do not name keep their changes, as in
// Nova (oslo_versionedobjects/base.py, remotable). On error o is as before.
func ApplyUpdates(o Object, updates []byte) error {
	p, v := planOf(o)
	if p == nil {
		return fmt.Errorf("object %s: updates of an object without a struct: %w", o.ObjectName(), errdefs.ErrUnsupported)
	}
	c, err := newCursor(updates)
	if err != nil {
		return err
	}
	fresh := reflect.New(p.typ)
	h := fresh.Interface().(Object).header()
	if err := p.readData(c, h, fresh.Elem()); err != nil {
		return asInvalid(fmt.Errorf("updates: %w", err))
	}
	var changes []string
	if raw, ok := h.unknown[whatChanged]; ok {
		if err := json.Unmarshal(raw, &changes); err != nil {
			return fmt.Errorf("%s: updates: %s: %v: %w", p.name, whatChanged, err, errdefs.ErrInvalid)
		}
		delete(h.unknown, whatChanged)
	}
	resetOwn(o)
	for i := range p.fields {
		from := p.fields[i].slotOf(fresh.Elem())
		if _, m := from.parts(); m.state != unset {
			p.fields[i].slotOf(v).assign(from)
		}
	}
	if len(h.unknown) > 0 {
		own := maps.Clone(o.header().unknown)
		if own == nil {
			own = make(map[string]json.RawMessage, len(h.unknown))
		}
		maps.Copy(own, h.unknown)
		o.header().unknown = own
	}
	p.markChanged(o.header(), v, changes)
	return nil
}

// Adopt takes over each field that is unset in o and set in from, unchanged. It
// is the second half of a lazy load. Both must be of one struct.
func Adopt[T any, P interface {
	*T
	Object
}](o, from P) {
	p, v := planOf(o)
	_, w := planOf(from)
	for i := range p.fields {
		to, source := p.fields[i].slotOf(v), p.fields[i].slotOf(w)
		_, m := to.parts()
		if _, n := source.parts(); m.state == unset && n.state != unset {
			to.assign(source)
			m.changed = false
		}
	}
}

// Clone returns a deep copy of o, with its changes.
func Clone[T any, P interface {
	*T
	Object
}](o P) P {
	if o == nil {
		return nil
	}
	return cloneObject(o).(P)
}

// Missing returns those of names that are unset in o. A name that o's struct does
// not have is missing.
func Missing(o Object, names ...string) []string {
	p, v := planOf(o)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		if p == nil {
			return false
		}
		i, ok := p.byName[name]
		if !ok {
			return false
		}
		_, m := p.fields[i].slotOf(v).parts()
		return m.state != unset
	})
}

// SetDefaults sets, as changed, the unset fields for which Nova has a default
// (obj_set_defaults).
func SetDefaults(o Object) {
	p, v := planOf(o)
	if p == nil {
		return
	}
	for i := range p.fields {
		f := &p.fields[i]
		value, m := f.slotOf(v).parts()
		if f.def == nil || m.state != unset {
			continue
		}
		c := &cursor{b: f.def}
		if c.null() {
			*m = marks{state: null, changed: true}
			continue
		}
		// A test reads the defaults of every struct, so this can't fail.
		if err := f.codec.decode(c, value); err == nil {
			*m = marks{state: held, changed: true}
		}
	}
}
