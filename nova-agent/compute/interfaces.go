package compute

import (
	"context"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/neutron"
)

// attachInterface adds a port to an instance, running or not, and returns its VIF.
func (m *Manager) attachInterface(ctx context.Context, c *call) (any, error) {
	inst, uuid := c.inst, c.inst.UUID.Value()
	request := neutron.NetworkRequest{NetworkID: c.str("network_id"), PortID: c.str("port_id"), Address: c.str("requested_ip"), Tag: c.str("tag")}
	if c.err != nil {
		return nil, c.err
	}
	if request.Tag != "" {
		return nil, &Exception{Class: "NetworkInterfaceTaggedAttachNotSupported", Code: 400, Kind: errdefs.ErrUnsupported,
			Message: "Tagged network interface attachment is not supported for this server instance."}
	}
	unlock, err := m.locks.lock(ctx, "interface-"+uuid+"-"+request.PortID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	container, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return nil, attachFailed(uuid, err)
	}
	added, err := m.neutron.Allocate(ctx, neutron.AllocateRequest{Instance: networkInstance(inst),
		Networks: []neutron.NetworkRequest{request}, Host: m.opts.Host, Attach: true})
	if err != nil {
		return nil, err
	}
	if len(added) != 1 {
		return nil, attachFailed(uuid, fmt.Errorf("%d ports came of one request", len(added)))
	}
	vif := added[0]
	undo := func(cause error) error {
		undo, cancel := cleanup(ctx)
		defer cancel()
		if _, _, err := m.neutron.Detach(undo, networkInstance(inst), vif.ID); err != nil {
			m.log.ErrorContext(ctx, "a port that could not be attached was not given back", "port", vif.ID, "error", err)
		}
		return attachFailed(uuid, cause)
	}
	e, err := endpoint(uuid, vif)
	if err != nil {
		return nil, undo(err)
	}
	e.GuestDevice = guestDevice(len(container.Spec.Endpoints))
	if err := m.engine.SetEndpoints(ctx, container.ID, append(container.Spec.Endpoints[:len(container.Spec.Endpoints):len(container.Spec.Endpoints)], e)); err != nil {
		return nil, undo(err)
	}
	return vif, nil
}

func attachFailed(uuid string, cause error) error {
	return &Exception{Class: "InterfaceAttachFailed", Code: 500, Kind: errdefs.ErrUnavailable, Cause: cause,
		Message: fmt.Sprintf("Failed to attach network adapter device to %s: %s", uuid, reason(cause))}
}

// detachInterface takes a port away: from the container first, then from Neutron.
func (m *Manager) detachInterface(ctx context.Context, c *call) (any, error) {
	inst, uuid, portID := c.inst, c.inst.UUID.Value(), c.str("port_id")
	if c.err != nil {
		return nil, c.err
	}
	unlock, err := m.locks.lock(ctx, "interface-"+uuid+"-"+portID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := m.conductor.LoadInstance(ctx, inst, "info_cache"); err != nil {
		return nil, err
	}
	vifs, err := cachedNetwork(inst)
	if err != nil {
		return nil, err
	}
	if _, there := vifs.Find(portID); !there {
		return nil, &Exception{Class: "PortNotFound", Code: 404, Kind: errdefs.ErrNotFound,
			Message: fmt.Sprintf("Port id %s could not be found.", portID)}
	}
	if err := m.unplug(ctx, uuid, portID); err != nil {
		return nil, &Exception{Class: "InterfaceDetachFailed", Kind: errdefs.ErrUnavailable, Cause: err,
			Message: fmt.Sprintf("Failed to detach network adapter device from %s: %s", uuid, reason(err))}
	}
	_, _, err = m.neutron.Detach(ctx, networkInstance(inst), portID)
	return nil, err
}

// injectNetworkInfo brings the container's endpoints up to date with Neutron.
func (m *Manager) injectNetworkInfo(ctx context.Context, c *call) (any, error) {
	vifs, err := m.neutron.Rebuild(ctx, networkInstance(c.inst))
	if err != nil {
		return nil, err
	}
	return nil, m.replug(ctx, c.inst.UUID.Value(), vifs)
}

func (m *Manager) addFixedIP(ctx context.Context, c *call) (any, error) {
	network := c.str("network_id")
	if c.err != nil {
		return nil, c.err
	}
	vifs, err := m.neutron.AddFixedIP(ctx, networkInstance(c.inst), network)
	if err != nil {
		return nil, err
	}
	return nil, m.replug(ctx, c.inst.UUID.Value(), vifs)
}

func (m *Manager) removeFixedIP(ctx context.Context, c *call) (any, error) {
	address := c.str("address")
	if c.err != nil {
		return nil, c.err
	}
	vifs, err := m.neutron.RemoveFixedIP(ctx, networkInstance(c.inst), address)
	if err != nil {
		return nil, err
	}
	return nil, m.replug(ctx, c.inst.UUID.Value(), vifs)
}
