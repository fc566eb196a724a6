package objects

import (
	"encoding/json"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// registry is what testdata/registry.py wrote down of a real Nova.
type registry struct {
	Nova    string
	Objects map[string]struct {
		Version  string
		Manifest map[string]string
		Fields   map[string][]string
	}
}

func readRegistry(t testing.TB) registry {
	t.Helper()
	data, err := os.ReadFile("testdata/nova-26.2.2.json")
	if err != nil {
		t.Fatal(err)
	}
	var r registry
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestStructsAreNovas(t *testing.T) {
	r := readRegistry(t)
	if got, want := slices.Sorted(maps.Keys(plans().byName)), slices.Sorted(maps.Keys(r.Objects)); !slices.Equal(got, want) {
		t.Fatalf("objects: got %v, want %v", got, want)
	}
	for name, want := range r.Objects {
		p := plans().byName[name]
		if p.version != want.Version {
			t.Errorf("%s: version %s, want %s", name, p.version, want.Version)
		}
		if got := p.typ.Name(); got != name {
			t.Errorf("%s: the struct is called %s", name, got)
		}
		for field, flags := range want.Fields {
			i, ok := p.byName[field]
			if !ok {
				t.Errorf("%s.%s is missing", name, field)
				continue
			}
			if got := flagsOf(&p.fields[i], flags); !slices.Equal(got, flags) {
				t.Errorf("%s.%s: got %q, want %q", name, field, got, flags)
			}
		}
		if len(p.fields) != len(want.Fields) {
			t.Errorf("%s: %d fields, want %d", name, len(p.fields), len(want.Fields))
		}
	}
}

// flagsOf describes f as registry.py does. Where several of Nova's types are one
// here, Nova's name is taken from want.
func flagsOf(f *fieldPlan, want []string) []string {
	flags := []string{typeName(f, f.typ, want[0])}
	if f.nullable {
		flags = append(flags, "null")
	}
	if f.readOnly {
		flags = append(flags, "ro")
	}
	// One default, an object, has no form in a tag.
	if f.def != nil || f.name == "memory_details" {
		flags = append(flags, "default")
	}
	return flags
}

func typeName(f *fieldPlan, typ reflect.Type, want string) string {
	switch typ {
	case reflect.TypeFor[Object]():
		return "any " + f.of
	case reflect.TypeFor[string]():
		if f.allowed != "" {
			switch f.allowed {
			case "ip":
				return "IPAddress"
			case "ip4":
				return "IPV4Address"
			case "ip6":
				return "IPV6Address"
			}
			var values []string
			for _, v := range enums[f.allowed] {
				text, _ := json.Marshal(v)
				values = append(values, string(text))
			}
			return "enum [" + strings.Join(values, ", ") + "]"
		}
		if slices.Contains([]string{"String", "SensitiveString", "UUID", "MACAddress", "PCIAddress", "VersionPredicate", "ResourceClass"}, want) {
			return want
		}
		return "String"
	case reflect.TypeFor[NetworkModel]():
		if want == "NetworkVIFModel" {
			return want
		}
		return "NetworkModel"
	}
	inner := func() string {
		elem, mark := typ.Elem(), ""
		if elem == reflect.TypeFor[*string]() {
			elem, mark = reflect.TypeFor[string](), "?"
		}
		next := want
		for _, prefix := range []string{"[]", "set ", "dict "} {
			if rest, ok := strings.CutPrefix(want, prefix); ok {
				next = rest
			}
		}
		return mark + typeName(f, elem, strings.TrimPrefix(next, "?"))
	}
	switch typ.Kind() {
	case reflect.Slice:
		if f.set && strings.HasPrefix(want, "set ") {
			return "set " + inner()
		}
		return "[]" + inner()
	case reflect.Map:
		return "dict " + inner()
	case reflect.Pointer:
		return "obj " + reflect.New(typ.Elem()).Interface().(Object).ObjectName()
	case reflect.Int64:
		return "Integer"
	case reflect.Float64:
		return "Float"
	case reflect.Bool:
		if want == "FlexibleBoolean" {
			return want
		}
		return "Boolean"
	}
	return "DateTime"
}

func TestManifestsAreNovas(t *testing.T) {
	for name, want := range readRegistry(t).Objects {
		if got := Manifest(name); !maps.Equal(got, want.Manifest) {
			t.Errorf("%s:\n got %v\nwant %v", name, got, want.Manifest)
		}
	}
}

func TestManifestOfInstance(t *testing.T) {
	want := map[string]string{
		"Instance": "2.7", "ServiceList": "1.19", "Service": "1.22", "ComputeNode": "1.19", "HVSpec": "1.2",
		"PciDevicePoolList": "1.1", "PciDevicePool": "1.1", "InstanceInfoCache": "1.5", "SecurityGroupList": "1.1",
		"SecurityGroup": "1.2", "InstanceFault": "1.2", "PciDeviceList": "1.3", "PciDevice": "1.7",
		"InstanceNUMATopology": "1.3", "InstanceNUMACell": "1.6", "VirtCPUTopology": "1.0", "InstancePCIRequests": "1.1",
		"InstancePCIRequest": "1.4", "InstanceDeviceMetadata": "1.0", "DeviceMetadata": "1.0", "DeviceBus": "1.0",
		"TagList": "1.1", "Tag": "1.1", "Flavor": "1.2", "VirtCPUModel": "1.0", "VirtCPUFeature": "1.0", "EC2Ids": "1.0",
		"MigrationContext": "1.2", "ResourceList": "1.0", "Resource": "1.0", "ResourceMetadata": "1.0", "KeyPairList": "1.3",
		"KeyPair": "1.4", "TrustedCerts": "1.0",
	}
	if got := Manifest("Instance"); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDefaultsAreReadable(t *testing.T) {
	for name, p := range plans().byName {
		o := reflect.New(p.typ).Interface().(Object)
		SetDefaults(o)
		for i := range p.fields {
			f := &p.fields[i]
			if _, m := f.slotOf(reflect.ValueOf(o).Elem()).parts(); f.def != nil && m.state == unset {
				t.Errorf("%s.%s: default %s can't be read", name, f.name, f.def)
			}
		}
		if _, err := o.MarshalJSON(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
