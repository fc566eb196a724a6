package compute

import (
	"context"
	"errors"
	"reflect"
	"sync"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// externalEvent brings what Neutron or Cinder told Nova about instances
// (nova/compute/manager.py, external_instance_event). Those that somebody waits for are passed
// on first; one that fails does not keep the others.
func (m *Manager) externalEvent(ctx context.Context, req *rpc.Request) (any, error) {
	instances, events, err := parseEvents(req)
	if err != nil {
		return nil, err
	}
	m.work.Add(1)
	defer m.work.Done()
	var slow []*objects.InstanceExternalEvent
	for _, ev := range events {
		uuid := ev.InstanceUUID.Value()
		switch ev.Name.Value() {
		case eventNetworkChanged, eventVIFDeleted, eventVolumeExtended, eventPowerUpdate:
			slow = append(slow, ev)
			continue
		}
		key := eventKey{uuid, ev.Name.Value(), ev.Tag.Or("")}
		if !m.waiters.deliver(key, ev.Status.Value()) {
			// Usual: ports go down in deletes, come up after reboots, and time out before.
			m.log.InfoContext(m.about(ctx, uuid), "nobody waits for an event", "event", key.String(), "status", ev.Status.Value())
		}
	}
	for _, ev := range slow {
		inst := instances[ev.InstanceUUID.Value()]
		if inst == nil {
			m.log.WarnContext(ctx, "an event is of no instance in its message", "event", ev.Name.Value(), "instance", ev.InstanceUUID.Value())
			continue
		}
		m.handleEvent(m.about(ctx, ev.InstanceUUID.Value()), inst, ev)
	}
	return nil, nil
}

func parseEvents(req *rpc.Request) (map[string]*objects.Instance, []*objects.InstanceExternalEvent, error) {
	a := &args{raw: req.Args}
	list := func(name string, read func() error) {
		if a.null(name) {
			return
		}
		if err := read(); err != nil {
			a.fail(name, err)
		}
	}
	instances := map[string]*objects.Instance{}
	list("instances", func() error {
		all, err := objects.ListAs[objects.Instance](a.raw["instances"])
		for _, i := range all {
			if i != nil {
				instances[i.UUID.Value()] = i
			}
		}
		return err
	})
	var events []*objects.InstanceExternalEvent
	list("events", func() error {
		all, err := objects.ListAs[objects.InstanceExternalEvent](a.raw["events"])
		for _, e := range all {
			if e != nil {
				events = append(events, e)
			}
		}
		return err
	})
	return instances, events, a.err
}

// handleEvent does what an event asks of this host. Its errors end here: nobody waits for an answer.
func (m *Manager) handleEvent(ctx context.Context, inst *objects.Instance, ev *objects.InstanceExternalEvent) {
	name, tag := ev.Name.Value(), ev.Tag.Or("")
	var err error
	switch name {
	case eventNetworkChanged:
		if m.late.put(inst.UUID.Value()) {
			return // a build will look when it is through
		}
		err = m.refreshNetwork(ctx, inst, tag)
	case eventVIFDeleted:
		err = m.dropPort(ctx, inst, tag)
	case eventVolumeExtended:
		err = m.refuseExtendVolume(ctx, inst, tag)
	case eventPowerUpdate:
		m.log.InfoContext(ctx, "an event for bare metal is ignored", "event", name, "tag", tag)
	}
	switch {
	case err == nil:
	case errors.Is(err, errdefs.ErrNotFound):
		m.log.InfoContext(ctx, "an event is of something that is gone", "event", name, "tag", tag, "error", err)
	default:
		m.log.WarnContext(ctx, "an event was not acted on", "event", name, "tag", tag, "error", err)
	}
}

// refreshNetwork reads an instance's network anew, one port or all, and brings the container's into line.
func (m *Manager) refreshNetwork(ctx context.Context, inst *objects.Instance, portID string) (err error) {
	var vifs neutron.NetworkInfo
	if portID == "" {
		vifs, err = m.neutron.Rebuild(ctx, networkInstance(inst))
	} else {
		vifs, err = m.neutron.Refresh(ctx, networkInstance(inst), portID)
	}
	if err != nil {
		return err
	}
	return m.applyNetwork(ctx, inst.UUID.Value(), vifs, false)
}

// applyNetwork makes the ports of vifs the container's endpoints, if they differ or if repair
// asks for it anyway. Ports that vifs does not have are left alone: they are being
// attached. An instance without a container here has nothing to change.
func (m *Manager) applyNetwork(ctx context.Context, uuid string, vifs neutron.NetworkInfo, repair bool) error {
	c, err := m.engine.Inspect(containerID(uuid))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	wanted := make([]network.Endpoint, 0, len(c.Spec.Endpoints))
	for _, old := range c.Spec.Endpoints {
		vif, known := vifs.Find(old.ID)
		if !known {
			wanted = append(wanted, old)
			continue
		}
		e, err := endpoint(uuid, vif)
		if err != nil {
			return err
		}
		e.GuestDevice = old.GuestDevice
		wanted = append(wanted, e)
	}
	if !repair && reflect.DeepEqual(wanted, c.Spec.Endpoints) {
		return nil
	}
	err = m.engine.SetEndpoints(ctx, c.ID, wanted)
	if errors.Is(err, errdefs.ErrNotFound) || errors.Is(err, errdefs.ErrConflict) {
		return nil // it is being removed
	}
	return err
}

// dropPort takes a port that Neutron has deleted out of the network info and the container.
func (m *Manager) dropPort(ctx context.Context, inst *objects.Instance, portID string) error {
	_, known, err := m.neutron.Forget(ctx, networkInstance(inst), portID)
	if err != nil {
		return err
	}
	if known {
		m.log.InfoContext(ctx, "Neutron deleted a port; it is taken from the server", "port", portID)
	}
	return m.unplugPort(ctx, inst.UUID.Value(), portID)
}

// unplugPort asks for absence of a port in an instance's container.
func (m *Manager) unplugPort(ctx context.Context, uuid, portID string) error {
	c, err := m.engine.Inspect(containerID(uuid))
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	rest := make([]network.Endpoint, 0, len(c.Spec.Endpoints))
	for _, e := range c.Spec.Endpoints {
		if e.ID != portID {
			rest = append(rest, e)
		}
	}
	if len(rest) == len(c.Spec.Endpoints) {
		return nil
	}
	return m.engine.SetEndpoints(ctx, c.ID, rest)
}

// refuseExtendVolume ends the event of a volume that grew, of which no server here
// can have one attached, as a driver without supports_extend_volume does.
func (m *Manager) refuseExtendVolume(ctx context.Context, inst *objects.Instance, volumeID string) error {
	uuid := inst.UUID.Value()
	if _, err := m.conductor.BlockDeviceMapping(ctx, volumeID, uuid); err != nil {
		return err
	}
	refusal := &Exception{Class: "ExtendVolumeNotSupported", Code: 400, Kind: errdefs.ErrUnsupported,
		Message: "Volume size extension is not supported by the hypervisor."}
	m.eventStart(ctx, uuid, "extend_volume")
	m.recordFault(ctx, uuid, refusal)
	m.eventFinish(ctx, uuid, "extend_volume", refusal)
	return refusal
}

// lateEvents are the instances under construction, and which of them have a change of
// their network to look at afterwards: each look asks Neutron several times, when it is busiest
// with the build itself.
type lateEvents struct {
	mu      sync.Mutex
	pending map[string]bool
}

// begin says that an instance is being built.
func (l *lateEvents) begin(uuid string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = map[string]bool{}
	}
	l.pending[uuid] = false
}

// put notes a change of an instance under construction; false if it is none.
func (l *lateEvents) put(uuid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, building := l.pending[uuid]; !building {
		return false
	}
	l.pending[uuid] = true
	return true
}

// end says that the build is through, and whether there was a change.
func (l *lateEvents) end(uuid string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed := l.pending[uuid]
	delete(l.pending, uuid)
	return changed
}

// cachedNetworkOf reads an instance's network info as Nova has it.
func (m *Manager) cachedNetworkOf(ctx context.Context, uuid string) (neutron.NetworkInfo, error) {
	cache, err := m.conductor.InfoCache(ctx, uuid)
	if conductor.IsNotFound(err) {
		return neutron.NetworkInfo{}, nil
	}
	if err != nil {
		return nil, err
	}
	return neutron.ParseNetworkInfo(string(cache.NetworkInfo.Or("")))
}
