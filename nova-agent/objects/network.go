package objects

// NetworkRequest is one network or port that was asked for.
// Nova: NetworkRequest 1.3.
type NetworkRequest struct {
	Header

	NetworkID     Field[string] `nova:"network_id,null"`
	Address       Field[string] `nova:"address,null,is=ip"`
	PortID        Field[string] `nova:"port_id,null"`
	PCIRequestID  Field[string] `nova:"pci_request_id,null"`
	Tag           Field[string] `nova:"tag,null"`
	ARQUUID       Field[string] `nova:"arq_uuid,null"`
	DeviceProfile Field[string] `nova:"device_profile,null"`
}

// ObjectName implements Object.
func (*NetworkRequest) ObjectName() string { return "NetworkRequest" }

// ObjectVersion implements Object.
func (o *NetworkRequest) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *NetworkRequest) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NetworkRequest) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// NetworkRequestList is a list of requested networks.
// Nova: NetworkRequestList 1.1.
type NetworkRequestList struct {
	Header

	Objects Field[[]*NetworkRequest] `nova:"objects"`
}

// ObjectName implements Object.
func (*NetworkRequestList) ObjectName() string { return "NetworkRequestList" }

// ObjectVersion implements Object.
func (o *NetworkRequestList) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *NetworkRequestList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NetworkRequestList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VirtualInterface is Nova's record of a port. Address is the MAC, a slash and the
// port's ID; UUID is the port's ID.
// Nova: VirtualInterface 1.3.
type VirtualInterface struct {
	Header
	Persistent

	ID           Field[int64]  `nova:"id"`
	Address      Field[string] `nova:"address,null"`
	NetworkID    Field[int64]  `nova:"network_id"`
	InstanceUUID Field[string] `nova:"instance_uuid"`
	UUID         Field[string] `nova:"uuid"`
	Tag          Field[string] `nova:"tag,null"`
}

// ObjectName implements Object.
func (*VirtualInterface) ObjectName() string { return "VirtualInterface" }

// ObjectVersion implements Object.
func (o *VirtualInterface) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *VirtualInterface) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VirtualInterface) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VirtualInterfaceList is a list of virtual interfaces.
// Nova: VirtualInterfaceList 1.0.
type VirtualInterfaceList struct {
	Header

	Objects Field[[]*VirtualInterface] `nova:"objects"`
}

// ObjectName implements Object.
func (*VirtualInterfaceList) ObjectName() string { return "VirtualInterfaceList" }

// ObjectVersion implements Object.
func (o *VirtualInterfaceList) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VirtualInterfaceList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VirtualInterfaceList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
