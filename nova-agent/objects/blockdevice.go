package objects

// BlockDeviceMapping is one disk of a server. BootIndex 0 is the root; ConnectionInfo
// is a JSON text and may hold secrets; VolumeSize is GiB.
// Nova: BlockDeviceMapping 1.21.
type BlockDeviceMapping struct {
	Header
	Persistent

	ID                   Field[int64]     `nova:"id"`
	UUID                 Field[string]    `nova:"uuid"`
	InstanceUUID         Field[string]    `nova:"instance_uuid"`
	Instance             Field[*Instance] `nova:"instance,null"`
	SourceType           Field[string]    `nova:"source_type,null,is=BlockDeviceSourceType"`
	DestinationType      Field[string]    `nova:"destination_type,null,is=BlockDeviceDestinationType"`
	GuestFormat          Field[string]    `nova:"guest_format,null"`
	DeviceType           Field[string]    `nova:"device_type,null,is=BlockDeviceType"`
	DiskBus              Field[string]    `nova:"disk_bus,null"`
	BootIndex            Field[int64]     `nova:"boot_index,null"`
	DeviceName           Field[string]    `nova:"device_name,null"`
	DeleteOnTermination  Field[bool]      `nova:"delete_on_termination,default=false"`
	SnapshotID           Field[string]    `nova:"snapshot_id,null"`
	VolumeID             Field[string]    `nova:"volume_id,null"`
	VolumeSize           Field[int64]     `nova:"volume_size,null"`
	ImageID              Field[string]    `nova:"image_id,null"`
	NoDevice             Field[bool]      `nova:"no_device,default=false"`
	ConnectionInfo       Field[string]    `nova:"connection_info,null"`
	Tag                  Field[string]    `nova:"tag,null"`
	AttachmentID         Field[string]    `nova:"attachment_id,null"`
	VolumeType           Field[string]    `nova:"volume_type,null"`
	Encrypted            Field[bool]      `nova:"encrypted,default=false"`
	EncryptionSecretUUID Field[string]    `nova:"encryption_secret_uuid,null"`
	EncryptionFormat     Field[string]    `nova:"encryption_format,null,is=BlockDeviceEncryptionFormatType"`
	EncryptionOptions    Field[string]    `nova:"encryption_options,null"`
}

// ObjectName implements Object.
func (*BlockDeviceMapping) ObjectName() string { return "BlockDeviceMapping" }

// ObjectVersion implements Object.
func (o *BlockDeviceMapping) ObjectVersion() string { return o.versionOr("1.21") }

// MarshalJSON implements json.Marshaler.
func (o *BlockDeviceMapping) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *BlockDeviceMapping) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// BlockDeviceMappingList is a list of block device mappings.
// Nova: BlockDeviceMappingList 1.18.
type BlockDeviceMappingList struct {
	Header

	Objects Field[[]*BlockDeviceMapping] `nova:"objects"`
}

// ObjectName implements Object.
func (*BlockDeviceMappingList) ObjectName() string { return "BlockDeviceMappingList" }

// ObjectVersion implements Object.
func (o *BlockDeviceMappingList) ObjectVersion() string { return o.versionOr("1.18") }

// MarshalJSON implements json.Marshaler.
func (o *BlockDeviceMappingList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *BlockDeviceMappingList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
