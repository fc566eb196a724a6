package objects

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
)

// known are the objects that have a struct.
var known = []Object{
	(*Aggregate)(nil),
	(*BlockDeviceMapping)(nil),
	(*BlockDeviceMappingList)(nil),
	(*BuildRequest)(nil),
	(*CellMapping)(nil),
	(*ComputeNode)(nil),
	(*ComputeNodeList)(nil),
	(*ConsoleAuthToken)(nil),
	(*CpuDiagnostics)(nil),
	(*Destination)(nil),
	(*DeviceBus)(nil),
	(*DeviceMetadata)(nil),
	(*Diagnostics)(nil),
	(*DiskDiagnostics)(nil),
	(*DiskMetadata)(nil),
	(*EC2Ids)(nil),
	(*Flavor)(nil),
	(*HVSpec)(nil),
	(*ImageMeta)(nil),
	(*ImageMetaProps)(nil),
	(*Instance)(nil),
	(*InstanceActionEvent)(nil),
	(*InstanceDeviceMetadata)(nil),
	(*InstanceExternalEvent)(nil),
	(*InstanceFault)(nil),
	(*InstanceGroup)(nil),
	(*InstanceInfoCache)(nil),
	(*InstanceList)(nil),
	(*InstanceNUMACell)(nil),
	(*InstanceNUMATopology)(nil),
	(*InstancePCIRequest)(nil),
	(*InstancePCIRequests)(nil),
	(*KeyPair)(nil),
	(*KeyPairList)(nil),
	(*LibvirtLiveMigrateBDMInfo)(nil),
	(*LibvirtLiveMigrateData)(nil),
	(*LibvirtLiveMigrateNUMAInfo)(nil),
	(*MemoryDiagnostics)(nil),
	(*Migration)(nil),
	(*MigrationContext)(nil),
	(*MigrationList)(nil),
	(*NUMATopologyLimits)(nil),
	(*NetworkInterfaceMetadata)(nil),
	(*NetworkMetadata)(nil),
	(*NetworkRequest)(nil),
	(*NetworkRequestList)(nil),
	(*NicDiagnostics)(nil),
	(*PciDevice)(nil),
	(*PciDeviceList)(nil),
	(*PciDevicePool)(nil),
	(*PciDevicePoolList)(nil),
	(*Quotas)(nil),
	(*RequestGroup)(nil),
	(*RequestLevelParams)(nil),
	(*RequestSpec)(nil),
	(*Resource)(nil),
	(*ResourceList)(nil),
	(*ResourceMetadata)(nil),
	(*SchedulerLimits)(nil),
	(*SchedulerRetries)(nil),
	(*SecurityGroup)(nil),
	(*SecurityGroupList)(nil),
	(*Selection)(nil),
	(*Service)(nil),
	(*ServiceList)(nil),
	(*Tag)(nil),
	(*TagList)(nil),
	(*TaskLog)(nil),
	(*TrustedCerts)(nil),
	(*VIFMigrateData)(nil),
	(*VirtCPUFeature)(nil),
	(*VirtCPUModel)(nil),
	(*VirtCPUTopology)(nil),
	(*VirtualInterface)(nil),
	(*VirtualInterfaceList)(nil),
	(*VolumeUsage)(nil),
}

// plan is how one struct is read and written, worked out once.
type plan struct {
	name, version string
	typ           reflect.Type // the struct
	fields        []fieldPlan
	byName        map[string]int
	isList        bool // its objects' changes are its own, as in ObjectListBase
}

type fieldPlan struct {
	name       string
	goName     string
	index      []int
	codec      codec
	typ        reflect.Type // T of Field[T]
	nullable   bool
	readOnly   bool
	set        bool
	allowed    string   // is=
	of         string   // of=
	def        []byte   // default=; nil if there is none
	subobjects []string // names of the objects that it may hold, for the manifest
	nested     bool     // holds one object, whose changes are the parent's too
}

type planSet struct {
	byName map[string]*plan
	byType map[reflect.Type]*plan
}

// plans is computed at first use and not changed after that.
var plans = sync.OnceValue(func() *planSet {
	set := &planSet{
		byName: make(map[string]*plan, len(known)),
		byType: make(map[reflect.Type]*plan, len(known)),
	}
	for _, o := range known {
		p := newPlan(o)
		set.byName[p.name] = p
		set.byType[p.typ] = p
	}
	return set
})

func newPlan(o Object) *plan {
	typ := reflect.TypeOf(o).Elem()
	zero := reflect.New(typ).Interface().(Object)
	p := &plan{name: zero.ObjectName(), version: zero.ObjectVersion(), typ: typ}
	p.addFields(typ, nil)
	p.byName = make(map[string]int, len(p.fields))
	for i, f := range p.fields {
		p.byName[f.name] = i
	}
	p.isList = len(p.fields) == 1 && p.fields[0].name == "objects"
	return p
}

func (p *plan) addFields(typ reflect.Type, index []int) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		at := append(append([]int(nil), index...), i)
		tag, ok := f.Tag.Lookup("nova")
		switch {
		case ok:
			p.fields = append(p.fields, newFieldPlan(f, at, tag))
		case f.Anonymous && f.Type != reflect.TypeFor[Header]():
			p.addFields(f.Type, at)
		}
	}
}

func newFieldPlan(f reflect.StructField, index []int, tag string) fieldPlan {
	// A Field's first member is its value.
	typ := f.Type.Field(0).Type
	name, options, _ := strings.Cut(tag, ",")
	p := fieldPlan{name: name, goName: f.Name, index: index, typ: typ, codec: codecFor(typ)}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "null":
			p.nullable = true
		case "ro":
			p.readOnly = true
		case "set":
			p.set = true
		case "is":
			p.allowed = value
		case "of":
			p.of = value
		case "default":
			p.def = []byte(value)
		case "":
		default:
			panic(fmt.Sprintf("objects: field %s: unknown option %q", f.Name, option))
		}
	}
	_, p.nested = p.codec.(objectCodec)
	element := typ
	if typ.Kind() == reflect.Slice {
		element = typ.Elem()
	}
	switch {
	case p.of != "":
		p.subobjects = []string{p.of}
	case element.Implements(reflect.TypeFor[Object]()):
		p.subobjects = []string{reflect.New(element.Elem()).Interface().(Object).ObjectName()}
	}
	return p
}

// slotOf returns field f of o.
func (f *fieldPlan) slotOf(v reflect.Value) slot {
	return v.FieldByIndex(f.index).Addr().Interface().(slot)
}

// planOf returns o's plan and struct; the plan is nil for an *Opaque.
func planOf(o Object) (*plan, reflect.Value) {
	v := reflect.ValueOf(o).Elem()
	return plans().byType[v.Type()], v
}
