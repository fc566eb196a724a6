package conductor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
	"novaagent/tests/golden"
)

// replay is a Caller that answers as the recorded services did, and checks that it
// is asked what they were asked.
type replay struct {
	t    *testing.T
	next golden.Call
	used int
}

func (r *replay) Call(_ context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error) {
	r.check("nova", target.Topic, target, method, args)
	if r.next.Failure != "" {
		return nil, remoteError(r.t, r.next.Failure)
	}
	return r.next.Result, nil
}

func (r *replay) CallMonitored(ctx context.Context, target rpc.Target, method string, args map[string]any) (json.RawMessage, error) {
	return r.Call(ctx, target, method, args)
}

func (r *replay) Cast(_ context.Context, target rpc.Target, method string, args map[string]any) error {
	r.check("nova", target.Topic, target, method, args)
	return nil
}

func (r *replay) Fanout(_ context.Context, target rpc.Target, method string, args map[string]any) error {
	r.check(target.Topic+"_fanout", "", target, method, args)
	return nil
}

func (r *replay) check(exchange, key string, target rpc.Target, method string, args map[string]any) {
	r.t.Helper()
	r.used++
	want := r.next
	if exchange != want.Exchange || !slices.Equal([]string{key}, want.RoutingKeys) {
		r.t.Errorf("sent to %q by key %q, want %q by %q", exchange, key, want.Exchange, want.RoutingKeys)
	}
	if method != want.Method || target.Namespace != want.Namespace || target.Version != want.Version {
		r.t.Errorf("sent %s %s %s, want %s %s %s", target.Namespace, method, target.Version, want.Namespace, want.Method, want.Version)
	}
	raw, err := json.Marshal(args)
	if err != nil {
		r.t.Fatal(err)
	}
	recorded, err := json.Marshal(want.Args)
	if err != nil {
		r.t.Fatal(err)
	}
	if got, want := normal(parse(r.t, raw), ""), normal(parse(r.t, recorded), ""); !reflect.DeepEqual(got, want) {
		r.t.Errorf("%s %s: args:\n got %s\nwant %s", method, r.next.ObjectMethod(), raw, recorded)
	}
}

func remoteError(t testing.TB, failure string) *rpc.RemoteError {
	var wire struct {
		Class, Module, Message string
		Kwargs                 map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(failure), &wire); err != nil {
		t.Fatal(err)
	}
	return &rpc.RemoteError{Class: wire.Class, Module: wire.Module, Message: wire.Message, Kwargs: wire.Kwargs}
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

// normal makes alike what is alike to Nova: changes have no order, one expected
// state is a list of one, and no expectation is none.
func normal(v any, key string) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = normal(e, k)
			if e == nil && strings.HasPrefix(k, "expected_") {
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = normal(v[i], "")
		}
		if key == "nova_object.changes" {
			slices.SortFunc(v, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
	case string:
		if key == "expected_task_state" || key == "expected_vm_state" {
			return []any{v}
		}
	}
	return v
}

// asked is a recorded call, taken apart.
type asked struct {
	t      *testing.T
	args   []json.RawMessage
	kwargs map[string]json.RawMessage
	object objects.Object // of object_action
}

func into[T any](t *testing.T, raw json.RawMessage) (v T) {
	t.Helper()
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return v
}

func (a asked) text(i int) string { return into[string](a.t, a.args[i]) }

func (a asked) attrs() []string {
	raw, ok := a.kwargs["expected_attrs"]
	if !ok {
		return nil
	}
	return into[[]string](a.t, raw)
}

func (a asked) expected(key string) Expected {
	raw, ok := a.kwargs[key]
	if !ok {
		return nil
	}
	if raw[0] == '"' {
		return Expected{into[string](a.t, raw)}
	}
	var states Expected
	for _, s := range into[[]*string](a.t, raw) {
		if s == nil {
			states = append(states, "")
		} else {
			states = append(states, *s)
		}
	}
	return states
}

// drive asks the client for what nova-compute asked for.
var drive = map[string]func(context.Context, *Client, asked) error{
	"BlockDeviceMapping.create": func(ctx context.Context, c *Client, a asked) error {
		return c.CreateBlockDeviceMapping(ctx, a.object.(*objects.BlockDeviceMapping))
	},
	"BlockDeviceMapping.destroy": func(ctx context.Context, c *Client, a asked) error {
		return c.DestroyBlockDeviceMapping(ctx, a.object.(*objects.BlockDeviceMapping))
	},
	"BlockDeviceMapping.save": func(ctx context.Context, c *Client, a asked) error {
		return c.SaveBlockDeviceMapping(ctx, a.object.(*objects.BlockDeviceMapping))
	},
	"BlockDeviceMapping.get_by_volume_and_instance": func(ctx context.Context, c *Client, a asked) error {
		return second(c.BlockDeviceMapping(ctx, a.text(0), a.text(1), a.attrs()...))
	},
	"BlockDeviceMappingList.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.BlockDeviceMappings(ctx, a.text(0)))
	},
	"ComputeNode.create": func(ctx context.Context, c *Client, a asked) error {
		return c.CreateComputeNode(ctx, a.object.(*objects.ComputeNode))
	},
	"ComputeNode.save": func(ctx context.Context, c *Client, a asked) error {
		return c.SaveComputeNode(ctx, a.object.(*objects.ComputeNode))
	},
	"ComputeNode.get_by_host_and_nodename": func(ctx context.Context, c *Client, a asked) error {
		return second(c.ComputeNode(ctx, a.text(1)))
	},
	"ComputeNodeList.get_all_by_host": func(ctx context.Context, c *Client, a asked) error {
		return second(c.ComputeNodes(ctx))
	},
	"Instance.destroy": func(ctx context.Context, c *Client, a asked) error {
		return c.DestroyInstance(ctx, a.object.(*objects.Instance))
	},
	"Instance.drop_migration_context": func(ctx context.Context, c *Client, a asked) error {
		return c.DropMigrationContext(ctx, a.object.(*objects.Instance))
	},
	"Instance.save": func(ctx context.Context, c *Client, a asked) error {
		return c.SaveInstance(ctx, a.object.(*objects.Instance), SaveOptions{
			TaskState: a.expected("expected_task_state"), VMState: a.expected("expected_vm_state"),
		})
	},
	"Instance.get_by_uuid": func(ctx context.Context, c *Client, a asked) error {
		if uuid, ok := a.kwargs["uuid"]; ok {
			i := &objects.Instance{}
			i.UUID.Load(into[string](a.t, uuid))
			return c.LoadInstance(ctx, i, a.attrs()...)
		}
		return second(c.InstanceByUUID(ctx, a.text(0), a.attrs()...))
	},
	"InstanceList.get_by_host": func(ctx context.Context, c *Client, a asked) error {
		return second(c.InstancesByHost(ctx, a.attrs()...))
	},
	"InstanceList.get_by_host_and_node": func(ctx context.Context, c *Client, a asked) error {
		return second(c.InstancesByHostAndNode(ctx, a.text(1), a.attrs()...))
	},
	"InstanceActionEvent.event_start": func(ctx context.Context, c *Client, a asked) error {
		return c.EventStart(ctx, a.text(0), a.text(1))
	},
	"InstanceActionEvent.event_finish_with_failure": func(ctx context.Context, c *Client, a asked) error {
		var failure *EventFailure
		if value := into[*string](a.t, a.kwargs["exc_val"]); value != nil {
			failure = &EventFailure{Value: *value, Trace: into[string](a.t, a.kwargs["exc_tb"])}
		}
		return c.EventFinish(ctx, a.text(0), a.text(1), failure)
	},
	"InstanceInfoCache.refresh": func(ctx context.Context, c *Client, a asked) error {
		return c.RefreshInfoCache(ctx, a.object.(*objects.InstanceInfoCache))
	},
	"InstanceInfoCache.save": func(ctx context.Context, c *Client, a asked) error {
		cache := a.object.(*objects.InstanceInfoCache)
		i := &objects.Instance{}
		i.UUID.Load(cache.InstanceUUID.Value())
		if err := c.SaveNetworkInfo(ctx, i, cache.NetworkInfo.Value()); err != nil {
			return err
		}
		clean, _ := i.InfoCache.Get()
		*cache = *clean
		return nil
	},
	"InstanceNUMATopology.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.NUMATopology(ctx, a.text(0)))
	},
	"InstancePCIRequests.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.PCIRequests(ctx, a.text(0)))
	},
	"MigrationContext.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.MigrationContext(ctx, a.text(0)))
	},
	"TrustedCerts.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.TrustedCerts(ctx, a.text(0)))
	},
	"ResourceList.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.Resources(ctx, a.text(0)))
	},
	"Migration.save": func(ctx context.Context, c *Client, a asked) error {
		return c.SaveMigration(ctx, a.object.(*objects.Migration))
	},
	"MigrationList.get_by_filters": func(ctx context.Context, c *Client, a asked) error {
		return second(c.MigrationsByFilters(ctx, into[map[string]any](a.t, a.args[0])))
	},
	"MigrationList.get_in_progress_and_error": func(ctx context.Context, c *Client, a asked) error {
		return second(c.MigrationsInProgress(ctx, a.text(1)))
	},
	"PciDeviceList.get_by_compute_node": func(ctx context.Context, c *Client, a asked) error {
		return second(c.PCIDevices(ctx, into[int64](a.t, a.args[0])))
	},
	"PciDeviceList.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.PCIDevicesByInstance(ctx, a.text(0)))
	},
	"Service.create": func(ctx context.Context, c *Client, a asked) error {
		return c.CreateService(ctx, a.object.(*objects.Service))
	},
	"Service.save": func(ctx context.Context, c *Client, a asked) error {
		return c.SaveService(ctx, a.object.(*objects.Service))
	},
	"Service.get_by_compute_host": func(ctx context.Context, c *Client, a asked) error {
		return second(c.ServiceByComputeHost(ctx, a.text(0)))
	},
	"Service.get_by_host_and_binary": func(ctx context.Context, c *Client, a asked) error {
		return second(c.Service(ctx))
	},
	"Service.get_minimum_version": func(ctx context.Context, c *Client, a asked) error {
		return second(c.MinimumServiceVersion(ctx, a.text(0)))
	},
	"VirtualInterface.create": func(ctx context.Context, c *Client, a asked) error {
		v := a.object.(*objects.VirtualInterface)
		mac, _, _ := strings.Cut(v.Address.Value(), "/")
		*v = *NewVirtualInterface(v.InstanceUUID.Value(), v.UUID.Value(), mac, v.Tag.Value())
		return c.CreateVirtualInterface(ctx, v)
	},
	"VirtualInterface.destroy": func(ctx context.Context, c *Client, a asked) error {
		return c.DestroyVirtualInterface(ctx, a.object.(*objects.VirtualInterface))
	},
	"VirtualInterface.get_by_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.VirtualInterface(ctx, a.text(0)))
	},
	"VirtualInterface.delete_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return c.DeleteVirtualInterfaces(ctx, a.text(0))
	},
	"VirtualInterfaceList.get_by_instance_uuid": func(ctx context.Context, c *Client, a asked) error {
		return second(c.VirtualInterfaces(ctx, a.text(0)))
	},
	"ping": func(ctx context.Context, c *Client, _ asked) error { return c.Ping(ctx) },
	"delete_instance_info": func(ctx context.Context, c *Client, a asked) error {
		return c.DeleteInstanceInfo(ctx, into[string](a.t, a.kwargs["instance_uuid"]))
	},
	"sync_instance_info": func(ctx context.Context, c *Client, a asked) error {
		return c.SyncInstanceInfo(ctx, into[[]string](a.t, a.kwargs["instance_uuids"]))
	},
	"update_instance_info": func(ctx context.Context, c *Client, a asked) error {
		list, err := objects.As[objects.InstanceList](a.kwargs["instance_info"])
		if err != nil {
			return err
		}
		return c.UpdateInstanceInfo(ctx, list.Objects.Value()...)
	},
}

func second[T any](_ T, err error) error { return err }

// Methods that nova-compute calls on another compute service.
var toComputes = []string{"resize_instance", "finish_resize", "finish_revert_resize"}

func TestSameAsNovaCompute(t *testing.T) {
	seen := make(map[string]int)
	for _, operation := range golden.Operations(t) {
		t.Run(operation, func(t *testing.T) {
			r := &replay{t: t}
			client := New(r, "lab1")
			for _, call := range golden.Calls(t, operation, "nova-compute") {
				name := call.ObjectMethod()
				if name == "" {
					name = call.Method
				}
				if slices.Contains(toComputes, name) {
					continue
				}
				ask, ok := drive[name]
				if !ok {
					t.Fatalf("the client has nothing for %s", name)
				}
				seen[name]++
				r.next, r.used = call, 0
				replayOne(t, client, call, ask)
				if r.used != 1 {
					t.Errorf("%s: %d messages, want 1", name, r.used)
				}
			}
		})
	}
	for _, name := range slices.Sorted(maps.Keys(drive)) {
		if seen[name] == 0 {
			t.Errorf("%s is in no capture", name)
		}
	}
}

func replayOne(t *testing.T, client *Client, call golden.Call, ask func(context.Context, *Client, asked) error) {
	t.Helper()
	a := asked{t: t, kwargs: call.Args}
	if raw, ok := call.Args["args"]; ok {
		a.args = into[[]json.RawMessage](t, raw)
		a.kwargs = into[map[string]json.RawMessage](t, call.Args["kwargs"])
	}
	if string(a.kwargs["use_slave"]) == "true" {
		client = client.Replica()
	}
	if raw, ok := call.Args["objinst"]; ok {
		var err error
		if a.object, err = objects.Decode(raw); err != nil {
			t.Fatal(err)
		}
	}
	err := ask(context.Background(), client, a)
	checkAnswer(t, call, a.object, err)
}

// checkAnswer checks that the client understood what conductor said.
func checkAnswer(t *testing.T, call golden.Call, o objects.Object, err error) {
	t.Helper()
	switch {
	case call.Failure != "":
		want := remoteError(t, call.Failure)
		if !errors.Is(err, Class(want.Class)) || !rpc.IsRemote(err, want.Class) {
			t.Errorf("%s: got %v, want %s", call.ObjectMethod(), err, want.Class)
		}
		return
	case err != nil && IsNotFound(err) && string(call.Result) == "null":
		return // what a null means to a get
	case err != nil:
		t.Errorf("%s: %v", call.ObjectMethod(), err)
		return
	case o == nil:
		return
	}
	updates := into[[]map[string]any](t, json.RawMessage("["+string(into[[]json.RawMessage](t, call.Result)[0])+"]"))[0]
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	primitive := into[map[string]any](t, raw)
	data := primitive["nova_object.data"].(map[string]any)
	for name, want := range updates {
		if name == "obj_what_changed" {
			continue
		}
		if !reflect.DeepEqual(normal(data[name], ""), normal(want, "")) {
			t.Errorf("%s: %s: got %v, want %v", call.ObjectMethod(), name, data[name], want)
		}
	}
	want := []string{}
	for _, name := range updates["obj_what_changed"].([]any) {
		want = append(want, name.(string))
	}
	got := append([]string{}, objects.Changes(o)...)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s: changed after it: got %v, want %v", call.ObjectMethod(), got, want)
	}
}

// TestSequencesAgree follows each object through an operation: what nova-compute
// sends next is what we have after merging the last answer, but for what it
// lists as changed. It has several copies of an info cache at a time, so those are
// left out.
func TestSequencesAgree(t *testing.T) {
	compared := 0
	for _, operation := range golden.Operations(t) {
		last := make(map[string]objects.Object)
		for _, call := range golden.Find(golden.Calls(t, operation, "nova-compute"), "object_action") {
			o, err := objects.Decode(call.Args["objinst"])
			if err != nil {
				t.Fatal(err)
			}
			if o.ObjectName() == "InstanceInfoCache" {
				continue
			}
			key := fmt.Sprintf("%s %s", o.ObjectName(), identity(t, call.Args["objinst"]))
			if before := last[key]; before != nil {
				compared += compareUnchanged(t, operation, before, o)
			}
			if call.Failure == "" {
				updates := into[[]json.RawMessage](t, call.Result)[0]
				if err := objects.ApplyUpdates(o, updates); err != nil {
					t.Fatal(err)
				}
				last[key] = o
			}
		}
	}
	if compared < 1000 {
		t.Errorf("only %d fields compared", compared)
	}
	t.Logf("%d fields compared", compared)
}

func identity(t *testing.T, raw json.RawMessage) string {
	var o struct {
		Data struct {
			UUID         string `json:"uuid"`
			InstanceUUID string `json:"instance_uuid"`
		} `json:"nova_object.data"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	return o.Data.UUID + " " + o.Data.InstanceUUID
}

func compareUnchanged(t *testing.T, operation string, ours, theirs objects.Object) (compared int) {
	data := func(o objects.Object) map[string]any {
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return into[map[string]any](t, raw)["nova_object.data"].(map[string]any)
	}
	mine, yours := data(ours), data(theirs)
	for name, want := range yours {
		got, ok := mine[name]
		if !ok || slices.Contains(objects.Changes(theirs), name) {
			continue
		}
		compared++
		if !reflect.DeepEqual(normal(got, ""), normal(want, "")) {
			t.Errorf("%s: %s.%s: we have %v, nova-compute has %v", operation, ours.ObjectName(), name, got, want)
		}
	}
	return compared
}

var _ Caller = (*rpc.Bus)(nil)
