package objects

import (
	"encoding/json"
	"fmt"

	"novaagent/engine/errdefs"
)

// Object is a versioned object: a pointer to one of this package's structs, or
// *Opaque for an object that has none.
type Object interface {
	json.Marshaler
	json.Unmarshaler
	// ObjectName is the name on the wire, "Instance".
	ObjectName() string
	// ObjectVersion is the version that is written: the one with which the object
	// came, or that of the struct if it was made here.
	ObjectVersion() string

	header() *Header
}

// Header is the part that every object has in common. Its content is what came
// on the wire and has no field in the struct.
type Header struct {
	version string                     // as received; "" is the struct's
	unknown map[string]json.RawMessage // of nova_object.data
	changed []string                   // those of unknown that are changed, in wire order
	extra   map[string]json.RawMessage // keys beside nova_object.data
}

func (h *Header) header() *Header { return h }

// Unknown returns the fields of o that its struct does not have, by name.
func Unknown(o Object) map[string]json.RawMessage { return o.header().unknown }

// Opaque is an object without a struct. It is written as it came.
type Opaque struct {
	Header
	Name string
	// Data is nova_object.data.
	Data map[string]json.RawMessage
	// Changed is nova_object.changes.
	Changed []string
}

// ObjectName implements Object.
func (o *Opaque) ObjectName() string { return o.Name }

// ObjectVersion implements Object.
func (o *Opaque) ObjectVersion() string { return o.version }

// MarshalJSON implements json.Marshaler.
func (o *Opaque) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Opaque) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Decode reads a primitive into the struct of its name, or into an *Opaque if
// there is none. The error is a *VersionError for a version that this package
// can't read, else ErrInvalid, naming the object and field.
func Decode(raw []byte) (Object, error) { return decodeTop(raw, nil) }

// As reads a primitive that must be a T, as in As[Instance](raw). JSON null
// gives nil, as for an argument that Nova leaves out.
func As[T any, P interface {
	*T
	Object
}](raw []byte) (P, error) {
	if isNull(raw) {
		return nil, nil
	}
	var p P = new(T)
	if err := unmarshal(raw, p); err != nil {
		return nil, err
	}
	return p, nil
}

// ListAs reads a JSON array of primitives that must all be T.
func ListAs[T any, P interface {
	*T
	Object
}](raw []byte) ([]P, error) {
	var raws []json.RawMessage
	if err := json.Unmarshal(raw, &raws); err != nil {
		return nil, fmt.Errorf("list of objects: %v: %w", err, errdefs.ErrInvalid)
	}
	list := make([]P, 0, len(raws))
	for i, raw := range raws {
		p, err := As[T, P](raw)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		list = append(list, p)
	}
	return list, nil
}
