package compute

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/nova-agent/neutron"
)

// The pauses between looks at ports that are being wired. Neutron's agents take a second or
// two; who asks early only keeps them from their work.
const (
	firstLook = time.Second
	nextLook  = 400 * time.Millisecond
	lastLook  = 5 * time.Second
)

// replugAfter is how long a port may take, for each port that is being wired at the same time,
// before it is plugged anew.
const replugAfter = 5 * time.Second

// expectPlugged registers for Neutron's word that the ports are wired, before they are
// plugged. A port that is ACTIVE already causes no such event.
func (m *Manager) expectPlugged(uuid string, vifs neutron.NetworkInfo) *expectation {
	var keys []eventKey
	if m.opts.VIFPluggingTimeout > 0 {
		for _, v := range vifs {
			if !v.Active {
				keys = append(keys, eventKey{uuid, eventVIFPlugged, v.ID})
			}
		}
	}
	return m.waiters.expect(keys)
}

// waitPlugged waits for it, the container made but not started. Late or failed is the end of the operation, unless the
// operator said otherwise (vif_plugging_is_fatal). Neutron is also asked: its event may be
// held back for two seconds, or be lost.
func (m *Manager) waitPlugged(ctx context.Context, uuid string, e *expectation) error {
	if len(e.order) == 0 {
		return nil
	}
	late := fmt.Errorf("it did not come within vif_plugging_timeout, %s", m.opts.VIFPluggingTimeout)
	waiting, cancel := context.WithTimeoutCause(ctx, m.opts.VIFPluggingTimeout, late)
	defer cancel()
	looked := beside(func() (struct{}, error) {
		m.lookAtPorts(waiting, e)
		return struct{}{}, nil
	})
	replugged := beside(func() (struct{}, error) {
		m.replugLate(waiting, uuid, e)
		return struct{}{}, nil
	})
	err := e.wait(waiting)
	cancel()
	<-looked
	<-replugged
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", context.Cause(ctx), errdefs.ErrUnavailable)
	case !m.opts.VIFPluggingIsFatal:
		m.log.WarnContext(ctx, "a port is not plugged; vif_plugging_is_fatal is off", "error", err)
		return nil
	}
	return &Exception{Class: classVIFCreate, Kind: errdefs.ErrUnavailable, Cause: err,
		Message: "Virtual Interface creation failed: " + reason(err)}
}

// lookAtPorts asks Neutron for the ports that are waited for, until all are wired or ctx ends.
func (m *Manager) lookAtPorts(ctx context.Context, e *expectation) {
	waiting := map[string]eventKey{}
	for _, k := range e.order {
		waiting[k.tag] = k
	}
	pause, next := firstLook, nextLook
	for len(waiting) > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause, next = next, min(next*5/4, lastLook)
		ids := make([]string, 0, len(waiting))
		for id := range waiting {
			ids = append(ids, id)
		}
		active, err := m.neutron.Active(ctx, ids)
		if err != nil {
			if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
				m.log.DebugContext(ctx, "Neutron was not asked for ports", "error", err)
			}
			continue // the event may come
		}
		for id, wired := range active {
			if k, ok := waiting[id]; ok && wired {
				m.waiters.deliver(k, eventCompleted)
				delete(waiting, id)
			}
		}
	}
}

// replugLate plugs ports that stay DOWN for long once more, ever less often, until ctx ends.
//
// A port is ACTIVE when its DHCP agent and its L2 agent have both said that they are done. If
// they say so at the same moment Neutron takes each for the one that still lets the other
// wait (neutron/db/provisioning_blocks.py, provisioning_complete looks for what is left in the
// transaction that removes its own), and no event ever comes. For a device that is new to it
// the L2 agent says it again.
func (m *Manager) replugLate(ctx context.Context, uuid string, e *expectation) {
	for pause := replugAfter; ; pause *= 2 {
		select {
		case <-time.After(pause * time.Duration(max(1, m.waiters.count()))):
		case <-ctx.Done():
			return
		}
		late := map[string]bool{}
		for _, k := range m.waiters.left(e) {
			late[k.tag] = true
		}
		if len(late) == 0 {
			return
		}
		m.log.WarnContext(ctx, "ports are not wired yet and are plugged anew", "ports", slices.Sorted(maps.Keys(late)))
		if err := m.replug(ctx, uuid, late); err != nil && ctx.Err() == nil {
			m.log.WarnContext(ctx, "ports were not plugged anew", "error", err)
		}
	}
}

// replug takes a container's endpoints of ports away and gives them back.
func (m *Manager) replug(ctx context.Context, uuid string, ports map[string]bool) error {
	c, err := m.engine.Inspect(containerID(uuid))
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(c.Spec.Endpoints), func(e network.Endpoint) bool { return ports[e.ID] })
	// What was taken is given back even if nobody waits any more.
	ctx = context.WithoutCancel(ctx)
	return errors.Join(
		m.engine.SetEndpoints(ctx, c.ID, others),
		m.engine.SetEndpoints(ctx, c.ID, c.Spec.Endpoints))
}
