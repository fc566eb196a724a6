package objects

// Flavor is the size of a server. MemoryMB and Swap are MiB; RootGB and EphemeralGB
// are GiB; a RootGB of 0 is the size of the image.
// Nova: Flavor 1.2.
type Flavor struct {
	Header
	Persistent

	ID          Field[int64]             `nova:"id"`
	Name        Field[string]            `nova:"name,null"`
	MemoryMB    Field[int64]             `nova:"memory_mb"`
	VCPUs       Field[int64]             `nova:"vcpus"`
	RootGB      Field[int64]             `nova:"root_gb"`
	EphemeralGB Field[int64]             `nova:"ephemeral_gb"`
	FlavorID    Field[string]            `nova:"flavorid"`
	Swap        Field[int64]             `nova:"swap"`
	RXTXFactor  Field[float64]           `nova:"rxtx_factor,null,default=1.0"`
	VCPUWeight  Field[int64]             `nova:"vcpu_weight,null"`
	Disabled    Field[bool]              `nova:"disabled"`
	IsPublic    Field[bool]              `nova:"is_public"`
	ExtraSpecs  Field[map[string]string] `nova:"extra_specs"`
	Projects    Field[[]string]          `nova:"projects"`
	Description Field[string]            `nova:"description,null"`
}

// ObjectName implements Object.
func (*Flavor) ObjectName() string { return "Flavor" }

// ObjectVersion implements Object.
func (o *Flavor) ObjectVersion() string { return o.versionOr("1.2") }

// MarshalJSON implements json.Marshaler.
func (o *Flavor) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *Flavor) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
