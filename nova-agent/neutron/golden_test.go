package neutron

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The instance, network and ports of the recordings.
const (
	server      = "8845aa5a-1aab-4db1-8e0f-fe7c729962a9"
	project     = "0bcb9623e06c46f7a75881fef03a3aac"
	private     = "f42287c0-21cf-48d9-809c-a090f527b8d5"
	createdPort = "06cce07c-8c46-4fcb-8a45-1ec25b14855b"
	usersPort   = "17a0f68f-e51a-44b9-a02a-20294dbe8306"
)

func theInstance() Instance {
	return Instance{UUID: server, ProjectID: project, Hostname: "lab-vm", AvailabilityZone: "nova"}
}

func sameJSON(t *testing.T, want, got string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(want), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &b); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, b); d != "" {
		t.Errorf("not what nova-compute wrote (-nova-compute +ours):\n%s", d)
	}
}

func last(list []string) string { return list[len(list)-1] }

// TestGoldenAllocate: creating a server saves the same network info as nova-compute's. On
// another project's network it asks Neutron for the same changes too; on one of the user's own
// a single request says what nova-compute's two say.
func TestGoldenAllocate(t *testing.T) {
	for _, own := range []bool{true, false} {
		f, r := newReplay(t, "create"), newRows()
		want := writesOf(recording(t, "create"))
		if own {
			want = []string{"POST /v2.0/ports " + bodiesAsOne(t, recording(t, "create"))}
		} else {
			f.shareNetwork(private)
		}
		c := serve(t, f, r, nil)
		info, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1",
			Networks: []NetworkRequest{{NetworkID: private, Tag: "nic1"}}, SecurityGroups: []string{"default"}})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, f.writes()); d != "" {
			t.Errorf("own network %t: %s", own, d)
		}
		rows := []VIFRecord{{UUID: createdPort, InstanceUUID: server, Address: "fa:16:3e:ff:8e:6c/" + createdPort, Tag: "nic1"}}
		if d := cmp.Diff(rows, r.vifs); d != "" {
			t.Error(d)
		}
		if own {
			sameJSON(t, savedCaches(t, "create")[0], last(r.saves))
			sameJSON(t, savedCaches(t, "create")[0], info.String())
		}
	}
}

// bodiesAsOne merges the changes of one port into one body.
func bodiesAsOne(t *testing.T, list []exchange) string {
	t.Helper()
	all := map[string]object{"port": {}}
	for _, e := range list {
		var body map[string]object
		if e.Method == "GET" {
			continue
		}
		if err := json.Unmarshal(e.Request, &body); err != nil {
			t.Fatal(err)
		}
		all["port"] = merged(all["port"], body["port"])
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGoldenAttach(t *testing.T) {
	f, r := newReplay(t, "add_port"), newRows()
	r.cache[server] = last(savedCaches(t, "create"))
	// Before it was attached, the port was nobody's.
	f.store["ports"][usersPort]["device_id"] = ""
	f.store["ports"][usersPort]["tenant_id"] = project
	c := serve(t, f, r, nil)
	info, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1", Attach: true,
		Networks: []NetworkRequest{{PortID: usersPort}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(writesOf(recording(t, "add_port")), f.writes()); d != "" {
		t.Error(d)
	}
	sameJSON(t, last(savedCaches(t, "add_port")), last(r.saves))
	if len(info) != 1 || info[0].ID != usersPort || !info[0].PreserveOnDelete {
		t.Errorf("returned: %v", info)
	}
}

func TestGoldenDetach(t *testing.T) {
	f, r := newReplay(t, "add_port", "remove_port"), newRows()
	r.cache[server] = last(savedCaches(t, "add_port"))
	ports := f.store["ports"]
	for id, p := range f.after {
		ports[id] = merged(ports[id], p)
	}
	ports[usersPort]["device_id"] = server
	f.after = map[string]object{}
	c := serve(t, f, r, nil)
	info, resources, err := c.Detach(t.Context(), theInstance(), usersPort)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(writesOf(recording(t, "remove_port")), f.writes()); d != "" {
		t.Error(d)
	}
	sameJSON(t, last(savedCaches(t, "remove_port")), last(r.saves))
	if len(info) != 1 || len(resources) != 0 {
		t.Errorf("returned: %v, %v", info, resources)
	}
}

func TestGoldenDeallocate(t *testing.T) {
	f, r := newReplay(t, "delete"), newRows()
	r.cache[server] = last(savedCaches(t, "create"))
	r.vifs = []VIFRecord{{UUID: createdPort, InstanceUUID: server}}
	c := serve(t, f, r, nil)
	for range 2 { // the second time there is nothing left to do
		if err := c.Deallocate(t.Context(), theInstance(), nil); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(writesOf(recording(t, "delete")), f.writes()); d != "" {
		t.Error(d)
	}
	if last(r.saves) != "[]" || len(r.vifs) != 0 {
		t.Errorf("left: %v, %v", last(r.saves), r.vifs)
	}
}

// TestGoldenRebuild: operations that only read the ports anew.
func TestGoldenRebuild(t *testing.T) {
	for _, op := range []string{"reboot_hard", "resize_revert", "unshelve"} {
		f, r := newReplay(t, op), newRows()
		want := last(savedCaches(t, op))
		r.cache[server] = want
		r.vifs = []VIFRecord{{UUID: createdPort, InstanceUUID: server}}
		c := serve(t, f, r, nil)
		for name, call := range map[string]func() (NetworkInfo, error){
			"Rebuild": func() (NetworkInfo, error) { return c.Rebuild(t.Context(), theInstance()) },
			"Refresh": func() (NetworkInfo, error) { return c.Refresh(t.Context(), theInstance(), createdPort) },
			"Heal": func() (NetworkInfo, error) {
				r.cache[server] = "[]"
				return c.Heal(t.Context(), theInstance())
			},
		} {
			info, err := call()
			if err != nil {
				t.Errorf("%s: %s: %v", op, name, err)
				continue
			}
			sameJSON(t, want, info.String())
			sameJSON(t, want, last(r.saves))
		}
		if w := f.writes(); len(w) > 0 {
			t.Errorf("%s: %v", op, w)
		}
	}
}

// TestGoldenNetworkInfo: each network info that nova-compute saved is read and written without a change.
func TestGoldenNetworkInfo(t *testing.T) {
	for _, op := range []string{"create", "add_port", "remove_port", "delete", "reboot_hard", "resize_revert", "unshelve", "volume_boot_create"} {
		for _, text := range savedCaches(t, op) {
			info, err := ParseNetworkInfo(text)
			if err != nil {
				t.Fatal(err)
			}
			sameJSON(t, text, info.String())
		}
	}
}
