package compute

import (
	"context"

	"novaagent/nova-agent/rpc"
)

// The RPC versions that are served (nova/compute/rpcapi.py). Newer control planes send what is
// new in 6.2 to 6.5 without asking; controllers pinned to 5.x get the old namespace.
const (
	version6 = "6.5"
	version5 = "5.13"
	baseAPI  = "1.1"
)

// Endpoints are the methods of a compute service, for rpc.Bus.Serve.
func (m *Manager) Endpoints() []rpc.Endpoint {
	methods := m.methods()
	return []rpc.Endpoint{
		{Version: version6, Methods: methods},
		{Version: version5, Methods: methods},
		{Namespace: "baseapi", Version: baseAPI, Methods: map[string]rpc.Handler{
			"ping": func(_ context.Context, req *rpc.Request) (any, error) {
				return map[string]any{"service": "compute", "arg": req.Args["arg"]}, nil
			},
			"get_backdoor_port": func(context.Context, *rpc.Request) (any, error) { return nil, nil },
		}},
	}
}

// The sets of wrappers that Nova's methods have; the letters are those of the docs: R task_state
// is reverted, E event, F fault, M the migration's status, L one at a time for an instance.
var (
	ref   = operation{revert: true, event: true, fault: true}
	refl  = operation{revert: true, event: true, fault: true, lock: true}
	refm  = operation{revert: true, event: true, fault: true, fails: true}
	ef    = operation{event: true, fault: true}
	efm   = operation{event: true, fault: true, fails: true}
	rf    = operation{revert: true, fault: true}
	f     = operation{fault: true}
	plain = operation{}
)

// with is an operation of that set.
func (o operation) with(run func(ctx context.Context, c *call) (any, error)) operation {
	o.run = run
	return o
}

// methods is every RPC method of a compute service.
func (m *Manager) methods() map[string]rpc.Handler {
	operations := map[string]operation{
		// Life.
		"terminate_instance":       refl.with(m.terminate),
		"stop_instance":            refl.with(m.stop),
		"start_instance":           ref.with(m.start),
		"reboot_instance":          refl.with(m.reboot),
		"pause_instance":           ref.with(m.pause),
		"unpause_instance":         ref.with(m.unpause),
		"soft_delete_instance":     ref.with(m.softDelete),
		"restore_instance":         ref.with(m.restore),
		"get_console_output":       f.with(m.consoleOutput),
		"get_diagnostics":          f.with(m.diagnostics),
		"get_instance_diagnostics": f.with(m.instanceDiagnostics),

		// Interfaces.
		"attach_interface":              ef.with(m.attachInterface),
		"detach_interface":              ef.with(m.detachInterface),
		"inject_network_info":           f.with(m.injectNetworkInfo),
		"add_fixed_ip_to_instance":      f.with(lacks("add a fixed IP")),
		"remove_fixed_ip_from_instance": f.with(lacks("remove a fixed IP")),

		// What a container lacks here.
		"suspend_instance":        ref.with(lacks("suspend")),
		"resume_instance":         ref.with(lacks("resume")),
		"rescue_instance":         ref.with(m.refuseRescue),
		"unrescue_instance":       ref.with(lacks("unrescue")),
		"snapshot_instance":       ref.with(m.refuseSnapshot),
		"backup_instance":         ref.with(m.refuseSnapshot),
		"shelve_instance":         ref.with(m.refuseSnapshot),
		"shelve_offload_instance": ref.with(lacks("shelve")),
		"unshelve_instance":       ref.with(m.refuseUnshelve),
		"rebuild_instance":        ref.with(m.refuseRebuild),
		"set_admin_password":      ref.with(lacks("set the password")),
		"trigger_crash_dump":      ef.with(lacks("dump core")),
		"quiesce_instance":        plain.with(lacks("quiesce")),
		"unquiesce_instance":      plain.with(lacks("unquiesce")),
		"allow_share":             ef.with(lacks("attach shares")),
		"deny_share":              ef.with(lacks("detach shares")),

		"get_vnc_console":       f.with(refuseConsole),
		"get_spice_console":     f.with(refuseConsole),
		"get_serial_console":    f.with(refuseConsole),
		"get_mks_console":       f.with(refuseConsole),
		"get_rdp_console":       f.with(refuseConsole),
		"validate_console_port": f.with(func(context.Context, *call) (any, error) { return false, nil }),

		"reserve_block_device_name": rf.with(refuseVolume),
		"attach_volume":             ef.with(m.refuseAttachVolume),
		"detach_volume":             ef.with(m.detachVolume),
		"swap_volume":               ef.with(m.refuseSwapVolume),
		"volume_snapshot_create":    plain.with(lacks("snapshot attached volumes")),
		"volume_snapshot_delete":    plain.with(lacks("snapshot attached volumes")),

		"prep_resize":                                   ref.with(m.refuseResize),
		"resize_instance":                               refm.with(m.refuseResize),
		"finish_resize":                                 refm.with(m.refuseResize),
		"confirm_resize":                                efm.with(lacks("resize")),
		"revert_resize":                                 refm.with(lacks("resize")),
		"finish_revert_resize":                          refm.with(lacks("resize")),
		"prep_snapshot_based_resize_at_dest":            ef.with(refuseMigration),
		"prep_snapshot_based_resize_at_source":          refm.with(refuseMigration),
		"finish_snapshot_based_resize_at_dest":          refm.with(refuseMigration),
		"finish_revert_snapshot_based_resize_at_source": refm.with(refuseMigration),
		"confirm_snapshot_based_resize_at_source":       efm.with(refuseMigration),
		"revert_snapshot_based_resize_at_dest":          refm.with(refuseMigration),

		"check_can_live_migrate_destination":     ef.with(refuseMigration),
		"check_can_live_migrate_source":          ef.with(refuseMigration),
		"pre_live_migration":                     ef.with(refuseMigration),
		"live_migration":                         efm.with(m.refuseLiveMigration),
		"live_migration_abort":                   ef.with(lacks("migrate live")),
		"live_migration_force_complete":          ef.with(lacks("migrate live")),
		"post_live_migration_at_destination":     ef.with(lacks("migrate live")),
		"rollback_live_migration_at_destination": ef.with(lacks("migrate live")),
		"drop_move_claim_at_destination":         f.with(lacks("migrate live")),
	}
	table := map[string]rpc.Handler{
		// Not about one instance that the message carries whole.
		"build_and_run_instance":        m.buildAndRun,
		"external_instance_event":       m.externalEvent,
		"get_host_uptime":               m.hostUptime,
		"set_host_enabled":              m.setHostEnabled,
		"cache_images":                  cacheImages,
		"check_instance_shared_storage": func(context.Context, *rpc.Request) (any, error) { return false, nil },
		// Of a volume that is not here: that is what was asked for.
		"remove_volume_connection": func(context.Context, *rpc.Request) (any, error) { return nil, nil },
		"host_maintenance_mode":    lacksHost("host maintenance mode"),
		"host_power_action":        lacksHost("host power actions"),
	}
	for name, o := range operations {
		table[name] = m.handler(name, o)
	}
	return table
}
