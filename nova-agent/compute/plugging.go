package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/neutron"
)

// The pauses between looks at ports that are being wired.
const (
	firstLook = 400 * time.Millisecond
	lastLook  = 5 * time.Second
)

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

// waitPlugged waits for it. Late or failed is the end of the operation, unless the
// operator said otherwise (vif_plugging_is_fatal). Neutron is also asked: its event may be
// held back for two seconds, or be lost.
func (m *Manager) waitPlugged(ctx context.Context, e *expectation) error {
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
	err := e.wait(waiting)
	cancel()
	<-looked
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
	pause := firstLook
	for len(waiting) > 0 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(pause*5/4, lastLook)
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
