package tests

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "novaagent/"

// rows are the layers of the project, top first. A package may import packages
// of lower rows, never of its own row or above; a row's packages are strangers
// to each other. The shape is explained in docs/architecture.md.
var rows = [][]string{
	{"nova-agent"},
	{"nova-agent/compute", "engine/dockerapi", "nova-agent/check", "nova-agent/observe"},
	{"nova-agent/conductor"},
	{"nova-agent/rpc", "nova-agent/objects", "nova-agent/placement", "nova-agent/neutron", "nova-agent/keystone", "imagebridge", "registry", "config"},
	{"engine"},
	{"engine/archive", "engine/image", "engine/logsink", "engine/network", "engine/plugin", "engine/runtime"},
	{"engine/store", "engine/kernel"},
	{"engine/kernel/fork"},
	{"engine/errdefs", "engine/pipe", "logging"},
}

// parts are folders whose packages belong to the row of the package they serve.
var parts = map[string]string{
	"engine/runtime/shimbin": "engine/runtime",
	"engine/runtime/seccomp": "engine/runtime",
	"engine/shim":            "engine/runtime",
}

// forTests tells whether a package is one that only tests import.
func forTests(path string) bool {
	return strings.HasPrefix(path, "tests") || path == "engine/enginetest"
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

// TestImportsPointDown holds `go list` against the rows.
func TestImportsPointDown(t *testing.T) {
	level := map[string]int{}
	for i, row := range rows {
		for _, p := range row {
			level[p] = i
		}
	}
	home := func(p string) string {
		for part, owner := range parts {
			if p == part || strings.HasPrefix(p, part+"/") {
				return owner
			}
		}
		return p
	}
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if forTests(from) {
			continue
		}
		fromLevel, known := level[home(from)]
		if !known {
			t.Errorf("%s is in no row: add it to the table", from)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours || home(to) == home(from) {
				continue
			}
			toLevel, known := level[home(to)]
			switch {
			case forTests(to):
				t.Errorf("%s imports the test package %s", from, to)
			case !known:
				t.Errorf("%s imports %s, which is in no row", from, to)
			case toLevel <= fromLevel:
				t.Errorf("%s imports %s, which is not below it", from, to)
			}
		}
	}
}

// TestSyscallsStayInKernel: one package to audit.
func TestSyscallsStayInKernel(t *testing.T) {
	for _, p := range listPackages(t) {
		from := strings.TrimPrefix(p.ImportPath, module)
		if from == "engine/kernel" || strings.HasPrefix(from, "engine/kernel/") || forTests(from) {
			continue
		}
		for _, imported := range p.Imports {
			if imported == "golang.org/x/sys/unix" {
				t.Errorf("%s imports %s; only engine/kernel may", from, imported)
			}
		}
	}
}

// TestShimStaysSmall: beside each container runs the standard library's
// system call layer and nothing else.
func TestShimStaysSmall(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "novaagent/engine/shim").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, forbidden := range []string{"net", "net/http", "encoding/json", "crypto/tls", "fmt", "golang.org/x/sys/unix"} {
		for dep := range strings.FieldsSeq(string(out)) {
			if dep == forbidden {
				t.Errorf("the shim depends on %s", dep)
			}
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "novaagent/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
