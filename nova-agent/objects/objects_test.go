package objects_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
)

// primitive is the wire form of an object with that data.
func primitive(name, version, data, changes string) string {
	s := `{"nova_object.name":"` + name + `","nova_object.namespace":"nova","nova_object.version":"` + version +
		`","nova_object.data":` + data
	if changes != "" {
		s += `,"nova_object.changes":` + changes
	}
	return s + "}"
}

func decode[T any, P interface {
	*T
	objects.Object
}](t testing.TB, raw string) P {
	t.Helper()
	o, err := objects.As[T, P]([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func encode(t testing.TB, o objects.Object) string {
	t.Helper()
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func equalJSON(t testing.TB, got, want string) {
	t.Helper()
	if !reflect.DeepEqual(canonical(parse(t, []byte(got))), canonical(parse(t, []byte(want)))) {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestFieldStates(t *testing.T) {
	i := &objects.Instance{}
	if i.TaskState.IsSet() || i.TaskState.IsNull() || i.TaskState.Changed() {
		t.Error("a new field is not unset")
	}
	i.TaskState.SetNull()
	i.VMState.Set("active")
	i.UUID.Load("u")
	if _, ok := i.TaskState.Get(); ok || !i.TaskState.IsSet() || i.TaskState.Or("none") != "none" {
		t.Error("null has a value")
	}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"task_state":null,"vm_state":"active","uuid":"u"}`, `["task_state","vm_state"]`))
	i.VMState.Unset()
	objects.ResetChanges(i)
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"task_state":null,"uuid":"u"}`, ""))
}

func TestSetOfNilObjectIsNull(t *testing.T) {
	i := &objects.Instance{}
	i.OldFlavor.Set(nil)
	if !i.OldFlavor.IsNull() || !i.OldFlavor.Changed() {
		t.Error("a nil object is not null")
	}
	d := &objects.DiskMetadata{}
	d.Bus.Set(nil)
	if !d.Bus.IsNull() {
		t.Error("a nil Object is not null")
	}
}

func TestDictsAreReplaced(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7", `{"system_metadata":{"a":"1","b":null}}`, ""))
	before, _ := i.SystemMetadata.Get()
	objects.Put(&i.SystemMetadata, "c", objects.Ptr("3"))
	objects.Delete(&i.SystemMetadata, "a")
	if len(before) != 2 || before["a"] == nil {
		t.Error("the old map was written to")
	}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"system_metadata":{"b":null,"c":"3"}}`, `["system_metadata"]`))
	objects.ResetChanges(i)
	if objects.Delete(&i.SystemMetadata, "zzz"); len(objects.Changes(i)) != 0 {
		t.Error("a key that was not there changed the field")
	}
}

func TestChangesOfNestedObjects(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7",
		`{"flavor":`+primitive("Flavor", "1.2", `{"name":"a"}`, "")+`,"tags":`+
			primitive("TagList", "1.1", `{"objects":[`+primitive("Tag", "1.1", `{"tag":"x"}`, "")+`]}`, "")+`}`, ""))
	if got := objects.Changes(i); len(got) != 0 {
		t.Fatalf("changes %v", got)
	}
	flavor, _ := i.Flavor.Get()
	flavor.Name.Set("b")
	tags, _ := i.Tags.Get()
	tags.Objects.Value()[0].Tag.Set("y")
	if got := objects.Changes(i); !slices.Equal(got, []string{"tags", "flavor"}) {
		t.Errorf("changes %v", got)
	}
	if got := objects.Changes(tags); !slices.Equal(got, []string{"objects"}) {
		t.Errorf("changes of the list: %v", got)
	}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7",
		`{"flavor":`+primitive("Flavor", "1.2", `{"name":"b"}`, `["name"]`)+`,"tags":`+
			primitive("TagList", "1.1", `{"objects":[`+primitive("Tag", "1.1", `{"tag":"y"}`, `["tag"]`)+`]}`, `["objects"]`)+`}`, `["flavor","tags"]`))
	objects.ResetChanges(i)
	if got := append(objects.Changes(i), objects.Changes(flavor)...); len(got) != 0 {
		t.Errorf("changes after reset: %v", got)
	}
	// A plain list of objects does not count: only ObjectListBase looks into its own.
	n := &objects.ComputeNode{}
	n.SupportedHVSpecs.Load([]*objects.HVSpec{{Arch: objects.Of("x86_64")}})
	if got := objects.Changes(n); len(got) != 0 {
		t.Errorf("changes of a list field: %v", got)
	}
}

func TestChangesThatAreNotSet(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7", `{"uuid":"u"}`, `["host","uuid","what"]`))
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"uuid":"u"}`, `["uuid"]`))
}

func TestNewerMinorVersionIsKept(t *testing.T) {
	raw := primitive("Instance", "2.8", `{"compute_id":7,"uuid":"u","flavor":`+primitive("Flavor", "1.3", `{"shiny":{"a":[1.50]}}`, "")+`}`, `["compute_id"]`)
	i := decode[objects.Instance](t, raw)
	equalJSON(t, encode(t, i), raw)
	equalJSON(t, encode(t, objects.Clone(i)), raw)
	var version *objects.VersionError
	if err := objects.Newer(i); !errors.As(err, &version) || version.Name != "Instance" || !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("Newer: %v", err)
	}
	if i.ObjectVersion() != "2.8" || string(objects.Unknown(i)["compute_id"]) != "7" {
		t.Errorf("version %s, unknown %s", i.ObjectVersion(), objects.Unknown(i))
	}
	i.Host.Set("h")
	equalJSON(t, encode(t, i), strings.Replace(strings.Replace(raw, `"uuid":"u"`, `"uuid":"u","host":"h"`, 1), `["compute_id"]`, `["compute_id","host"]`, 1))
}

func TestVersions(t *testing.T) {
	for version, kind := range map[string]error{
		"2.7": nil, "2.7.1": nil, "2.0": nil, "2.99": nil,
		"3.0": errdefs.ErrUnsupported, "1.9": errdefs.ErrUnsupported, "2": errdefs.ErrInvalid, "2.x": errdefs.ErrInvalid, "2.1.1.1": errdefs.ErrInvalid, "-2.7": errdefs.ErrInvalid,
	} {
		o, err := objects.Decode([]byte(primitive("Instance", version, `{}`, "")))
		if !errors.Is(err, kind) {
			t.Errorf("%s: got %v, want %v", version, err, kind)
		}
		if err == nil && o.ObjectVersion() != version {
			t.Errorf("%s came back as %s", version, o.ObjectVersion())
		}
	}
	_, err := objects.Decode([]byte(primitive("InstanceList", "2.6", `{"objects":[`+primitive("Instance", "3.0", `{}`, "")+`]}`, "")))
	var version *objects.VersionError
	if !errors.As(err, &version) || version.Name != "Instance" || errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a nested object of another major version: %v", err)
	}
}

func TestObjectWithoutStruct(t *testing.T) {
	raw := `{"nova_object.name":"ShareMapping","nova_object.namespace":"nova","nova_object.version":"9.2","nova_object.data":{"id":1,"x":{"nova_object.name":"Y"}},"nova_object.changes":["id"],"extra":true}`
	o, err := objects.Decode([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	equalJSON(t, encode(t, o), raw)
	if o.ObjectName() != "ShareMapping" || o.ObjectVersion() != "9.2" || objects.Manifest("ShareMapping") != nil {
		t.Errorf("%s %s", o.ObjectName(), o.ObjectVersion())
	}
	if !slices.Equal(objects.Changes(o), []string{"id"}) {
		t.Errorf("changes %v", objects.Changes(o))
	}
}

func TestOneOfSeveralObjects(t *testing.T) {
	raw := primitive("InstanceDeviceMetadata", "1.0", `{"devices":[`+
		primitive("NetworkInterfaceMetadata", "1.2", `{"mac":"fa:16:3e:00:00:01","tags":["a"],"bus":`+primitive("PCIDeviceBus", "1.0", `{"address":"0000:00:03.0"}`, "")+`}`, "")+","+
		primitive("DiskMetadata", "1.0", `{"serial":null,"path":"/dev/vda"}`, "")+`]}`, "")
	m := decode[objects.InstanceDeviceMetadata](t, raw)
	devices := m.Devices.Value()
	if nic, ok := devices[0].(*objects.NetworkInterfaceMetadata); !ok || nic.MAC.Value() != "fa:16:3e:00:00:01" {
		t.Errorf("%T", devices[0])
	}
	if disk, ok := devices[1].(*objects.DiskMetadata); !ok || !disk.Serial.IsNull() {
		t.Errorf("%T", devices[1])
	}
	equalJSON(t, encode(t, m), raw)
	equalJSON(t, encode(t, objects.Clone(m)), raw)
}

func TestRefusedOnReading(t *testing.T) {
	for raw, want := range map[string]string{
		primitive("Instance", "2.7", `{"locked":null}`, ""):                                      "Instance.locked: null is not allowed",
		primitive("Instance", "2.7", `{"metadata":{"a":null}}`, ""):                              `Instance.metadata: key "a"`,
		primitive("Instance", "2.7", `{"vcpus":"many"}`, ""):                                     "Instance.vcpus: not an integer",
		primitive("Instance", "2.7", `{"vcpus":1e30}`, ""):                                       "Instance.vcpus: not an integer",
		primitive("Instance", "2.7", `{"launched_at":"yesterday"}`, ""):                          "Instance.launched_at: not a time",
		primitive("Instance", "2.7", `{"flavor":`+primitive("KeyPair", "1.4", `{}`, "")+`}`, ""): "Instance.flavor: object KeyPair where Flavor",
		primitive("Instance", "2.7", `{"flavor":{}}`, ""):                                        "Instance.flavor: object Flavor: not an object",
		primitive("Instance", "2.7", `{"flavor":[]}`, ""):                                        "Instance.flavor: object Flavor: a list where an object",
		primitive("InstanceInfoCache", "1.5", `{"network_info":[]}`, ""):                         "InstanceInfoCache.network_info: a list where a string",
		primitive("InstanceInfoCache", "1.5", `{"network_info":"{"}`, ""):                        "InstanceInfoCache.network_info: network model",
		primitive("Migration", "1.7", `{"hidden":"perhaps"}`, ""):                                "Migration.hidden: a string that is no boolean",
		primitive("PciDeviceList", "1.3", `{"objects":[null]}`, ""):                              "PciDeviceList.objects: element 0",
		primitive("Selection", "1.1", `{"limits":[[["secret"]]]}`, ""):                           "Selection.limits",
		`{"nova_object.name":"Tag","nova_object.version":"1.1","nova_object.data":{}}`:           `object Tag: namespace ""`,
		`{"nova_object.name":"Tag","nova_object.namespace":"nova","nova_object.version":"1.1"}`:  "object Tag: nova_object.data is missing",
		`{"nova_object.name":"Tag","nova_object.namespace":"nova","nova_object.data":{}}`:        "not an object",
		`{"nova_object.name":1,"nova_object.namespace":"nova","nova_object.version":"1.1"}`:      "nova_object.name: a number where a string",
		`[]`: "a list where an object", `"x"`: "a string where an object", ``: "not JSON", `{`: "not JSON",
		primitive("Tag", "1.1", `{"x":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`}`, ""):                        "nested too deep",
		primitive("BlockDeviceMapping", "1.21", `{"instance":`+strings.Repeat(`[`, 150)+strings.Repeat("]", 150)+`}`, ""): "BlockDeviceMapping.instance",
	} {
		_, err := objects.Decode([]byte(raw))
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%.120s: got %v, want %q", raw, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the value: %v", err)
		}
	}
}

func TestDeepObjects(t *testing.T) {
	deep := primitive("BlockDeviceMapping", "1.21", `{}`, "")
	for range 60 {
		deep = primitive("BlockDeviceMappingList", "1.18", `{"objects":[`+deep+`]}`, "")
		deep = primitive("BlockDeviceMapping", "1.21", `{"instance":`+primitive("Instance", "2.7", `{"x":`+deep+`}`, "")+`}`, "")
	}
	if _, err := objects.Decode([]byte(deep)); err == nil || !strings.Contains(err.Error(), "nested too deep") {
		t.Errorf("got %.200v", err)
	}
}

// Nova's fields coerce what they are given; so must we.
func TestReadAsNovaDoes(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7",
		`{"vcpus":"2","memory_mb":64.9,"hostname":5,"locked":1,"launch_index":true,"launched_at":"2024-01-02 03:04:05.678+02:00","terminated_at":"2024-01-02T03:04:05"}`, ""))
	equalJSON(t, encode(t, i), primitive("Instance", "2.7",
		`{"vcpus":2,"memory_mb":64,"hostname":"5","locked":true,"launch_index":1,"launched_at":"2024-01-02T01:04:05Z","terminated_at":"2024-01-02T03:04:05Z"}`, ""))
	m := decode[objects.ImageMeta](t, primitive("ImageMeta", "1.8", `{"protected":"yes"}`, ""))
	if !m.Protected.Value() {
		t.Error(`"yes" is false`)
	}
	// The last of two equal keys counts, and the order of keys is free.
	tag := decode[objects.Tag](t, `{"nova_object.changes":["tag"],"nova_object.data":{"tag":"a","tag":"b"},"nova_object.version":"1.1","nova_object.namespace":"nova","nova_object.name":"Tag"}`)
	equalJSON(t, encode(t, tag), primitive("Tag", "1.1", `{"tag":"b"}`, `["tag"]`))
}

func TestTexts(t *testing.T) {
	for _, s := range []string{"", "plain", `"\` + "\n\x00\x7f", "ünïcode ☃ 🐳", "\u2028<&>"} {
		i := &objects.Instance{DisplayName: objects.Of(s), Metadata: objects.Of(map[string]string{s: s})}
		again := decode[objects.Instance](t, encode(t, i))
		if again.DisplayName.Value() != s || again.Metadata.Value()[s] != s {
			t.Errorf("%q came back as %q, %q", s, again.DisplayName.Value(), again.Metadata.Value())
		}
	}
}

func TestTimesAreWholeSeconds(t *testing.T) {
	i := &objects.Instance{LaunchedAt: objects.Of(time.Date(2024, 1, 2, 3, 4, 5, 678e6, time.FixedZone("", 3600)))}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"launched_at":"2024-01-02T02:04:05Z"}`, `["launched_at"]`))
}

func TestFloatsKeepTheirPoint(t *testing.T) {
	n := &objects.ComputeNode{CPUAllocationRatio: objects.Of(16.0)}
	if got := encode(t, n); !strings.Contains(got, `"cpu_allocation_ratio":16.0`) {
		t.Error(got)
	}
}

func TestRefusedOnWriting(t *testing.T) {
	for want, o := range map[string]objects.Object{
		`HVSpec.hv_type: "docker2" is no HVType`:                 &objects.HVSpec{HVType: objects.Of("docker2")},
		"Service.uuid: null is not allowed":                      func() objects.Object { s := &objects.Service{}; s.UUID.SetNull(); return s }(),
		`ComputeNode.host_ip: "lab" is no ip`:                    &objects.ComputeNode{HostIP: objects.Of("lab")},
		`Instance.access_ip_v4: "::1" is no ip4`:                 &objects.Instance{AccessIPV4: objects.Of("::1")},
		"ComputeNode.supported_hv_specs: element 0: HVSpec.arch": &objects.ComputeNode{SupportedHVSpecs: objects.Of([]*objects.HVSpec{{Arch: objects.Of("z80")}})},
		"Instance.launched_at: year 0":                           &objects.Instance{LaunchedAt: objects.Of(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC))},
	} {
		_, err := o.MarshalJSON()
		if err == nil || !strings.Contains(err.Error(), want) || !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	// What came from Nova goes back, whatever it is: later releases add values.
	raw := primitive("HVSpec", "1.2", `{"hv_type":"quantum"}`, "")
	equalJSON(t, encode(t, decode[objects.HVSpec](t, raw)), raw)
}

func TestApplyUpdates(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7", `{"uuid":"u","host":null,"vm_state":"building","flavor":`+
		primitive("Flavor", "1.2", `{"name":"old","vcpus":1}`, "")+`,"info_cache":`+
		primitive("InstanceInfoCache", "1.5", `{"network_info":"[]"}`, `["network_info"]`)+`}`, `["info_cache"]`))
	i.VMState.Set("active")
	i.Host.Set("h")
	err := objects.ApplyUpdates(i, []byte(`{"updated_at":"2024-01-02T03:04:05Z","flavor":`+primitive("Flavor", "1.2", `{"name":"new"}`, "")+
		`,"compute_id":5,"task_state":null,"obj_what_changed":["task_state"]}`))
	if err != nil {
		t.Fatal(err)
	}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"uuid":"u","host":"h","vm_state":"active","task_state":null,"updated_at":"2024-01-02T03:04:05Z","compute_id":5,"flavor":`+
		primitive("Flavor", "1.2", `{"name":"new"}`, "")+`,"info_cache":`+
		primitive("InstanceInfoCache", "1.5", `{"network_info":"[]"}`, `["network_info"]`)+`}`, `["task_state","info_cache"]`))
	before := encode(t, i)
	for _, bad := range []string{`{"host":"x","locked":null}`, `{"host":"x","obj_what_changed":3}`, `[]`, `nope`} {
		if err := objects.ApplyUpdates(i, []byte(bad)); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", bad, err)
		}
		equalJSON(t, encode(t, i), before)
	}
}

func TestAdoptAndMissing(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7", `{"uuid":"u","host":"mine"}`, ""))
	if got := objects.Missing(i, "host", "metadata", "flavor", "no_such"); !slices.Equal(got, []string{"metadata", "flavor", "no_such"}) {
		t.Errorf("missing %v", got)
	}
	i.Host.Set("changed")
	objects.Adopt(i, decode[objects.Instance](t, primitive("Instance", "2.7", `{"uuid":"u","host":"theirs","metadata":{"a":"b"}}`, `["metadata"]`)))
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"uuid":"u","host":"changed","metadata":{"a":"b"}}`, `["host"]`))
}

func TestCloneIsIndependent(t *testing.T) {
	i := decode[objects.Instance](t, primitive("Instance", "2.7", `{"metadata":{"a":"1"},"flavor":`+primitive("Flavor", "1.2", `{"name":"x","projects":["p"]}`, "")+`}`, ""))
	c := objects.Clone(i)
	before := encode(t, c)
	objects.Put(&i.Metadata, "a", "2")
	flavor, _ := i.Flavor.Get()
	flavor.Name.Set("y")
	flavor.Projects.Value()[0] = "q"
	i.Metadata.Value()["a"] = "3"
	equalJSON(t, encode(t, c), before)
	if objects.Clone[objects.Instance](nil) != nil {
		t.Error("the clone of nil is something")
	}
}

func TestNetworkModel(t *testing.T) {
	model, err := objects.NewNetworkModel([]map[string]any{{"id": "p"}})
	if err != nil {
		t.Fatal(err)
	}
	c := &objects.InstanceInfoCache{NetworkInfo: objects.Of(model)}
	equalJSON(t, encode(t, c), primitive("InstanceInfoCache", "1.5", `{"network_info":"[{\"id\":\"p\"}]"}`, `["network_info"]`))
	var vifs []struct{ ID string }
	if err := c.NetworkInfo.Value().Decode(&vifs); err != nil || len(vifs) != 1 || vifs[0].ID != "p" {
		t.Errorf("%v, %v", vifs, err)
	}
}

func TestAsAndListAs(t *testing.T) {
	if o, err := objects.As[objects.Migration]([]byte(" null ")); o != nil || err != nil {
		t.Errorf("%v, %v", o, err)
	}
	list, err := objects.ListAs[objects.Tag]([]byte("[" + primitive("Tag", "1.1", `{"tag":"a"}`, "") + "]"))
	if err != nil || len(list) != 1 || list[0].Tag.Value() != "a" {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := objects.ListAs[objects.Tag]([]byte("[" + primitive("Flavor", "1.2", `{}`, "") + "]")); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestUnmarshalReplacesAll(t *testing.T) {
	i := &objects.Instance{Host: objects.Of("h")}
	if err := json.Unmarshal([]byte(primitive("Instance", "2.7", `{"uuid":"u"}`, "")), i); err != nil {
		t.Fatal(err)
	}
	equalJSON(t, encode(t, i), primitive("Instance", "2.7", `{"uuid":"u"}`, ""))
}
