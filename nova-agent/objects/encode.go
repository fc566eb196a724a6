package objects

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"unicode/utf8"
)

func marshal(o Object) ([]byte, error) {
	b, err := appendObject(nil, o)
	if err != nil {
		return nil, asInvalid(err)
	}
	return b, nil
}

func appendObject(b []byte, o Object) ([]byte, error) {
	b = append(b, `{"`+keyName+`":`...)
	b = appendString(b, o.ObjectName())
	b = append(b, `,"`+keyNamespace+`":"`+namespace+`","`+keyVersion+`":`...)
	b = appendString(b, o.ObjectVersion())
	b = append(b, `,"`+keyData+`":{`...)
	b, err := appendData(b, o)
	if err != nil {
		return nil, err
	}
	b = append(b, '}')
	if changes := Changes(o); len(changes) > 0 {
		b = append(b, `,"`+keyChanges+`":[`...)
		for i, name := range changes {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, name)
		}
		b = append(b, ']')
	}
	if extra := o.header().extra; len(extra) > 0 {
		b = append(b, ',')
		b = appendRaw(b, extra)
	}
	return append(b, '}'), nil
}

func appendData(b []byte, o Object) ([]byte, error) {
	if opaque, ok := o.(*Opaque); ok {
		return appendRaw(b, opaque.Data), nil
	}
	p, v := planOf(o)
	first := true
	for i := range p.fields {
		f := &p.fields[i]
		value, m := f.slotOf(v).parts()
		if m.state == unset {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendString(b, f.name), ':')
		var err error
		if b, err = f.append(b, value, m); err != nil {
			return nil, fmt.Errorf("%s.%s: %w", p.name, f.name, err)
		}
	}
	if unknown := o.header().unknown; len(unknown) > 0 {
		if !first {
			b = append(b, ',')
		}
		b = appendRaw(b, unknown)
	}
	return b, nil
}

func (f *fieldPlan) append(b []byte, value any, m *marks) ([]byte, error) {
	if m.state == null {
		if !f.nullable {
			return nil, fmt.Errorf("null is not allowed")
		}
		return append(b, "null"...), nil
	}
	if m.changed && f.allowed != "" {
		if err := f.check(value); err != nil {
			return nil, err
		}
	}
	return f.codec.encode(b, value)
}

// check refuses a value of ours that Nova would refuse.
func (f *fieldPlan) check(value any) error {
	var texts []string
	switch v := value.(type) {
	case *string:
		texts = []string{*v}
	case *[]string:
		texts = *v
	}
	for _, text := range texts {
		if !accepted(f.allowed, text) {
			return fmt.Errorf("%q is no %s", text, f.allowed)
		}
	}
	return nil
}

func accepted(what, text string) bool {
	switch what {
	case "ip", "ip4", "ip6":
		addr, err := netip.ParseAddr(text)
		return err == nil && (what == "ip" || addr.Is4() == (what == "ip4"))
	}
	return slices.Contains(enums[what], text)
}

// appendRaw writes the members of an object, without the braces.
func appendRaw(b []byte, members map[string]json.RawMessage) []byte {
	for i, name := range sortedKeys(members) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = append(b, members[name]...)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			// Cannot fail for a string.
			text, _ := json.Marshal(s)
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// cloneObject returns a deep copy of o, changes included.
func cloneObject(o Object) Object {
	v := reflect.ValueOf(o).Elem()
	to := reflect.New(v.Type())
	clone := to.Interface().(Object)
	// The texts in a header are never written to, so they are shared.
	*clone.header() = *o.header()
	if opaque, ok := o.(*Opaque); ok {
		*clone.(*Opaque) = *opaque
		return clone
	}
	p, _ := planOf(o)
	for i := range p.fields {
		f := &p.fields[i]
		from, m := f.slotOf(v).parts()
		into, n := f.slotOf(to.Elem()).parts()
		*n = *m
		f.codec.clone(into, from)
	}
	return clone
}
