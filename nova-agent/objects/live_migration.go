package objects

// LibvirtLiveMigrateData holds the libvirt driver's notes that travel with a live
// migration.
// Nova: LibvirtLiveMigrateData 1.10.
type LibvirtLiveMigrateData struct {
	Header

	Filename                     Field[string]                       `nova:"filename"`
	ImageType                    Field[string]                       `nova:"image_type"`
	BlockMigration               Field[bool]                         `nova:"block_migration"`
	DiskOverCommit               Field[bool]                         `nova:"disk_over_commit"`
	DiskAvailableMB              Field[int64]                        `nova:"disk_available_mb,null"`
	IsSharedInstancePath         Field[bool]                         `nova:"is_shared_instance_path"`
	IsSharedBlockStorage         Field[bool]                         `nova:"is_shared_block_storage"`
	InstanceRelativePath         Field[string]                       `nova:"instance_relative_path"`
	GraphicsListenAddrVNC        Field[string]                       `nova:"graphics_listen_addr_vnc,null,is=ip"`
	GraphicsListenAddrSpice      Field[string]                       `nova:"graphics_listen_addr_spice,null,is=ip"`
	SerialListenAddr             Field[string]                       `nova:"serial_listen_addr,null"`
	SerialListenPorts            Field[[]int64]                      `nova:"serial_listen_ports"`
	BDMs                         Field[[]*LibvirtLiveMigrateBDMInfo] `nova:"bdms"`
	TargetConnectAddr            Field[string]                       `nova:"target_connect_addr,null"`
	SupportedPerfEvents          Field[[]string]                     `nova:"supported_perf_events"`
	SrcSupportsNativeLUKS        Field[bool]                         `nova:"src_supports_native_luks"`
	DstWantsFileBackedMemory     Field[bool]                         `nova:"dst_wants_file_backed_memory"`
	FileBackedMemoryDiscard      Field[bool]                         `nova:"file_backed_memory_discard"`
	SrcSupportsNUMALiveMigration Field[bool]                         `nova:"src_supports_numa_live_migration"`
	DstSupportsNUMALiveMigration Field[bool]                         `nova:"dst_supports_numa_live_migration"`
	DstNUMAInfo                  Field[*LibvirtLiveMigrateNUMAInfo]  `nova:"dst_numa_info"`
	IsVolumeBacked               Field[bool]                         `nova:"is_volume_backed"`
	Migration                    Field[*Migration]                   `nova:"migration"`
	OldVolAttachmentIDs          Field[map[string]string]            `nova:"old_vol_attachment_ids"`
	WaitForVIFPlugged            Field[bool]                         `nova:"wait_for_vif_plugged"`
	VIFs                         Field[[]*VIFMigrateData]            `nova:"vifs"`
}

// ObjectName implements Object.
func (*LibvirtLiveMigrateData) ObjectName() string { return "LibvirtLiveMigrateData" }

// ObjectVersion implements Object.
func (o *LibvirtLiveMigrateData) ObjectVersion() string { return o.versionOr("1.10") }

// MarshalJSON implements json.Marshaler.
func (o *LibvirtLiveMigrateData) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *LibvirtLiveMigrateData) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// LibvirtLiveMigrateBDMInfo is one disk in it.
// Nova: LibvirtLiveMigrateBDMInfo 1.1.
type LibvirtLiveMigrateBDMInfo struct {
	Header

	Serial               Field[string] `nova:"serial"`
	Bus                  Field[string] `nova:"bus"`
	Dev                  Field[string] `nova:"dev"`
	Type                 Field[string] `nova:"type"`
	Format               Field[string] `nova:"format,null"`
	BootIndex            Field[int64]  `nova:"boot_index,null"`
	ConnectionInfoJSON   Field[string] `nova:"connection_info_json"`
	EncryptionSecretUUID Field[string] `nova:"encryption_secret_uuid,null"`
}

// ObjectName implements Object.
func (*LibvirtLiveMigrateBDMInfo) ObjectName() string { return "LibvirtLiveMigrateBDMInfo" }

// ObjectVersion implements Object.
func (o *LibvirtLiveMigrateBDMInfo) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *LibvirtLiveMigrateBDMInfo) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *LibvirtLiveMigrateBDMInfo) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// LibvirtLiveMigrateNUMAInfo is the pinning at the destination.
// Nova: LibvirtLiveMigrateNUMAInfo 1.0.
type LibvirtLiveMigrateNUMAInfo struct {
	Header

	CPUPins       Field[map[string][]int64] `nova:"cpu_pins,set"`
	CellPins      Field[map[string][]int64] `nova:"cell_pins,set"`
	EmulatorPins  Field[[]int64]            `nova:"emulator_pins,set"`
	SchedVCPUs    Field[[]int64]            `nova:"sched_vcpus,set"`
	SchedPriority Field[int64]              `nova:"sched_priority"`
}

// ObjectName implements Object.
func (*LibvirtLiveMigrateNUMAInfo) ObjectName() string { return "LibvirtLiveMigrateNUMAInfo" }

// ObjectVersion implements Object.
func (o *LibvirtLiveMigrateNUMAInfo) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *LibvirtLiveMigrateNUMAInfo) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *LibvirtLiveMigrateNUMAInfo) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VIFMigrateData is one port in it; SourceVIF is a JSON text.
// Nova: VIFMigrateData 1.0.
type VIFMigrateData struct {
	Header

	PortID         Field[string]       `nova:"port_id"`
	VnicType       Field[string]       `nova:"vnic_type"`
	VIFType        Field[string]       `nova:"vif_type"`
	VIFDetailsJSON Field[string]       `nova:"vif_details_json"`
	ProfileJSON    Field[string]       `nova:"profile_json"`
	Host           Field[string]       `nova:"host"`
	SourceVIF      Field[NetworkModel] `nova:"source_vif"`
}

// ObjectName implements Object.
func (*VIFMigrateData) ObjectName() string { return "VIFMigrateData" }

// ObjectVersion implements Object.
func (o *VIFMigrateData) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VIFMigrateData) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VIFMigrateData) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
