package objects

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"novaagent/engine/errdefs"
)

// The keys of a primitive.
const (
	keyName      = "nova_object.name"
	keyNamespace = "nova_object.namespace"
	keyVersion   = "nova_object.version"
	keyData      = "nova_object.data"
	keyChanges   = "nova_object.changes"

	namespace = "nova"
)

// decodeTop reads the primitive raw into o, or into a new object if o is nil.
func decodeTop(raw []byte, o Object) (Object, error) {
	c, err := newCursor(raw)
	if err != nil {
		return nil, err
	}
	want := ""
	if _, opaque := o.(*Opaque); o != nil && !opaque {
		want = o.ObjectName()
	}
	object, err := decodeObject(c, o, want)
	if err != nil {
		return nil, asInvalid(err)
	}
	return object, nil
}

func unmarshal(raw []byte, o Object) error {
	_, err := decodeTop(raw, o)
	return err
}

// asInvalid gives err its kind. A VersionError has one.
func asInvalid(err error) error {
	var version *VersionError
	if errors.As(err, &version) {
		return err
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
}

// decodeObject reads the object that is next. It must be named want, unless that
// is empty. It goes into o if that is not nil.
func decodeObject(c *cursor, o Object, want string) (Object, error) {
	name, version, err := c.identity()
	if err != nil {
		if want != "" {
			err = fmt.Errorf("object %s: %w", want, err)
		}
		return nil, err
	}
	if want != "" && name != want {
		return nil, fmt.Errorf("object %s where %s is needed", name, want)
	}
	p := plans().byName[name]
	if opaque, ok := o.(*Opaque); ok || p == nil {
		if opaque == nil {
			opaque = new(Opaque)
		}
		return opaque, opaque.read(c, name, version)
	}
	if err := p.accepts(version); err != nil {
		return nil, err
	}
	if o == nil {
		o = reflect.New(p.typ).Interface().(Object)
	} else {
		reflect.ValueOf(o).Elem().SetZero()
	}
	return o, p.read(c, o, version)
}

// identity looks ahead for name and version of the object that is next. Nova
// writes them first.
func (c *cursor) identity() (name, version string, err error) {
	ahead := *c
	space, seen := "", 0
	var stop = fmt.Errorf("found")
	err = ahead.members(func(key []byte) error {
		var to *string
		switch string(key) {
		case keyName:
			to = &name
		case keyVersion:
			to = &version
		case keyNamespace:
			to = &space
		default:
			_, err := ahead.raw()
			return err
		}
		s, err := ahead.text()
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		*to = s
		if seen++; seen == 3 {
			return stop
		}
		return nil
	})
	switch {
	case err != nil && err != stop:
		return "", "", err
	case name == "" || version == "":
		return "", "", fmt.Errorf("not an object: %s or %s is missing", keyName, keyVersion)
	case space != namespace:
		return "", "", fmt.Errorf("object %s: namespace %q is not Nova's", name, space)
	}
	return name, version, nil
}

func (p *plan) read(c *cursor, o Object, version string) error {
	v := reflect.ValueOf(o).Elem()
	h := o.header()
	if version != p.version {
		h.version = version
	}
	var changes []string
	hasData := false
	err := c.members(func(key []byte) (err error) {
		switch string(key) {
		case keyName, keyVersion, keyNamespace:
			_, err = c.raw()
		case keyData:
			hasData = true
			err = p.readData(c, h, v)
		case keyChanges:
			changes, err = c.names()
		default:
			err = keep(c, &h.extra, key)
		}
		return err
	})
	if err != nil {
		return err
	}
	if !hasData {
		return fmt.Errorf("object %s: %s is missing", p.name, keyData)
	}
	p.markChanged(h, v, changes)
	return nil
}

func (p *plan) readData(c *cursor, h *Header, v reflect.Value) error {
	return c.members(func(key []byte) error {
		i, ok := p.byName[string(key)]
		if !ok {
			return keep(c, &h.unknown, key)
		}
		f := &p.fields[i]
		value, m := f.slotOf(v).parts()
		if c.null() {
			if !f.nullable {
				return fmt.Errorf("%s.%s: null is not allowed", p.name, f.name)
			}
			reflect.ValueOf(value).Elem().SetZero()
			*m = marks{state: null}
			return nil
		}
		*m = marks{state: held}
		if err := f.codec.decode(c, value); err != nil {
			return fmt.Errorf("%s.%s: %w", p.name, f.name, err)
		}
		return nil
	})
}

func (p *plan) markChanged(h *Header, v reflect.Value, changes []string) {
	for _, name := range changes {
		if i, ok := p.byName[name]; ok {
			if _, m := p.fields[i].slotOf(v).parts(); m.state != unset {
				m.changed = true
			}
			continue
		}
		if _, ok := h.unknown[name]; ok && !slices.Contains(h.changed, name) {
			h.changed = append(h.changed, name)
		}
	}
}

func (o *Opaque) read(c *cursor, name, version string) error {
	*o = Opaque{Name: name, Header: Header{version: version}, Data: map[string]json.RawMessage{}}
	return c.members(func(key []byte) (err error) {
		switch string(key) {
		case keyName, keyVersion, keyNamespace:
			_, err = c.raw()
		case keyData:
			err = c.members(func(key []byte) error { return keep(c, &o.Data, key) })
		case keyChanges:
			o.Changed, err = c.names()
		default:
			err = keep(c, &o.extra, key)
		}
		return err
	})
}

// names reads a list of field names, or null.
func (c *cursor) names() ([]string, error) {
	if c.null() {
		return nil, nil
	}
	var names []string
	err := c.elements(func() error {
		s, err := c.text()
		names = append(names, s)
		return err
	})
	return names, err
}

// keep copies the next value, so that the message it came in can be freed.
func keep(c *cursor, to *map[string]json.RawMessage, key []byte) error {
	name := string(key)
	raw, err := c.raw()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if *to == nil {
		*to = make(map[string]json.RawMessage)
	}
	(*to)[name] = bytes.Clone(raw)
	return nil
}
