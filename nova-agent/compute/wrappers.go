package compute

import (
	"context"
	"errors"
	"fmt"
	"time"

	"novaagent/logging"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/keystone"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// call is a message about an instance.
type call struct {
	*args
	method string
	inst   *objects.Instance
}

// operation is a method and the wrappers that nova-compute has around it
// (nova/compute/manager.py: wrap_instance_event, wrap_instance_fault, reverts_task_state,
// errors_out_migration).
type operation struct {
	run    func(ctx context.Context, c *call) (any, error)
	event  bool // an event of the server action
	fault  bool // an instance fault on an error
	revert bool // task_state null on an error
	fails  bool // the migration's status "error" on an error
	lock   bool // one at a time for an instance
}

// handler makes an RPC handler of an operation.
func (m *Manager) handler(method string, o operation) rpc.Handler {
	return func(ctx context.Context, req *rpc.Request) (any, error) {
		c := &call{args: &args{raw: req.Args}, method: method}
		if c.inst = c.instance(); c.err != nil {
			return nil, c.err
		}
		m.work.Add(1)
		defer m.work.Done()
		return m.do(ctx, o, c)
	}
}

// do runs an operation within its wrappers and logs how it ended.
func (m *Manager) do(ctx context.Context, o operation, c *call) (result any, err error) {
	uuid := c.inst.UUID.Value()
	ctx = m.about(ctx, uuid)
	began := time.Now()
	defer func() {
		m.operated(ctx, c.method, time.Since(began), err)
	}()
	if o.revert {
		defer func() { m.revertTask(ctx, uuid, err) }()
	}
	if o.event {
		m.eventStart(ctx, uuid, c.method)
		defer func() { m.eventFinish(ctx, uuid, c.method, err) }()
	}
	if o.fails {
		defer func() { m.failMigration(ctx, c, err) }()
	}
	if o.fault {
		defer func() { m.recordFault(ctx, uuid, err) }()
	}
	if o.lock {
		unlock, err := m.locks.lock(ctx, uuid)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	err = m.guarded(ctx, c.method, func() (err error) {
		result, err = o.run(ctx, c)
		return err
	})
	if err == nil {
		m.watchPower(c.inst)
	}
	return result, err
}

// about puts an instance into the log records and the request ID into the REST requests of ctx.
func (m *Manager) about(ctx context.Context, uuid string) context.Context {
	ctx = logging.With(ctx, logging.Instance(uuid))
	if rc := rpc.RequestContextFrom(ctx); rc != nil {
		ctx = keystone.WithRequestID(logging.With(ctx, logging.Request(rc.RequestID())), rc.RequestID())
	}
	return ctx
}

func (m *Manager) operated(ctx context.Context, operation string, took time.Duration, err error, more ...any) {
	if m.opts.Observe.Operated != nil {
		m.opts.Observe.Operated(operation, took, err)
	}
	attrs := append([]any{"operation", operation, "took", took.Round(time.Millisecond)}, more...)
	var known *Exception
	switch {
	case err == nil:
		m.log.InfoContext(ctx, "done", attrs...)
	case disappeared(err):
		m.log.InfoContext(ctx, "the server was deleted meanwhile", append(attrs, "error", err)...)
	case errors.As(err, &known) && known.Cause != nil:
		m.log.ErrorContext(ctx, "failed", append(attrs, "error", err, "cause", known.Cause)...)
	default:
		m.log.ErrorContext(ctx, "failed", append(attrs, "error", err)...)
	}
}

// eventName is how Nova names the event of a method. Its builds are named after an inner function.
func eventName(method string) string {
	if method == "build_and_run_instance" {
		return "compute__do_build_and_run_instance"
	}
	return "compute_" + method
}

// eventStart and eventFinish record the part that this host has in a server action. An
// action that conductor cannot find is no reason to leave the operation undone.
func (m *Manager) eventStart(ctx context.Context, uuid, method string) {
	if err := m.conductor.EventStart(ctx, uuid, eventName(method)); err != nil {
		m.log.WarnContext(ctx, "the event was not recorded", "event", eventName(method), "error", err)
	}
}

func (m *Manager) eventFinish(ctx context.Context, uuid, method string, failure error) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var f *conductor.EventFailure
	if failure != nil {
		_, text := fault(failure)
		f = &conductor.EventFailure{Value: text, Trace: failure.Error()}
	}
	if err := m.conductor.EventFinish(ctx, uuid, eventName(method), f); err != nil {
		m.log.WarnContext(ctx, "the event's end was not recorded", "event", eventName(method), "error", err)
	}
}

// recordFault writes an instance fault. An instance that is gone needs none.
func (m *Manager) recordFault(ctx context.Context, uuid string, failure error) {
	if failure == nil || isClass(failure, classInstanceNotFound) {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	code, message := fault(failure)
	details := ""
	if code == 500 {
		details = failure.Error()
		var known *Exception
		if errors.As(failure, &known) && known.Cause != nil {
			details = fmt.Sprintf("%s\n%v", message, known.Cause)
		}
	}
	if err := m.conductor.CreateFault(ctx, uuid, code, message, details); err != nil && !conductor.IsNotFound(err) {
		m.log.ErrorContext(ctx, "the fault was not recorded", "fault", message, "error", err)
	}
}

// revertTask clears the task of an operation that failed. It reads the instance anew, so
// that nothing half-made of the operation's own copy is written.
func (m *Manager) revertTask(ctx context.Context, uuid string, failure error) {
	if failure == nil || preempted(failure) || isClass(failure, classInstanceNotFound) {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	inst, err := m.conductor.InstanceByUUID(ctx, uuid)
	if err == nil && inst.TaskState.Or(taskNone) != taskNone {
		setTask(inst, taskNone)
		err = m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
	}
	if err != nil && !conductor.IsNotFound(err) {
		m.log.ErrorContext(ctx, "the task_state was not cleared", "error", err)
	}
}

func (m *Manager) failMigration(ctx context.Context, c *call, failure error) {
	if failure == nil {
		return
	}
	migration := object[objects.Migration](&args{raw: c.raw}, "migration")
	if migration == nil {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	migration.Status.Set("error")
	if err := m.conductor.SaveMigration(ctx, migration); err != nil && !conductor.IsNotFound(err) {
		m.log.ErrorContext(ctx, "the migration was not set to error", "error", err)
	}
}

// setError puts an instance into the state error.
func (m *Manager) setError(ctx context.Context, inst *objects.Instance) error {
	inst.VMState.Set(vmError)
	setTask(inst, taskNone)
	err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
	if conductor.IsNotFound(err) {
		return nil
	}
	return err
}
