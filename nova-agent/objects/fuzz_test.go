package objects_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"novaagent/nova-agent/objects"
	"novaagent/tests/golden"
)

// samples are the smallest and the largest recorded object of each name.
func samples(tb testing.TB) [][]byte {
	type pair struct{ small, large []byte }
	byName := make(map[string]*pair)
	for _, operation := range golden.Operations(tb) {
		for _, message := range golden.Load(tb, operation) {
			primitives(parse(tb, message.Body), func(primitive map[string]any) {
				raw, err := json.Marshal(primitive)
				if err != nil {
					tb.Fatal(err)
				}
				name := primitive["nova_object.name"].(string)
				p := byName[name]
				if p == nil {
					p = &pair{raw, raw}
					byName[name] = p
				}
				if len(raw) < len(p.small) {
					p.small = raw
				}
				if len(raw) > len(p.large) {
					p.large = raw
				}
			})
		}
	}
	var all [][]byte
	for _, p := range byName {
		all = append(all, p.small, p.large)
	}
	return all
}

// What is read can be written, unless that is refused, and reads the same again.
func FuzzDecode(f *testing.F) {
	for _, sample := range samples(f) {
		f.Add(sample)
	}
	f.Add([]byte(primitive("Instance", "2.99", `{"new":[{}],"system_metadata":{"a":null}}`, `["new"]`)))
	f.Add([]byte(primitive("Unheard", "1.0", `{"a":1}`, `["a"]`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := objects.Decode(data)
		if err != nil {
			return
		}
		first, err := json.Marshal(o)
		if err != nil {
			return
		}
		again, err := objects.Decode(first)
		if err != nil {
			t.Fatalf("%s is written as %s, which can't be read: %v", data, first, err)
		}
		second, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Fatalf("written as %s, then as %s", first, second)
		}
	})
}

func FuzzApplyUpdates(f *testing.F) {
	f.Add([]byte(`{"updated_at":"2024-01-02T03:04:05Z","obj_what_changed":["host"]}`))
	for _, operation := range []string{"create", "delete", "resize"} {
		for _, call := range golden.Find(golden.Calls(f, operation, "nova-compute"), "Instance.save") {
			var answer []json.RawMessage
			if err := json.Unmarshal(call.Result, &answer); err != nil {
				f.Fatal(err)
			}
			f.Add([]byte(answer[0]))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		i := &objects.Instance{UUID: objects.Of("u"), Host: objects.Of("h")}
		before, _ := json.Marshal(i)
		if err := objects.ApplyUpdates(i, data); err != nil {
			if after, _ := json.Marshal(i); !bytes.Equal(before, after) {
				t.Fatalf("refused, but changed to %s", after)
			}
		}
	})
}

func largestInstance(b *testing.B) []byte {
	var largest []byte
	for _, sample := range samples(b) {
		if bytes.Contains(sample[:60], []byte(`"Instance"`)) || len(sample) > len(largest) {
			largest = sample
		}
	}
	return largest
}

func BenchmarkDecode(b *testing.B) {
	raw := largestInstance(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := objects.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	raw := largestInstance(b)
	o, err := objects.Decode(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := o.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

// For comparison: the same bytes into a tree of maps.
func BenchmarkTree(b *testing.B) {
	raw := largestInstance(b)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		var v any
		if err := json.Unmarshal(raw, &v); err != nil {
			b.Fatal(err)
		}
	}
}
