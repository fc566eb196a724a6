package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"novaagent/engine/shim/wire"
)

func TestRoundTrip(t *testing.T) {
	h := wire.Header{Length: 5, Type: wire.Output, Arg: wire.StreamStderr}
	if got, err := wire.ParseHeader(h.Append(nil)); err != nil || got != h {
		t.Errorf("%+v, %v", got, err)
	}
	l := wire.LaunchHeader{Flags: wire.HasLog | wire.HasStdin, LogMaxBytes: 1 << 40, LogMaxFiles: 3, LogName: "log.json", ID: "abc"}
	got, program, err := wire.ParseLaunch(append(l.Append(nil), "program"...))
	if err != nil || got != l || string(program) != "program" {
		t.Errorf("%+v, %q, %v", got, program, err)
	}
	st := wire.Status{Version: 1, State: wire.Ended, PID: 7, Exit: wire.Exit{Status: 256, At: -5}, LostBytes: 9}
	if got, err := wire.ParseStatus(append(st.Append(nil), "newer fields"...)); err != nil || got != st {
		t.Errorf("%+v, %v", got, err)
	}
	r := wire.LaunchResult{PID: 3, Step: -2, Errno: 13, Notes: []wire.Note{{1, 2}, {3, 4}}}
	if got, err := wire.ParseLaunchResult(r.Append(nil)); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	z := wire.ResizeRequest{Width: 80, Height: 25, ID: "x"}
	if got, err := wire.ParseResize(z.Append(nil)); err != nil || got != z {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(wire.Header{Type: wire.Hello}.Append(nil))
	f.Add(wire.LaunchHeader{LogName: "log", ID: "id"}.Append(nil))
	f.Add(wire.LaunchResult{Notes: []wire.Note{{1, 2}}}.Append(nil))
	f.Add(wire.Status{}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := wire.ParseHeader(b); err == nil {
			if h.Length > wire.MaxPayload {
				t.Errorf("a payload of %d bytes", h.Length)
			}
			if again, err := wire.ParseHeader(h.Append(nil)); err != nil || again != h {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if h, program, err := wire.ParseLaunch(b); err == nil {
			if again, p, err := wire.ParseLaunch(append(h.Append(nil), program...)); err != nil || again != h || !bytes.Equal(p, program) {
				t.Errorf("%+v became %+v, %v", h, again, err)
			}
		}
		if r, err := wire.ParseLaunchResult(b); err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%+v", r)
		}
		wire.ParseStatus(b)
		wire.ParseResize(b)
		wire.ParseExit(b)
		wire.ParseUint32(b)
	})
}
