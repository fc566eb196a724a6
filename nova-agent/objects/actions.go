package objects

import "time"

// InstanceActionEvent is an event of a server action, by which the API shows who did
// what and how it went.
// Nova: InstanceActionEvent 1.4.
type InstanceActionEvent struct {
	Header
	Persistent

	ID         Field[int64]     `nova:"id"`
	Event      Field[string]    `nova:"event,null"`
	ActionID   Field[int64]     `nova:"action_id,null"`
	StartTime  Field[time.Time] `nova:"start_time,null"`
	FinishTime Field[time.Time] `nova:"finish_time,null"`
	Result     Field[string]    `nova:"result,null"`
	Traceback  Field[string]    `nova:"traceback,null"`
	Host       Field[string]    `nova:"host,null"`
	Details    Field[string]    `nova:"details,null"`
}

// ObjectName implements Object.
func (*InstanceActionEvent) ObjectName() string { return "InstanceActionEvent" }

// ObjectVersion implements Object.
func (o *InstanceActionEvent) ObjectVersion() string { return o.versionOr("1.4") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceActionEvent) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceActionEvent) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceFault is why an operation on a server failed, as the API shows it.
// Nova: InstanceFault 1.2.
type InstanceFault struct {
	Header
	Persistent

	ID           Field[int64]  `nova:"id"`
	InstanceUUID Field[string] `nova:"instance_uuid"`
	Code         Field[int64]  `nova:"code"`
	Message      Field[string] `nova:"message,null"`
	Details      Field[string] `nova:"details,null"`
	Host         Field[string] `nova:"host,null"`
}

// ObjectName implements Object.
func (*InstanceFault) ObjectName() string { return "InstanceFault" }

// ObjectVersion implements Object.
func (o *InstanceFault) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceFault) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceFault) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// InstanceExternalEvent is what another service tells of a server; Tag is a port or
// volume ID.
// Nova: InstanceExternalEvent 1.5.
type InstanceExternalEvent struct {
	Header

	InstanceUUID Field[string]            `nova:"instance_uuid"`
	Name         Field[string]            `nova:"name,is=ExternalEventName"`
	Status       Field[string]            `nova:"status,is=ExternalEventStatus"`
	Tag          Field[string]            `nova:"tag,null"`
	Data         Field[map[string]string] `nova:"data"`
}

// ObjectName implements Object.
func (*InstanceExternalEvent) ObjectName() string { return "InstanceExternalEvent" }

// ObjectVersion implements Object.
func (o *InstanceExternalEvent) ObjectVersion() string { return o.versionOr("1.5") }

// MarshalJSON implements json.Marshaler.
func (o *InstanceExternalEvent) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *InstanceExternalEvent) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// TaskLog is the record of a periodic usage audit.
// Nova: TaskLog 1.0.
type TaskLog struct {
	Header
	Persistent

	ID              Field[int64]     `nova:"id,ro"`
	TaskName        Field[string]    `nova:"task_name"`
	State           Field[string]    `nova:"state,ro"`
	Host            Field[string]    `nova:"host"`
	PeriodBeginning Field[time.Time] `nova:"period_beginning"`
	PeriodEnding    Field[time.Time] `nova:"period_ending"`
	Message         Field[string]    `nova:"message"`
	TaskItems       Field[int64]     `nova:"task_items"`
	Errors          Field[int64]     `nova:"errors"`
}

// ObjectName implements Object.
func (*TaskLog) ObjectName() string { return "TaskLog" }

// ObjectVersion implements Object.
func (o *TaskLog) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *TaskLog) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *TaskLog) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// VolumeUsage is the usage of one attached volume.
// Nova: VolumeUsage 1.0.
type VolumeUsage struct {
	Header
	Persistent

	ID                Field[int64]     `nova:"id,ro"`
	VolumeID          Field[string]    `nova:"volume_id"`
	InstanceUUID      Field[string]    `nova:"instance_uuid,null"`
	ProjectID         Field[string]    `nova:"project_id,null"`
	UserID            Field[string]    `nova:"user_id,null"`
	AvailabilityZone  Field[string]    `nova:"availability_zone,null"`
	TotLastRefreshed  Field[time.Time] `nova:"tot_last_refreshed,null,ro"`
	TotReads          Field[int64]     `nova:"tot_reads,ro"`
	TotReadBytes      Field[int64]     `nova:"tot_read_bytes,ro"`
	TotWrites         Field[int64]     `nova:"tot_writes,ro"`
	TotWriteBytes     Field[int64]     `nova:"tot_write_bytes,ro"`
	CurrLastRefreshed Field[time.Time] `nova:"curr_last_refreshed,null,ro"`
	CurrReads         Field[int64]     `nova:"curr_reads"`
	CurrReadBytes     Field[int64]     `nova:"curr_read_bytes"`
	CurrWrites        Field[int64]     `nova:"curr_writes"`
	CurrWriteBytes    Field[int64]     `nova:"curr_write_bytes"`
}

// ObjectName implements Object.
func (*VolumeUsage) ObjectName() string { return "VolumeUsage" }

// ObjectVersion implements Object.
func (o *VolumeUsage) ObjectVersion() string { return o.versionOr("1.0") }

// MarshalJSON implements json.Marshaler.
func (o *VolumeUsage) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *VolumeUsage) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }

// ConsoleAuthToken is a permission to open a console.
// Nova: ConsoleAuthToken 1.1.
type ConsoleAuthToken struct {
	Header

	ID                 Field[int64]     `nova:"id"`
	ConsoleType        Field[string]    `nova:"console_type"`
	Host               Field[string]    `nova:"host"`
	Port               Field[int64]     `nova:"port"`
	InternalAccessPath Field[string]    `nova:"internal_access_path,null"`
	InstanceUUID       Field[string]    `nova:"instance_uuid"`
	AccessURLBase      Field[string]    `nova:"access_url_base,null"`
	Token              Field[string]    `nova:"token"`
	CreatedAt          Field[time.Time] `nova:"created_at,null"`
	UpdatedAt          Field[time.Time] `nova:"updated_at,null"`
}

// ObjectName implements Object.
func (*ConsoleAuthToken) ObjectName() string { return "ConsoleAuthToken" }

// ObjectVersion implements Object.
func (o *ConsoleAuthToken) ObjectVersion() string { return o.versionOr("1.1") }

// MarshalJSON implements json.Marshaler.
func (o *ConsoleAuthToken) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ConsoleAuthToken) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
