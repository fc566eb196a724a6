package rpc

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"errors"
	"reflect"
	"testing"

	"novaagent/engine/errdefs"
)

func deflate(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCompatible(t *testing.T) {
	for _, tt := range []struct {
		have, want string
		ok         bool
	}{
		{"6.1", "6.0", true}, {"6.1", "6.1", true}, {"6.1", "6.1.0", true}, {"6.1", "6.1.1", false},
		{"6.1", "6.2", false}, {"6.1", "5.1", false}, {"6.1", "7.0", false}, {"6.10", "6.9", true},
		{"6.1", "6", false}, {"6.1", "", false}, {"6.1", "x.y", false}, {"6.1", "6.-1", false}, {"6.1", "6.0.0.0", false},
	} {
		if got := compatible(tt.have, tt.want); got != tt.ok {
			t.Errorf("compatible(%s, %s) = %v", tt.have, tt.want, got)
		}
	}
}

func TestMonitorPeriod(t *testing.T) {
	for raw, want := range map[string]int{
		`60`: 60, `"60"`: 60, `60.9`: 60, `null`: 0, ``: 0, `0`: 0, `-5`: 0, `"x"`: 0, `1e300`: 0, `true`: 0, `NaN`: 0,
	} {
		if got := monitorPeriod(json.RawMessage(raw)); got != want {
			t.Errorf("%s: got %d, want %d", raw, got, want)
		}
	}
}

func TestFailureRoundTrip(t *testing.T) {
	in := NovaException("PortNotFound", "Port %s could not be found.", "p")
	in.Kwargs = map[string]any{"port_id": "p", "code": 404}
	got := decodeFailure(encodeFailure(in))
	want := &RemoteError{Class: "PortNotFound", Module: "nova.exception", Message: "Port p could not be found.",
		Trace: []string{}, Kwargs: map[string]json.RawMessage{"port_id": json.RawMessage(`"p"`), "code": json.RawMessage(`404`)},
		Args: []json.RawMessage{json.RawMessage(`"Port p could not be found."`)}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	// A remote error passes on as it came.
	if again := decodeFailure(encodeFailure(got)); !reflect.DeepEqual(again, want) {
		t.Errorf("passed on: %+v", again)
	}
	for _, text := range []string{"", "x", "[]", `{"class": 7}`, `null`} {
		if got := decodeFailure(text); got.Class != "RemoteError" || got.Message != text {
			t.Errorf("%q: got %+v", text, got)
		}
	}
	old := decodeFailure(`{"class":"X_Remote","module":"exceptions_Remote","message":{"k":1},"tb":"text"}`)
	if old.Class != "X" || old.Module != "builtins" || old.Message != `{"k":1}` {
		t.Errorf("got %+v", old)
	}
}

func TestDecompress(t *testing.T) {
	if got, err := decompress(deflate(t, []byte("hello")), "application/x-gzip", 5); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := decompress(deflate(t, []byte("hello")), "zlib", 4); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a bomb: %v", err)
	}
	if _, err := decompress([]byte("hello"), "zlib", 9); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("not zlib: %v", err)
	}
	if _, err := decompress(nil, "lzma", 9); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("lzma: %v", err)
	}
}

func TestRecentIDs(t *testing.T) {
	r := newRecentIDs(3)
	for i, tt := range []struct {
		id  string
		new bool
	}{
		{"a", true}, {"a", false}, {"b", true}, {"", true}, {"", true}, {"c", true}, {"a", false}, {"d", true}, {"a", true}, {"c", false},
	} {
		if got := r.add(tt.id); got != tt.new {
			t.Errorf("step %d, %q: got %v", i, tt.id, got)
		}
	}
}

func TestGoneQueues(t *testing.T) {
	g := newGoneQueues()
	names := make([]string, goneMax+1)
	for i := range names {
		names[i] = newID()
		g.add(names[i])
		g.add(names[i])
	}
	if g.has(names[0]) || !g.has(names[1]) || !g.has(names[goneMax]) || len(g.until) != goneMax || len(g.order) != goneMax {
		t.Errorf("%d, %d", len(g.until), len(g.order))
	}
}
