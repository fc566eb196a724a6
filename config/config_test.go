package config

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"novaagent/engine/errdefs"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const page = "../docs/configuration.md"

// TestReferencePage: docs/configuration.md says what the tags say.
func TestReferencePage(t *testing.T) {
	if *update {
		if err := os.WriteFile(page, Markdown(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), string(Markdown())); diff != "" {
		t.Errorf("%s is not current (go test ./config -update):\n%s", page, diff)
	}
}

// TestEveryKeyIsDocumented, with a name of its own.
func TestEveryKeyIsDocumented(t *testing.T) {
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		seen := map[string]bool{}
		for _, k := range keysOf(typ) {
			switch {
			case k.name == "" || seen[k.name]:
				t.Errorf("%s.%s: key %q is empty or given twice", path, k.field.Name, k.name)
			case k.field.Type.Kind() == reflect.Struct:
				walk(k.field.Type, path+"."+k.name)
			case k.field.Tag.Get("doc") == "":
				t.Errorf("%s.%s has no doc", path, k.name)
			}
			seen[k.name] = true
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

func TestParse(t *testing.T) {
	c, err := Parse("f", []byte("host: a\nrun_dir: /r\ncompute:\n  vif_plugging_timeout: 2m\n  cpu_allocation_ratio: 4\nengine: {log_max_size: 1MiB}\nneutron:\n  password: x\n  http_retries: 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Host != "a" || c.NodeName != "a" || c.Compute.VIFPluggingTimeout.D() != 2*time.Minute || c.Compute.CPURatio != 4 ||
		c.Engine.LogMaxSize != 1<<20 || c.Neutron.Password != "x" || c.Neutron.Retries != 0 || c.DockerAPI.Listen != "unix:///r/docker.sock" {
		t.Errorf("%+v", c)
	}
	if c.Compute.ReportInterval.D() != 10*time.Second {
		t.Error("a default was lost")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"hots: a\n", "f:1:1: hots: no such key; did you mean host?"},
		{"log:\n  level: loud\n", `f:2:10: log.level: want one of debug, info, warn, error, not "loud"`},
		{"log:\n  colour: red\n", "f:2:3: log.colour: no such key; there are level, format"},
		{"compute:\n  report_interval: 10\n", `f:2:20: compute.report_interval: want a duration such as 30s or 5m of at least 1s, not "10"`},
		{"compute:\n  report_interval: 0s\n", "of at least 1s"},
		{"compute:\n  max_concurrent_builds: -1\n", "want a whole number from 0 up"},
		{"compute:\n  vif_plugging_is_fatal: maybe\n", "want true or false"},
		{"engine:\n  log_max_size: 1MB\n", "want a size such as 512MiB"},
		{"engine:\n  max_image: 99999999999TiB\n", "want a size"},
		{"host: [a]\n", "f:1:7: host: want a text, not a list"},
		{"host:\n", "want a text, not nothing"},
		{"rpc: none\n", `f:1:6: rpc: want keys and values, not "none"`},
		{"host: a\nhost: b\n", "already defined"},
		{"placement:\n  valid_interfaces: internal\n", "want a list"},
		{"- a\n", "the file: want keys and values, not a list"},
		{"host: a\n\tb: c\n", "f: yaml:"},
	} {
		_, err := Parse("f", []byte(tt.file))
		if err == nil || !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			if tt.want == "already defined" && err != nil && strings.Contains(err.Error(), "second time") {
				continue
			}
			t.Errorf("%q: got %v, want %q", tt.file, err, tt.want)
		}
	}
	// All faults of a file are told at once.
	if _, err := Parse("f", []byte("a: 1\nb: 2\n")); strings.Count(err.Error(), "no such key") != 2 {
		t.Errorf("got %v, want two faults", err)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	imported, err := ImportNova("testdata/nova-compute.conf")
	if err != nil {
		t.Fatal(err)
	}
	shown := string(imported.Config.YAML(false, false))
	for _, secret := range []string{"s3cret", "p a$word", "n3utron", "n0va\""} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown", secret)
		}
	}
	if !strings.Contains(shown, "rabbit://nova:***@192.0.2.1:5672,nova:***@192.0.2.2:5672/nova?ssl=1") {
		t.Errorf("the transport URL is not shown:\n%s", shown)
	}
	if _, err := Parse("f", []byte("neutron: {password: [s3cret]}")); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a fault shows a secret: %v", err)
	}
}

func TestImportNova(t *testing.T) {
	imported, err := ImportNova("testdata/nova-compute.conf")
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
	for _, name := range []string{"[DEFAULT] compute_driver", "[DEFAULT] default_log_levels", "[keystone_authtoken] memcached_servers"} {
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
		_, err := ImportNova(path)
		if err == nil || !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want %q", tt.file, err, tt.want)
		}
	}
	if _, err := ImportNova("/does/not/exist"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

// TestLaterFileWins, as with several --config-file.
func TestLaterFileWins(t *testing.T) {
	path := t.TempDir() + "/more.conf"
	if err := os.WriteFile(path, []byte("[DEFAULT]\nhost = other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	imported, err := ImportNova("testdata/nova-compute.conf", path)
	if err != nil {
		t.Fatal(err)
	}
	if imported.Config.Host != "other" {
		t.Errorf("host is %s", imported.Config.Host)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("host: a\ncompute: {report_interval: 10s}\n"))
	f.Add(Default().YAML(false, true))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			return
		}
		again, err := Parse("f", c.YAML(false, true))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if !bytes.Equal(c.YAML(false, true), again.YAML(false, true)) {
			t.Error("not the same after writing and reading")
		}
	})
}

func FuzzIni(f *testing.F) {
	f.Add([]byte("[a]\nb = $c\nc = ${a.b}\n d\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := options{}
		if o.read("f", data) != nil {
			return
		}
		for section, names := range o {
			for name := range names {
				o.get(section, name)
			}
		}
	})
}
