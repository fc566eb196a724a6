package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"novaagent/engine/store"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
)

// intentBuild is the kind of the intents of builds.
const intentBuild = "nova-build"

// buildDetail is what settling a build needs when its message is gone.
type buildDetail struct {
	RequestID string
	ProjectID string
	// Ports that the user made; they are unbound, not deleted.
	Ports []string `json:",omitempty"`
}

// networks are the ports as Neutron's client wants to know them.
func (d buildDetail) networks() []neutron.NetworkRequest {
	var out []neutron.NetworkRequest
	for _, id := range d.Ports {
		out = append(out, neutron.NetworkRequest{PortID: id})
	}
	return out
}

// repairs is how many instances are repaired at a time.
const repairs = 4

// reconcile brings Nova's record, the intents and the containers together as the service starts
// (nova/compute/manager.py, init_host). What takes long goes on behind it. An instance that
// cannot be repaired stops no other.
func (m *Manager) reconcile(ctx context.Context) error {
	instances, err := m.conductor.InstancesByHost(ctx, "info_cache", "metadata", "system_metadata", "flavor")
	if err != nil {
		return fmt.Errorf("instances of host %s: %w", m.opts.Host, err)
	}
	gone, err := m.destroyEvacuated(ctx)
	if err != nil {
		return err
	}
	intents, err := m.buildIntents()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	places := make(chan struct{}, repairs)
	for _, inst := range instances {
		if gone[inst.UUID.Value()] {
			continue
		}
		detail, building := intents[inst.UUID.Value()]
		delete(intents, inst.UUID.Value())
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			defer m.survive(ctx, "reconcile")
			m.repair(m.about(ctx, inst.UUID.Value()), inst, building, detail)
		})
	}
	wg.Wait()
	for uuid, detail := range intents {
		if err := m.settleBuild(m.about(ctx, uuid), uuid, detail); err != nil {
			m.log.ErrorContext(m.about(ctx, uuid), "a build that was cut short is not undone as a whole", "error", err)
		}
	}
	m.dropAttempts(ctx, instances)
	if err := m.removeStrayFiles(); err != nil {
		m.log.WarnContext(ctx, "files of instances that are gone stay", "error", err)
	}
	if len(instances) > 0 {
		if err := m.conductor.UpdateInstanceInfo(ctx, instances...); err != nil {
			m.log.WarnContext(ctx, "the schedulers were not told", "error", err)
		}
	}
	return nil
}

// buildIntents are the builds that an earlier process did not see to their end.
func (m *Manager) buildIntents() (map[string]buildDetail, error) {
	all, err := m.db.Intents()
	if err != nil {
		return nil, err
	}
	found := map[string]buildDetail{}
	for _, i := range all {
		if i.Kind != intentBuild {
			continue
		}
		var d buildDetail
		if err := json.Unmarshal(i.Detail, &d); err != nil {
			m.log.Warn("an intent's detail cannot be read", "instance_uuid", i.ID, "error", err)
		}
		found[i.ID] = d
	}
	return found, nil
}

// destroyEvacuated removes the containers of instances that were moved to another host while this one was
// taken for dead. It tells which they are. Nothing of an instance whose row says
// that it is here is touched.
func (m *Manager) destroyEvacuated(ctx context.Context) (map[string]bool, error) {
	migrations, err := m.conductor.MigrationsByFilters(withDeleted(ctx), map[string]any{
		"source_compute": m.opts.Host, "migration_type": "evacuation",
		"status": []string{"accepted", "pre-migrating", "done"},
	})
	if err != nil {
		return nil, fmt.Errorf("evacuations from host %s: %w", m.opts.Host, err)
	}
	gone := map[string]bool{}
	for _, mig := range migrations {
		uuid := mig.InstanceUUID.Or("")
		ctx := m.about(ctx, uuid)
		if err := m.destroyMoved(ctx, uuid, mig); err != nil {
			m.log.ErrorContext(ctx, "what an evacuated server left here is not removed", "error", err)
		}
		gone[uuid] = true
	}
	return gone, nil
}

func (m *Manager) destroyMoved(ctx context.Context, uuid string, mig *objects.Migration) error {
	if _, err := m.engine.Inspect(containerID(uuid)); err == nil {
		m.log.InfoContext(ctx, "the server was evacuated; its container here is removed")
		if err := m.removeContainer(ctx, uuid); err != nil {
			return err
		}
	}
	inst, err := m.conductor.InstanceByUUID(ctx, uuid, []string{}...)
	if conductor.IsNotFound(err) {
		return nil // deleted, with its allocations
	}
	if err != nil {
		return err
	}
	if inst.Host.Or("") != m.opts.Host {
		if err := m.placement.RemoveProvider(ctx, uuid, m.tracker.provider()); err != nil {
			return err
		}
	}
	mig.Status.Set("completed")
	return m.conductor.SaveMigration(ctx, mig)
}

// repair does with an instance what decide says.
func (m *Manager) repair(ctx context.Context, inst *objects.Instance, building bool, detail buildDetail) {
	uuid := inst.UUID.Value()
	d := decide(found{
		vmState: inst.VMState.Or(""), taskState: inst.TaskState.Or(taskNone),
		dbPower: power(inst.PowerState.Or(0)), power: m.power(uuid), building: building, resume: m.opts.ResumeGuests,
	})
	if d.repair != repairPlug && d.repair != repairNothing || d.clearTask {
		m.log.InfoContext(ctx, "the server is repaired", "repair", string(d.repair), "vm_state", inst.VMState.Or(""),
			"task_state", inst.TaskState.Or(taskNone), "power_state", m.power(uuid).String())
	}
	if err := m.carryOut(ctx, inst, d, detail); err != nil && !conductor.IsDeleting(err) {
		m.log.ErrorContext(ctx, "the server is not repaired", "repair", string(d.repair), "error", err)
	}
	if building && d.repair != repairFailBuild {
		// The build had come to its end but for the intent's, or the deletion ends it.
		if d.repair == repairDelete {
			return
		}
		if err := m.endIntents(uuid); err != nil {
			m.log.ErrorContext(ctx, "an intent is not ended", "error", err)
		}
	}
}

func (m *Manager) carryOut(ctx context.Context, inst *objects.Instance, d decided, detail buildDetail) error {
	uuid := inst.UUID.Value()
	if d.clearTask {
		setTask(inst, taskNone)
		if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
			return err
		}
	}
	settle := func(vmState string) error {
		inst.VMState.Set(vmState)
		setTask(inst, taskNone)
		inst.PowerState.Set(int64(m.power(uuid)))
		return m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
	}
	// The long ones wait for Neutron's events, which come when messages are served.
	later := func(method string, o operation, raw map[string]json.RawMessage) error {
		m.background(ctx, method, func(ctx context.Context) {
			_, _ = m.do(ctx, o, &call{args: &args{raw: raw}, method: method, inst: inst}) // do logs
		})
		return nil
	}
	switch d.repair {
	case repairFinishDeletion:
		return m.completeDeletion(ctx, inst)
	case repairDelete:
		m.background(ctx, "delete", func(ctx context.Context) { m.deleteAgain(ctx, inst) })
		return nil
	case repairFailBuild:
		return m.failInterrupted(ctx, inst, detail)
	case repairFail:
		return m.setError(ctx, inst)
	case repairActive:
		return settle(vmActive)
	case repairPaused:
		return settle(vmPaused)
	case repairUnpause:
		return later("unpause_instance", ref.with(m.unpause), nil)
	case repairStop:
		return later("stop_instance", refl.with(m.stop), nil)
	case repairStart:
		return later("start_instance", ref.with(m.start), nil)
	case repairRebootSoft, repairRebootHard:
		kind := rebootSoft
		if d.repair == repairRebootHard {
			kind = rebootHard
		}
		return m.rebootAgain(ctx, inst, kind, later)
	case repairPlugAndResume:
		m.background(ctx, "resume", func(ctx context.Context) { m.resume(ctx, inst) })
		return nil
	case repairPlug:
		return m.plugAgain(ctx, inst)
	}
	return nil
}

// rebootAgain takes up a reboot. One that began softly and has to go on hard gets a task
// that the hard one expects.
func (m *Manager) rebootAgain(ctx context.Context, inst *objects.Instance, kind string,
	later func(string, operation, map[string]json.RawMessage) error) error {
	pending := taskRebootPending
	if kind == rebootHard {
		pending = taskRebootPendingHard
	}
	if inst.TaskState.Or(taskNone) != pending {
		setTask(inst, pending)
		if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
			return err
		}
	}
	return later("reboot_instance", refl.with(m.reboot), map[string]json.RawMessage{"reboot_type": json.RawMessage(`"` + kind + `"`)})
}

// deleteAgain takes up a deletion that was cut short.
func (m *Manager) deleteAgain(ctx context.Context, inst *objects.Instance) {
	unlock, err := m.locks.lock(ctx, inst.UUID.Value())
	if err != nil {
		return
	}
	defer unlock()
	bdms, err := m.conductor.BlockDeviceMappings(ctx, inst.UUID.Value())
	if err == nil {
		err = m.delete(ctx, inst, bdms.Objects.Or(nil))
	}
	if err != nil {
		m.log.ErrorContext(ctx, "the deletion that was cut short failed again", "error", err)
	}
}

// failInterrupted ends a build whose process died: everything it made is taken back, and the
// user is told.
func (m *Manager) failInterrupted(ctx context.Context, inst *objects.Instance, detail buildDetail) error {
	uuid := inst.UUID.Value()
	if inst.VMState.Or("") != vmError { // else the user knows already
		m.recordFault(ctx, uuid, buildAbort(uuid, "nova-agent was restarted while it was building; please try again", nil))
	}
	err := errors.Join(m.removeContainer(ctx, uuid), m.neutron.Deallocate(ctx, networkInstance(inst), detail.networks()))
	if err != nil {
		// The host stays in the row, so that the user's delete comes here and finds the rest.
		return errors.Join(err, m.setError(ctx, inst))
	}
	if err := m.failInstance(ctx, inst); err != nil {
		return err
	}
	if err := m.placement.DeleteAllocations(ctx, uuid); err != nil {
		return err
	}
	return m.endIntents(uuid)
}

// endIntents closes the intents about an instance.
func (m *Manager) endIntents(uuid string) error {
	intents, err := m.db.Intents()
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range intents {
		if i.Kind == intentBuild && i.ID == uuid {
			errs = append(errs, i.End())
		}
	}
	return errors.Join(errs...)
}

// resume starts a server that ran before the machine went down ([DEFAULT]resume_guests_state_on_host_boot).
func (m *Manager) resume(ctx context.Context, inst *objects.Instance) {
	unlock, err := m.locks.lock(ctx, inst.UUID.Value())
	if err != nil {
		return
	}
	defer unlock()
	if err := m.powerOn(ctx, inst); err != nil {
		m.log.ErrorContext(ctx, "the server did not start with its host", "error", err)
		if err := m.setError(ctx, inst); err != nil {
			m.log.ErrorContext(ctx, "the server was not set to error", "error", err)
		}
		return
	}
	if err := m.align(ctx, inst); err != nil {
		m.log.WarnContext(ctx, "the power state was not recorded", "error", err)
	}
}

// plugAgain repairs the network of a container that is there. A port that is not bound here any
// more leaves the rest as it is; healOne binds it again.
func (m *Manager) plugAgain(ctx context.Context, inst *objects.Instance) error {
	if m.power(inst.UUID.Value()).off() {
		return nil // it is plugged when it starts
	}
	vifs, err := cachedNetwork(inst)
	if err != nil {
		return err
	}
	return m.applyNetwork(ctx, inst.UUID.Value(), vifs, true)
}

// settleBuild undoes what was begun to build for an instance that is not recorded as being
// here: the process died, or an undo failed.
func (m *Manager) settleBuild(ctx context.Context, uuid string, detail buildDetail) error {
	inst, err := m.conductor.InstanceByUUID(withDeleted(ctx), uuid, "info_cache", "system_metadata", "flavor")
	switch {
	case conductor.IsNotFound(err):
		inst = &objects.Instance{}
		inst.UUID.Load(uuid)
		inst.ProjectID.Load(detail.ProjectID)
		inst.Deleted.Load(true)
	case err != nil:
		return err
	}
	host := inst.Host.Or("")
	switch {
	case host != "" && host != m.opts.Host:
		// Its ports are that host's now.
		return errors.Join(m.removeContainer(ctx, uuid), m.endIntents(uuid))
	case !inst.Deleted.Or(false):
		return m.failInterrupted(ctx, inst, detail)
	}
	err = errors.Join(m.removeContainer(ctx, uuid), m.neutron.Deallocate(withDeleted(ctx), networkInstance(inst), detail.networks()))
	if err != nil {
		return err
	}
	if err := m.placement.DeleteAllocations(ctx, uuid); err != nil {
		return err
	}
	return m.endIntents(uuid)
}

// dropAttempts forgets the builds of instances that are not here any more.
func (m *Manager) dropAttempts(ctx context.Context, here []*objects.Instance) {
	attempts, err := store.List[string](m.db, kindAttempt)
	if err != nil {
		m.log.WarnContext(ctx, "the record of earlier builds cannot be read", "error", err)
	}
	for _, inst := range here {
		delete(attempts, inst.UUID.Value())
	}
	for uuid := range attempts {
		if err := store.DeleteLazy(m.db, kindAttempt, uuid); err != nil {
			m.log.WarnContext(ctx, "an earlier build is not forgotten", "instance_uuid", uuid, "error", err)
		}
	}
}

// failUnclaimed fails the builds that were sent to this host and lost before they were taken on: the
// scheduler has claimed room for them here, and nobody builds them
// (nova/compute/manager.py, _error_out_instances_whose_build_was_interrupted).
func (m *Manager) failUnclaimed(ctx context.Context) error {
	users, err := m.placement.ProviderAllocations(ctx, m.tracker.provider())
	if err != nil {
		return err
	}
	var uuids []string
	known, err := m.tracker.known(ctx)
	if err != nil {
		return err
	}
	for consumer := range users {
		if !known[consumer] {
			uuids = append(uuids, consumer)
		}
	}
	if len(uuids) == 0 {
		return nil
	}
	lost, err := m.conductor.InstancesByFilters(ctx, map[string]any{"vm_state": vmBuilding, "uuid": uuids}, "info_cache", "flavor", "system_metadata")
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range lost {
		uuid := inst.UUID.Value()
		if inst.Host.Or("") != "" || m.locks.taken(uuid) || inst.CreatedAt.Or(m.began).After(m.began) {
			continue // elsewhere, waiting here for its turn, or asked for since
		}
		ctx := m.about(ctx, uuid)
		m.log.WarnContext(ctx, "a build that was sent to this host was lost when it restarted")
		errs = append(errs, m.failInterrupted(ctx, inst, buildDetail{}))
	}
	return errors.Join(errs...)
}
