package objects

// Migration is a move of a server: resize, migration, evacuation.
// Nova: Migration 1.7.
type Migration struct {
	Header
	Persistent

	ID                Field[int64]  `nova:"id"`
	UUID              Field[string] `nova:"uuid"`
	SourceCompute     Field[string] `nova:"source_compute,null"`
	DestCompute       Field[string] `nova:"dest_compute,null"`
	SourceNode        Field[string] `nova:"source_node,null"`
	DestNode          Field[string] `nova:"dest_node,null"`
	DestHost          Field[string] `nova:"dest_host,null"`
	OldInstanceTypeID Field[int64]  `nova:"old_instance_type_id,null"`
	NewInstanceTypeID Field[int64]  `nova:"new_instance_type_id,null"`
	InstanceUUID      Field[string] `nova:"instance_uuid,null"`
	Status            Field[string] `nova:"status,null"`
	MigrationType     Field[string] `nova:"migration_type,is=MigrationType"`
	Hidden            Field[bool]   `nova:"hidden,default=false"`
	MemoryTotal       Field[int64]  `nova:"memory_total,null"`
	MemoryProcessed   Field[int64]  `nova:"memory_processed,null"`
	MemoryRemaining   Field[int64]  `nova:"memory_remaining,null"`
	DiskTotal         Field[int64]  `nova:"disk_total,null"`
	DiskProcessed     Field[int64]  `nova:"disk_processed,null"`
	DiskRemaining     Field[int64]  `nova:"disk_remaining,null"`
	CrossCellMove     Field[bool]   `nova:"cross_cell_move,default=false"`
	UserID            Field[string] `nova:"user_id,null"`
	ProjectID         Field[string] `nova:"project_id,null"`
}

// ObjectName implements Object.
func (*Migration) ObjectName() string { return "Migration" }

// ObjectVersion implements Object.
func (o *Migration) ObjectVersion() string { return o.versionOr("1.7") }

// MarshalJSON implements json.Marshaler.
func (o *Migration) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Migration) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// MigrationList is a list of migrations.
// Nova: MigrationList 1.5.
type MigrationList struct {
	Header

	Objects Field[[]*Migration] `nova:"objects"`
}

// ObjectName implements Object.
func (*MigrationList) ObjectName() string { return "MigrationList" }

// ObjectVersion implements Object.
func (o *MigrationList) ObjectVersion() string { return o.versionOr("1.5") }

// MarshalJSON implements json.Marshaler.
func (o *MigrationList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *MigrationList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// MigrationContext holds the resources of a server before and after a move.
// Nova: MigrationContext 1.2.
type MigrationContext struct {
	Header
	Persistent

	InstanceUUID    Field[string]                `nova:"instance_uuid"`
	MigrationID     Field[int64]                 `nova:"migration_id"`
	NewNUMATopology Field[*InstanceNUMATopology] `nova:"new_numa_topology,null"`
	OldNUMATopology Field[*InstanceNUMATopology] `nova:"old_numa_topology,null"`
	NewPCIDevices   Field[*PciDeviceList]        `nova:"new_pci_devices,null"`
	OldPCIDevices   Field[*PciDeviceList]        `nova:"old_pci_devices,null"`
	NewPCIRequests  Field[*InstancePCIRequests]  `nova:"new_pci_requests,null"`
	OldPCIRequests  Field[*InstancePCIRequests]  `nova:"old_pci_requests,null"`
	NewResources    Field[*ResourceList]         `nova:"new_resources,null"`
	OldResources    Field[*ResourceList]         `nova:"old_resources,null"`
}

// ObjectName implements Object.
func (*MigrationContext) ObjectName() string { return "MigrationContext" }

// ObjectVersion implements Object.
func (o *MigrationContext) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *MigrationContext) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *MigrationContext) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Resource is a resource with a name of its own, such as a persistent memory region.
// Nova: Resource 1.0.
type Resource struct {
	Header

	ProviderUUID  Field[string] `nova:"provider_uuid"`
	ResourceClass Field[string] `nova:"resource_class"`
	Identifier    Field[string] `nova:"identifier"`
	Metadata      Field[Object] `nova:"metadata,of=ResourceMetadata"`
}

// ObjectName implements Object.
func (*Resource) ObjectName() string { return "Resource" }

// ObjectVersion implements Object.
func (o *Resource) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *Resource) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Resource) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ResourceList is a list of resources.
// Nova: ResourceList 1.0.
type ResourceList struct {
	Header

	Objects Field[[]*Resource] `nova:"objects"`
}

// ObjectName implements Object.
func (*ResourceList) ObjectName() string { return "ResourceList" }

// ObjectVersion implements Object.
func (o *ResourceList) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *ResourceList) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ResourceList) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ResourceMetadata is what a driver notes of a resource; the base of its kinds.
// Nova: ResourceMetadata 1.0.
type ResourceMetadata struct {
	Header
}

// ObjectName implements Object.
func (*ResourceMetadata) ObjectName() string { return "ResourceMetadata" }

// ObjectVersion implements Object.
func (o *ResourceMetadata) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *ResourceMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ResourceMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
