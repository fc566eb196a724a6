package config

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"novaagent/engine/errdefs"
)

func TestImportNova(t *testing.T) {
	imported, err := ImportNova(nil, "testdata/nova-compute.conf")
	if err != nil {
		t.Fatal(err)
	}
	c := imported.Config
	for _, tt := range []struct{ got, want any }{
		{c.Host, "node-7"}, {c.NodeName, "node-7"}, {c.MyIP, "192.0.2.7"},
		{c.Compute.VIFPluggingIsFatal, false}, {c.Compute.VIFPluggingTimeout.D(), 2 * time.Minute},
		{c.Compute.ReservedMemoryMB, 2048}, {c.Compute.CPURatio, Ratio(4)}, {c.Compute.ResumeGuests, true},
		{c.Placement.AuthURL, "http://192.0.2.1:5000/v3"}, {c.Placement.Password, "p a$word"}, {c.Placement.Region, "RegionOne"},
		{c.Neutron.Password, "n3utron"}, {c.Neutron.Username, "neutron"},
		{c.ServiceUser.Send, true}, {c.ServiceUser.Password, "n0va"},
		{c.RPC.Rabbit.Quorum, true}, {c.RPC.Rabbit.Heartbeat.D(), 30 * time.Second}, {c.RPC.Rabbit.QuorumMaxMemoryBytes, 1 << 20},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
	for _, name := range []string{"[DEFAULT] instances_path", "[DEFAULT] default_log_levels", "[keystone_authtoken] memcached_servers"} {
		if !slices.Contains(imported.Left, name) {
			t.Errorf("%s is not among what is left over: %v", name, imported.Left)
		}
	}
	// What is written can be read, and is the same.
	again, err := Parse("f", c.YAML(true, true))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(c, again); diff != "" {
		t.Errorf("after writing and reading:\n%s", diff)
	}
}

func TestImportRefuses(t *testing.T) {
	const enough = "[DEFAULT]\ntransport_url=rabbit://a:b@c/\n[placement]\nauth_url=http://k\npassword=p\n[neutron]\npassword=p\n"
	for _, tt := range []struct{ file, want string }{
		{"", "rpc.transport_url is missing"},
		{"[DEFAULT]\ntransport_url=kafka://x\n", "want rabbit://"},
		{enough + "[DEFAULT]\nvif_plugging_timeout = soon\n", `:9: [DEFAULT] vif_plugging_timeout: want a number of seconds, not "soon"`},
		{enough + "[DEFAULT]\nresume_guests_state_on_host_boot = perhaps\n", "want true or false"},
		{enough + "[placement]\nauth_type = v3kerberos\n", `[placement] auth_type: want one of password`},
		{"key = value\n", ":1: a value before the first section"},
		{"[DEFAULT\n", ":1: want [section]"},
		{"[DEFAULT]\nnonsense\n", ":2: want name = value"},
		{"[DEFAULT]\n\n  lost\n", ":3: an indented line that continues nothing"},
	} {
		path := t.TempDir() + "/nova.conf"
		if err := os.WriteFile(path, []byte(tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ImportNova(nil, path)
		if err == nil || !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.file, err, tt.want)
		}
	}
	if _, err := ImportNova(nil, "/does/not/exist"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestLaterFileWins, as with several --config-file.
func TestLaterFileWins(t *testing.T) {
	path := t.TempDir() + "/more.conf"
	if err := os.WriteFile(path, []byte("[DEFAULT]\nhost = other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	imported, err := ImportNova(nil, "testdata/nova-compute.conf", path)
	if err != nil {
		t.Fatal(err)
	}
	if imported.Config.Host != "other" {
		t.Errorf("host is %s", imported.Config.Host)
	}
}

// TestImportMeanings: what is no plain renaming.
func TestImportMeanings(t *testing.T) {
	const enough = "[DEFAULT]\ntransport_url=rabbit://a:b@c/\n[placement]\nauth_url=http://k\npassword=p\n[neutron]\npassword=p\n"
	for _, tt := range []struct {
		file string
		got  func(c *Config) any
		want any
	}{
		{"[DEFAULT]\nsync_power_state_interval = 0\n", func(c *Config) any { return c.Compute.SyncPowerStateInterval.D() }, time.Minute},
		{"[DEFAULT]\nsync_power_state_interval = -1\n", func(c *Config) any { return c.Compute.SyncPowerStateInterval.D() }, time.Duration(0)},
		{"[DEFAULT]\nheal_instance_info_cache_interval = 5.5\n", func(c *Config) any { return c.Compute.HealInfoCacheInterval.D() }, 5500 * time.Millisecond},
		{"[DEFAULT]\nrunning_deleted_instance_poll_interval = 0\n", func(c *Config) any { return c.Compute.RunningDeletedInterval.D() }, 30 * time.Minute},
		{"[DEFAULT]\ndebug = True\nuse-json = on\n", func(c *Config) any { return c.Log }, Log{"debug", "json"}},
		{"[glance]\napi_servers = http://a:9292, http://b:9292\n", func(c *Config) any { return c.Glance.Endpoint }, "http://a:9292"},
		{"[glance]\napi_servers = http://a\nendpoint_override = http://c\n", func(c *Config) any { return c.Glance.Endpoint }, "http://c"},
		{"[image_cache]\nremove_unused_base_images = False\n", func(c *Config) any { return c.Glance.EvictAfter.D() }, time.Duration(0)},
		{"[image_cache]\nmanager_interval = -1\n", func(c *Config) any { return c.Glance.EvictInterval.D() }, time.Duration(0)},
		{"[cinder]\ncatalog_info = volumev3::publicURL\n", func(c *Config) any { return c.Cinder.Interfaces[0] }, "public"},
		{"[OSLO_Messaging_Rabbit]\nkombu_reconnect_delay = 0.5\n", func(c *Config) any { return c.RPC.Rabbit.ReconnectDelay.D() }, 500 * time.Millisecond},
		{"[oslo_messaging_rabbit]\nrabbit_login_method = plain\n", func(c *Config) any { return c.RPC.Rabbit.LoginMethod }, "PLAIN"},
		{"[DEFAULT]\nmy_ip = $other.ip\n[other]\nip = 192.0.2.9\n", func(c *Config) any { return c.MyIP }, "$other.ip"},
		{"[DEFAULT]\nmy_ip = ${other.ip}\n[other]\nip = 192.0.2.9\n", func(c *Config) any { return c.MyIP }, "192.0.2.9"},
		{"[DEFAULT]\nmy_ip = $my_ip\n", func(c *Config) any { return strings.HasSuffix(c.MyIP, "my_ip") }, true},
		{"[DEFAULT]\ncpu_allocation_ratio = <None>\n", func(c *Config) any { return c.Compute.CPURatio }, Ratio(0)},
		{"[neutron]\nvalid_interfaces = ['internal', \"admin\"]\n", func(c *Config) any { return strings.Join(c.Neutron.Interfaces, " ") }, "internal admin"},
	} {
		path := t.TempDir() + "/nova.conf"
		if err := os.WriteFile(path, []byte(enough+tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		imported, err := ImportNova(nil, path)
		if err != nil {
			t.Errorf("%q: %v", tt.file, err)
			continue
		}
		if got := tt.got(imported.Config); got != tt.want {
			t.Errorf("%q: got %v, want %v", tt.file, got, tt.want)
		}
	}
}

// TestImportSet: what the command line says counts, and what follows from it follows.
func TestImportSet(t *testing.T) {
	imported, err := ImportNova([]string{"host=b", "run_dir=/r", "observe.listen=", "rpc.rabbit.ssl=true", "glance.valid_interfaces=a, b", "compute.report_interval=5s"}, "testdata/nova-compute.conf")
	if err != nil {
		t.Fatal(err)
	}
	c := imported.Config
	if c.Host != "b" || c.NodeName != "b" || c.DockerAPI.Listen != "unix:///r/docker.sock" || c.Observe.Listen != "" || !c.RPC.Rabbit.TLS ||
		strings.Join(c.Glance.Interfaces, "+") != "a+b" || c.Compute.ReportInterval.D() != 5*time.Second {
		t.Errorf("%+v", c)
	}
	for set, want := range map[string]string{
		"host": "want key=value", "hots=a": "hots: no such key; did you mean host?", "rpc=a": "rpc: is not a single value",
		"host.name=a": "host.name: is not a single value", "compute.report_interval=soon": "want a duration", "rpc.rabit.ssl=true": "did you mean rabbit?",
	} {
		if _, err := ImportNova([]string{set}, "testdata/nova-compute.conf"); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", set, err, want)
		}
	}
}

// TestImportOfRealFiles: those that a devstack of Zed and the cluster of this project give to
// nova-compute.
func TestImportOfRealFiles(t *testing.T) {
	imported, err := ImportNova(nil, "testdata/zed/nova-compute-base.conf", "testdata/zed/nova-compute.conf")
	if err != nil {
		t.Fatal(err)
	}
	got := append(imported.Config.YAML(true, true), '\n')
	for _, name := range imported.Left {
		got = append(got, "# not carried over: "+name+"\n"...)
	}
	for _, note := range imported.Notes {
		got = append(got, "# "+note+"\n"...)
	}
	const golden = "testdata/zed/nova-agent.yaml"
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}
