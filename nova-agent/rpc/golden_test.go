package rpc

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"novaagent/tests/golden"
)

// Every message that Nova's services and nova-compute were seen to exchange is
// understood, and said again in the same way.
func TestGolden(t *testing.T) {
	requests, replies, failures := 0, 0, 0
	for _, operation := range golden.Operations(t) {
		for i, m := range golden.Load(t, operation) {
			body, err := sealEnvelope(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			inner, err := openEnvelope(body)
			if err != nil {
				t.Errorf("%s %d: %v", operation, i, err)
				continue
			}
			if m.Kind != "publish" && m.Kind != "" {
				t.Errorf("%s %d: kind %q", operation, i, m.Kind)
			}
			var again []byte
			if bytes.Contains(inner, []byte(`"method"`)) && !bytes.Contains(inner, []byte(`"ending"`)) {
				requests++
				again = sayRequest(t, inner)
			} else {
				replies++
				reply, err := decodeReply(inner)
				if err != nil {
					t.Errorf("%s %d: %v", operation, i, err)
					continue
				}
				if reply.Failure != nil {
					failures++
					sayFailure(t, *reply.Failure)
				}
				if again, err = seal(reply); err != nil {
					t.Fatal(err)
				}
			}
			if again, err = openEnvelope(again); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(tree(t, again), tree(t, m.Body)) {
				t.Errorf("%s %d:\n got %.600s\nwant %.600s", operation, i, again, m.Body)
			}
		}
	}
	if requests < 100 || replies < 100 || failures == 0 {
		t.Errorf("only %d requests, %d replies, %d failures", requests, replies, failures)
	}
}

// sayRequest decodes a request and encodes it as if it were ours.
func sayRequest(t *testing.T, inner []byte) []byte {
	t.Helper()
	in, err := decodeRequest(inner)
	if err != nil {
		t.Fatalf("%v in %.200s", err, inner)
	}
	out := outgoingRequest{
		target: Target{Namespace: in.namespace, Version: in.version}, method: in.method,
		args: map[string]any{}, uniqueID: in.uniqueID, context: in.context,
	}
	for key, value := range in.args {
		out.args[key] = value
	}
	if in.msgID != "" {
		out.call = &callFields{msgID: in.msgID, replyQ: in.replyQ, monitor: in.monitor}
	}
	body, err := out.encode()
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// sayFailure decodes a failure and encodes it as if it were passed on.
func sayFailure(t *testing.T, text string) {
	t.Helper()
	first := decodeFailure(text)
	if !strings.Contains(text, first.Class) || first.Class == "RemoteError" {
		t.Errorf("%s: got %+v", text, first)
	}
	second := decodeFailure(encodeFailure(first))
	if second.Class != first.Class || second.Module != first.Module || second.Message != first.Message ||
		!reflect.DeepEqual(second.Kwargs, first.Kwargs) {
		t.Errorf("passed on: %+v, was %+v", second, first)
	}
}

// tree parses JSON without losing digits.
func tree(t *testing.T, data []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}
