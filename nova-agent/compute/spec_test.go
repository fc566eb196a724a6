package compute

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/nova-agent/neutron"
)

const someUUID = "5cff12f2-8833-4c6e-b40a-02b85eaed0f0"

func TestContainerID(t *testing.T) {
	id := containerID(someUUID)
	if len(id) != 64 || !strings.HasPrefix(id, "5cff12f288334c6eb40a02b85eaed0f0") || id != containerID(someUUID) {
		t.Errorf("got %s", id)
	}
	for _, odd := range []string{"", "x", "../../etc", "5CFF12F2-8833-4C6E-B40A-02B85EAED0F0", strings.Repeat("é", 16)} {
		if id := containerID(odd); len(id) != 64 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Errorf("%q: got %q", odd, id)
		}
	}
	if uuid, ok := instanceOf(containerName(someUUID)); !ok || uuid != someUUID {
		t.Errorf("got %q", uuid)
	}
}

// oneVIF is what Neutron's Linux bridge agent makes of a port, and "o" of a hybrid Open vSwitch one.
const twoVIFs = `[
 {"id": "06cce07c-8c46-4fcb-8a45-1ec25b14855b", "address": "fa:16:3e:ff:8e:6c", "type": "bridge", "devname": "tap06cce07c-8c", "active": false,
  "network": {"id": "f42287c0-21cf-48d9-809c-a090f527b8d5", "bridge": "brqf42287c0-21", "label": "private",
   "meta": {"mtu": 1450, "should_create_bridge": true},
   "subnets": [{"cidr": "192.0.2.0/24", "version": 4, "dns": [], "routes": [],
     "gateway": {"address": "192.0.2.1", "type": "gateway", "version": 4, "meta": {}},
     "ips": [{"address": "192.0.2.96", "type": "fixed", "version": 4, "meta": {}, "floating_ips": []}],
     "meta": {"dhcp_server": "192.0.2.2"}}]}},
 {"id": "11cce07c-8c46-4fcb-8a45-1ec25b14855b", "address": "fa:16:3e:ff:8e:6d", "type": "ovs", "devname": "tap11cce07c-8c", "active": true,
  "ovs_interfaceid": "11cce07c-8c46-4fcb-8a45-1ec25b14855b", "details": {"ovs_hybrid_plug": true, "datapath_type": "system"},
  "network": {"id": "e42287c0-21cf-48d9-809c-a090f527b8d5", "bridge": "br-int", "label": "six", "meta": {"mtu": 1500},
   "subnets": [{"cidr": "2001:db8::/64", "version": 6, "routes": [], "dns": [{"address": "2001:db8::53", "type": "dns", "version": 6, "meta": {}}],
     "gateway": {"address": "2001:db8::1", "type": "gateway", "version": 6, "meta": {}},
     "ips": [{"address": "2001:db8::5", "type": "fixed", "version": 6, "meta": {}, "floating_ips": []}], "meta": {}}]}}
]`

func someVIFs(t *testing.T) neutron.NetworkInfo {
	t.Helper()
	vifs, err := neutron.ParseNetworkInfo(twoVIFs)
	if err != nil {
		t.Fatal(err)
	}
	return vifs
}

func someGuest() guest {
	return guest{
		uuid: someUUID, name: "Web 1", hostname: "web-1", projectID: "p", userID: "u", imageRef: someImage,
		properties: map[string]string{}, metadata: map[string]string{},
		flavor: flavor{name: "m1.small", vcpus: 2, memoryMB: 512, rootGB: 10, ephemeralGB: 5, swapMB: 256, extraSpecs: map[string]string{}},
	}
}

func TestSpecFor(t *testing.T) {
	g := someGuest()
	g.properties["container:command"] = `["httpd", "-f"]`
	g.properties["docker:env"] = "A=1 'B=two words'"
	g.metadata["container:env"] = `{"C": "3"}`
	g.properties["os_shutdown_timeout"] = "7"
	got, err := specFor(g, "sha256:abc", someVIFs(t), nil, specOptions{stopGrace: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	want := engine.Spec{
		ID: containerID(someUUID), Name: "instance-" + someUUID, Owner: engine.OwnerNova, Image: "sha256:abc",
		Hostname: "web-1", Args: []string{"httpd", "-f"}, Env: []string{"C=3"}, StopGrace: 7 * time.Second,
		Labels: map[string]string{labelUUID: someUUID, labelName: "Web 1", labelProject: "p", labelUser: "u",
			labelFlavor: "m1.small", labelImage: someImage},
		Resources:   engine.Resources{MemoryBytes: 512 << 20, SwapBytes: 256 << 20, CPUMilli: 2000, CPUShares: 2048, DiskBytes: 15 << 30},
		NetworkMode: engine.NetworkEndpoints,
		Endpoints: []network.Endpoint{
			{ID: "06cce07c-8c46-4fcb-8a45-1ec25b14855b", Kind: network.KindBridge, HostDevice: "tap06cce07c-8c", Bridge: "brqf42287c0-21",
				BridgeCreate: true, GuestDevice: "eth0", MAC: "fa:16:3e:ff:8e:6c", MTU: 1450,
				Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.96/24")}, Gateway4: netip.MustParseAddr("192.0.2.1")},
			{ID: "11cce07c-8c46-4fcb-8a45-1ec25b14855b", Kind: network.KindOVSHybrid, HostDevice: "tap11cce07c-8c", Bridge: "br-int",
				OVS:         network.OVS{IfaceID: "11cce07c-8c46-4fcb-8a45-1ec25b14855b", OwnerID: someUUID, DatapathType: "system"},
				GuestDevice: "eth1", MAC: "fa:16:3e:ff:8e:6d", MTU: 1500,
				Addresses: []netip.Prefix{netip.MustParsePrefix("2001:db8::5/64")}, Gateway6: netip.MustParseAddr("2001:db8::1")},
		},
		DNS: engine.DNS{Nameservers: []string{"192.0.2.2", "2001:db8::53"}},
	}
	got.Endpoints[1].Routes, want.Endpoints[1].Routes = nil, nil // neutron's to test
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
		t.Error(d)
	}
	for _, e := range got.Endpoints {
		if err := e.Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestSpecRefuses(t *testing.T) {
	for name, change := range map[string]func(*guest){
		"a command that is no list":  func(g *guest) { g.properties["container:command"] = "[1]" },
		"a quote that is not closed": func(g *guest) { g.properties["os_command_line"] = "sh -c 'x" },
		"an environment of no pairs": func(g *guest) { g.metadata["container:env"] = "A" },
		"an environment of no names": func(g *guest) { g.metadata["container:env"] = "=1" },
		"a terminal that is neither": func(g *guest) { g.properties["container:tty"] = "maybe" },
		"an unknown profile":         func(g *guest) { g.flavor.extraSpecs[specSecurity] = "privileged" },
		"a quota of words":           func(g *guest) { g.flavor.extraSpecs["quota:cpu_quota"] = "half" },
		"no processes at all":        func(g *guest) { g.flavor.extraSpecs[specPids] = "0" },
	} {
		g := someGuest()
		change(&g)
		if _, err := specFor(g, "sha256:abc", nil, nil, specOptions{}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestTenantsGetNothingMore: neither image nor server metadata reach what only a flavor may give.
func TestTenantsGetNothingMore(t *testing.T) {
	g := someGuest()
	for _, key := range []string{specSecurity, specPids, specShm, "quota:cpu_quota", "container:privileged", "docker:privileged",
		"container:mounts", "docker:volumes", "container:caps", "container:network", "docker:userns", "hw:cpu_policy"} {
		g.properties[key], g.metadata[key] = "system", "system"
	}
	got, err := specFor(g, "sha256:abc", nil, nil, specOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := specFor(someGuest(), "sha256:abc", nil, nil, specOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(plain, got); d != "" {
		t.Error(d)
	}
}

func TestResources(t *testing.T) {
	for name, tt := range map[string]struct {
		flavor flavor
		want   engine.Resources
	}{
		"no bound on the disk": {flavor{vcpus: 1, memoryMB: 64}, engine.Resources{MemoryBytes: 64 << 20, CPUMilli: 1000, CPUShares: 1024}},
		"shares":               {flavor{vcpus: 4, extraSpecs: map[string]string{"quota:cpu_shares": "10"}}, engine.Resources{CPUMilli: 4000, CPUShares: 10}},
		"shares within the kernel's bounds": {flavor{vcpus: 1024, extraSpecs: map[string]string{"quota:cpu_shares": "1"}},
			engine.Resources{CPUMilli: 1024000, CPUShares: 2}},
		"many CPUs": {flavor{vcpus: 1000}, engine.Resources{CPUMilli: 1000000, CPUShares: 262144}},
		"a quota":   {flavor{vcpus: 2, extraSpecs: map[string]string{"quota:cpu_quota": "50000"}}, engine.Resources{CPUMilli: 1000, CPUShares: 2048}},
		"a quota and period": {flavor{vcpus: 2, extraSpecs: map[string]string{"quota:cpu_quota": "10000", "quota:cpu_period": "20000"}},
			engine.Resources{CPUMilli: 1000, CPUShares: 2048, CPUPeriod: 20 * time.Millisecond}},
		"no quota": {flavor{vcpus: 2, extraSpecs: map[string]string{"quota:cpu_quota": "-1"}}, engine.Resources{CPUShares: 2048}},
		"processes and shared memory": {flavor{vcpus: 1, extraSpecs: map[string]string{specPids: "100", specShm: "128"}},
			engine.Resources{CPUMilli: 1000, CPUShares: 1024, PidsLimit: 100, ShmBytes: 128 << 20}},
	} {
		got, err := resources(tt.flavor)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestEndpointRefuses(t *testing.T) {
	for kind, want := range map[neutron.Text]error{"unbound": errdefs.ErrUnavailable, "binding_failed": errdefs.ErrUnavailable,
		"": errdefs.ErrUnavailable, "vhostuser": errdefs.ErrUnsupported, "hw_veb": errdefs.ErrUnsupported} {
		if _, err := endpoint(someUUID, neutron.VIF{ID: "p", Type: kind, Network: &neutron.Network{}}); !errors.Is(err, want) {
			t.Errorf("%q: got %v", kind, err)
		}
	}
	if _, err := endpoint(someUUID, neutron.VIF{ID: "p", Type: "bridge"}); err == nil {
		t.Error("a bridge port without a network has an endpoint")
	}
}

func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"":                        nil,
		"  ls   -l\t/tmp ":        {"ls", "-l", "/tmp"},
		`sh -c "echo 'a b'"`:      {"sh", "-c", "echo 'a b'"},
		`a\ b 'c\d' "e\"f" "g\h"`: {"a b", `c\d`, `e"f`, `g\h`},
		`'' ""`:                   {"", ""},
		`["a", "b c"]`:            {"a", "b c"},
	} {
		got, err := words("x", text)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", text, got, err)
		}
	}
}

func TestHandles(t *testing.T) {
	status := "Name:\tsh\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000004002\n"
	for sig, want := range map[syscall.Signal]bool{syscall.SIGTERM: true, syscall.SIGINT: true, syscall.SIGQUIT: false, syscall.SIGUSR1: false, 99: true} {
		if handles(status, sig) != want {
			t.Errorf("%v: got %v", sig, !want)
		}
	}
	if !handles("", syscall.SIGTERM) || !handles("SigCgt:\tx\n", syscall.SIGTERM) {
		t.Error("what cannot be read counts as deaf")
	}
}

func TestConfigDrive(t *testing.T) {
	g := someGuest()
	g.userData, g.keyName, g.keyData = "IyEvYmluL3NoCg==", "k", "ssh-ed25519 AAAA"
	g.metadata["role"] = "web"
	tree, err := configDrive(g, &buildRequest{adminPassword: "s3cret"}, someVIFs(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(tree["openstack/latest/user_data"]); got != "#!/bin/sh\n" {
		t.Errorf("user data %q", got)
	}
	var meta struct {
		UUID, Hostname string
		Meta           map[string]string
		PublicKeys     map[string]string `json:"public_keys"`
		AdminPass      string            `json:"admin_pass"`
	}
	if err := json.Unmarshal(tree["openstack/latest/meta_data.json"], &meta); err != nil {
		t.Fatal(err)
	}
	if meta.UUID != someUUID || meta.Hostname != "web-1" || meta.Meta["role"] != "web" || meta.PublicKeys["k"] != g.keyData || meta.AdminPass != "s3cret" {
		t.Errorf("got %+v", meta)
	}
	var net struct {
		Links, Services []map[string]any
		Networks        []struct {
			Type    string
			Address string `json:"ip_address"`
			Netmask string
		}
	}
	if err := json.Unmarshal(tree["openstack/latest/network_data.json"], &net); err != nil {
		t.Fatal(err)
	}
	if len(net.Links) != 2 || len(net.Networks) != 2 || net.Networks[0].Address != "192.0.2.96" || net.Networks[0].Netmask != "255.255.255.0" || len(net.Services) != 1 {
		t.Errorf("got %+v", net)
	}
}

func TestInjectedFile(t *testing.T) {
	for _, tt := range []struct{ path, content, target, text string }{
		{"/etc/motd", "aGVsbG8=", "/etc/motd", "hello"},
		{"etc/motd", "aGVs\nbG8=", "/etc/motd", "hello"},
		{"/../../../etc/shadow", "", "/etc/shadow", ""},
	} {
		content, target, err := injectedFile{tt.path, tt.content}.decode()
		if err != nil || target != tt.target || string(content) != tt.text {
			t.Errorf("%s: got %q %q, %v", tt.path, target, content, err)
		}
	}
	for _, bad := range []injectedFile{{"/a", "%%%"}, {"/", "aGVsbG8="}, {"..", ""}, {"/a\x00b", ""}} {
		if _, _, err := bad.decode(); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: got %v", bad.path, err)
		}
	}
}
