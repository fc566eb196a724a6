package config

import (
	"errors"
	"flag"
	"os"
	"reflect"
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
			case k.field.Type.Kind() == reflect.Int && k.field.Tag.Get("min") == "":
				t.Errorf("%s.%s has no least value", path, k.name)
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
		{"engine:\n  runtimes: crun\n", `f:2:13: engine.runtimes: want names of runtimes with a path each, not "crun"`},
		{"engine:\n  runtimes:\n    a/b: {path: /x}\n", `f:3:5: engine.runtimes: want a name of`},
		{"engine:\n  runtimes:\n    nova-agent: {path: /x}\n", `f:3:5: engine.runtimes: want a name of`},
		{"engine:\n  runtimes:\n    crun: {args: [a]}\n", `f:3:11: engine.runtimes.crun.path: want a program`},
		{"engine:\n  runtimes:\n    crun: {path: /x, runtimeType: y}\n", `f:3:22: engine.runtimes.crun.runtimeType: no such key`},
		{"engine:\n  default_runtime: kata\n  runtimes: {crun: {path: crun}}\n", `f:2:20: engine.default_runtime: want nova-agent or one of engine.runtimes, not "kata"`},
		{"- a\n", "the file: want keys and values, not a list"},
		{"host: a\n\tb: c\n", "f: yaml:"},
		{"host: a\n---\nhost: b\n", "f:2:1: a second document"},
		{"host: &a x\nmy_ip: {<<: *a}\n", "want a text, not keys and values"},
		{"rpc: &r {workers: 1}\nlog: *r\n", "f:2:6: log: want keys and values"},
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
	imported, err := ImportNova(nil, "testdata/nova-compute.conf")
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

func TestRuntimes(t *testing.T) {
	const file = "engine:\n  default_runtime: crun\n  runtimes:\n    crun: {path: crun, args: [--debug]}\n    kata: {path: /opt/kata}\n"
	c, err := Parse("f", []byte(file))
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse("f", c.YAML(true, true))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []Engine{c.Engine, again.Engine} {
		if e.DefaultRuntime != "crun" || len(e.Runtimes) != 2 || e.Runtimes["crun"].Path != "crun" || len(e.Runtimes["crun"].Args) != 1 || e.Runtimes["kata"].Path != "/opt/kata" {
			t.Errorf("got %+v", e)
		}
	}
}

func TestExposed(t *testing.T) {
	path := t.TempDir() + "/f"
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if got, err := Exposed(path); got != want || err != nil {
			t.Errorf("%o: %v, %v", mode, got, err)
		}
	}
	if _, err := Exposed(path + ".not"); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}
