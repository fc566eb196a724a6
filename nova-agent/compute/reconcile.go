package compute

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

// reconcile repairs what a crash or a reboot left (nova/compute/manager.py, init_host). What
// goes wrong with one instance does not stop the others.
func (m *Manager) reconcile(ctx context.Context) error {
	here, err := m.conductor.InstancesByHost(ctx, "info_cache", "metadata", "system_metadata", "flavor", "numa_topology")
	if err != nil {
		return fmt.Errorf("the instances of host %s: %w", m.opts.Host, err)
	}
	building, err := m.interrupted()
	if err != nil {
		return err
	}
	for _, inst := range here {
		uuid := inst.UUID.Value()
		began := building[uuid]
		delete(building, uuid)
		m.repairInstance(m.about(ctx, uuid), inst, began)
	}
	// Builds whose instance does not name this host: cut short before the claim, or
	// rescheduled and not forgotten.
	for uuid := range building {
		m.repairUnclaimed(m.about(ctx, uuid), uuid)
	}
	if err := m.conductor.UpdateInstanceInfo(ctx, here...); err != nil {
		m.log.WarnContext(ctx, "the schedulers were not told", "error", err)
	}
	return nil
}

// interrupted are the instances whose build an earlier process had begun.
func (m *Manager) interrupted() (map[string]bool, error) {
	intents, err := m.db.Intents()
	if err != nil {
		return nil, err
	}
	building := map[string]bool{}
	for _, intent := range intents {
		if intent.Kind == "build" {
			building[intent.ID] = true
		}
	}
	return building, nil
}

// starts are the repairs that start a process: they may have to wait for an event, which
// comes only when messages are served.
var starts = []repair{repairRebootSoft, repairRebootHard, repairStart, repairPlugAndResume}

func (m *Manager) repairInstance(ctx context.Context, inst *objects.Instance, building bool) {
	defer m.survive(ctx, "repair")
	d := m.decision(inst, building)
	if slices.Contains(starts, d.repair) {
		m.background(ctx, "repair", func(ctx context.Context) { m.repairNow(ctx, inst, building, d) })
		return
	}
	m.repairNow(ctx, inst, building, d)
}

func (m *Manager) decision(inst *objects.Instance, building bool) decided {
	return decide(found{
		vmState: inst.VMState.Or(""), taskState: inst.TaskState.Or(taskNone), dbPower: power(inst.PowerState.Or(0)),
		power: m.power(inst.UUID.Value()), building: building, resume: m.opts.ResumeGuests,
	})
}

func (m *Manager) repairNow(ctx context.Context, inst *objects.Instance, building bool, d decided) {
	uuid := inst.UUID.Value()
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		return
	}
	defer unlock()
	if d.repair != repairNothing || d.clearTask {
		m.log.InfoContext(ctx, "repair", "vm_state", inst.VMState.Or(""), "task_state", inst.TaskState.Or(""), "repair", d.repair)
	}
	if d.clearTask {
		setTask(inst, taskNone)
		if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
			m.log.ErrorContext(ctx, "the task_state was not cleared", "error", err)
			return
		}
	}
	if err := m.repairs(d.repair)(ctx, inst); err != nil {
		m.log.ErrorContext(ctx, "the repair failed", "repair", d.repair, "error", err)
		m.recordFault(ctx, uuid, err)
		if d.repair != repairPlug && d.repair != repairNothing {
			if err := m.setError(ctx, inst); err != nil {
				m.log.ErrorContext(ctx, "the state was not saved", "error", err)
			}
		}
		return
	}
	if building && d.repair != repairFailBuild && d.repair != repairDelete && d.repair != repairFinishDeletion {
		// The build had ended, but for its intent.
		if err := m.endBuildIntent(uuid); err != nil {
			m.log.ErrorContext(ctx, "a build's intent was not ended", "error", err)
		}
	}
}

func (m *Manager) endBuildIntent(uuid string) error {
	intents, err := m.db.Intents()
	if err != nil {
		return err
	}
	for _, intent := range intents {
		if intent.Kind == "build" && intent.ID == uuid {
			return intent.End()
		}
	}
	return nil
}

// repairs is what each repair does.
func (m *Manager) repairs(r repair) func(context.Context, *objects.Instance) error {
	state := func(vmState string) func(context.Context, *objects.Instance) error {
		return func(ctx context.Context, inst *objects.Instance) error {
			inst.VMState.Set(vmState)
			inst.PowerState.Set(int64(m.power(inst.UUID.Value())))
			setTask(inst, taskNone)
			return m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
		}
	}
	again := func(method string, run func(context.Context, *call) (any, error), extra map[string]string) func(context.Context, *objects.Instance) error {
		return func(ctx context.Context, inst *objects.Instance) error {
			c := &call{args: &args{}, method: method, inst: inst}
			if err := c.setStrings(extra); err != nil {
				return err
			}
			_, err := run(ctx, c)
			return err
		}
	}
	switch r {
	case repairFailBuild:
		return m.failInterruptedBuild
	case repairFail:
		return m.setError
	case repairDelete:
		return func(ctx context.Context, inst *objects.Instance) error {
			bdms, err := m.conductor.BlockDeviceMappings(ctx, inst.UUID.Value())
			if err != nil {
				return err
			}
			return m.delete(ctx, inst, bdms.Objects.Or(nil))
		}
	case repairFinishDeletion:
		return func(ctx context.Context, inst *objects.Instance) error {
			if err := m.removeContainer(ctx, inst.UUID.Value()); err != nil {
				return err
			}
			return m.completeDeletion(ctx, inst)
		}
	case repairRebootSoft:
		return again("reboot_instance", m.reboot, map[string]string{"reboot_type": rebootSoft})
	case repairRebootHard:
		return again("reboot_instance", m.reboot, map[string]string{"reboot_type": rebootHard})
	case repairActive:
		return state(vmActive)
	case repairPaused:
		return state(vmPaused)
	case repairUnpause:
		return again("unpause_instance", m.unpause, nil)
	case repairStop:
		return again("stop_instance", m.stop, nil)
	case repairStart:
		return again("start_instance", m.start, nil)
	case repairPlug:
		return m.plugAgain
	case repairPlugAndResume:
		return func(ctx context.Context, inst *objects.Instance) error {
			if err := m.powerOn(ctx, inst); err != nil {
				return err
			}
			return state(vmActive)(ctx, inst)
		}
	}
	return func(context.Context, *objects.Instance) error { return nil }
}

// plugAgain makes sure that a container that runs has its endpoints. One that does not gets
// them when it is started.
func (m *Manager) plugAgain(ctx context.Context, inst *objects.Instance) error {
	vifs, err := cachedNetwork(inst)
	if err != nil {
		return err
	}
	container, err := m.engine.Inspect(containerID(inst.UUID.Value()))
	if err != nil || !container.State.Live() {
		return nil
	}
	return m.replug(ctx, inst.UUID.Value(), vifs)
}

// failInterruptedBuild undoes a build that a crash cut short and says so. The instance
// stays this host's, so that its deletion comes here.
func (m *Manager) failInterruptedBuild(ctx context.Context, inst *objects.Instance) error {
	uuid := inst.UUID.Value()
	undone := errors.Join(
		m.removeContainer(ctx, uuid),
		m.neutron.Deallocate(ctx, networkInstance(inst), nil),
	)
	m.recordFault(ctx, uuid, &Exception{Class: classBuildAbort, Code: 500, Kind: errdefs.ErrUnavailable,
		Message: fmt.Sprintf("Build of instance %s aborted: nova-agent was restarted meanwhile", uuid)})
	inst.VMState.Set(vmError)
	inst.PowerState.Set(int64(powerNoState))
	setTask(inst, taskNone)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil && !conductor.IsDeleting(err) {
		return errors.Join(undone, err)
	}
	if undone != nil {
		return undone
	}
	return m.endBuildIntent(uuid)
}

// repairUnclaimed is for an instance whose build had begun here but which is not this host's.
func (m *Manager) repairUnclaimed(ctx context.Context, uuid string) {
	defer m.survive(ctx, "repair")
	inst, err := m.conductor.InstanceByUUID(ctx, uuid, "info_cache", "system_metadata", "flavor")
	switch {
	case conductor.IsNotFound(err):
		err = m.settleBuild(ctx, uuid)
	case err != nil:
	case inst.Host.Or("") != "" && inst.Host.Or("") != m.opts.Host:
		// Another host has it, with its ports: only the container is ours to remove.
		if err = m.removeContainer(ctx, uuid); err == nil {
			err = m.endBuildIntent(uuid)
		}
	case inst.VMState.Or("") == vmBuilding && inst.TaskState.Or(taskNone) != taskScheduling:
		err = errors.Join(m.failInterruptedBuild(ctx, inst), m.placement.DeleteAllocations(ctx, uuid))
	default:
		if err = m.removeContainer(ctx, uuid); err == nil {
			err = m.endBuildIntent(uuid)
		}
	}
	if err != nil {
		m.log.ErrorContext(ctx, "an interrupted build was not undone", "error", err)
	}
}

// strays are containers of instances that Nova does not know any more: deleted while this host
// was away (the API does that without a message). Reaped as
// _cleanup_running_deleted_instances does.
func (m *Manager) reapStrays(ctx context.Context) error {
	var errs []error
	for _, c := range m.engine.List() {
		uuid, ours := instanceOf(c.Spec.Name)
		if c.Spec.Owner != engine.OwnerNova || !ours {
			continue
		}
		inst, err := m.conductor.InstanceByUUID(ctx, uuid)
		switch {
		case conductor.IsNotFound(err):
		case err != nil:
			errs = append(errs, err)
			continue
		case inst.Host.Or("") == m.opts.Host || inst.Host.Or("") == "" && inst.VMState.Or("") != vmError:
			continue
		}
		if err := m.reap(m.about(ctx, uuid), uuid); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) reap(ctx context.Context, uuid string) error {
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	// A build may have begun while the lock was waited for.
	if building, err := m.interrupted(); err != nil || building[uuid] {
		return err
	}
	m.log.WarnContext(ctx, "Nova does not have this instance on this host any more: its container is removed")
	return errors.Join(m.removeContainer(ctx, uuid), m.forget(uuid))
}
