package compute

import (
	"context"
	"errors"
	"fmt"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
)

// attachInterface gives a server another interface, while it runs or not
// (nova/compute/manager.py, attach_interface). The answer is the interface as Nova's network
// info has it.
func (m *Manager) attachInterface(ctx context.Context, c *call) (any, error) {
	uuid := c.inst.UUID.Value()
	request := neutron.NetworkRequest{NetworkID: c.str("network_id"), PortID: c.str("port_id"), Address: c.str("requested_ip")}
	tag := c.str("tag")
	if c.err != nil {
		return nil, c.err
	}
	if tag != "" {
		return nil, &Exception{Class: "NetworkInterfaceTaggedAttachNotSupported", Code: 400, Kind: errdefs.ErrUnsupported,
			Message: "Tagged network interface attachment is not supported for this server instance."}
	}
	unlock, err := m.locks.lock(ctx, "interfaces of "+uuid)
	if err != nil {
		return nil, err
	}
	defer unlock()
	container, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return nil, attachFailed(uuid, err)
	}
	added, err := m.neutron.Allocate(ctx, neutron.AllocateRequest{Instance: networkInstance(c.inst),
		Networks: []neutron.NetworkRequest{request}, Host: m.opts.Host, Attach: true})
	if err != nil {
		if !remoteOf(err) {
			err = attachFailed(uuid, err)
		}
		return nil, err
	}
	err = m.plugAdded(ctx, uuid, container, added)
	if err == nil {
		return added[0], nil
	}
	undo, cancel := cleanup(ctx)
	defer cancel()
	for _, v := range added {
		_, _, undone := m.neutron.Detach(undo, networkInstance(c.inst), v.ID)
		err = errors.Join(err, m.unplugPort(undo, uuid, v.ID), undone)
	}
	return nil, attachFailed(uuid, err)
}

func (m *Manager) plugAdded(ctx context.Context, uuid string, c engine.Container, added neutron.NetworkInfo) error {
	if len(added) != 1 {
		return fmt.Errorf("neutron gave %d ports in place of one: %w", len(added), errdefs.ErrUnavailable)
	}
	e, err := endpoint(uuid, added[0])
	if err != nil {
		return err
	}
	e.GuestDevice = freeDevice(c.Spec.Endpoints)
	return m.engine.SetEndpoints(ctx, c.ID, append(append([]network.Endpoint{}, c.Spec.Endpoints...), e))
}

// freeDevice is the first of eth0, eth1 … that no endpoint has.
func freeDevice(taken []network.Endpoint) string {
	for i := 0; ; i++ {
		name, used := guestDevice(i), false
		for _, e := range taken {
			used = used || e.GuestDevice == name
		}
		if !used {
			return name
		}
	}
}

func attachFailed(uuid string, cause error) error {
	return &Exception{Class: "InterfaceAttachFailed", Kind: errdefs.ErrUnavailable, Cause: cause,
		Message: "Failed to attach network adapter device to " + uuid}
}

// detachInterface takes an interface from a server. The port is deleted if Nova made it, and
// unbound if the user did.
func (m *Manager) detachInterface(ctx context.Context, c *call) (any, error) {
	uuid, portID := c.inst.UUID.Value(), c.str("port_id")
	if c.err != nil {
		return nil, c.err
	}
	unlock, err := m.locks.lock(ctx, "interfaces of "+uuid)
	if err != nil {
		return nil, err
	}
	defer unlock()
	vifs, err := m.cachedNetworkOf(ctx, uuid)
	if err != nil {
		return nil, err
	}
	if _, known := vifs.Find(portID); !known {
		return nil, &Exception{Class: "PortNotFound", Code: 404, Kind: errdefs.ErrNotFound,
			Message: fmt.Sprintf("Port %s is not attached", portID)}
	}
	if err := m.unplugPort(ctx, uuid, portID); err != nil {
		return nil, &Exception{Class: "InterfaceDetachFailed", Code: 400, Kind: errdefs.ErrUnavailable, Cause: err,
			Message: "Failed to detach network adapter device from " + uuid}
	}
	_, resources, err := m.neutron.Detach(ctx, networkInstance(c.inst), portID)
	if err != nil {
		return nil, err
	}
	if len(resources) > 0 {
		m.log.WarnContext(ctx, "what a port had in Placement is freed with the server", "port", portID)
	}
	return nil, nil
}

// injectNetworkInfo brings the container's network into line with Neutron's.
func (m *Manager) injectNetworkInfo(ctx context.Context, c *call) (any, error) {
	return nil, m.refreshNetwork(ctx, c.inst, "")
}

// detachVolume ends an attachment that only exists in Nova's and Cinder's records: no server
// here has a volume.
func (m *Manager) detachVolume(ctx context.Context, c *call) (any, error) {
	uuid, volumeID := c.inst.UUID.Value(), c.str("volume_id")
	if c.err != nil {
		return nil, c.err
	}
	bdm, err := m.conductor.BlockDeviceMapping(ctx, volumeID, uuid)
	if err != nil {
		return nil, err
	}
	id := c.str("attachment_id")
	if id == "" {
		id = bdm.AttachmentID.Or("")
	}
	if err := m.deleteAttachment(ctx, id); err != nil {
		return nil, err
	}
	if err := m.conductor.DestroyBlockDeviceMapping(ctx, bdm); err != nil && !conductor.IsNotFound(err) {
		return nil, err
	}
	return nil, nil
}
