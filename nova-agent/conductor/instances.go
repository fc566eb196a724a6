package conductor

import (
	"context"
	"encoding/json"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/objects"
)

// InstanceByUUID reads an instance. joined are the fields to join beyond its own
// columns: metadata, system_metadata, info_cache, security_groups, pci_devices, tags,
// services, fault, flavor (with old_flavor and new_flavor), ec2_ids, numa_topology,
// pci_requests, vcpu_model, migration_context, keypairs, device_metadata,
// trusted_certs, resources. Without any, Nova joins info_cache and
// security_groups. ErrInstanceNotFound.
func (c *Client) InstanceByUUID(ctx context.Context, uuid string, joined ...string) (*objects.Instance, error) {
	return get[objects.Instance](ctx, c, "get_by_uuid", args{uuid}, c.replicable(attrs(joined)))
}

// LoadInstance makes sure that the named fields of i are set: those that are not
// are read from conductor, unchanged. It is Nova's lazy load.
func (c *Client) LoadInstance(ctx context.Context, i *objects.Instance, names ...string) error {
	missing := objects.Missing(i, names...)
	if len(missing) == 0 {
		return nil
	}
	uuid, ok := i.UUID.Get()
	if !ok {
		return fmt.Errorf("conductor: load %v of an instance without uuid: %w", missing, errdefs.ErrInvalid)
	}
	loaded, err := get[objects.Instance](ctx, c, "get_by_uuid", nil, kwargs{"uuid": uuid, "expected_attrs": missing})
	if err != nil {
		return err
	}
	objects.Adopt(i, loaded)
	if still := objects.Missing(i, missing...); len(still) > 0 {
		return fmt.Errorf("conductor: instance %s has no %v: %w", uuid, still, errdefs.ErrUnsupported)
	}
	return nil
}

// InstancesByHost lists the instances whose host is ours.
func (c *Client) InstancesByHost(ctx context.Context, joined ...string) ([]*objects.Instance, error) {
	return c.instances(ctx, "get_by_host", args{c.host}, c.replicable(attrs(joined)))
}

// InstancesByHostAndNode lists those of them that are on node.
func (c *Client) InstancesByHostAndNode(ctx context.Context, node string, joined ...string) ([]*objects.Instance, error) {
	return c.instances(ctx, "get_by_host_and_node", args{c.host, node}, attrs(joined))
}

// InstancesByFilters lists instances by column: "uuid" (a list), "host", "vm_state",
// "task_state", and the booleans "deleted", "soft_deleted", "cleaned". To see deleted
// ones ctx's request context must say read_deleted "yes".
func (c *Client) InstancesByFilters(ctx context.Context, filters map[string]any, joined ...string) ([]*objects.Instance, error) {
	return c.instances(ctx, "get_by_filters", args{filters}, c.replicable(attrs(joined)))
}

func (c *Client) instances(ctx context.Context, method string, a args, k kwargs) ([]*objects.Instance, error) {
	list, err := get[objects.InstanceList](ctx, c, method, a, k)
	if err != nil {
		return nil, err
	}
	return list.Objects.Value(), nil
}

// InstanceUUIDsByHost lists the UUIDs of the instances whose host is ours.
func (c *Client) InstanceUUIDsByHost(ctx context.Context) ([]string, error) {
	raw, err := c.classAction(ctx, "InstanceList", "get_uuids_by_host", args{c.host}, nil)
	if err != nil {
		return nil, err
	}
	var uuids []string
	if err := json.Unmarshal(raw, &uuids); err != nil {
		return nil, fmt.Errorf("conductor: InstanceList.get_uuids_by_host: %v: %w", err, errdefs.ErrInvalid)
	}
	return uuids, nil
}

// Expected are states that a save requires. nil requires nothing; "" is the
// state null, so that Expect("") requires that there is no task.
type Expected []string

// Expect returns the states as Expected.
func Expect(states ...string) Expected { return states }

// wire is the list as Nova wants it: null within the list is "no task", where
// null instead of the list is "do not check".
func (e Expected) wire() []any {
	list := make([]any, len(e))
	for i, state := range e {
		if state != "" {
			list[i] = state
		}
	}
	return list
}

// SaveOptions are the conditions of SaveInstance.
type SaveOptions struct {
	// TaskState and VMState are what the row must hold now. Nova does not look at
	// them if only flavors, topologies and other extra fields changed.
	TaskState, VMState Expected
	// AdminStateReset is set by the API's os-resetState only.
	AdminStateReset bool
}

// SaveInstance writes the changed fields of i, and the changed objects within it,
// and brings i up to date. The whole of i goes out. ErrUnexpectedTaskState if the
// row's state is not as expected, ErrUnexpectedDeletingState if that is because
// the instance is being deleted, ErrInstanceNotFound if it is gone; then i is as
// before.
//
// metadata and system_metadata are replaced as a whole. An info_cache that was
// saved by itself must be put back into i clean, or this writes a stale one:
// SaveNetworkInfo does so. tags, pci_devices, services and fault are not written.
func (c *Client) SaveInstance(ctx context.Context, i *objects.Instance, options SaveOptions) error {
	k := kwargs{}
	if options.TaskState != nil {
		k["expected_task_state"] = options.TaskState.wire()
	}
	if options.VMState != nil {
		k["expected_vm_state"] = options.VMState.wire()
	}
	if options.AdminStateReset {
		k["admin_state_reset"] = true
	}
	_, err := c.objectAction(ctx, i, "save", nil, k)
	return err
}

// DestroyInstance marks the row deleted. ErrInstanceNotFound, ErrObjectAction if i
// has no id.
func (c *Client) DestroyInstance(ctx context.Context, i *objects.Instance) error {
	return c.act(ctx, i, "destroy")
}

// RefreshInstance reads the set fields of i anew.
func (c *Client) RefreshInstance(ctx context.Context, i *objects.Instance) error {
	return c.act(ctx, i, "refresh")
}

// DropMigrationContext removes i's migration_context from the database and from i.
func (c *Client) DropMigrationContext(ctx context.Context, i *objects.Instance) error {
	return c.act(ctx, i, "drop_migration_context")
}

// InfoCache reads the network information of an instance. ErrInfoCacheNotFound.
func (c *Client) InfoCache(ctx context.Context, uuid string) (*objects.InstanceInfoCache, error) {
	return get[objects.InstanceInfoCache](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// RefreshInfoCache reads cache anew, as something else may have saved it.
func (c *Client) RefreshInfoCache(ctx context.Context, cache *objects.InstanceInfoCache) error {
	return c.act(ctx, cache, "refresh")
}

// SaveInfoCache writes cache, if its network_info is changed; there need not be one.
func (c *Client) SaveInfoCache(ctx context.Context, cache *objects.InstanceInfoCache) error {
	return c.act(ctx, cache, "save")
}

// SaveNetworkInfo writes the network information of i, and puts the clean copy into
// i, whose info_cache is changed by that, as in Nova
// (nova/network/neutron.py, update_instance_cache_with_nw_info).
func (c *Client) SaveNetworkInfo(ctx context.Context, i *objects.Instance, model objects.NetworkModel) error {
	cache := &objects.InstanceInfoCache{
		InstanceUUID: objects.Of(i.UUID.Value()),
		NetworkInfo:  objects.Of(model),
	}
	if err := c.SaveInfoCache(ctx, cache); err != nil {
		return err
	}
	i.InfoCache.Set(cache)
	return nil
}

// DeleteInfoCache removes cache.
func (c *Client) DeleteInfoCache(ctx context.Context, cache *objects.InstanceInfoCache) error {
	return c.act(ctx, cache, "delete")
}

// MigrationContext reads an instance's. Like the next methods it is for lazy loads
// of one field; all of them are ErrNotFound if the instance has none.
func (c *Client) MigrationContext(ctx context.Context, uuid string) (*objects.MigrationContext, error) {
	return get[objects.MigrationContext](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// PCIRequests reads an instance's.
func (c *Client) PCIRequests(ctx context.Context, uuid string) (*objects.InstancePCIRequests, error) {
	return get[objects.InstancePCIRequests](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// NUMATopology reads an instance's.
func (c *Client) NUMATopology(ctx context.Context, uuid string) (*objects.InstanceNUMATopology, error) {
	return get[objects.InstanceNUMATopology](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// TrustedCerts reads an instance's.
func (c *Client) TrustedCerts(ctx context.Context, uuid string) (*objects.TrustedCerts, error) {
	return get[objects.TrustedCerts](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// Resources reads an instance's.
func (c *Client) Resources(ctx context.Context, uuid string) (*objects.ResourceList, error) {
	return get[objects.ResourceList](ctx, c, "get_by_instance_uuid", args{uuid}, nil)
}

// InstanceGroup reads the server group of an instance. ErrInstanceGroupNotFound. The
// group is in the API's database, which a cell's conductor may be unable to reach:
// then the error is another one.
func (c *Client) InstanceGroup(ctx context.Context, instanceUUID string) (*objects.InstanceGroup, error) {
	return get[objects.InstanceGroup](ctx, c, "get_by_instance_uuid", args{instanceUUID}, nil)
}

// InstanceGroupByUUID reads a server group; see InstanceGroup.
func (c *Client) InstanceGroupByUUID(ctx context.Context, uuid string) (*objects.InstanceGroup, error) {
	return get[objects.InstanceGroup](ctx, c, "get_by_uuid", args{uuid}, nil)
}

// InstanceGroupByName reads a server group; see InstanceGroup.
func (c *Client) InstanceGroupByName(ctx context.Context, name string) (*objects.InstanceGroup, error) {
	return get[objects.InstanceGroup](ctx, c, "get_by_name", args{name}, nil)
}
