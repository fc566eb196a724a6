package objects

// InstanceNUMATopology holds the NUMA cells of a server.
// Nova: InstanceNUMATopology 1.3.
type InstanceNUMATopology struct {
	Header

	ID                    Field[int64]               `nova:"id"`
	InstanceUUID          Field[string]              `nova:"instance_uuid"`
	Cells                 Field[[]*InstanceNUMACell] `nova:"cells"`
	EmulatorThreadsPolicy Field[string]              `nova:"emulator_threads_policy,null,is=CPUEmulatorThreadsPolicy"`
}

// ObjectName implements Object.
func (*InstanceNUMATopology) ObjectName() string { return "InstanceNUMATopology" }

// ObjectVersion implements Object.
func (o *InstanceNUMATopology) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceNUMATopology) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceNUMATopology) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceNUMACell is one of them; Memory is MiB, PageSize KiB.
// Nova: InstanceNUMACell 1.6.
type InstanceNUMACell struct {
	Header

	ID              Field[int64]            `nova:"id"`
	CPUSet          Field[[]int64]          `nova:"cpuset,set"`
	PCPUSet         Field[[]int64]          `nova:"pcpuset,set"`
	CPUSetReserved  Field[[]int64]          `nova:"cpuset_reserved,null,set,default=null"`
	Memory          Field[int64]            `nova:"memory"`
	Pagesize        Field[int64]            `nova:"pagesize,null,default=null"`
	CPUTopology     Field[*VirtCPUTopology] `nova:"cpu_topology,null"`
	CPUPinningRaw   Field[map[string]int64] `nova:"cpu_pinning_raw,null,default=null"`
	CPUPolicy       Field[string]           `nova:"cpu_policy,null,is=CPUAllocationPolicy,default=null"`
	CPUThreadPolicy Field[string]           `nova:"cpu_thread_policy,null,is=CPUThreadAllocationPolicy,default=null"`
}

// ObjectName implements Object.
func (*InstanceNUMACell) ObjectName() string { return "InstanceNUMACell" }

// ObjectVersion implements Object.
func (o *InstanceNUMACell) ObjectVersion() string { return o.versionOr("1.6") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceNUMACell) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceNUMACell) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// NUMATopologyLimits is the overcommit of a NUMA cell.
// Nova: NUMATopologyLimits 1.1.
type NUMATopologyLimits struct {
	Header

	CPUAllocationRatio Field[float64]          `nova:"cpu_allocation_ratio"`
	RAMAllocationRatio Field[float64]          `nova:"ram_allocation_ratio"`
	NetworkMetadata    Field[*NetworkMetadata] `nova:"network_metadata"`
}

// ObjectName implements Object.
func (*NUMATopologyLimits) ObjectName() string { return "NUMATopologyLimits" }

// ObjectVersion implements Object.
func (o *NUMATopologyLimits) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *NUMATopologyLimits) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NUMATopologyLimits) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VirtCPUTopology holds sockets, cores and threads.
// Nova: VirtCPUTopology 1.0.
type VirtCPUTopology struct {
	Header

	Sockets Field[int64] `nova:"sockets,null,default=1"`
	Cores   Field[int64] `nova:"cores,null,default=1"`
	Threads Field[int64] `nova:"threads,null,default=1"`
}

// ObjectName implements Object.
func (*VirtCPUTopology) ObjectName() string { return "VirtCPUTopology" }

// ObjectVersion implements Object.
func (o *VirtCPUTopology) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VirtCPUTopology) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VirtCPUTopology) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VirtCPUModel is a CPU as the guest sees it.
// Nova: VirtCPUModel 1.0.
type VirtCPUModel struct {
	Header

	Arch     Field[string]            `nova:"arch,null,is=Architecture"`
	Vendor   Field[string]            `nova:"vendor,null"`
	Topology Field[*VirtCPUTopology]  `nova:"topology,null"`
	Features Field[[]*VirtCPUFeature] `nova:"features,default=[]"`
	Mode     Field[string]            `nova:"mode,null,is=CPUMode"`
	Model    Field[string]            `nova:"model,null"`
	Match    Field[string]            `nova:"match,null,is=CPUMatch"`
}

// ObjectName implements Object.
func (*VirtCPUModel) ObjectName() string { return "VirtCPUModel" }

// ObjectVersion implements Object.
func (o *VirtCPUModel) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VirtCPUModel) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VirtCPUModel) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VirtCPUFeature is a feature of it.
// Nova: VirtCPUFeature 1.0.
type VirtCPUFeature struct {
	Header

	Policy Field[string] `nova:"policy,null,is=CPUFeaturePolicy"`
	Name   Field[string] `nova:"name"`
}

// ObjectName implements Object.
func (*VirtCPUFeature) ObjectName() string { return "VirtCPUFeature" }

// ObjectVersion implements Object.
func (o *VirtCPUFeature) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VirtCPUFeature) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VirtCPUFeature) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
