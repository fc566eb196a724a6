package objects

import "time"

// Service is the record of a service's life. Version is compared with the oldest in
// the cell on each save.
// Nova: Service 1.22.
type Service struct {
	Header
	Persistent

	ID               Field[int64]        `nova:"id,ro"`
	UUID             Field[string]       `nova:"uuid"`
	Host             Field[string]       `nova:"host,null"`
	Binary           Field[string]       `nova:"binary,null"`
	Topic            Field[string]       `nova:"topic,null"`
	ReportCount      Field[int64]        `nova:"report_count"`
	Disabled         Field[bool]         `nova:"disabled"`
	DisabledReason   Field[string]       `nova:"disabled_reason,null"`
	AvailabilityZone Field[string]       `nova:"availability_zone,null"`
	ComputeNode      Field[*ComputeNode] `nova:"compute_node"`
	LastSeenUp       Field[time.Time]    `nova:"last_seen_up,null"`
	ForcedDown       Field[bool]         `nova:"forced_down"`
	Version          Field[int64]        `nova:"version"`
}

// ObjectName implements Object.
func (*Service) ObjectName() string { return "Service" }

// ObjectVersion implements Object.
func (o *Service) ObjectVersion() string { return o.versionOr("1.22") }

// MarshalJSON implements json.Marshaler.
func (o *Service) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Service) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ServiceList is a list of services.
// Nova: ServiceList 1.19.
type ServiceList struct {
	Header

	Objects Field[[]*Service] `nova:"objects"`
}

// ObjectName implements Object.
func (*ServiceList) ObjectName() string { return "ServiceList" }

// ObjectVersion implements Object.
func (o *ServiceList) ObjectVersion() string { return o.versionOr("1.19") }

// MarshalJSON implements json.Marshaler.
func (o *ServiceList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ServiceList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ComputeNode is a hypervisor's record. Stats, CPUInfo and Metrics hold strings;
// memory is MiB, disk GiB. A null FreeDiskGB hides the node.
// Nova: ComputeNode 1.19.
type ComputeNode struct {
	Header
	Persistent

	ID                  Field[int64]              `nova:"id,ro"`
	UUID                Field[string]             `nova:"uuid,ro"`
	ServiceID           Field[int64]              `nova:"service_id,null"`
	Host                Field[string]             `nova:"host,null"`
	VCPUs               Field[int64]              `nova:"vcpus"`
	MemoryMB            Field[int64]              `nova:"memory_mb"`
	LocalGB             Field[int64]              `nova:"local_gb"`
	VCPUsUsed           Field[int64]              `nova:"vcpus_used"`
	MemoryMBUsed        Field[int64]              `nova:"memory_mb_used"`
	LocalGBUsed         Field[int64]              `nova:"local_gb_used"`
	HypervisorType      Field[string]             `nova:"hypervisor_type"`
	HypervisorVersion   Field[int64]              `nova:"hypervisor_version"`
	HypervisorHostname  Field[string]             `nova:"hypervisor_hostname,null"`
	FreeRAMMB           Field[int64]              `nova:"free_ram_mb,null"`
	FreeDiskGB          Field[int64]              `nova:"free_disk_gb,null"`
	CurrentWorkload     Field[int64]              `nova:"current_workload,null"`
	RunningVms          Field[int64]              `nova:"running_vms,null"`
	CPUInfo             Field[string]             `nova:"cpu_info,null"`
	DiskAvailableLeast  Field[int64]              `nova:"disk_available_least,null"`
	Metrics             Field[string]             `nova:"metrics,null"`
	Stats               Field[map[string]*string] `nova:"stats,null"`
	HostIP              Field[string]             `nova:"host_ip,null,is=ip"`
	NUMATopology        Field[string]             `nova:"numa_topology,null"`
	SupportedHVSpecs    Field[[]*HVSpec]          `nova:"supported_hv_specs"`
	PCIDevicePools      Field[*PciDevicePoolList] `nova:"pci_device_pools,null"`
	CPUAllocationRatio  Field[float64]            `nova:"cpu_allocation_ratio"`
	RAMAllocationRatio  Field[float64]            `nova:"ram_allocation_ratio"`
	DiskAllocationRatio Field[float64]            `nova:"disk_allocation_ratio"`
	Mapped              Field[int64]              `nova:"mapped"`
}

// ObjectName implements Object.
func (*ComputeNode) ObjectName() string { return "ComputeNode" }

// ObjectVersion implements Object.
func (o *ComputeNode) ObjectVersion() string { return o.versionOr("1.19") }

// MarshalJSON implements json.Marshaler.
func (o *ComputeNode) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ComputeNode) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ComputeNodeList is a list of compute nodes.
// Nova: ComputeNodeList 1.17.
type ComputeNodeList struct {
	Header

	Objects Field[[]*ComputeNode] `nova:"objects"`
}

// ObjectName implements Object.
func (*ComputeNodeList) ObjectName() string { return "ComputeNodeList" }

// ObjectVersion implements Object.
func (o *ComputeNodeList) ObjectVersion() string { return o.versionOr("1.17") }

// MarshalJSON implements json.Marshaler.
func (o *ComputeNodeList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ComputeNodeList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// HVSpec is a kind of guest that a node can run. Values outside its lists make the
// whole call fail.
// Nova: HVSpec 1.2.
type HVSpec struct {
	Header

	Arch   Field[string] `nova:"arch,is=Architecture"`
	HVType Field[string] `nova:"hv_type,is=HVType"`
	VMMode Field[string] `nova:"vm_mode,is=VMMode"`
}

// ObjectName implements Object.
func (*HVSpec) ObjectName() string { return "HVSpec" }

// ObjectVersion implements Object.
func (o *HVSpec) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *HVSpec) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *HVSpec) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
