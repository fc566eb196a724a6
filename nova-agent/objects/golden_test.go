package objects_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"novaagent/nova-agent/objects"
	"novaagent/tests/golden"
)

// primitives calls f with every object in a JSON value that is not within another.
func primitives(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		if _, ok := v["nova_object.name"]; ok {
			f(v)
			return
		}
		for _, key := range slices.Sorted(maps.Keys(v)) {
			primitives(v[key], f)
		}
	case []any:
		for _, e := range v {
			primitives(e, f)
		}
	}
}

func parse(t testing.TB, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// canonical sorts what has no order on the wire: the changes of an object.
func canonical(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, e := range v {
			v[key] = canonical(e)
			if changes, ok := e.([]any); ok && key == "nova_object.changes" {
				slices.SortFunc(changes, func(a, b any) int { return cmpStrings(a, b) })
			}
		}
	case []any:
		for i := range v {
			v[i] = canonical(v[i])
		}
	}
	return v
}

func cmpStrings(a, b any) int {
	return bytes.Compare(fmt.Append(nil, a), fmt.Append(nil, b))
}

func TestEveryRecordedObject(t *testing.T) {
	seen := make(map[string]int)
	for _, operation := range golden.Operations(t) {
		for i, message := range golden.Load(t, operation) {
			primitives(parse(t, message.Body), func(primitive map[string]any) {
				raw, err := json.Marshal(primitive)
				if err != nil {
					t.Fatal(err)
				}
				o, err := objects.Decode(raw)
				if err != nil {
					t.Errorf("%s: message %d: %v", operation, i, err)
					return
				}
				objects.Walk(o, func(o objects.Object) {
					seen[o.ObjectName()]++
					if unknown := objects.Unknown(o); len(unknown) > 0 {
						t.Errorf("%s: message %d: %s has no field for %v", operation, i, o.ObjectName(), slices.Collect(maps.Keys(unknown)))
					}
					if _, opaque := o.(*objects.Opaque); opaque {
						t.Errorf("%s: message %d: no struct for %s", operation, i, o.ObjectName())
					}
				})
				again, err := json.Marshal(o)
				if err != nil {
					t.Errorf("%s: message %d: %v", operation, i, err)
					return
				}
				if got, want := canonical(parse(t, again)), canonical(parse(t, raw)); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: message %d: %s:\n got %s\nwant %s", operation, i, o.ObjectName(), again, raw)
				}
				if err := objects.Newer(o); err != nil {
					t.Errorf("%s: message %d: %v", operation, i, err)
				}
			})
		}
	}
	total := 0
	for _, n := range seen {
		total += n
	}
	if total < 1500 || seen["Instance"] < 100 {
		t.Errorf("only %d objects, %d of them instances, were found in the captures", total, seen["Instance"])
	}
	t.Logf("%d objects of %d names", total, len(seen))
}
