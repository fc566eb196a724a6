// Package need states what a test needs of the machine. On a developer's
// laptop a test whose need is not met is skipped; under the project's own
// test command (NOVA_AGENT_TEST_STRICT=1) it fails, so that a green run can't
// mean that nothing ran.
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Strict is the environment variable that turns skips into failures.
const Strict = "NOVA_AGENT_TEST_STRICT"

// Root requires an effective uid of 0.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unmet(t, "root")
	}
}

// Command requires each named program in PATH, /usr/sbin and /sbin included.
func Command(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if _, err := exec.LookPath("/usr/sbin/" + name); err == nil {
			continue
		}
		Unmet(t, "the program "+name)
	}
}

// Env requires an environment variable and returns its value.
func Env(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		Unmet(t, "the environment variable "+name)
	}
	return v
}

// Unmet ends the test: what it needs is not here.
func Unmet(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(Strict) == "1" {
		t.Fatalf("this test needs %s", what)
	}
	t.Skipf("this test needs %s", what)
}
