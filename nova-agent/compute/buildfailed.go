package compute

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"novaagent/nova-agent/conductor"
	"novaagent/nova-agent/objects"
)

// buildFailed takes back what a build has made and does with the instance what its error
// asks for: another host, the state error, or nothing because it is being deleted. undone
// is what could not be taken back.
func (m *Manager) buildFailed(ctx context.Context, b *buildRequest, failure error) (outcome string, undone error) {
	inst, uuid := b.instance, b.instance.UUID.Value()
	verdict, why := judge(failure)
	undone = m.undoBuild(ctx, b)
	m.tracker.settle(ctx, inst, false)
	if undone != nil && verdict != verdictGone {
		// What is left here would be in the way of another host (the ports, above all).
		verdict, why = verdictAbort, why+"; and it could not be undone: "+reason(undone)
	}
	switch {
	case verdict == verdictGone:
		return outcomeGone, errors.Join(undone, m.placement.DeleteAllocations(ctx, uuid))
	case verdict != verdictAbort && b.filter.Retry != nil:
		if err := m.reschedule(ctx, b, failure, why); err != nil {
			m.log.ErrorContext(ctx, "the build could not be rescheduled", "error", err)
			break
		}
		return outcomeRescheduled, undone
	}
	for _, d := range volumes(b.bdms) {
		if err := m.deleteAttachment(ctx, d.AttachmentID.Or("")); err != nil {
			m.log.WarnContext(ctx, "an attachment of a volume was not deleted", "attachment", d.AttachmentID.Or(""), "error", err)
		}
	}
	m.recordFault(ctx, uuid, asAbort(uuid, failure, why))
	return outcomeFailed, errors.Join(undone, m.failInstance(ctx, inst), m.placement.DeleteAllocations(ctx, uuid))
}

// asAbort is the exception that users read: a class that speaks for itself, or a build
// that was aborted with its reason.
func asAbort(uuid string, failure error, why string) error {
	var known *Exception
	if errors.As(failure, &known) && known.Class != "" && known.Code != 0 {
		return &Exception{Module: known.Module, Class: known.Class, Message: why, Code: known.Code, Cause: failure}
	}
	return buildAbort(uuid, why, failure)
}

// failInstance takes the instance off this host, in the state error.
func (m *Manager) failInstance(ctx context.Context, inst *objects.Instance) error {
	unclaim(inst)
	inst.VMState.Set(vmError)
	setTask(inst, taskNone)
	err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{})
	if conductor.IsDeleting(err) {
		return nil
	}
	return err
}

// undoBuild asks for absence of all that a build makes on this host and in Neutron.
func (m *Manager) undoBuild(ctx context.Context, b *buildRequest) error {
	return errors.Join(
		m.removeContainer(ctx, b.instance.UUID.Value()),
		m.neutron.Deallocate(ctx, networkInstance(b.instance), b.networks),
	)
}

// reschedule gives the build to another host. The allocation here must be gone before, and
// the instance must belong to nobody.
func (m *Manager) reschedule(ctx context.Context, b *buildRequest, failure error, why string) error {
	inst := b.instance
	unclaim(inst)
	inst.VMState.Set(vmBuilding)
	setTask(inst, taskScheduling)
	objects.Put(&inst.SystemMetadata, networkAllocated, objects.Ptr("False"))
	if err := m.conductor.SaveInstance(ctx, inst, conductor.SaveOptions{}); err != nil {
		return err
	}
	if err := m.placement.DeleteAllocations(ctx, inst.UUID.Value()); err != nil {
		return err
	}
	filter, err := filterWithReason(b.raw["filter_properties"], failure, why)
	if err != nil {
		return err
	}
	again := &args{raw: b.raw}
	request := conductor.BuildRequest{
		Instances: []*objects.Instance{inst}, Image: b.image.raw, FilterProperties: filter,
		AdminPassword: b.raw["admin_password"], InjectedFiles: b.raw["injected_files"],
		RequestedNetworks: object[objects.NetworkRequestList](again, "requested_networks"),
		SecurityGroups:    b.raw["security_groups"], RequestSpec: b.requestSpec,
		HostLists: [][]*objects.Selection{selections(again)},
	}
	if again.err != nil {
		return again.err
	}
	return m.conductor.BuildInstances(ctx, request)
}

// selections are the hosts that the scheduler named as alternatives.
func selections(a *args) []*objects.Selection {
	list := []*objects.Selection{}
	for i, raw := range scalar[[]json.RawMessage](a, "host_list") {
		s, err := objects.As[objects.Selection](raw)
		if err != nil {
			a.fail(fmt.Sprintf("host_list[%d]", i), err)
			return nil
		}
		list = append(list, s)
	}
	return list
}

// filterWithReason adds to filter_properties why this host failed; the conductor logs it, and
// it becomes the fault when no host is left.
func filterWithReason(raw json.RawMessage, failure error, why string) (map[string]any, error) {
	var filter map[string]any
	if err := json.Unmarshal(raw, &filter); err != nil {
		return nil, err
	}
	if retry, ok := filter["retry"].(map[string]any); ok {
		retry["exc"] = strings.Split(failure.Error(), "\n")
		retry["exc_reason"] = why
	}
	return filter, nil
}
