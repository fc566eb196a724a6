package objects

import "time"

// Instance is a server. ID appears with its row in the database; the flavors are
// complete copies, never look one up by ID. Host, Node and LaunchedOn belong to the
// resource claim.
// Nova: Instance 2.7.
type Instance struct {
	Header
	Persistent

	ID                     Field[int64]                   `nova:"id"`
	UserID                 Field[string]                  `nova:"user_id,null"`
	ProjectID              Field[string]                  `nova:"project_id,null"`
	ImageRef               Field[string]                  `nova:"image_ref,null"`
	KernelID               Field[string]                  `nova:"kernel_id,null"`
	RamdiskID              Field[string]                  `nova:"ramdisk_id,null"`
	Hostname               Field[string]                  `nova:"hostname,null"`
	LaunchIndex            Field[int64]                   `nova:"launch_index,null"`
	KeyName                Field[string]                  `nova:"key_name,null"`
	KeyData                Field[string]                  `nova:"key_data,null"`
	PowerState             Field[int64]                   `nova:"power_state,null"`
	VMState                Field[string]                  `nova:"vm_state,null"`
	TaskState              Field[string]                  `nova:"task_state,null"`
	Services               Field[*ServiceList]            `nova:"services"`
	MemoryMB               Field[int64]                   `nova:"memory_mb,null"`
	VCPUs                  Field[int64]                   `nova:"vcpus,null"`
	RootGB                 Field[int64]                   `nova:"root_gb,null"`
	EphemeralGB            Field[int64]                   `nova:"ephemeral_gb,null"`
	EphemeralKeyUUID       Field[string]                  `nova:"ephemeral_key_uuid,null"`
	Host                   Field[string]                  `nova:"host,null"`
	Node                   Field[string]                  `nova:"node,null"`
	InstanceTypeID         Field[int64]                   `nova:"instance_type_id,null"`
	UserData               Field[string]                  `nova:"user_data,null"`
	ReservationID          Field[string]                  `nova:"reservation_id,null"`
	LaunchedAt             Field[time.Time]               `nova:"launched_at,null"`
	TerminatedAt           Field[time.Time]               `nova:"terminated_at,null"`
	AvailabilityZone       Field[string]                  `nova:"availability_zone,null"`
	DisplayName            Field[string]                  `nova:"display_name,null"`
	DisplayDescription     Field[string]                  `nova:"display_description,null"`
	LaunchedOn             Field[string]                  `nova:"launched_on,null"`
	Locked                 Field[bool]                    `nova:"locked,default=false"`
	LockedBy               Field[string]                  `nova:"locked_by,null"`
	OSType                 Field[string]                  `nova:"os_type,null"`
	Architecture           Field[string]                  `nova:"architecture,null"`
	VMMode                 Field[string]                  `nova:"vm_mode,null"`
	UUID                   Field[string]                  `nova:"uuid"`
	RootDeviceName         Field[string]                  `nova:"root_device_name,null"`
	DefaultEphemeralDevice Field[string]                  `nova:"default_ephemeral_device,null"`
	DefaultSwapDevice      Field[string]                  `nova:"default_swap_device,null"`
	ConfigDrive            Field[string]                  `nova:"config_drive,null"`
	AccessIPV4             Field[string]                  `nova:"access_ip_v4,null,is=ip4"`
	AccessIPV6             Field[string]                  `nova:"access_ip_v6,null,is=ip6"`
	AutoDiskConfig         Field[bool]                    `nova:"auto_disk_config,default=false"`
	Progress               Field[int64]                   `nova:"progress,null"`
	ShutdownTerminate      Field[bool]                    `nova:"shutdown_terminate,default=false"`
	DisableTerminate       Field[bool]                    `nova:"disable_terminate,default=false"`
	CellName               Field[string]                  `nova:"cell_name,null"`
	Metadata               Field[map[string]string]       `nova:"metadata"`
	SystemMetadata         Field[map[string]*string]      `nova:"system_metadata"`
	InfoCache              Field[*InstanceInfoCache]      `nova:"info_cache,null"`
	SecurityGroups         Field[*SecurityGroupList]      `nova:"security_groups"`
	Fault                  Field[*InstanceFault]          `nova:"fault,null"`
	Cleaned                Field[bool]                    `nova:"cleaned,default=false"`
	PCIDevices             Field[*PciDeviceList]          `nova:"pci_devices,null"`
	NUMATopology           Field[*InstanceNUMATopology]   `nova:"numa_topology,null"`
	PCIRequests            Field[*InstancePCIRequests]    `nova:"pci_requests,null"`
	DeviceMetadata         Field[*InstanceDeviceMetadata] `nova:"device_metadata,null"`
	Tags                   Field[*TagList]                `nova:"tags"`
	Flavor                 Field[*Flavor]                 `nova:"flavor"`
	OldFlavor              Field[*Flavor]                 `nova:"old_flavor,null"`
	NewFlavor              Field[*Flavor]                 `nova:"new_flavor,null"`
	VCPUModel              Field[*VirtCPUModel]           `nova:"vcpu_model,null"`
	EC2IDs                 Field[*EC2Ids]                 `nova:"ec2_ids"`
	MigrationContext       Field[*MigrationContext]       `nova:"migration_context,null"`
	Keypairs               Field[*KeyPairList]            `nova:"keypairs"`
	TrustedCerts           Field[*TrustedCerts]           `nova:"trusted_certs,null"`
	Hidden                 Field[bool]                    `nova:"hidden,default=false"`
	Resources              Field[*ResourceList]           `nova:"resources,null"`
}

// ObjectName implements Object.
func (*Instance) ObjectName() string { return "Instance" }

// ObjectVersion implements Object.
func (o *Instance) ObjectVersion() string { return o.versionOr("2.7") }

// MarshalJSON implements json.Marshaler.
func (o *Instance) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Instance) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceList is a list of instances.
// Nova: InstanceList 2.6.
type InstanceList struct {
	Header

	Objects Field[[]*Instance] `nova:"objects"`
}

// ObjectName implements Object.
func (*InstanceList) ObjectName() string { return "InstanceList" }

// ObjectVersion implements Object.
func (o *InstanceList) ObjectVersion() string { return o.versionOr("2.6") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceInfoCache is the network information of an instance, saved as an object of
// its own.
// Nova: InstanceInfoCache 1.5.
type InstanceInfoCache struct {
	Header
	Persistent

	InstanceUUID Field[string]       `nova:"instance_uuid"`
	NetworkInfo  Field[NetworkModel] `nova:"network_info,null"`
}

// ObjectName implements Object.
func (*InstanceInfoCache) ObjectName() string { return "InstanceInfoCache" }

// ObjectVersion implements Object.
func (o *InstanceInfoCache) ObjectVersion() string { return o.versionOr("1.5") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceInfoCache) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceInfoCache) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// EC2Ids holds the names that the EC2 API knows an instance by.
// Nova: EC2Ids 1.0.
type EC2Ids struct {
	Header

	InstanceID Field[string] `nova:"instance_id,ro"`
	AMIID      Field[string] `nova:"ami_id,null,ro"`
	KernelID   Field[string] `nova:"kernel_id,null,ro"`
	RamdiskID  Field[string] `nova:"ramdisk_id,null,ro"`
}

// ObjectName implements Object.
func (*EC2Ids) ObjectName() string { return "EC2Ids" }

// ObjectVersion implements Object.
func (o *EC2Ids) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *EC2Ids) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *EC2Ids) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// KeyPair is a user's public key.
// Nova: KeyPair 1.4.
type KeyPair struct {
	Header
	Persistent

	ID          Field[int64]  `nova:"id"`
	Name        Field[string] `nova:"name"`
	UserID      Field[string] `nova:"user_id,null"`
	Fingerprint Field[string] `nova:"fingerprint,null"`
	PublicKey   Field[string] `nova:"public_key,null"`
	Type        Field[string] `nova:"type"`
}

// ObjectName implements Object.
func (*KeyPair) ObjectName() string { return "KeyPair" }

// ObjectVersion implements Object.
func (o *KeyPair) ObjectVersion() string { return o.versionOr("1.4") }

// MarshalJSON implements json.Marshaler.
func (o *KeyPair) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *KeyPair) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// KeyPairList is a list of key pairs.
// Nova: KeyPairList 1.3.
type KeyPairList struct {
	Header

	Objects Field[[]*KeyPair] `nova:"objects"`
}

// ObjectName implements Object.
func (*KeyPairList) ObjectName() string { return "KeyPairList" }

// ObjectVersion implements Object.
func (o *KeyPairList) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *KeyPairList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *KeyPairList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Tag is one of a server's tags.
// Nova: Tag 1.1.
type Tag struct {
	Header

	ResourceID Field[string] `nova:"resource_id"`
	Tag        Field[string] `nova:"tag"`
}

// ObjectName implements Object.
func (*Tag) ObjectName() string { return "Tag" }

// ObjectVersion implements Object.
func (o *Tag) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *Tag) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Tag) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// TagList is a list of tags.
// Nova: TagList 1.1.
type TagList struct {
	Header

	Objects Field[[]*Tag] `nova:"objects"`
}

// ObjectName implements Object.
func (*TagList) ObjectName() string { return "TagList" }

// ObjectVersion implements Object.
func (o *TagList) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *TagList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *TagList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// SecurityGroup is a Neutron security group by name or UUID.
// Nova: SecurityGroup 1.2.
type SecurityGroup struct {
	Header
	Persistent

	ID          Field[int64]  `nova:"id"`
	Name        Field[string] `nova:"name"`
	Description Field[string] `nova:"description"`
	UserID      Field[string] `nova:"user_id"`
	ProjectID   Field[string] `nova:"project_id"`
	UUID        Field[string] `nova:"uuid"`
}

// ObjectName implements Object.
func (*SecurityGroup) ObjectName() string { return "SecurityGroup" }

// ObjectVersion implements Object.
func (o *SecurityGroup) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *SecurityGroup) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *SecurityGroup) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// SecurityGroupList is a list of security groups. Lists that Nova makes itself are
// always empty on the wire; the names travel apart.
// Nova: SecurityGroupList 1.1.
type SecurityGroupList struct {
	Header

	Objects Field[[]*SecurityGroup] `nova:"objects"`
}

// ObjectName implements Object.
func (*SecurityGroupList) ObjectName() string { return "SecurityGroupList" }

// ObjectVersion implements Object.
func (o *SecurityGroupList) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *SecurityGroupList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *SecurityGroupList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// TrustedCerts holds the IDs of the certificates that an image signature must chain to.
// Nova: TrustedCerts 1.0.
type TrustedCerts struct {
	Header

	IDs Field[[]string] `nova:"ids"`
}

// ObjectName implements Object.
func (*TrustedCerts) ObjectName() string { return "TrustedCerts" }

// ObjectVersion implements Object.
func (o *TrustedCerts) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *TrustedCerts) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *TrustedCerts) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
