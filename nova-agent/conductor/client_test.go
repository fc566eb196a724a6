package conductor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// scripted is a Caller that keeps what it was asked last and answers from a list.
type scripted struct {
	kind    string
	target  rpc.Target
	method  string
	args    map[string]any
	answers []any // a JSON text or an error
}

func (s *scripted) take(kind string, target rpc.Target, method string, args map[string]any) (json.RawMessage, error) {
	s.kind, s.target, s.method = kind, target, method
	// As on the wire.
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	s.args = nil
	if err := json.Unmarshal(raw, &s.args); err != nil {
		return nil, err
	}
	if len(s.answers) == 0 {
		return json.RawMessage("null"), nil
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	if err, ok := answer.(error); ok {
		return nil, err
	}
	return json.RawMessage(answer.(string)), nil
}

func (s *scripted) Call(_ context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error) {
	return s.take("call", target, method, args)
}

func (s *scripted) CallMonitored(_ context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error) {
	return s.take("long call", target, method, args)
}

func (s *scripted) Cast(_ context.Context, target rpc.Target, method string, args map[string]any) error {
	_, err := s.take("cast", target, method, args)
	return err
}

func (s *scripted) Fanout(_ context.Context, target rpc.Target, method string, args map[string]any) error {
	_, err := s.take("fanout", target, method, args)
	return err
}

func TestExpectations(t *testing.T) {
	for _, tt := range []struct {
		options SaveOptions
		want    map[string]any
	}{
		{SaveOptions{}, map[string]any{}},
		{SaveOptions{TaskState: Expect("")}, map[string]any{"expected_task_state": []any{nil}}},
		{SaveOptions{TaskState: Expect("scheduling", "")}, map[string]any{"expected_task_state": []any{"scheduling", nil}}},
		{SaveOptions{VMState: Expect("active"), AdminStateReset: true}, map[string]any{"expected_vm_state": []any{"active"}, "admin_state_reset": true}},
	} {
		s := &scripted{answers: []any{`[{"obj_what_changed":[]},null]`}}
		if err := New(s, "h").SaveInstance(t.Context(), &objects.Instance{UUID: objects.Of("u")}, tt.options); err != nil {
			t.Fatal(err)
		}
		if got := s.args["kwargs"]; !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%+v: got %v, want %v", tt.options, got, tt.want)
		}
	}
}

// What the methods of compute_task are sent is not in the captures: a build was
// never rescheduled. The names are those of nova/conductor/rpcapi.py.
func TestTasks(t *testing.T) {
	s := &scripted{}
	c := New(s, "h")
	spec := &objects.RequestSpec{NumInstances: objects.Of(int64(1))}
	if err := c.BuildInstances(t.Context(), BuildRequest{
		Instances: []*objects.Instance{{}}, Image: map[string]any{}, FilterProperties: map[string]any{"retry": nil},
		InjectedFiles: []any{}, SecurityGroups: []string{"default"}, RequestSpec: spec,
	}); err != nil {
		t.Fatal(err)
	}
	if want := (rpc.Target{Topic: "conductor", Namespace: "compute_task", Version: "1.19"}); s.kind != "cast" || s.target != want || s.method != "build_instances" {
		t.Errorf("%s %v %s", s.kind, s.target, s.method)
	}
	if got, want := slices.Sorted(maps.Keys(s.args)), []string{"admin_password", "filter_properties", "host_lists", "image", "injected_files",
		"instances", "request_spec", "requested_networks", "security_groups"}; !slices.Equal(got, want) {
		t.Errorf("arguments %v, want %v", got, want)
	}
	if got := fmt.Sprint(s.args["host_lists"], s.args["requested_networks"]); got != "[[]] <nil>" {
		t.Errorf("hosts and networks: %s", got)
	}
	if err := c.MigrateServer(t.Context(), MigrateRequest{Instance: &objects.Instance{}, Flavor: &objects.Flavor{}, RequestSpec: spec,
		FilterProperties: map[string]any{"a": 1}, CleanShutdown: true, HostList: []*objects.Selection{{}}}); err != nil {
		t.Fatal(err)
	}
	if s.kind != "long call" || s.target.Version != "1.20" || s.method != "migrate_server" {
		t.Errorf("%s %v %s", s.kind, s.target, s.method)
	}
	if got, want := slices.Sorted(maps.Keys(s.args)), []string{"block_migration", "clean_shutdown", "disk_over_commit", "flavor", "host_list",
		"instance", "live", "rebuild", "request_spec", "reservations", "scheduler_hint"}; !slices.Equal(got, want) {
		t.Errorf("arguments %v, want %v", got, want)
	}
	if got := fmt.Sprint(s.args["scheduler_hint"]); got != "map[filter_properties:map[a:1]]" {
		t.Error(got)
	}
}

func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		class, module string
		is            []error
		isNot         []error
	}{
		{"InstanceNotFound", "nova.exception", []error{ErrInstanceNotFound, errdefs.ErrNotFound}, []error{ErrServiceNotFound}},
		{"UnexpectedTaskStateError", "nova.exception", []error{ErrUnexpectedTaskState, ErrInstanceUpdateConflict, errdefs.ErrConflict}, []error{ErrUnexpectedDeletingState}},
		{"UnexpectedDeletingTaskStateError", "nova.exception", []error{ErrUnexpectedDeletingState, ErrUnexpectedTaskState, ErrInstanceUpdateConflict, errdefs.ErrConflict}, nil},
		{"MigrationNotFoundForInstance", "nova.exception", []error{ErrMigrationNotFound, errdefs.ErrNotFound}, nil},
		{"ServiceTooOld", "nova.exception", []error{ErrServiceTooOld, errdefs.ErrUnsupported}, nil},
		{"IncompatibleObjectVersion", "oslo_versionedobjects.exception", []error{ErrIncompatibleVersion, errdefs.ErrUnsupported}, nil},
		{"DBConnectionError", "oslo_db.exception", []error{errdefs.ErrUnavailable}, nil},
		{"DBNonExistentTable", "oslo_db.exception", []error{errdefs.ErrUnavailable}, nil},
		{"KeyError", "builtins", []error{errdefs.ErrInvalid}, []error{errdefs.ErrNotFound}},
	} {
		s := &scripted{answers: []any{&rpc.RemoteError{Class: tt.class, Module: tt.module, Message: "m"}}}
		_, err := New(s, "h").InstanceByUUID(t.Context(), "u")
		for _, want := range tt.is {
			if !errors.Is(err, want) {
				t.Errorf("%s is not %v", tt.class, want)
			}
		}
		for _, other := range tt.isNot {
			if errors.Is(err, other) {
				t.Errorf("%s is %v", tt.class, other)
			}
		}
		kinds := 0
		for _, kind := range []error{errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrExhausted, errdefs.ErrUnavailable, errdefs.ErrUnsupported} {
			if errors.Is(err, kind) {
				kinds++
			}
		}
		if kinds != 1 || !rpc.IsRemote(err, tt.class) {
			t.Errorf("%s: %d kinds, %v", tt.class, kinds, err)
		}
	}
	timeout := &rpc.TimeoutError{Method: "x"}
	_, err := New(&scripted{answers: []any{timeout}}, "h").InstanceByUUID(t.Context(), "u")
	if !errors.Is(err, timeout) || !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("timeout: %v", err)
	}
}

func TestAnswersThatMakeNoSense(t *testing.T) {
	for _, answer := range []string{`{}`, `[]`, `"x"`, `[3,null]`, `[{"locked":null},null]`, `null`} {
		i := &objects.Instance{Host: objects.Of("h")}
		s := &scripted{answers: []any{answer}}
		if err := New(s, "h").SaveInstance(t.Context(), i, SaveOptions{}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("save answered with %s: %v", answer, err)
		}
		if !i.Host.Changed() {
			t.Errorf("save answered with %s: the change is lost", answer)
		}
	}
	for _, answer := range []string{`3`, `[]`, `{"nova_object.name":"Flavor"}`} {
		if _, err := New(&scripted{answers: []any{answer}}, "h").InstanceByUUID(t.Context(), "u"); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("get answered with %s: %v", answer, err)
		}
	}
	if err := New(&scripted{answers: []any{`{"service":"conductor","arg":"88 mph"}`}}, "h").Ping(t.Context()); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("ping: %v", err)
	}
}

func TestInvalidObjectsAreNotSent(t *testing.T) {
	s := &scripted{}
	n := &objects.ComputeNode{SupportedHVSpecs: objects.Of([]*objects.HVSpec{{HVType: objects.Of("nova-agent")}})}
	if err := New(s, "h").SaveComputeNode(t.Context(), n); !errors.Is(err, errdefs.ErrInvalid) || s.method != "" {
		t.Errorf("got %v, sent %q", err, s.method)
	}
}

const tag = `{"nova_object.name":"Tag","nova_object.namespace":"nova","nova_object.version":"%s","nova_object.data":{"tag":"x"%s}}`

func TestBackport(t *testing.T) {
	ours := fmt.Sprintf(tag, "1.1", "")
	s := &scripted{answers: []any{ours}}
	c := New(s, "h")
	o, err := c.Decode(t.Context(), json.RawMessage(fmt.Sprintf(tag, "2.0", `,"new":1`)))
	if err != nil || o.(*objects.Tag).Tag.Value() != "x" {
		t.Errorf("another major version: %v, %v", o, err)
	}
	if s.method != "object_backport_versions" || !reflect.DeepEqual(s.args["object_versions"], map[string]any{"Tag": "1.1"}) {
		t.Errorf("sent %s %v", s.method, s.args)
	}
	if object, _ := s.args["objinst"].(map[string]any); object["nova_object.version"] != "2.0" {
		t.Errorf("sent object %v", s.args["objinst"])
	}
	newer := json.RawMessage(fmt.Sprintf(tag, "1.2", `,"new":1`))
	s.method = ""
	if o, err = c.Decode(t.Context(), newer); err != nil || len(objects.Unknown(o)) != 1 || s.method != "" {
		t.Errorf("a newer minor version: %v, sent %q", err, s.method)
	}
	s.answers = []any{ours}
	if o, err = c.DecodeKnown(t.Context(), newer); err != nil || len(objects.Unknown(o)) != 0 {
		t.Errorf("a newer minor version, rewritten: %v", err)
	}
	// Conductor can't, or would, but with a version that is no better.
	s.answers = []any{&rpc.RemoteError{Class: "IncompatibleObjectVersion", Module: "oslo_versionedobjects.exception"}}
	if _, err = c.Decode(t.Context(), json.RawMessage(fmt.Sprintf(tag, "2.0", ""))); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	s.answers = []any{fmt.Sprintf(tag, "2.0", "")}
	if _, err = c.Decode(t.Context(), json.RawMessage(fmt.Sprintf(tag, "2.0", ""))); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err = c.Backport(t.Context(), json.RawMessage(`{"nova_object.name":"Unheard"}`)); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

func TestLoadInstanceAsksOnlyForWhatIsMissing(t *testing.T) {
	s := &scripted{answers: []any{`{"nova_object.name":"Instance","nova_object.namespace":"nova","nova_object.version":"2.7","nova_object.data":{"uuid":"u","metadata":{},"host":"theirs"}}`}}
	i := &objects.Instance{Host: objects.Of("mine")}
	i.UUID.Load("u")
	c := New(s, "h")
	if err := c.LoadInstance(t.Context(), i, "host"); err != nil || s.method != "" {
		t.Errorf("%v, sent %q", err, s.method)
	}
	if err := c.LoadInstance(t.Context(), i, "host", "metadata"); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"uuid": "u", "expected_attrs": []any{"metadata"}}; !reflect.DeepEqual(s.args["kwargs"], want) {
		t.Errorf("asked %v", s.args["kwargs"])
	}
	if i.Host.Value() != "mine" || !i.Metadata.IsSet() || !slices.Equal(objects.Changes(i), []string{"host"}) {
		t.Errorf("host %q, changes %v", i.Host.Value(), objects.Changes(i))
	}
	if err := c.LoadInstance(t.Context(), &objects.Instance{}, "host"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an instance without uuid: %v", err)
	}
}
