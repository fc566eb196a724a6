package config

import (
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"novaagent/engine/errdefs"
)

// FuzzParse: no file crashes, and what is accepted can be written and read again.
func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile("testdata/zed/nova-agent.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{string(golden), "a: &a [*a]", "host: !!binary x", "{", "? a\n: b", "rpc: {rabbit: {ssl: true}}", "compute: {cpu_allocation_ratio: 1e400}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("no kind: %v", err)
			}
			return
		}
		text := c.YAML(true, true)
		again, err := Parse("f", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(string(c.YAML(false, true)), string(again.YAML(false, true))); diff != "" {
			t.Errorf("%s\n%s", diff, text)
		}
		c.YAML(false, false)
		c.Check()
	})
}

// FuzzImport: no file crashes, and what is accepted makes a good configuration.
func FuzzImport(f *testing.F) {
	for _, name := range []string{"testdata/nova-compute.conf", "testdata/zed/nova-compute-base.conf"} {
		seed, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Add([]byte("[a]\nb=$b\nc=${\nd=${}$$$e\ne=${a.d}$d"))
	f.Fuzz(func(t *testing.T, data []byte) {
		imported, err := importNova(nil, []string{"f"}, func(string) ([]byte, error) { return data, nil })
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("no kind: %v", err)
			}
			return
		}
		text := imported.Config.YAML(true, true)
		if _, err := Parse("f", text); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
