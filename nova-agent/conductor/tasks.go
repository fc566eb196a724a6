package conductor

import (
	"context"

	"novaagent/nova-agent/objects"
	"novaagent/nova-agent/rpc"
)

// BuildRequest asks for instances to be built on another host: a reschedule. All
// of it is what came with build_and_run_instance, given back as it was, but for the
// hosts that are left.
type BuildRequest struct {
	Instances []*objects.Instance
	// Image and FilterProperties are dicts; FilterProperties has the retries.
	Image, FilterProperties any
	AdminPassword           any // a string or nil
	InjectedFiles           any // pairs of path and base64
	RequestedNetworks       *objects.NetworkRequestList
	SecurityGroups          any // names
	RequestSpec             *objects.RequestSpec
	// HostLists has the remaining alternatives of each instance. An empty list for an
	// instance makes conductor give it up: fault, and vm_state error.
	HostLists [][]*objects.Selection
}

// BuildInstances hands instances back to be built elsewhere. Conductor claims the next
// host's resources itself, so this host's allocation must be deleted before.
// It returns when the broker has the message.
func (c *Client) BuildInstances(ctx context.Context, r BuildRequest) error {
	// Conductor takes one list for each instance; none left is empty, not null.
	hosts := make([][]*objects.Selection, len(r.Instances))
	for i := range hosts {
		hosts[i] = []*objects.Selection{}
		if i < len(r.HostLists) {
			hosts[i] = append(hosts[i], r.HostLists[i]...)
		}
	}
	args := map[string]any{
		"instances": r.Instances, "image": r.Image, "filter_properties": r.FilterProperties,
		"admin_password": r.AdminPassword, "injected_files": r.InjectedFiles,
		"requested_networks": r.RequestedNetworks, "security_groups": r.SecurityGroups,
		"request_spec": r.RequestSpec, "host_lists": hosts,
	}
	if err := c.caller.Cast(ctx, tasks("1.19"), "build_instances", args); err != nil {
		return failed("build_instances", err)
	}
	return nil
}

// MigrateRequest asks for an instance to be moved to another host after this one
// could not take it.
type MigrateRequest struct {
	Instance         *objects.Instance
	FilterProperties any // a dict
	Flavor           *objects.Flavor
	CleanShutdown    bool
	RequestSpec      *objects.RequestSpec
	HostList         []*objects.Selection // the hosts that are left
}

// MigrateServer has a resize scheduled anew. It waits until the next host has been
// told, which may take long.
func (c *Client) MigrateServer(ctx context.Context, r MigrateRequest) error {
	args := map[string]any{
		"instance": r.Instance, "scheduler_hint": map[string]any{"filter_properties": r.FilterProperties},
		"live": false, "rebuild": false, "flavor": r.Flavor,
		"block_migration": nil, "disk_over_commit": nil, "reservations": nil,
		"clean_shutdown": r.CleanShutdown, "request_spec": r.RequestSpec,
		"host_list": append([]*objects.Selection{}, r.HostList...),
	}
	if _, err := c.caller.CallMonitored(ctx, tasks("1.20"), "migrate_server", args); err != nil {
		return failed("migrate_server", err)
	}
	return nil
}

func tasks(version string) rpc.Target {
	return rpc.Target{Topic: "conductor", Namespace: "compute_task", Version: version}
}
