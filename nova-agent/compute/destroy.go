package compute

import (
	"context"
	"errors"
	"time"

	"novaagent/engine/store"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

// terminate deletes an instance (nova/compute/manager.py, terminate_instance). It may come
// for an instance that never had a container here, and come again after a crash: every step
// asks for absence.
func (m *Manager) terminate(ctx context.Context, c *call) (any, error) {
	bdms := c.bdms("bdms")
	if c.err != nil {
		return nil, c.err
	}
	return nil, m.delete(ctx, c.inst, bdms)
}

func (m *Manager) delete(ctx context.Context, inst *objects.Instance, bdms []*objects.BlockDeviceMapping) error {
	err := m.deleteSteps(ctx, inst, bdms)
	if err == nil || isClass(err, classInstanceNotFound) {
		return nil // gone is what was asked for
	}
	undo, cancel := cleanup(ctx)
	defer cancel()
	return errors.Join(err, m.setError(undo, inst))
}

func (m *Manager) deleteSteps(ctx context.Context, inst *objects.Instance, bdms []*objects.BlockDeviceMapping) error {
	uuid := inst.UUID.Value()
	m.waiters.drop(uuid)
	m.step(ctx, "delete.begun")
	if err := m.removeContainer(ctx, uuid); err != nil {
		return err
	}
	m.step(ctx, "delete.removed")
	if err := m.neutron.Deallocate(ctx, networkInstance(inst), nil); err != nil {
		return err
	}
	m.step(ctx, "delete.deallocated")
	for _, d := range volumes(bdms) {
		// As in Nova, Cinder's refusals do not keep an instance from going.
		if err := m.deleteAttachment(ctx, d.AttachmentID.Or("")); err != nil {
			m.log.WarnContext(ctx, "an attachment of a volume was not deleted", "attachment", d.AttachmentID.Or(""), "error", err)
		}
	}
	inst.VMState.Set(vmDeleted)
	setTask(inst, taskNone)
	inst.PowerState.Set(int64(powerNoState))
	inst.TerminatedAt.Set(time.Now().UTC())
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
		return err
	}
	m.step(ctx, "delete.saved")
	return m.completeDeletion(ctx, inst)
}

// completeDeletion is what follows once the row says deleted
// (nova/compute/manager.py, _complete_deletion).
func (m *Manager) completeDeletion(ctx context.Context, inst *objects.Instance) error {
	uuid := inst.UUID.Value()
	m.tracker.settle(ctx, inst, false)
	if err := m.placement.DeleteAllocations(ctx, uuid); err != nil {
		// The periodic update removes allocations of deleted instances.
		m.log.WarnContext(ctx, "the allocation was not deleted; the next update will", "error", err)
	}
	m.step(ctx, "delete.freed")
	if err := m.conductor.CleanConsoleAuths(ctx, uuid); err != nil {
		m.log.WarnContext(ctx, "console tokens were not deleted", "error", err)
	}
	if err := m.conductor.DestroyInstance(ctx, inst); err != nil && !conductor.IsNotFound(err) {
		return err
	}
	if err := m.conductor.DeleteInstanceInfo(ctx, uuid); err != nil {
		m.log.WarnContext(ctx, "the schedulers were not told", "error", err)
	}
	m.step(ctx, "delete.done")
	return m.forget(uuid)
}

// forget drops what this host remembers of an instance.
func (m *Manager) forget(uuid string) error {
	intents, err := m.db.Intents()
	if err != nil {
		return err
	}
	for _, intent := range intents {
		if intent.ID == uuid {
			if err := intent.End(); err != nil {
				return err
			}
		}
	}
	return store.DeleteLazy(m.db, kindAttempt, uuid)
}

// softDelete stops a server that may still be restored.
func (m *Manager) softDelete(ctx context.Context, c *call) (any, error) {
	if err := m.powerOff(ctx, c.inst, true); err != nil {
		return nil, err
	}
	c.inst.VMState.Set(vmSoftDeleted)
	return nil, m.saveState(ctx, c.inst, taskSoftDeleting)
}

// restore starts it again.
func (m *Manager) restore(ctx context.Context, c *call) (any, error) {
	if err := m.powerOn(ctx, c.inst); err != nil {
		return nil, err
	}
	c.inst.VMState.Set(vmActive)
	return nil, m.saveState(ctx, c.inst, taskRestoring)
}
