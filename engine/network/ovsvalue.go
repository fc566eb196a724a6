package network

import (
	"encoding/json"
	"fmt"
)

// The values of OVSDB (RFC 7047, section 5.1): an atom, ["uuid", U],
// ["named-uuid", NAME], ["set", [VALUE…]] or ["map", [[KEY, VALUE]…]]. A set of one
// element may be written as that element.

// ovsUUID is the identity of a row.
type ovsUUID string

// MarshalJSON implements json.Marshaler.
func (u ovsUUID) MarshalJSON() ([]byte, error) { return json.Marshal([]string{"uuid", string(u)}) }

// UnmarshalJSON implements json.Unmarshaler.
func (u *ovsUUID) UnmarshalJSON(b []byte) error {
	var pair []string
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	if len(pair) != 2 || pair[0] != "uuid" {
		return fmt.Errorf("%.40s is no UUID", b)
	}
	*u = ovsUUID(pair[1])
	return nil
}

// ovsNamed refers to a row that the same transaction inserts.
type ovsNamed string

// MarshalJSON implements json.Marshaler.
func (n ovsNamed) MarshalJSON() ([]byte, error) {
	return json.Marshal([]string{"named-uuid", string(n)})
}

// ovsInts is a set of integers.
type ovsInts []int64

// UnmarshalJSON implements json.Unmarshaler.
func (s *ovsInts) UnmarshalJSON(b []byte) error { return unmarshalSet(b, (*[]int64)(s)) }

// ovsStrs is a set of strings.
type ovsStrs []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *ovsStrs) UnmarshalJSON(b []byte) error { return unmarshalSet(b, (*[]string)(s)) }

func unmarshalSet[T any](b []byte, into *[]T) error {
	var one T
	if err := json.Unmarshal(b, &one); err == nil {
		*into = []T{one}
		return nil
	}
	return unmarshalTagged(b, "set", into)
}

// ovsMap is a map of strings.
type ovsMap map[string]string

// MarshalJSON implements json.Marshaler.
func (m ovsMap) MarshalJSON() ([]byte, error) {
	pairs := [][2]string{}
	for k, v := range m {
		pairs = append(pairs, [2]string{k, v})
	}
	return json.Marshal([]any{"map", pairs})
}

// UnmarshalJSON implements json.Unmarshaler.
func (m *ovsMap) UnmarshalJSON(b []byte) error {
	var pairs [][]string
	if err := unmarshalTagged(b, "map", &pairs); err != nil {
		return err
	}
	*m = make(ovsMap, len(pairs))
	for _, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("a map entry of %d parts", len(p))
		}
		(*m)[p[0]] = p[1]
	}
	return nil
}

// ovsSet is a set for sending.
func ovsSet[T any](elements ...T) []any {
	if elements == nil {
		elements = []T{}
	}
	return []any{"set", elements}
}

func unmarshalTagged(b []byte, tag string, into any) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	var name string
	if len(pair) != 2 || json.Unmarshal(pair[0], &name) != nil || name != tag {
		return fmt.Errorf("%.40s is no %s", b, tag)
	}
	return json.Unmarshal(pair[1], into)
}
