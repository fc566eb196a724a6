package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// externalEvent takes what other services tell through the API: Neutron, that a port is
// wired or has changed. Nobody waits for an answer.
func (m *Manager) externalEvent(ctx context.Context, req *rpc.Request) (any, error) {
	a := &args{raw: req.Args}
	instances := map[string]*objects.Instance{}
	for i, raw := range scalar[[]json.RawMessage](a, "instances") {
		inst, err := objects.As[objects.Instance](raw)
		if err != nil {
			a.fail(fmt.Sprintf("instances[%d]", i), err)
			break
		}
		instances[inst.UUID.Value()] = inst
	}
	var events []*objects.InstanceExternalEvent
	for i, raw := range scalar[[]json.RawMessage](a, "events") {
		e, err := objects.As[objects.InstanceExternalEvent](raw)
		if err != nil {
			a.fail(fmt.Sprintf("events[%d]", i), err)
			break
		}
		events = append(events, e)
	}
	if a.err != nil {
		return nil, a.err
	}
	for _, e := range events {
		inst := instances[e.InstanceUUID.Value()]
		if inst == nil {
			continue
		}
		m.event(m.about(ctx, inst.UUID.Value()), inst, e.Name.Value(), e.Tag.Or(""), e.Status.Or(eventCompleted))
	}
	return nil, nil
}

func (m *Manager) event(ctx context.Context, inst *objects.Instance, name, tag, status string) {
	uuid := inst.UUID.Value()
	switch name {
	case eventNetworkChanged:
		// Asking Neutron takes a while; what else the message holds must not wait for it.
		m.background(ctx, "network-changed", func(ctx context.Context) {
			if err := m.networkChanged(ctx, inst, tag); err != nil {
				m.log.WarnContext(ctx, "a change of the network was not taken over", "port", tag, "error", err)
			}
		})
	case eventVIFDeleted:
		m.background(ctx, "network-vif-deleted", func(ctx context.Context) {
			if err := m.portDeleted(ctx, inst, tag); err != nil {
				m.log.WarnContext(ctx, "a deleted port was not taken away", "port", tag, "error", err)
			}
		})
	case eventPowerUpdate, eventVolumeExtended:
		m.log.WarnContext(ctx, "an event that nova-agent cannot act on", "event", name, "tag", tag)
	default:
		woken := m.waiters.deliver(eventKey{uuid, name, tag}, status)
		m.log.DebugContext(ctx, "external event", "event", name, "tag", tag, "status", status, "waited_for", woken)
	}
}

// networkChanged takes a port's present state over, into Nova's cache and the container. A
// build or delete under way has its own view and is not disturbed.
func (m *Manager) networkChanged(ctx context.Context, inst *objects.Instance, portID string) error {
	var vifs neutron.NetworkInfo
	var err error
	if portID == "" {
		vifs, err = m.neutron.Rebuild(ctx, networkInstance(inst))
	} else {
		vifs, err = m.neutron.Refresh(ctx, networkInstance(inst), portID)
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return m.replug(ctx, inst.UUID.Value(), vifs)
}

// replug gives a container the endpoints of vifs, unless something else is being done to its
// instance.
func (m *Manager) replug(ctx context.Context, uuid string, vifs neutron.NetworkInfo) error {
	container, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return nil // not built yet, or gone: nothing to plug into
	}
	wanted, err := endpoints(uuid, vifs)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, e := range container.Spec.Endpoints {
		known[e.ID] = true
	}
	for _, e := range wanted {
		if !known[e.ID] {
			return nil // an interface is being attached, and that operation plugs it
		}
	}
	return m.engine.SetEndpoints(ctx, container.ID, wanted)
}

func (m *Manager) portDeleted(ctx context.Context, inst *objects.Instance, portID string) error {
	_, known, err := m.neutron.Forget(ctx, networkInstance(inst), portID)
	if err != nil || !known {
		return err
	}
	return m.unplug(ctx, inst.UUID.Value(), portID)
}

// unplug takes one endpoint from a container.
func (m *Manager) unplug(ctx context.Context, uuid, portID string) error {
	container, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return nil
	}
	rest := container.Spec.Endpoints[:0:0]
	for _, e := range container.Spec.Endpoints {
		if e.ID != portID {
			rest = append(rest, e)
		}
	}
	return m.engine.SetEndpoints(ctx, container.ID, rest)
}
