package objects

import "time"

// ImageMeta is a Glance image, so far as Nova's own model of it goes. Size is in
// bytes, MinRAM in MiB, MinDisk in GiB.
// Nova: ImageMeta 1.8.
type ImageMeta struct {
	Header

	ID              Field[string]          `nova:"id"`
	Name            Field[string]          `nova:"name"`
	Status          Field[string]          `nova:"status"`
	Visibility      Field[string]          `nova:"visibility"`
	Protected       Field[bool]            `nova:"protected"`
	Checksum        Field[string]          `nova:"checksum"`
	Owner           Field[string]          `nova:"owner"`
	Size            Field[int64]           `nova:"size"`
	VirtualSize     Field[int64]           `nova:"virtual_size"`
	ContainerFormat Field[string]          `nova:"container_format"`
	DiskFormat      Field[string]          `nova:"disk_format"`
	CreatedAt       Field[time.Time]       `nova:"created_at,null"`
	UpdatedAt       Field[time.Time]       `nova:"updated_at,null"`
	Tags            Field[[]string]        `nova:"tags"`
	DirectURL       Field[string]          `nova:"direct_url"`
	MinRAM          Field[int64]           `nova:"min_ram"`
	MinDisk         Field[int64]           `nova:"min_disk"`
	Properties      Field[*ImageMetaProps] `nova:"properties"`
}

// ObjectName implements Object.
func (*ImageMeta) ObjectName() string { return "ImageMeta" }

// ObjectVersion implements Object.
func (o *ImageMeta) ObjectVersion() string { return o.versionOr("1.8") }

// MarshalJSON implements json.Marshaler.
func (o *ImageMeta) MarshalJSON() ([]byte, error) { return marshal(o) }

// UnmarshalJSON implements json.Unmarshaler.
func (o *ImageMeta) UnmarshalJSON(data []byte) error { return unmarshal(data, o) }
