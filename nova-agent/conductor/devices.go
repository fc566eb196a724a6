package conductor

import (
	"context"

	"novaagent/nova-agent/objects"
)

// BlockDeviceMappings lists the disks of an instance.
func (c *Client) BlockDeviceMappings(ctx context.Context, instanceUUID string) (*objects.BlockDeviceMappingList, error) {
	return get[objects.BlockDeviceMappingList](ctx, c, "get_by_instance_uuid", args{instanceUUID}, c.replicable(nil))
}

// BlockDeviceMapping reads the mapping of a volume in an instance.
// ErrVolumeBDMNotFound.
func (c *Client) BlockDeviceMapping(ctx context.Context, volumeID, instanceUUID string, joined ...string) (*objects.BlockDeviceMapping, error) {
	return get[objects.BlockDeviceMapping](ctx, c, "get_by_volume_and_instance", args{volumeID, instanceUUID}, attrs(joined))
}

// CreateBlockDeviceMapping stores a new mapping, with its instance_uuid.
func (c *Client) CreateBlockDeviceMapping(ctx context.Context, b *objects.BlockDeviceMapping) error {
	return c.act(ctx, b, "create")
}

// SaveBlockDeviceMapping writes the changed fields.
func (c *Client) SaveBlockDeviceMapping(ctx context.Context, b *objects.BlockDeviceMapping) error {
	return c.act(ctx, b, "save")
}

// DestroyBlockDeviceMapping removes the mapping.
func (c *Client) DestroyBlockDeviceMapping(ctx context.Context, b *objects.BlockDeviceMapping) error {
	return c.act(ctx, b, "destroy")
}

// VirtualInterfaces lists Nova's records of an instance's ports, oldest first.
func (c *Client) VirtualInterfaces(ctx context.Context, instanceUUID string) ([]*objects.VirtualInterface, error) {
	list, err := get[objects.VirtualInterfaceList](ctx, c, "get_by_instance_uuid", args{instanceUUID}, c.replicable(nil))
	if err != nil {
		return nil, err
	}
	return list.Objects.Value(), nil
}

// VirtualInterface reads Nova's record of a port. ErrNotFound.
func (c *Client) VirtualInterface(ctx context.Context, portID string) (*objects.VirtualInterface, error) {
	return get[objects.VirtualInterface](ctx, c, "get_by_uuid", args{portID}, nil)
}

// NewVirtualInterface is the record of a port, to be created. tag is null if it
// is empty.
func NewVirtualInterface(instanceUUID, portID, mac, tag string) *objects.VirtualInterface {
	v := &objects.VirtualInterface{
		Address:      objects.Of(mac + "/" + portID),
		InstanceUUID: objects.Of(instanceUUID),
		UUID:         objects.Of(portID),
	}
	if v.Tag.SetNull(); tag != "" {
		v.Tag.Set(tag)
	}
	return v
}

// CreateVirtualInterface stores a new record.
func (c *Client) CreateVirtualInterface(ctx context.Context, v *objects.VirtualInterface) error {
	return c.act(ctx, v, "create")
}

// DestroyVirtualInterface removes a record.
func (c *Client) DestroyVirtualInterface(ctx context.Context, v *objects.VirtualInterface) error {
	return c.act(ctx, v, "destroy")
}

// DeleteVirtualInterfaces removes all records of an instance's ports.
func (c *Client) DeleteVirtualInterfaces(ctx context.Context, instanceUUID string) error {
	_, err := c.classAction(ctx, "VirtualInterface", "delete_by_instance_uuid", args{instanceUUID}, nil)
	return err
}

// PCIDevices lists the PCI devices of a compute node, by its id.
func (c *Client) PCIDevices(ctx context.Context, nodeID int64) (*objects.PciDeviceList, error) {
	return get[objects.PciDeviceList](ctx, c, "get_by_compute_node", args{nodeID}, nil)
}

// PCIDevicesByInstance lists the PCI devices of an instance.
func (c *Client) PCIDevicesByInstance(ctx context.Context, instanceUUID string) (*objects.PciDeviceList, error) {
	return get[objects.PciDeviceList](ctx, c, "get_by_instance_uuid", args{instanceUUID}, nil)
}
