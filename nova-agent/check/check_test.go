package check

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

// TestKernel: on a machine that runs the other tests, everything needed is found, and
// nothing is left behind.
func TestKernel(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	results, err := Machine{StateDir: filepath.Join(dir, "not", "yet"), OVSDB: filepath.Join(dir, "no.sock")}.Kernel()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Needed && !r.Found {
			t.Errorf("%s: %s", r.Name, r.Detail)
		}
		if r.Without == "" {
			t.Errorf("%s: nothing is said of what needs it", r.Name)
		}
	}
	names := map[string]bool{}
	for _, r := range results {
		if names[r.Name] {
			t.Errorf("%s is there twice", r.Name)
		}
		names[r.Name] = true
	}
	for _, f := range kernel.Features() {
		if !names[f.Name] {
			t.Errorf("%s is not there", f.Name)
		}
	}
	i := slices.IndexFunc(results, func(r Result) bool { return r.Name == "Open vSwitch" })
	if i < 0 || results[i].Found {
		t.Error("Open vSwitch was found where it is not")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
	if _, err := (Machine{StateDir: "/etc/passwd/none"}).Kernel(); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("no place to try: %v", err)
	}
}

func TestVersionOf(t *testing.T) {
	for _, tt := range []struct {
		release      string
		major, minor int
		bad          bool
	}{{"6.1.0-18-amd64", 6, 1, false}, {"5.15", 5, 15, false}, {"6.12+deb13", 6, 12, false}, {"6", 0, 0, true}, {"", 0, 0, true}, {"x.y", 0, 0, true}} {
		major, minor, err := versionOf(tt.release)
		if major != tt.major || minor != tt.minor || (err != nil) != tt.bad {
			t.Errorf("%q: %d.%d %v", tt.release, major, minor, err)
		}
	}
}

func TestFindController(t *testing.T) {
	const (
		v1     = "31 30 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n37 30 0:34 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n"
		v2     = "30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
		hybrid = v1 + "40 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	)
	read := func(path string) ([]byte, error) {
		if path == "/sys/fs/cgroup/cgroup.controllers" {
			return []byte("cpuset cpu io memory pids\n"), nil
		}
		return nil, nil
	}
	for _, tt := range []struct{ table, name, want string }{
		{v1, "cpu", "version 1"}, {v1, "io", "version 1"}, {v1, "memory", ""},
		{v2, "cpu", "version 2"}, {v2, "io", "version 2"}, {v2, "freezer", "version 2"}, {v2, "hugetlb", ""},
		{hybrid, "cpu", "version 1"}, {hybrid, "freezer", "version 2"}, {hybrid, "pids", ""}, {"broken", "cpu", ""},
	} {
		if got, err := findController(tt.name, tt.table, read); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestServicesAndPrint(t *testing.T) {
	results := Services(context.Background(), time.Minute, []Service{
		{Name: "first", Needed: true, Ask: func(context.Context) (string, error) { return "7.0", nil }},
		{Name: "second", Needed: true, Without: "nothing works", Ask: func(context.Context) (string, error) { return "", errors.New("no answer") }},
		{Name: "third", Without: "little is lost", Ask: func(context.Context) (string, error) { return "", errors.New("gone") }},
	})
	var out bytes.Buffer
	missing := Print(&out, "Services", results)
	if missing != 1 || Missing(results) != 1 {
		t.Errorf("%d are missing, want 1", missing)
	}
	for _, want := range []string{"found    first", "7.0", "MISSING  second", "no answer", "without it: nothing works", "absent   third"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
