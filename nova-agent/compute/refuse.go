package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// What nova-agent lacks is refused at once, in the way that makes Nova put everything
// back: the class of the error decides what the API or the conductor does next.

// lacks refuses an operation as a driver does that has no such method: HTTP 501 for a
// call; for a cast a fault, with the instance as it was.
func lacks(what string) func(context.Context, *call) (any, error) {
	return func(context.Context, *call) (any, error) {
		return nil, notImplemented("nova-agent cannot %s", what)
	}
}

func lacksHost(what string) rpc.Handler {
	return func(context.Context, *rpc.Request) (any, error) {
		return nil, notImplemented("nova-agent has no %s", what)
	}
}

func refuseConsole(_ context.Context, c *call) (any, error) {
	kind := c.str("console_type")
	return nil, &Exception{Class: "ConsoleTypeUnavailable", Code: 400, Kind: errdefs.ErrUnsupported,
		Message: fmt.Sprintf("Unavailable console type %s.", kind)}
}

func (m *Manager) refuseRescue(_ context.Context, c *call) (any, error) {
	return nil, &Exception{Class: "InstanceNotRescuable", Code: 400, Kind: errdefs.ErrUnsupported,
		Message: fmt.Sprintf("Instance %s cannot be rescued: nova-agent has no rescue mode", c.inst.UUID.Value())}
}

// refuseSnapshot also deletes the image that the API has queued for the snapshot.
func (m *Manager) refuseSnapshot(ctx context.Context, c *call) (any, error) {
	refusal := notImplemented("nova-agent cannot make an image of a server")
	if id := c.str("image_id"); id != "" {
		if err := m.opts.Images.Delete(ctx, id); err != nil {
			refusal.Cause = fmt.Errorf("and the queued image %s could not be deleted: %w", id, err)
		}
	}
	return nil, refusal
}

// refuseUnshelve gives back what the scheduler has claimed for the instance.
func (m *Manager) refuseUnshelve(ctx context.Context, c *call) (any, error) {
	return nil, joinCause(notImplemented("nova-agent cannot unshelve"), m.placement.DeleteAllocations(ctx, c.inst.UUID.Value()))
}

// refuseRebuild gives back the claim of an evacuation, whose instance is elsewhere.
func (m *Manager) refuseRebuild(ctx context.Context, c *call) (any, error) {
	if !c.flag("recreate") {
		return nil, notImplemented("nova-agent cannot rebuild")
	}
	refusal := &Exception{Class: "InstanceEvacuateNotSupported", Kind: errdefs.ErrUnsupported,
		Message: fmt.Sprintf("Instance %s evacuate is not supported.", c.inst.UUID.Value())}
	err := m.placement.RemoveProvider(ctx, c.inst.UUID.Value(), m.tracker.provider())
	if migration := object[objects.Migration](c.args, "migration"); migration != nil {
		migration.Status.Set("failed")
		err = errors.Join(err, m.conductor.SaveMigration(ctx, migration))
	}
	return nil, joinCause(refusal, err)
}

func joinCause(e *Exception, cause error) *Exception {
	e.Cause = cause
	return e
}

// refuseResize moves the allocation that the conductor gave to the migration back to the
// instance (nova/compute/manager.py, _revert_allocation).
func (m *Manager) refuseResize(ctx context.Context, c *call) (any, error) {
	refusal := notImplemented("nova-agent cannot resize or migrate")
	if migration := object[objects.Migration](c.args, "migration"); migration != nil {
		refusal.Cause = m.placement.Move(ctx, migration.UUID.Value(), c.inst.UUID.Value())
		if c.method == "prep_resize" {
			migration.Status.Set("error")
			refusal.Cause = errors.Join(refusal.Cause, m.conductor.SaveMigration(ctx, migration))
		}
	}
	return nil, refusal
}

// refuseMigration is the answer upon which the conductor tries another host, or gives up
// and puts everything back.
func refuseMigration(context.Context, *call) (any, error) {
	return nil, preCheckError("nova-agent cannot migrate")
}

// refuseLiveMigration: the checks have refused it before, so this is for a control plane
// that skips them.
func (m *Manager) refuseLiveMigration(ctx context.Context, c *call) (any, error) {
	if migration := object[objects.Migration](c.args, "migration"); migration != nil {
		return nil, joinCause(preCheckError("nova-agent cannot migrate"),
			m.placement.Move(ctx, migration.UUID.Value(), c.inst.UUID.Value()))
	}
	return refuseMigration(ctx, c)
}

// refuseVolume is for the volume methods that leave nothing to put back.
func refuseVolume(context.Context, *call) (any, error) { return nil, invalidVolume() }

func invalidVolume() *Exception {
	return &Exception{Class: "InvalidVolume", Code: 400, Kind: errdefs.ErrUnsupported,
		Message: "Invalid volume: nova-agent cannot attach volumes"}
}

// refuseAttachVolume takes back the mapping and the attachment that the API has made.
func (m *Manager) refuseAttachVolume(ctx context.Context, c *call) (any, error) {
	bdm := object[objects.BlockDeviceMapping](c.args, "bdm")
	if bdm == nil {
		return refuseVolume(ctx, c)
	}
	err := m.deleteAttachment(ctx, bdm.AttachmentID.Or(""))
	if destroyed := m.conductor.DestroyBlockDeviceMapping(ctx, bdm); destroyed != nil && !conductor.IsNotFound(destroyed) {
		err = errors.Join(err, destroyed)
	}
	return nil, joinCause(invalidVolume(), err)
}

func (m *Manager) refuseSwapVolume(ctx context.Context, c *call) (any, error) {
	return nil, joinCause(invalidVolume(), m.deleteAttachment(ctx, c.str("new_attachment_id")))
}

// deleteAttachment gives up an attachment of a volume; "" is none.
func (m *Manager) deleteAttachment(ctx context.Context, id string) error {
	if id == "" || m.opts.Volumes == nil {
		return nil
	}
	return m.opts.Volumes.DeleteAttachment(ctx, id)
}

// cacheImages answers for each image that it is not fetched ahead.
func cacheImages(_ context.Context, req *rpc.Request) (any, error) {
	a := &args{raw: req.Args}
	result := map[string]string{}
	for _, raw := range scalar[[]json.RawMessage](a, "image_ids") {
		var id string
		if err := json.Unmarshal(raw, &id); err != nil {
			return nil, typeError("argument image_ids: %v", err)
		}
		result[id] = "unsupported"
	}
	return result, a.err
}
