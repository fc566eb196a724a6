package objects

// InstanceDeviceMetadata holds the tagged devices of a server, as the metadata service
// tells of them.
// Nova: InstanceDeviceMetadata 1.0.
type InstanceDeviceMetadata struct {
	Header

	Devices Field[[]Object] `nova:"devices,of=DeviceMetadata"`
}

// ObjectName implements Object.
func (*InstanceDeviceMetadata) ObjectName() string { return "InstanceDeviceMetadata" }

// ObjectVersion implements Object.
func (o *InstanceDeviceMetadata) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceDeviceMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceDeviceMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// DeviceMetadata is a device; the base of its kinds.
// Nova: DeviceMetadata 1.0.
type DeviceMetadata struct {
	Header

	Bus  Field[Object]   `nova:"bus,of=DeviceBus"`
	Tags Field[[]string] `nova:"tags"`
}

// ObjectName implements Object.
func (*DeviceMetadata) ObjectName() string { return "DeviceMetadata" }

// ObjectVersion implements Object.
func (o *DeviceMetadata) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *DeviceMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *DeviceMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// NetworkInterfaceMetadata is a network interface.
// Nova: NetworkInterfaceMetadata 1.2.
type NetworkInterfaceMetadata struct {
	Header

	MAC       Field[string]   `nova:"mac"`
	VLAN      Field[int64]    `nova:"vlan"`
	VFTrusted Field[bool]     `nova:"vf_trusted,default=false"`
	Bus       Field[Object]   `nova:"bus,of=DeviceBus"`
	Tags      Field[[]string] `nova:"tags"`
}

// ObjectName implements Object.
func (*NetworkInterfaceMetadata) ObjectName() string { return "NetworkInterfaceMetadata" }

// ObjectVersion implements Object.
func (o *NetworkInterfaceMetadata) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *NetworkInterfaceMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NetworkInterfaceMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// DiskMetadata is a disk.
// Nova: DiskMetadata 1.0.
type DiskMetadata struct {
	Header

	Serial Field[string]   `nova:"serial,null"`
	Path   Field[string]   `nova:"path,null"`
	Bus    Field[Object]   `nova:"bus,of=DeviceBus"`
	Tags   Field[[]string] `nova:"tags"`
}

// ObjectName implements Object.
func (*DiskMetadata) ObjectName() string { return "DiskMetadata" }

// ObjectVersion implements Object.
func (o *DiskMetadata) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *DiskMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *DiskMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// DeviceBus is where a device is; the base of its kinds.
// Nova: DeviceBus 1.0.
type DeviceBus struct {
	Header
}

// ObjectName implements Object.
func (*DeviceBus) ObjectName() string { return "DeviceBus" }

// ObjectVersion implements Object.
func (o *DeviceBus) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *DeviceBus) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *DeviceBus) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
