package objects

// Diagnostics is what the diagnostics API tells of a running server.
// Nova: Diagnostics 1.0.
type Diagnostics struct {
	Header

	State         Field[string]             `nova:"state,is=InstancePowerState"`
	Driver        Field[string]             `nova:"driver,is=HypervisorDriver"`
	Hypervisor    Field[string]             `nova:"hypervisor,null"`
	HypervisorOS  Field[string]             `nova:"hypervisor_os,null"`
	Uptime        Field[int64]              `nova:"uptime,null"`
	ConfigDrive   Field[bool]               `nova:"config_drive"`
	MemoryDetails Field[*MemoryDiagnostics] `nova:"memory_details"`
	CPUDetails    Field[[]*CpuDiagnostics]  `nova:"cpu_details,default=[]"`
	NICDetails    Field[[]*NicDiagnostics]  `nova:"nic_details,default=[]"`
	DiskDetails   Field[[]*DiskDiagnostics] `nova:"disk_details,default=[]"`
	NumCPUs       Field[int64]              `nova:"num_cpus"`
	NumNICs       Field[int64]              `nova:"num_nics"`
	NumDisks      Field[int64]              `nova:"num_disks"`
}

// ObjectName implements Object.
func (*Diagnostics) ObjectName() string { return "Diagnostics" }

// ObjectVersion implements Object.
func (o *Diagnostics) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *Diagnostics) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Diagnostics) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// MemoryDiagnostics holds memory in MiB.
// Nova: MemoryDiagnostics 1.0.
type MemoryDiagnostics struct {
	Header

	Maximum Field[int64] `nova:"maximum,null"`
	Used    Field[int64] `nova:"used,null"`
}

// ObjectName implements Object.
func (*MemoryDiagnostics) ObjectName() string { return "MemoryDiagnostics" }

// ObjectVersion implements Object.
func (o *MemoryDiagnostics) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *MemoryDiagnostics) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *MemoryDiagnostics) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// CpuDiagnostics is one virtual CPU; Time is in ns, Utilisation in percent.
// Nova: CpuDiagnostics 1.0.
type CpuDiagnostics struct {
	Header

	ID          Field[int64] `nova:"id,null"`
	Time        Field[int64] `nova:"time,null"`
	Utilisation Field[int64] `nova:"utilisation,null"`
}

// ObjectName implements Object.
func (*CpuDiagnostics) ObjectName() string { return "CpuDiagnostics" }

// ObjectVersion implements Object.
func (o *CpuDiagnostics) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *CpuDiagnostics) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *CpuDiagnostics) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// NicDiagnostics is one network interface.
// Nova: NicDiagnostics 1.0.
type NicDiagnostics struct {
	Header

	MACAddress Field[string] `nova:"mac_address,null"`
	RXOctets   Field[int64]  `nova:"rx_octets,null"`
	RXErrors   Field[int64]  `nova:"rx_errors,null"`
	RXDrop     Field[int64]  `nova:"rx_drop,null"`
	RXPackets  Field[int64]  `nova:"rx_packets,null"`
	RXRate     Field[int64]  `nova:"rx_rate,null"`
	TXOctets   Field[int64]  `nova:"tx_octets,null"`
	TXErrors   Field[int64]  `nova:"tx_errors,null"`
	TXDrop     Field[int64]  `nova:"tx_drop,null"`
	TXPackets  Field[int64]  `nova:"tx_packets,null"`
	TXRate     Field[int64]  `nova:"tx_rate,null"`
}

// ObjectName implements Object.
func (*NicDiagnostics) ObjectName() string { return "NicDiagnostics" }

// ObjectVersion implements Object.
func (o *NicDiagnostics) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *NicDiagnostics) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NicDiagnostics) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// DiskDiagnostics is one disk.
// Nova: DiskDiagnostics 1.0.
type DiskDiagnostics struct {
	Header

	ReadBytes     Field[int64] `nova:"read_bytes,null"`
	ReadRequests  Field[int64] `nova:"read_requests,null"`
	WriteBytes    Field[int64] `nova:"write_bytes,null"`
	WriteRequests Field[int64] `nova:"write_requests,null"`
	ErrorsCount   Field[int64] `nova:"errors_count,null"`
}

// ObjectName implements Object.
func (*DiskDiagnostics) ObjectName() string { return "DiskDiagnostics" }

// ObjectVersion implements Object.
func (o *DiskDiagnostics) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *DiskDiagnostics) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *DiskDiagnostics) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
