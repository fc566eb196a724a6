package conductor

import (
	"context"

	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// The schedulers keep the instances of each host in memory, for affinity. These
// casts go to all of them; to lose one does no lasting harm, and in a cell whose
// broker has no scheduler they go nowhere. They are for
// [filter_scheduler]track_instance_changes.

// UpdateInstanceInfo tells what instances have come to this host or changed.
func (c *Client) UpdateInstanceInfo(ctx context.Context, instances ...*objects.Instance) error {
	list := &objects.InstanceList{Objects: objects.Of(append([]*objects.Instance{}, instances...))}
	return c.tellSchedulers(ctx, "update_instance_info", map[string]any{"instance_info": list})
}

// DeleteInstanceInfo tells that an instance has left this host.
func (c *Client) DeleteInstanceInfo(ctx context.Context, instanceUUID string) error {
	return c.tellSchedulers(ctx, "delete_instance_info", map[string]any{"instance_uuid": instanceUUID})
}

// SyncInstanceInfo tells which instances this host has; it is sent every 120 s.
func (c *Client) SyncInstanceInfo(ctx context.Context, instanceUUIDs []string) error {
	return c.tellSchedulers(ctx, "sync_instance_info", map[string]any{
		"instance_uuids": append([]string{}, instanceUUIDs...),
	})
}

func (c *Client) tellSchedulers(ctx context.Context, method string, args map[string]any) error {
	args["host_name"] = c.host
	if err := c.caller.Fanout(ctx, rpc.Target{Topic: "scheduler", Version: "4.2"}, method, args); err != nil {
		return failed(method, err)
	}
	return nil
}
