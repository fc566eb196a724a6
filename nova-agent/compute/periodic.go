package compute

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// Intervals that nobody has needed to change.
const (
	schedulerSyncInterval  = 2 * time.Minute // [DEFAULT]scheduler_instance_sync_interval
	pendingDeletesInterval = 5 * time.Minute // [DEFAULT]instance_delete_interval
	buildTimeInterval      = time.Minute
	// unclaimedDelay is how long after a start the builds are looked for that an
	// earlier process was told of and lost: by then the messages that waited in the queue
	// have been taken.
	unclaimedDelay = 30 * time.Second
	// taskTimeout bounds one run of a periodic task.
	taskTimeout = 10 * time.Minute
	// fuzzyDelay spreads the first runs of the hosts of a cloud (Nova: periodic_fuzzy_delay, 60 s).
	fuzzyDelay = 20 * time.Second
)

// periodic is a task that is run again and again. A zero interval switches it off.
type periodic struct {
	name     string
	interval time.Duration
	first    time.Duration // before the first run
	run      func(ctx context.Context) error
}

func (m *Manager) periodics() []periodic {
	o := m.opts
	fuzzy := func(interval time.Duration) time.Duration { return min(interval, rand.N(fuzzyDelay)) }
	return []periodic{
		// At once: after an outage of a minute the scheduler has given this host up.
		{"report_state", o.ReportInterval, 0, m.service.beat},
		{"sync_power_states", o.PowerInterval, 0, m.alignAll},
		{"heal_instance_info_cache", o.HealInterval, fuzzy(o.HealInterval), m.healOne},
		{"sync_scheduler_instance_info", schedulerSyncInterval, fuzzy(schedulerSyncInterval), m.syncSchedulers},
		{"cleanup_running_deleted_instances", o.RunningDeletedInterval, 0, m.reapDeleted},
		{"run_pending_deletes", pendingDeletesInterval, fuzzy(pendingDeletesInterval), m.markCleaned},
		{"check_instance_build_time", intervalIf(o.BuildTimeout > 0, buildTimeInterval), buildTimeInterval, m.failSlowBuilds},
	}
}

func intervalIf(on bool, d time.Duration) time.Duration {
	if on {
		return d
	}
	return 0
}

// startPeriodic begins the periodic tasks.
func (m *Manager) startPeriodic() {
	for _, p := range m.periodics() {
		if p.interval <= 0 {
			continue
		}
		m.routine(p.name, func(ctx context.Context) {
			timer := time.NewTimer(p.first)
			defer timer.Stop()
			for {
				select {
				case <-timer.C:
				case <-ctx.Done():
					return
				}
				m.runTask(ctx, p.name, p.run)
				timer.Reset(p.interval)
			}
		})
	}
	m.routine("update_available_resource", m.updateWhenAsked)
	m.routine("unclaimed builds", func(ctx context.Context) {
		select {
		case <-time.After(unclaimedDelay):
			m.runTask(ctx, "fail_interrupted_builds", m.failUnclaimed)
		case <-ctx.Done():
		}
	})
}

// runTask runs a periodic task once. A panic in it is an error of this run.
func (m *Manager) runTask(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithTimeout(m.admin(ctx), taskTimeout)
	defer cancel()
	defer m.survive(ctx, name)
	began := time.Now()
	err := run(ctx)
	m.ran(ctx, name, began, err)
}

func (m *Manager) ran(ctx context.Context, name string, began time.Time, err error) {
	if ctx.Err() != nil && err != nil {
		return // it was told to end
	}
	if m.opts.Observe.Ran != nil {
		m.opts.Observe.Ran(name, time.Since(began), err)
	}
	if err != nil {
		m.log.WarnContext(ctx, "a periodic task failed", "task", name, "error", err)
	}
}

// updateDelay gathers the changes of several operations into one update of the node.
const updateDelay = time.Second

// updateWhenAsked writes the compute node: counted anew every UpdateInterval, and soon after
// operations have changed it.
func (m *Manager) updateWhenAsked(ctx context.Context) {
	interval := m.opts.UpdateInterval
	if interval <= 0 {
		interval = time.Minute
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		recount := false
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			recount = true
		case <-m.tracker.kick:
			select {
			case <-time.After(updateDelay):
			case <-ctx.Done():
				return
			}
			select { // what came meanwhile is written with it
			case <-m.tracker.kick:
			default:
			}
		}
		m.runTask(ctx, "update_available_resource", func(ctx context.Context) error {
			err := m.tracker.update(ctx, recount)
			if err == nil && recount {
				err = m.freeDeleted(ctx)
			}
			return err
		})
	}
}

// freeDeleted removes the allocations that deleted instances still have on this node: the API
// deletes locally while this service is down
// (nova/compute/resource_tracker.py, _remove_deleted_instances_allocations).
func (m *Manager) freeDeleted(ctx context.Context) error {
	users, err := m.placement.ProviderAllocations(ctx, m.tracker.provider())
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	known, err := m.tracker.known(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for consumer := range users {
		if known[consumer] {
			continue
		}
		inst, err := m.conductor.InstanceByUUID(withDeleted(ctx), consumer, []string{}...)
		switch {
		case conductor.IsNotFound(err):
			// A migration, or an instance whose row is not written yet.
		case err != nil:
			errs = append(errs, err)
		case inst.Deleted.Or(false) && !inst.Hidden.Or(false):
			m.log.InfoContext(m.about(ctx, consumer), "the allocation of a deleted server is removed")
			errs = append(errs, m.placement.DeleteAllocations(ctx, consumer))
		}
	}
	return errors.Join(errs...)
}

// withDeleted is ctx with a request context that sees deleted rows.
func withDeleted(ctx context.Context) context.Context {
	rc := rpc.RequestContextFrom(ctx)
	if rc == nil {
		rc = rpc.NewAdminContext()
	}
	return rpc.WithRequestContext(ctx, rc.ReadDeleted("yes"))
}

// healOne refreshes the network info of one instance after the other, binds its ports again if
// somebody has bound them elsewhere, and repairs the container's network.
func (m *Manager) healOne(ctx context.Context) error {
	uuid, err := m.nextToHeal(ctx)
	if err != nil || uuid == "" {
		return err
	}
	ctx = m.about(ctx, uuid)
	inst, err := m.conductor.InstanceByUUID(ctx, uuid, "system_metadata", "info_cache", "flavor")
	if conductor.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if inst.Host.Or("") != m.opts.Host || inst.TaskState.Or(taskNone) != taskNone || inst.VMState.Or("") == vmBuilding {
		return nil
	}
	ports := networkInstance(inst)
	rebind, err := m.neutron.NeedsRebind(ctx, ports, m.opts.Host)
	if err != nil {
		return err
	}
	if rebind {
		m.log.InfoContext(ctx, "ports are bound to this host again")
		if err := m.neutron.Rebind(ctx, ports, m.opts.Host, nil); err != nil {
			return err
		}
	}
	vifs, err := m.neutron.Heal(ctx, ports)
	if err != nil {
		return err
	}
	return m.applyNetwork(ctx, uuid, vifs, true)
}

// nextToHeal is the next instance of a round through all of this host.
func (m *Manager) nextToHeal(ctx context.Context) (string, error) {
	if len(m.toHeal) == 0 {
		instances, err := m.conductor.Replica().InstancesByHost(ctx, []string{}...)
		if err != nil {
			return "", err
		}
		for _, i := range instances {
			if i.VMState.Or("") != vmBuilding && i.TaskState.Or(taskNone) == taskNone {
				m.toHeal = append(m.toHeal, i.UUID.Value())
			}
		}
	}
	if len(m.toHeal) == 0 {
		return "", nil
	}
	next := m.toHeal[0]
	m.toHeal = m.toHeal[1:]
	return next, nil
}

func (m *Manager) syncSchedulers(ctx context.Context) error {
	uuids, err := m.conductor.InstanceUUIDsByHost(ctx)
	if err != nil {
		return err
	}
	return m.conductor.SyncInstanceInfo(ctx, uuids)
}

// reapDeleted removes containers whose instances the API has deleted while this service was
// down (nova/compute/manager.py, _cleanup_running_deleted_instances, action reap).
func (m *Manager) reapDeleted(ctx context.Context) error {
	var uuids []string
	for _, c := range m.engine.List() {
		if uuid, ok := instanceOf(c.Spec.Name); ok && c.Spec.Owner == engine.OwnerNova {
			uuids = append(uuids, uuid)
		}
	}
	if len(uuids) == 0 {
		return nil
	}
	deleted, err := m.conductor.InstancesByFilters(withDeleted(ctx),
		map[string]any{"uuid": uuids, "deleted": true, "soft_deleted": false}, "info_cache")
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range deleted {
		errs = append(errs, m.reap(ctx, inst))
	}
	return errors.Join(errs...)
}

func (m *Manager) reap(ctx context.Context, inst *objects.Instance) error {
	uuid := inst.UUID.Value()
	ctx = m.about(ctx, uuid)
	unlock, err := m.locks.lock(ctx, uuid)
	if err != nil {
		return err
	}
	defer unlock()
	m.log.InfoContext(ctx, "the container of a deleted server is removed")
	if err := m.removeContainer(ctx, uuid); err != nil {
		return err
	}
	if err := m.neutron.Deallocate(withDeleted(ctx), networkInstance(inst), nil); err != nil && !conductor.IsNotFound(err) {
		return err
	}
	m.tracker.settle(ctx, inst, false)
	if err := m.placement.DeleteAllocations(ctx, uuid); err != nil {
		return err
	}
	return m.forget(uuid)
}

// markCleaned tells Nova that nothing is left of the deleted instances of this host.
func (m *Manager) markCleaned(ctx context.Context) error {
	ctx = withDeleted(ctx)
	list, err := m.conductor.Replica().InstancesByFilters(ctx,
		map[string]any{"deleted": true, "soft_deleted": false, "host": m.opts.Host, "cleaned": false}, "system_metadata")
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range list {
		if err := m.removeContainer(ctx, inst.UUID.Value()); err != nil {
			errs = append(errs, err)
			continue
		}
		inst.Cleaned.Set(true)
		if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil && !conductor.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// failSlowBuilds gives up builds that take longer than [DEFAULT]instance_build_timeout.
func (m *Manager) failSlowBuilds(ctx context.Context) error {
	list, err := m.conductor.Replica().InstancesByFilters(ctx, map[string]any{"vm_state": vmBuilding, "host": m.opts.Host}, []string{}...)
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range list {
		if time.Since(inst.CreatedAt.Or(time.Now())) > m.opts.BuildTimeout {
			m.log.WarnContext(m.about(ctx, inst.UUID.Value()), "the build takes too long and is given up")
			inst.VMState.Set(vmError)
			err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
			if err != nil && !conductor.IsNotFound(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
