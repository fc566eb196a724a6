package compute

import (
	"context"
	"errors"
	"time"

	"novaagent/engine"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

// settleExit is how long an exit is given to turn out to be part of an operation, before
// Nova is told that the server is off.
const settleExit = 200 * time.Millisecond

// followExits tells Nova of containers that end by themselves, as soon as they do.
func (m *Manager) followExits(ctx context.Context) {
	for {
		for e := range m.engine.Subscribe(ctx, time.Time{}) {
			uuid, ours := instanceOf(e.Name)
			if e.Action != engine.ActionDie || e.Owner != engine.OwnerNova || !ours {
				continue
			}
			m.background(m.about(m.admin(ctx), uuid), "exit", func(ctx context.Context) {
				timer := time.NewTimer(settleExit)
				defer timer.Stop()
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				if err := m.syncPower(ctx, uuid); err != nil {
					m.log.WarnContext(ctx, "Nova was not told that the server ended; the next synchronisation will", "error", err)
				}
			})
		}
		if ctx.Err() != nil {
			return
		}
		// The channel was closed because this fell behind: look at everything.
		m.ran(m.admin(ctx), "sync_power_states", m.syncPowers)
	}
}

// syncPowers compares all instances of this host with their containers.
func (m *Manager) syncPowers(ctx context.Context) error {
	here, err := m.conductor.Replica().InstancesByHost(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range here {
		uuid := inst.UUID.Value()
		if inst.TaskState.Or(taskNone) != taskNone || int64(m.power(uuid)) == inst.PowerState.Or(0) && align(inst.VMState.Or(""), m.power(uuid)) == alignNothing {
			continue
		}
		errs = append(errs, m.syncPower(m.about(ctx, uuid), uuid))
	}
	return errors.Join(errs...)
}

// syncPower makes Nova's record of one instance and its container agree. What something is
// being done to is left alone.
func (m *Manager) syncPower(ctx context.Context, uuid string) error {
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	inst, err := m.conductor.InstanceByUUID(ctx, uuid, "info_cache", "metadata", "system_metadata", "flavor")
	if conductor.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if inst.Host.Or("") != m.opts.Host || inst.TaskState.Or(taskNone) != taskNone {
		return nil
	}
	p := m.power(uuid)
	if int64(p) != inst.PowerState.Or(0) {
		inst.PowerState.Set(int64(p))
		if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNone)}); err != nil {
			return ignoreOvertaken(err)
		}
	}
	switch align(inst.VMState.Or(""), p) {
	case alignStop, alignForceStop:
		m.log.InfoContext(ctx, "the server's process ended by itself or runs though it should not; it is stopped", "vm_state", inst.VMState.Or(""), "power_state", p.String())
		return ignoreOvertaken(m.stopEnded(ctx, inst))
	case alignWarn:
		m.log.WarnContext(ctx, "the server's state and its container's differ", "vm_state", inst.VMState.Or(""), "power_state", p.String())
	}
	return nil
}

// stopEnded records an instance as stopped, as Nova's stop API would.
func (m *Manager) stopEnded(ctx context.Context, inst *objects.Instance) error {
	setTask(inst, taskPoweringOff)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(taskNone)}); err != nil {
		return err
	}
	if err := m.powerOff(ctx, inst, false); err != nil {
		return err
	}
	inst.VMState.Set(vmStopped)
	return m.saveState(ctx, inst, taskPoweringOff)
}

// ignoreOvertaken drops the error of a save that an operation of the user came before.
func ignoreOvertaken(err error) error {
	if preempted(err) || disappeared(err) {
		return nil
	}
	return err
}
