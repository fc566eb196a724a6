package compute

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/rpc"
)

// periodicTask is one of nova-compute's.
type periodicTask struct {
	name  string
	every time.Duration // 0: never
	first bool          // run at once
	run   func(ctx context.Context) error
}

// Intervals that Nova does not let an operator choose.
const (
	schedulerInterval  = 120 * time.Second
	consoleInterval    = 300 * time.Second
	buildCheckInterval = 60 * time.Second
)

// startPeriodic begins the periodic tasks (nova/compute/manager.py).
func (m *Manager) startPeriodic() {
	o := m.opts
	healer := &healer{m: m}
	for _, t := range []periodicTask{
		{"report_state", o.ReportInterval, true, m.service.beat},
		{"update_available_resource", o.UpdateInterval, false, m.updateResources},
		{"sync_power_states", o.PowerInterval, true, m.syncPowers},
		{"heal_instance_info_cache", o.HealInterval, false, healer.next},
		{"sync_scheduler_instance_info", schedulerInterval, false, m.syncScheduler},
		{"cleanup_running_deleted_instances", o.RunningDeletedInterval, true, m.reapStrays},
		{"cleanup_expired_console_auth_tokens", consoleInterval, false, m.conductor.CleanExpiredConsoleAuths},
		{"check_instance_build_time", whenSet(o.BuildTimeout, buildCheckInterval), false, m.failSlowBuilds},
	} {
		if t.every > 0 {
			m.routine(t.name, func(ctx context.Context) { m.repeat(ctx, t) })
		}
	}
	m.routine("update on demand", m.updateOnDemand)
}

func whenSet(option, interval time.Duration) time.Duration {
	if option == 0 {
		return 0
	}
	return interval
}

// repeat runs a task until ctx ends. Unless it is wanted at once it begins at a random time
// within its interval, so that the nodes of a cloud do not ask in chorus.
func (m *Manager) repeat(ctx context.Context, t periodicTask) {
	wait := rand.N(min(t.every, time.Minute))
	if t.first {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		m.ran(m.admin(ctx), t.name, t.run)
		timer.Reset(t.every)
	}
}

// ran runs a task once; its error and its panic are logged and end nothing else.
func (m *Manager) ran(ctx context.Context, name string, run func(ctx context.Context) error) {
	began := time.Now()
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return run(ctx)
	}()
	if m.opts.Observe.Ran != nil {
		m.opts.Observe.Ran(name, time.Since(began), err)
	}
	if err != nil && ctx.Err() == nil {
		m.log.WarnContext(ctx, "a periodic task failed", "task", name, "error", err)
	}
}

// updateOnDemand brings the node's record up to date soon after a claim or its end; several
// that come together make one update.
func (m *Manager) updateOnDemand(ctx context.Context) {
	for {
		select {
		case <-m.tracker.kick:
		case <-ctx.Done():
			return
		}
		m.ran(m.admin(ctx), "update_usage", func(ctx context.Context) error { return m.tracker.update(ctx, false) })
	}
}

// updateResources counts the instances anew and removes allocations of deleted ones.
func (m *Manager) updateResources(ctx context.Context) error {
	return errors.Join(m.tracker.update(ctx, true), m.removeDeadAllocations(ctx))
}

// removeDeadAllocations deletes what deleted instances hold on this node
// (nova/compute/resource_tracker.py, _remove_deleted_instances_allocations).
func (m *Manager) removeDeadAllocations(ctx context.Context) error {
	all, err := m.placement.ProviderAllocations(ctx, m.tracker.provider())
	if err != nil {
		return err
	}
	deleted := rpc.WithRequestContext(ctx, rpc.NewAdminContext().ReadDeleted("yes"))
	var errs []error
	for consumer := range all {
		inst, err := m.conductor.InstanceByUUID(deleted, consumer)
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
			continue // a migration's, or another service's
		case err != nil:
			errs = append(errs, err)
		case inst.Deleted.Or(false):
			errs = append(errs, m.placement.DeleteAllocations(ctx, consumer))
		}
	}
	return errors.Join(errs...)
}

func (m *Manager) syncScheduler(ctx context.Context) error {
	uuids, err := m.conductor.InstanceUUIDsByHost(ctx)
	if err != nil {
		return err
	}
	return m.conductor.SyncInstanceInfo(ctx, uuids)
}

// failSlowBuilds puts instances into error that build for longer than they may.
func (m *Manager) failSlowBuilds(ctx context.Context) error {
	building, err := m.conductor.InstancesByFilters(ctx, map[string]any{"vm_state": vmBuilding, "host": m.opts.Host})
	if err != nil {
		return err
	}
	var errs []error
	for _, inst := range building {
		if created, ok := inst.CreatedAt.Get(); ok && time.Since(created) > m.opts.BuildTimeout {
			m.log.WarnContext(m.about(ctx, inst.UUID.Value()), "the server builds for too long and is set to error")
			errs = append(errs, m.setError(ctx, inst))
		}
	}
	return errors.Join(errs...)
}

// healer reads the network info of one instance at a time anew from Neutron, which
// repairs what a lost network-changed event left behind.
type healer struct {
	m    *Manager
	todo []string
}

func (h *healer) next(ctx context.Context) error {
	if len(h.todo) == 0 {
		uuids, err := h.m.conductor.InstanceUUIDsByHost(ctx)
		if err != nil {
			return err
		}
		slices.Sort(uuids)
		h.todo = uuids
	}
	if len(h.todo) == 0 {
		return nil
	}
	uuid := h.todo[0]
	h.todo = h.todo[1:]
	ctx = h.m.about(ctx, uuid)
	inst, err := h.m.conductor.InstanceByUUID(ctx, uuid, "info_cache")
	if conductor.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if inst.TaskState.Or(taskNone) != taskNone || slices.Contains([]string{vmBuilding, vmError, vmDeleted}, inst.VMState.Or("")) {
		return nil
	}
	if wrong, err := h.m.neutron.NeedsRebind(ctx, networkInstance(inst), h.m.opts.Host); err != nil {
		return err
	} else if wrong {
		if err := h.m.neutron.Rebind(ctx, networkInstance(inst), h.m.opts.Host, nil); err != nil {
			return err
		}
	}
	vifs, err := h.m.neutron.Heal(ctx, networkInstance(inst))
	if err != nil {
		return err
	}
	return h.m.replug(ctx, uuid, vifs)
}
