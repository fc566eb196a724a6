package compute

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"

	"novaagent/nova-agent/rpc"
	"novaagent/tests/golden"
)

// recorded are the messages that came for a real nova-compute, of all captures.
func recorded(t testing.TB) []golden.Request {
	t.Helper()
	var all []golden.Request
	for _, operation := range golden.Operations(t) {
		for _, m := range golden.Load(t, operation) {
			var r golden.Request
			if err := json.Unmarshal(m.Body, &r); err != nil {
				t.Fatal(err)
			}
			if r.Method != "" && slices.ContainsFunc(m.RoutingKeys, func(k string) bool { return k == "compute.lab1" }) {
				all = append(all, r)
			}
		}
	}
	if len(all) < 20 {
		t.Fatalf("%d messages for a compute service are recorded", len(all))
	}
	return all
}

// TestRecordedMessagesAreServed: each has a method here, and its arguments can be read.
func TestRecordedMessagesAreServed(t *testing.T) {
	served := (&Manager{}).Endpoints()[0].Methods
	for _, r := range recorded(t) {
		if served[r.Method] == nil {
			t.Errorf("%s is not served", r.Method)
		}
		req := &rpc.Request{Method: r.Method, Args: r.Args}
		var err error
		switch r.Method {
		case "build_and_run_instance":
			var b *buildRequest
			if b, err = parseBuild(req); err == nil && (b.image.Properties == nil && len(volumes(b.bdms)) == 0 || b.node != "lab1") {
				t.Errorf("build: %+v", b)
			}
			if err == nil && guestOf(b.instance).flavor.memoryMB == 0 {
				t.Error("the flavor is lost")
			}
		case "external_instance_event":
			instances, events, e := parseEvents(req)
			if err = e; err == nil && (len(instances) == 0 || len(events) == 0) {
				t.Error("events are lost")
			}
		default:
			a := &args{raw: r.Args}
			if _, about := r.Args["instance"]; about {
				a.instance()
			}
			a.bdms("bdms")
			err = a.err
		}
		if err != nil {
			t.Errorf("%s: %v", r.Method, err)
		}
	}
}

// TestEveryMethodIsServed: the index of nova/compute/rpcapi.py, Zed to 2026.1.
func TestEveryMethodIsServed(t *testing.T) {
	names := []string{
		"add_fixed_ip_to_instance", "attach_interface", "attach_volume", "backup_instance", "build_and_run_instance", "cache_images",
		"check_can_live_migrate_destination", "check_can_live_migrate_source", "check_instance_shared_storage", "confirm_resize",
		"confirm_snapshot_based_resize_at_source", "detach_interface", "detach_volume", "drop_move_claim_at_destination",
		"external_instance_event", "finish_resize", "finish_revert_resize", "finish_revert_snapshot_based_resize_at_source",
		"finish_snapshot_based_resize_at_dest", "get_console_output", "get_diagnostics", "get_instance_diagnostics", "get_vnc_console",
		"get_spice_console", "get_serial_console", "get_mks_console", "get_rdp_console", "get_host_uptime", "host_maintenance_mode",
		"host_power_action", "inject_network_info", "live_migration", "live_migration_abort", "live_migration_force_complete",
		"pause_instance", "unpause_instance", "post_live_migration_at_destination", "pre_live_migration", "prep_resize",
		"prep_snapshot_based_resize_at_dest", "prep_snapshot_based_resize_at_source", "quiesce_instance", "unquiesce_instance",
		"reboot_instance", "rebuild_instance", "remove_fixed_ip_from_instance", "remove_volume_connection", "rescue_instance",
		"unrescue_instance", "reserve_block_device_name", "resize_instance", "restore_instance", "soft_delete_instance",
		"resume_instance", "suspend_instance", "revert_resize", "revert_snapshot_based_resize_at_dest",
		"rollback_live_migration_at_destination", "set_admin_password", "set_host_enabled", "shelve_instance", "shelve_offload_instance",
		"unshelve_instance", "snapshot_instance", "start_instance", "stop_instance", "swap_volume", "terminate_instance",
		"trigger_crash_dump", "validate_console_port", "volume_snapshot_create", "volume_snapshot_delete", "allow_share", "deny_share",
	}
	endpoints := (&Manager{}).Endpoints()
	for _, e := range endpoints[:2] {
		for _, name := range names {
			if e.Methods[name] == nil {
				t.Errorf("version %s: %s is not served", e.Version, name)
			}
		}
		for name := range e.Methods {
			if !slices.Contains(names, name) {
				t.Errorf("version %s: %s is served, which Nova does not send", e.Version, name)
			}
		}
	}
	result, err := endpoints[2].Methods["ping"](t.Context(), &rpc.Request{Args: map[string]json.RawMessage{"arg": json.RawMessage(`"x"`)}})
	if text, _ := json.Marshal(result); err != nil || string(text) != `{"arg":"x","service":"compute"}` {
		t.Errorf("ping: %s, %v", text, err)
	}
}

func TestAttempt(t *testing.T) {
	one := &buildRequest{}
	again := &buildRequest{filter: filterProperties{Retry: &retry{NumAttempts: 2}}}
	if a, b := one.attempt("req-1"), again.attempt("req-1"); a == b || a != one.attempt("req-1") {
		t.Errorf("%s and %s", a, b)
	}
}

func TestTailLength(t *testing.T) {
	for raw, want := range map[string]int{`null`: -1, ``: -1, `10`: 10, `"7"`: 7, `0`: 0} {
		got, err := tailLength(&args{raw: map[string]json.RawMessage{"tail_length": json.RawMessage(raw)}})
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v", raw, got, err)
		}
	}
	if _, err := tailLength(&args{raw: map[string]json.RawMessage{"tail_length": json.RawMessage(`"x"`)}}); err == nil {
		t.Error("a word is a length")
	}
}

// FuzzBuildArguments puts one foreign value into a recorded message.
func FuzzBuildArguments(f *testing.F) {
	var base map[string]json.RawMessage
	for _, r := range recorded(f) {
		if r.Method == "build_and_run_instance" {
			base = r.Args
			for name, value := range r.Args {
				f.Add(name, []byte(value))
			}
		}
	}
	f.Add("image", []byte(`{"size": 1e400}`))
	f.Add("injected_files", []byte(`[["a"]]`))
	f.Add("filter_properties", []byte(`{"retry": []}`))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if !json.Valid(value) {
			return
		}
		raw := maps.Clone(base)
		raw[name] = value
		b, err := parseBuild(&rpc.Request{Args: raw})
		if err != nil {
			return
		}
		g := guestOf(b.instance)
		b.attempt("r")
		b.hint("group")
		b.providers()
		b.tagged()
		volumes(b.bdms)
		for _, file := range b.files {
			if content, target, err := file.decode(); err == nil && (len(content) > maxInjected || target[0] != '/') {
				t.Errorf("%q becomes %q", file.path, target)
			}
		}
		if vifs, err := cachedNetwork(b.instance); err == nil {
			spec, err := specFor(g, "sha256:0", vifs, nil, specOptions{})
			if err == nil && (spec.Security.Privileged || spec.Security.HostUserns || spec.Owner != "nova") {
				t.Errorf("got %+v", spec.Security)
			}
		}
		selections(&args{raw: raw})
		_, _ = filterWithReason(raw["filter_properties"], buildAbort("u", "x", nil), "why")
	})
}

// FuzzMessageArguments reads one argument as everything it might be.
func FuzzMessageArguments(f *testing.F) {
	seen := map[string]int{}
	for _, r := range recorded(f) {
		if seen[r.Method]++; seen[r.Method] > 2 {
			continue
		}
		for name, value := range r.Args {
			f.Add(name, []byte(value))
		}
	}
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if !json.Valid(value) {
			return
		}
		raw := map[string]json.RawMessage{name: value, "instance": value, "events": value, "instances": value, "bdms": value, "tail_length": value}
		a := &args{raw: raw}
		if inst := a.instance(); inst != nil {
			trackedOf(inst)
			networkInstance(inst)
		} else if a.err == nil {
			t.Error("no instance and no error")
		}
		a.bdms("bdms")
		for name := range raw {
			a.str(name)
			a.flag(name)
		}
		_, _ = tailLength(a)
		_, _, _ = parseEvents(&rpc.Request{Args: raw})
	})
}
