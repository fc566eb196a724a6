package compute

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/neutron"
	"novaagent/nova-agent/objects"
)

// saveState ends an operation: no task, the power state as it is, if the task is one of
// expected now.
func (m *Manager) saveState(ctx context.Context, inst *objects.Instance, expected ...string) error {
	inst.PowerState.Set(int64(m.power(inst.UUID.Value())))
	setTask(inst, taskNone)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(expected...)}); err != nil {
		return err
	}
	m.tracker.settle(ctx, inst, true)
	return nil
}

// powerOff ends an instance's process: with its stop signal and grace, or at once. There
// may be no container, after a failed build or rebuild.
func (m *Manager) powerOff(ctx context.Context, inst *objects.Instance, clean bool) error {
	id := containerID(inst.UUID.Value())
	if c, err := m.engine.Inspect(id); err == nil && c.State == engine.Paused {
		if err := m.engine.Unpause(ctx, id); err != nil {
			return err
		}
		clean = false // it was asleep: Nova does not ask such a guest either
	}
	grace := engine.NoGrace
	if !clean || m.deaf(id) {
		grace = 0
	}
	_, err := m.engine.Stop(ctx, id, 0, grace)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	return err
}

// deaf says that a container's first process will not end by its stop signal: the kernel
// does not deliver a signal to the first process of a PID namespace that has no handler for it. To wait for it is
// to no end.
func (m *Manager) deaf(id string) bool {
	c, err := m.engine.Inspect(id)
	if err != nil || c.PID == 0 {
		return false
	}
	text, err := os.ReadFile("/proc/" + strconv.Itoa(c.PID) + "/status")
	if err != nil {
		return false
	}
	return !handles(string(text), c.Process.StopSignal)
}

// handles reads from a /proc/PID/status whether the process catches sig. What cannot be
// read counts as caught.
func handles(status string, sig syscall.Signal) bool {
	for line := range strings.Lines(status) {
		mask, ok := strings.CutPrefix(line, "SigCgt:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		return err != nil || sig <= 0 || sig > 64 || bits&(1<<(uint(sig)-1)) != 0
	}
	return true
}

// powerOn starts an instance's process with its network as Neutron has it now: ports that were
// plugged stay, what a reboot of the machine took is made again, and Neutron's word is
// waited for where a port is not wired.
func (m *Manager) powerOn(ctx context.Context, inst *objects.Instance) error {
	uuid := inst.UUID.Value()
	if _, err := m.engine.Inspect(containerID(uuid)); err != nil {
		return notOnHost(uuid, err)
	}
	if err := m.conductor.LoadInstance(ctx, inst, "info_cache"); err != nil {
		return err
	}
	vifs, err := m.neutron.Rebuild(ctx, networkInstance(inst))
	if errors.Is(err, errdefs.ErrUnavailable) {
		// Neutron's silence must not keep a server down whose network is known.
		m.log.WarnContext(ctx, "Neutron does not answer; the network is taken as it was", "error", err)
		vifs, err = cachedNetwork(inst)
	}
	if err != nil {
		return err
	}
	if err := loadNetwork(inst, vifs); err != nil {
		return err
	}
	return m.plugAndStart(ctx, uuid, vifs)
}

func (m *Manager) plugAndStart(ctx context.Context, uuid string, vifs neutron.NetworkInfo) error {
	wanted, err := endpoints(uuid, vifs)
	if err != nil {
		return err
	}
	plugged := m.expectPlugged(uuid, vifs)
	defer plugged.cancel()
	if err := m.engine.SetEndpoints(ctx, containerID(uuid), wanted); err != nil {
		return err
	}
	if err := m.waitPlugged(ctx, uuid, plugged); err != nil {
		return err
	}
	_, err = m.engine.Start(ctx, containerID(uuid))
	return err
}

func notOnHost(uuid string, err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return &Exception{Class: classInstanceNotFound, Code: 404, Kind: errdefs.ErrConflict,
			Message: fmt.Sprintf("Instance %s could not be found: it has no container on this host.", uuid)}
	}
	return err
}

func (m *Manager) stop(ctx context.Context, c *call) (any, error) {
	clean := c.null("clean_shutdown") || c.flag("clean_shutdown")
	if c.err != nil {
		return nil, c.err
	}
	expected := []string{taskPoweringOff}
	if m.power(c.inst.UUID.Value()).off() {
		// The guest ended by itself, and the synchronisation may have taken the task away.
		expected = append(expected, taskNone)
	}
	if err := m.powerOff(ctx, c.inst, clean); err != nil {
		return nil, err
	}
	c.inst.VMState.Set(vmStopped)
	return nil, m.saveState(ctx, c.inst, expected...)
}

func (m *Manager) start(ctx context.Context, c *call) (any, error) {
	if err := m.powerOn(ctx, c.inst); err != nil {
		return nil, err
	}
	c.inst.VMState.Set(vmActive)
	return nil, m.saveState(ctx, c.inst, taskPoweringOn)
}

// reboot is soft, the process alone: stop signal, grace, start; or hard: everything is made
// anew from Nova's and Neutron's records, which is how operators repair a server.
func (m *Manager) reboot(ctx context.Context, c *call) (any, error) {
	kind := c.str("reboot_type")
	if c.err != nil {
		return nil, c.err
	}
	tasks, pending, started := softRebootTasks, taskRebootPending, taskRebootStarted
	if kind == rebootHard {
		tasks, pending, started = hardRebootTasks, taskRebootPendingHard, taskRebootStartedHard
	}
	inst := c.inst
	setTask(inst, pending)
	inst.PowerState.Set(int64(m.power(inst.UUID.Value())))
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(tasks...)}); err != nil {
		return nil, err
	}
	setTask(inst, started)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{TaskState: conductor.Expect(pending)}); err != nil {
		return nil, err
	}
	if err := m.rebootGuest(ctx, inst, kind); err != nil {
		undo, cancel := cleanup(ctx)
		defer cancel()
		if m.power(inst.UUID.Value()) != powerRunning {
			return nil, errors.Join(err, m.setError(undo, inst))
		}
		// It runs on: the attempt is a fault, the server as it was.
		m.recordFault(undo, inst.UUID.Value(), err)
		m.log.WarnContext(ctx, "the reboot failed, the server runs on", "error", err)
	}
	inst.VMState.Set(vmActive)
	inst.PowerState.Set(int64(m.power(inst.UUID.Value())))
	setTask(inst, taskNone)
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
		return nil, err
	}
	m.tracker.settle(ctx, inst, true)
	return nil, nil
}

func (m *Manager) rebootGuest(ctx context.Context, inst *objects.Instance, kind string) error {
	// A guest that does not end within its grace is killed by Stop: that is Nova's fallback
	// from soft to hard.
	if err := m.powerOff(ctx, inst, kind == rebootSoft); err != nil {
		return err
	}
	if kind == rebootHard {
		if err := m.neutron.Rebind(ctx, networkInstance(inst), m.opts.Host, nil); err != nil {
			m.log.WarnContext(ctx, "the ports could not be bound again", "error", err)
		}
	}
	return m.powerOn(ctx, inst)
}

func (m *Manager) pause(ctx context.Context, c *call) (any, error) {
	if err := m.engine.Pause(ctx, containerID(c.inst.UUID.Value())); err != nil {
		return nil, notOnHost(c.inst.UUID.Value(), err)
	}
	c.inst.VMState.Set(vmPaused)
	return nil, m.saveState(ctx, c.inst, taskPausing)
}

func (m *Manager) unpause(ctx context.Context, c *call) (any, error) {
	if err := m.engine.Unpause(ctx, containerID(c.inst.UUID.Value())); err != nil {
		return nil, notOnHost(c.inst.UUID.Value(), err)
	}
	c.inst.VMState.Set(vmActive)
	return nil, m.saveState(ctx, c.inst, taskUnpausing)
}
