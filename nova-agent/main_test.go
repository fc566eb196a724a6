package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/tests/need"
)

// TestMain makes this test binary the program nova-agent, too, for scripts and tests that
// start it.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"nova-agent": main})
}

// TestCommandLine: what an operator types and reads.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// TestUnit: systemd finds no fault in the unit that is shipped.
func TestUnit(t *testing.T) {
	need.Command(t, "systemd-analyze")
	unit, err := os.ReadFile("../packaging/nova-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program need not be installed here.
	text := strings.ReplaceAll(string(unit), "/usr/bin/nova-agent", "/bin/true")
	path := filepath.Join(t.TempDir(), "nova-agent.service")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "verify", "--man=no", path).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "nova-agent.service") {
			t.Error(line)
		}
	}
}

func TestNumberOf(t *testing.T) {
	for text, want := range map[string]int64{"v1.2.3": 1_002_003, "0.1": 1000, "unknown": 0, "v2.0.1-5-gabcdef-dirty": 2_000_001, "": 0, "1.99999.-4": 1_999_000} {
		if got := numberOf(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
