package objects

import "time"

// RequestSpec is what was asked of the scheduler. It goes back to the conductor
// unchanged when a build is rescheduled.
// Nova: RequestSpec 1.14.
type RequestSpec struct {
	Header

	ID                   Field[int64]                 `nova:"id"`
	Image                Field[*ImageMeta]            `nova:"image,null"`
	NUMATopology         Field[*InstanceNUMATopology] `nova:"numa_topology,null"`
	PCIRequests          Field[*InstancePCIRequests]  `nova:"pci_requests,null"`
	ProjectID            Field[string]                `nova:"project_id,null"`
	UserID               Field[string]                `nova:"user_id,null"`
	AvailabilityZone     Field[string]                `nova:"availability_zone,null"`
	Flavor               Field[*Flavor]               `nova:"flavor"`
	NumInstances         Field[int64]                 `nova:"num_instances,default=1"`
	IgnoreHosts          Field[[]string]              `nova:"ignore_hosts,null"`
	ForceHosts           Field[[]string]              `nova:"force_hosts,null"`
	ForceNodes           Field[[]string]              `nova:"force_nodes,null"`
	RequestedDestination Field[*Destination]          `nova:"requested_destination,null,default=null"`
	Retry                Field[*SchedulerRetries]     `nova:"retry,null"`
	Limits               Field[*SchedulerLimits]      `nova:"limits,null"`
	InstanceGroup        Field[*InstanceGroup]        `nova:"instance_group,null"`
	SchedulerHints       Field[map[string][]string]   `nova:"scheduler_hints,null"`
	InstanceUUID         Field[string]                `nova:"instance_uuid"`
	SecurityGroups       Field[*SecurityGroupList]    `nova:"security_groups"`
	NetworkMetadata      Field[*NetworkMetadata]      `nova:"network_metadata"`
	IsBFV                Field[bool]                  `nova:"is_bfv"`
	RequestedResources   Field[[]*RequestGroup]       `nova:"requested_resources,null,default=null"`
	RequestLevelParams   Field[*RequestLevelParams]   `nova:"request_level_params"`
	RequestedNetworks    Field[*NetworkRequestList]   `nova:"requested_networks"`
}

// ObjectName implements Object.
func (*RequestSpec) ObjectName() string { return "RequestSpec" }

// ObjectVersion implements Object.
func (o *RequestSpec) ObjectVersion() string { return o.versionOr("1.14") }

// MarshalJSON implements json.Marshaler.
func (o *RequestSpec) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *RequestSpec) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// RequestGroup is a group of resources and traits of an allocation candidate.
// RequesterID is a port or group, ProviderUUIDs are filled in by the conductor.
// Nova: RequestGroup 1.3.
type RequestGroup struct {
	Header

	UseSameProvider     Field[bool]             `nova:"use_same_provider,default=true"`
	Resources           Field[map[string]int64] `nova:"resources,default={}"`
	RequiredTraits      Field[[]string]         `nova:"required_traits,set,default=[]"`
	ForbiddenTraits     Field[[]string]         `nova:"forbidden_traits,set,default=[]"`
	Aggregates          Field[[][]string]       `nova:"aggregates,default=[]"`
	ForbiddenAggregates Field[[]string]         `nova:"forbidden_aggregates,set,default=[]"`
	RequesterID         Field[string]           `nova:"requester_id,null,default=null"`
	ProviderUUIDs       Field[[]string]         `nova:"provider_uuids,default=[]"`
	InTree              Field[string]           `nova:"in_tree,null,default=null"`
}

// ObjectName implements Object.
func (*RequestGroup) ObjectName() string { return "RequestGroup" }

// ObjectVersion implements Object.
func (o *RequestGroup) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *RequestGroup) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *RequestGroup) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// RequestLevelParams holds the parts of a request that concern all its groups.
// Nova: RequestLevelParams 1.1.
type RequestLevelParams struct {
	Header

	RootRequired  Field[[]string]   `nova:"root_required,set,default=[]"`
	RootForbidden Field[[]string]   `nova:"root_forbidden,set,default=[]"`
	SameSubtree   Field[[][]string] `nova:"same_subtree,default=[]"`
}

// ObjectName implements Object.
func (*RequestLevelParams) ObjectName() string { return "RequestLevelParams" }

// ObjectVersion implements Object.
func (o *RequestLevelParams) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *RequestLevelParams) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *RequestLevelParams) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// NetworkMetadata is what the scheduler knows of the requested networks.
// Nova: NetworkMetadata 1.0.
type NetworkMetadata struct {
	Header

	Physnets Field[[]string] `nova:"physnets,set"`
	Tunneled Field[bool]     `nova:"tunneled"`
}

// ObjectName implements Object.
func (*NetworkMetadata) ObjectName() string { return "NetworkMetadata" }

// ObjectVersion implements Object.
func (o *NetworkMetadata) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *NetworkMetadata) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *NetworkMetadata) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Selection is one host that the scheduler chose.
// Nova: Selection 1.1.
type Selection struct {
	Header

	ComputeNodeUUID          Field[string]           `nova:"compute_node_uuid"`
	ServiceHost              Field[string]           `nova:"service_host"`
	Nodename                 Field[string]           `nova:"nodename"`
	CellUUID                 Field[string]           `nova:"cell_uuid"`
	Limits                   Field[*SchedulerLimits] `nova:"limits,null"`
	AllocationRequest        Field[string]           `nova:"allocation_request,null"`
	AllocationRequestVersion Field[string]           `nova:"allocation_request_version,null"`
	AvailabilityZone         Field[string]           `nova:"availability_zone,null"`
}

// ObjectName implements Object.
func (*Selection) ObjectName() string { return "Selection" }

// ObjectVersion implements Object.
func (o *Selection) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *Selection) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Selection) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// SchedulerLimits holds the claim's limits, as the scheduler saw them.
// Nova: SchedulerLimits 1.0.
type SchedulerLimits struct {
	Header

	NUMATopology Field[*NUMATopologyLimits] `nova:"numa_topology,null,default=null"`
	VCPU         Field[int64]               `nova:"vcpu,null,default=null"`
	DiskGB       Field[int64]               `nova:"disk_gb,null,default=null"`
	MemoryMB     Field[int64]               `nova:"memory_mb,null,default=null"`
}

// ObjectName implements Object.
func (*SchedulerLimits) ObjectName() string { return "SchedulerLimits" }

// ObjectVersion implements Object.
func (o *SchedulerLimits) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *SchedulerLimits) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *SchedulerLimits) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// SchedulerRetries holds the hosts that were already tried.
// Nova: SchedulerRetries 1.1.
type SchedulerRetries struct {
	Header

	NumAttempts Field[int64]            `nova:"num_attempts"`
	Hosts       Field[*ComputeNodeList] `nova:"hosts"`
}

// ObjectName implements Object.
func (*SchedulerRetries) ObjectName() string { return "SchedulerRetries" }

// ObjectVersion implements Object.
func (o *SchedulerRetries) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *SchedulerRetries) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *SchedulerRetries) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Destination is a host that was asked for.
// Nova: Destination 1.4.
type Destination struct {
	Header

	Host                Field[string]       `nova:"host"`
	Node                Field[string]       `nova:"node,null"`
	Cell                Field[*CellMapping] `nova:"cell,null"`
	Aggregates          Field[[]string]     `nova:"aggregates,null,default=null"`
	AllowCrossCellMove  Field[bool]         `nova:"allow_cross_cell_move,default=false"`
	ForbiddenAggregates Field[[]string]     `nova:"forbidden_aggregates,null,set,default=null"`
}

// ObjectName implements Object.
func (*Destination) ObjectName() string { return "Destination" }

// ObjectVersion implements Object.
func (o *Destination) ObjectVersion() string { return o.versionOr("1.4") }

// MarshalJSON implements json.Marshaler.
func (o *Destination) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Destination) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// CellMapping is where a cell is. The URLs hold passwords.
// Nova: CellMapping 1.1.
type CellMapping struct {
	Header

	ID                 Field[int64]     `nova:"id,ro"`
	UUID               Field[string]    `nova:"uuid"`
	Name               Field[string]    `nova:"name,null"`
	TransportURL       Field[string]    `nova:"transport_url"`
	DatabaseConnection Field[string]    `nova:"database_connection"`
	Disabled           Field[bool]      `nova:"disabled,default=false"`
	CreatedAt          Field[time.Time] `nova:"created_at,null"`
	UpdatedAt          Field[time.Time] `nova:"updated_at,null"`
}

// ObjectName implements Object.
func (*CellMapping) ObjectName() string { return "CellMapping" }

// ObjectVersion implements Object.
func (o *CellMapping) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *CellMapping) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *CellMapping) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceGroup is a server group. Policies is the deprecated form of Policy and
// Rules.
// Nova: InstanceGroup 1.11.
type InstanceGroup struct {
	Header
	Persistent

	ID        Field[int64]             `nova:"id"`
	UserID    Field[string]            `nova:"user_id,null"`
	ProjectID Field[string]            `nova:"project_id,null"`
	UUID      Field[string]            `nova:"uuid"`
	Name      Field[string]            `nova:"name,null"`
	Policies  Field[[]string]          `nova:"policies,null,ro"`
	Members   Field[[]string]          `nova:"members,null"`
	Hosts     Field[[]string]          `nova:"hosts,null"`
	Policy    Field[string]            `nova:"policy,null"`
	Rules     Field[map[string]string] `nova:"_rules"`
}

// ObjectName implements Object.
func (*InstanceGroup) ObjectName() string { return "InstanceGroup" }

// ObjectVersion implements Object.
func (o *InstanceGroup) ObjectVersion() string { return o.versionOr("1.11") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceGroup) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceGroup) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// BuildRequest is a server that has no cell yet.
// Nova: BuildRequest 1.3.
type BuildRequest struct {
	Header

	ID                  Field[int64]                   `nova:"id"`
	InstanceUUID        Field[string]                  `nova:"instance_uuid"`
	ProjectID           Field[string]                  `nova:"project_id"`
	Instance            Field[*Instance]               `nova:"instance"`
	BlockDeviceMappings Field[*BlockDeviceMappingList] `nova:"block_device_mappings"`
	CreatedAt           Field[time.Time]               `nova:"created_at,null"`
	UpdatedAt           Field[time.Time]               `nova:"updated_at,null"`
	Tags                Field[*TagList]                `nova:"tags"`
}

// ObjectName implements Object.
func (*BuildRequest) ObjectName() string { return "BuildRequest" }

// ObjectVersion implements Object.
func (o *BuildRequest) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *BuildRequest) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *BuildRequest) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Aggregate is a host aggregate.
// Nova: Aggregate 1.3.
type Aggregate struct {
	Header
	Persistent

	ID       Field[int64]             `nova:"id"`
	UUID     Field[string]            `nova:"uuid"`
	Name     Field[string]            `nova:"name"`
	Hosts    Field[[]string]          `nova:"hosts,null"`
	Metadata Field[map[string]string] `nova:"metadata,null"`
}

// ObjectName implements Object.
func (*Aggregate) ObjectName() string { return "Aggregate" }

// ObjectVersion implements Object.
func (o *Aggregate) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *Aggregate) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Aggregate) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// Quotas holds reservations of the old quota engine.
// Nova: Quotas 1.3.
type Quotas struct {
	Header

	Reservations Field[[]string] `nova:"reservations,null,default=[]"`
	ProjectID    Field[string]   `nova:"project_id,null,default=null"`
	UserID       Field[string]   `nova:"user_id,null,default=null"`
}

// ObjectName implements Object.
func (*Quotas) ObjectName() string { return "Quotas" }

// ObjectVersion implements Object.
func (o *Quotas) ObjectVersion() string { return o.versionOr("1.3") }

// MarshalJSON implements json.Marshaler.
func (o *Quotas) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Quotas) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
