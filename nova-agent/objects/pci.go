package objects

// InstancePCIRequests holds the PCI devices that a server asks for. Nova rewrites them
// on every save of an instance.
// Nova: InstancePCIRequests 1.1.
type InstancePCIRequests struct {
	Header

	InstanceUUID Field[string]                `nova:"instance_uuid"`
	Requests     Field[[]*InstancePCIRequest] `nova:"requests"`
}

// ObjectName implements Object.
func (*InstancePCIRequests) ObjectName() string { return "InstancePCIRequests" }

// ObjectVersion implements Object.
func (o *InstancePCIRequests) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *InstancePCIRequests) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstancePCIRequests) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstancePCIRequest is one PCI device that is asked for.
// Nova: InstancePCIRequest 1.4.
type InstancePCIRequest struct {
	Header

	Count       Field[int64]                `nova:"count"`
	Spec        Field[[]map[string]*string] `nova:"spec"`
	AliasName   Field[string]               `nova:"alias_name,null"`
	IsNew       Field[bool]                 `nova:"is_new,default=false"`
	RequestID   Field[string]               `nova:"request_id,null"`
	RequesterID Field[string]               `nova:"requester_id,null"`
	NUMAPolicy  Field[string]               `nova:"numa_policy,null,is=PCINUMAAffinityPolicy"`
}

// ObjectName implements Object.
func (*InstancePCIRequest) ObjectName() string { return "InstancePCIRequest" }

// ObjectVersion implements Object.
func (o *InstancePCIRequest) ObjectVersion() string { return o.versionOr("1.4") }

// MarshalJSON implements json.Marshaler.
func (o *InstancePCIRequest) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstancePCIRequest) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// PciDevice is a PCI device of a host.
// Nova: PciDevice 1.7.
type PciDevice struct {
	Header
	Persistent

	ID            Field[int64]             `nova:"id"`
	UUID          Field[string]            `nova:"uuid"`
	ComputeNodeID Field[int64]             `nova:"compute_node_id,null"`
	Address       Field[string]            `nova:"address"`
	VendorID      Field[string]            `nova:"vendor_id"`
	ProductID     Field[string]            `nova:"product_id"`
	DevType       Field[string]            `nova:"dev_type,is=PciDeviceType"`
	Status        Field[string]            `nova:"status,is=PciDeviceStatus"`
	DevID         Field[string]            `nova:"dev_id,null"`
	Label         Field[string]            `nova:"label,null"`
	InstanceUUID  Field[string]            `nova:"instance_uuid,null"`
	RequestID     Field[string]            `nova:"request_id,null"`
	ExtraInfo     Field[map[string]string] `nova:"extra_info,default={}"`
	NUMANode      Field[int64]             `nova:"numa_node,null"`
	ParentAddr    Field[string]            `nova:"parent_addr,null"`
}

// ObjectName implements Object.
func (*PciDevice) ObjectName() string { return "PciDevice" }

// ObjectVersion implements Object.
func (o *PciDevice) ObjectVersion() string { return o.versionOr("1.7") }

// MarshalJSON implements json.Marshaler.
func (o *PciDevice) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *PciDevice) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// PciDeviceList is a list of PCI devices.
// Nova: PciDeviceList 1.3.
type PciDeviceList struct {
	Header

	Objects Field[[]*PciDevice] `nova:"objects"`
}

// ObjectName implements Object.
func (*PciDeviceList) ObjectName() string { return "PciDeviceList" }

// ObjectVersion implements Object.
func (o *PciDeviceList) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *PciDeviceList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *PciDeviceList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// PciDevicePool is a number of alike PCI devices.
// Nova: PciDevicePool 1.1.
type PciDevicePool struct {
	Header

	ProductID Field[string]             `nova:"product_id"`
	VendorID  Field[string]             `nova:"vendor_id"`
	NUMANode  Field[int64]              `nova:"numa_node,null"`
	Tags      Field[map[string]*string] `nova:"tags"`
	Count     Field[int64]              `nova:"count"`
}

// ObjectName implements Object.
func (*PciDevicePool) ObjectName() string { return "PciDevicePool" }

// ObjectVersion implements Object.
func (o *PciDevicePool) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *PciDevicePool) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *PciDevicePool) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// PciDevicePoolList is a list of PCI device pools.
// Nova: PciDevicePoolList 1.1.
type PciDevicePoolList struct {
	Header

	Objects Field[[]*PciDevicePool] `nova:"objects"`
}

// ObjectName implements Object.
func (*PciDevicePoolList) ObjectName() string { return "PciDevicePoolList" }

// ObjectVersion implements Object.
func (o *PciDevicePoolList) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *PciDevicePoolList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *PciDevicePoolList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
