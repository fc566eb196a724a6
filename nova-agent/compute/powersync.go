package compute

import (
	"context"
	"sync"
	"time"

	"novaagent/engine"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

// aligner brings Nova's record of instances into line with their containers, one at a time for
// each (nova/compute/manager.py, _sync_power_states). The engine's events ask for it, operations
// whose guest ended meanwhile, and a periodic task.
type aligner struct {
	mu      sync.Mutex
	pending map[string]bool // asked for; true: once more when it is through
}

// soon aligns an instance behind the caller's back.
func (m *Manager) alignSoon(uuid string) {
	a := &m.aligner
	a.mu.Lock()
	if a.pending == nil {
		a.pending = map[string]bool{}
	}
	_, running := a.pending[uuid]
	a.pending[uuid] = running
	a.mu.Unlock()
	if running || m.ctx.Err() != nil {
		return
	}
	m.routine("power state of "+uuid, func(ctx context.Context) {
		for again := true; again; {
			began := time.Now()
			err := m.alignInstance(m.about(m.admin(ctx), uuid), uuid)
			m.ran(ctx, "align_power_state", began, err)
			a.mu.Lock()
			if again = a.pending[uuid] && ctx.Err() == nil; again {
				a.pending[uuid] = false
			} else {
				delete(a.pending, uuid)
			}
			a.mu.Unlock()
		}
	})
}

// alignInstance aligns one instance. Whoever has given it a task sees to its state himself.
func (m *Manager) alignInstance(ctx context.Context, uuid string) error {
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	inst, err := m.conductor.InstanceByUUID(ctx, uuid, "flavor", "system_metadata")
	if conductor.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if inst.Host.Or("") != m.opts.Host || inst.TaskState.Or(taskNone) != taskNone {
		return nil
	}
	err = m.align(ctx, inst)
	if preempted(err) || isClass(err, classInstanceNotFound) {
		return nil // somebody has just begun something
	}
	return err
}

// align compares an instance without a task with its container. The caller holds the instance's lock.
func (m *Manager) align(ctx context.Context, inst *objects.Instance) error {
	uuid, state := inst.UUID.Value(), inst.VMState.Or("")
	p := m.power(uuid)
	idle := conductor.SaveOptions{TaskState: conductor.Expect(taskNone)}
	what := align(state, p)
	changed := power(inst.PowerState.Or(0)) != p
	inst.PowerState.Set(int64(p))
	switch what {
	case alignStop, alignForceStop:
		if inst.ShutdownTerminate.Or(false) && what == alignStop {
			return m.alignTerminate(ctx, inst)
		}
		m.log.InfoContext(ctx, "the server is recorded as stopped", "vm_state", state, "power_state", p.String())
		if err := m.powerOff(ctx, inst, true); err != nil {
			return err
		}
		inst.PowerState.Set(int64(m.power(uuid)))
		inst.VMState.Set(vmStopped)
		setTask(inst, taskNone)
		changed = true
	case alignWarn:
		m.log.WarnContext(ctx, "the server's container is not what Nova takes it for", "vm_state", state, "power_state", p.String())
	}
	if !changed {
		return nil
	}
	if err := m.conductor.SaveInstance(ctx, inst, idle); err != nil {
		return err
	}
	m.tracker.settle(ctx, inst, true)
	return nil
}

// alignTerminate deletes a server that its user wants gone when it shuts down
// (instance_initiated_shutdown_behavior of the EC2 API).
func (m *Manager) alignTerminate(ctx context.Context, inst *objects.Instance) error {
	setTask(inst, taskDeleting)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNone)}); err != nil {
		return err
	}
	bdms, err := m.conductor.BlockDeviceMappings(ctx, inst.UUID.Value())
	if err != nil {
		return err
	}
	return m.delete(ctx, inst, bdms.Objects.Or(nil))
}

// watchPower asks for an alignment if an operation has ended with the instance in a state that
// its container does not have: the guest has ended by itself meanwhile.
func (m *Manager) watchPower(inst *objects.Instance) {
	if align(inst.VMState.Or(""), m.power(inst.UUID.Value())) == alignStop {
		m.alignSoon(inst.UUID.Value())
	}
}

// followEvents aligns the instances whose containers change by themselves, and has what other containers
// take counted. When it falls behind, all are looked at.
func (m *Manager) followEvents(ctx context.Context) {
	for ctx.Err() == nil {
		for ev := range m.engine.Subscribe(ctx, time.Time{}) {
			if directChanged(ev) {
				m.tracker.soon()
			}
			if ev.Owner != engine.OwnerNova || ev.Action != engine.ActionDie {
				continue
			}
			if uuid, ok := instanceOf(ev.Name); ok {
				m.alignSoon(uuid)
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err := m.alignAll(m.admin(ctx)); err != nil {
			m.log.WarnContext(ctx, "the power states could not be compared", "error", err)
		}
		select {
		case <-time.After(time.Second): // the engine is closing
		case <-ctx.Done():
		}
	}
}

// alignAll asks for an alignment of all instances of this host.
func (m *Manager) alignAll(ctx context.Context) error {
	instances, err := m.conductor.Replica().InstancesByHost(ctx, []string{}...)
	if err != nil {
		return err
	}
	for _, inst := range instances {
		uuid := inst.UUID.Value()
		if inst.TaskState.Or(taskNone) != taskNone {
			continue
		}
		p := m.power(uuid)
		if what := align(inst.VMState.Or(""), p); what == alignNothing && power(inst.PowerState.Or(0)) == p {
			continue
		}
		m.alignSoon(uuid)
	}
	return nil
}
