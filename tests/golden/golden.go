// Package golden reads the recorded traffic between Nova's services and
// nova-compute that lies in captures, for tests. See README.md for what it is.
package golden

import (
	"bytes"
	"embed"
	"encoding/json"
	"path"
	"slices"
	"strings"
	"testing"
)

//go:embed captures
var captures embed.FS

// Message is one message as the broker took it. Body is the inner message, with
// the envelope removed.
type Message struct {
	T           float64         `json:"t"` // seconds since the start of the operation
	Kind        string          `json:"kind"`
	Exchange    string          `json:"exchange"`
	RoutingKeys []string        `json:"routing_keys"`
	User        string          `json:"user"` // the service that published it
	Queues      []string        `json:"queues"`
	Properties  json.RawMessage `json:"properties"`
	Envelope    string          `json:"envelope"`
	Body        json.RawMessage `json:"body"`
}

// Request is the body of a call, cast or fanout.
type Request struct {
	Method    string                     `json:"method"`
	Namespace string                     `json:"namespace"`
	Version   string                     `json:"version"`
	Args      map[string]json.RawMessage `json:"args"`
	MsgID     string                     `json:"_msg_id"` // empty if there is no reply
}

// Call is a request and how it was answered.
type Call struct {
	Message
	Request
	// Answered is false for a cast, and for a call whose reply is not recorded.
	Answered bool
	Result   json.RawMessage
	// Failure is the text that describes a remote exception; "" is success.
	Failure string
}

// Operations lists the recorded operations, as "create".
func Operations(t testing.TB) []string {
	t.Helper()
	entries, err := captures.ReadDir("captures")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".jsonl")
		if ok && !strings.HasSuffix(name, ".rest") {
			names = append(names, name)
		}
	}
	return names
}

// Load returns the messages of an operation in the order of the broker.
func Load(t testing.TB, operation string) []Message {
	t.Helper()
	return lines[Message](t, operation+".jsonl")
}

func lines[T any](t testing.TB, name string) []T {
	t.Helper()
	data, err := captures.ReadFile(path.Join("captures", name))
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	for line := range bytes.Lines(data) {
		var v T
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatalf("%s: line %d: %v", name, len(list)+1, err)
		}
		list = append(list, v)
	}
	return list
}

// Calls returns the requests that the service user ("nova-compute") published
// during an operation, each with its reply.
func Calls(t testing.TB, operation, user string) []Call {
	t.Helper()
	var calls []Call
	waiting := make(map[string]int)
	for _, m := range Load(t, operation) {
		var request Request
		if err := json.Unmarshal(m.Body, &request); err != nil {
			t.Fatal(err)
		}
		if request.Method == "" {
			if i, ok := waiting[request.MsgID]; ok {
				answer(t, &calls[i], m.Body)
			}
			continue
		}
		if m.User != user {
			continue
		}
		if request.MsgID != "" {
			waiting[request.MsgID] = len(calls)
		}
		calls = append(calls, Call{Message: m, Request: request})
	}
	return calls
}

func answer(t testing.TB, call *Call, body json.RawMessage) {
	t.Helper()
	var reply struct {
		Result  json.RawMessage `json:"result"`
		Failure json.RawMessage `json:"failure"`
		Ending  bool            `json:"ending"`
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		t.Fatal(err)
	}
	if !reply.Ending {
		return
	}
	call.Answered, call.Result = true, reply.Result
	if isObject := bytes.HasPrefix(reply.Failure, []byte("{")); isObject {
		call.Failure = string(reply.Failure)
	} else if err := json.Unmarshal(reply.Failure, &call.Failure); err != nil {
		t.Fatal(err)
	}
}

// Find returns the calls of a method, or of an object's method if that is given
// as "Instance.save".
func Find(calls []Call, method string) []Call {
	return slices.DeleteFunc(slices.Clone(calls), func(c Call) bool {
		return c.Method != method && c.ObjectMethod() != method
	})
}

// ObjectMethod is "Instance.save" for a call of an object's method, else "".
func (c Call) ObjectMethod() string {
	var name, method string
	_ = json.Unmarshal(c.Args["objmethod"], &method)
	if raw, ok := c.Args["objname"]; ok {
		_ = json.Unmarshal(raw, &name)
	} else {
		var object struct {
			Name string `json:"nova_object.name"`
		}
		_ = json.Unmarshal(c.Args["objinst"], &object)
		name = object.Name
	}
	if name == "" {
		return ""
	}
	return name + "." + method
}
