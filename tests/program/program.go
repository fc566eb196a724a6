// Package program builds the project's small programs for tests, so that they
// run the present source whatever was built before.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
)

// Dir is the environment variable that names a directory with the programs, by the last element of
// their package: in a guest there is no Go to build them.
const Dir = "NOVA_AGENT_TEST_PROGRAMS"

// Build returns the static executable of a main package of this module.
func Build(pkg string) ([]byte, error) {
	if dir := os.Getenv(Dir); dir != "" {
		return os.ReadFile(filepath.Join(dir, path.Base(pkg)))
	}
	dir, err := os.MkdirTemp("", "program")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, path.Base(pkg))
	if err := BuildTo(out, "build", pkg); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

// BuildTo runs `go build`, or `go test -c`, of pkg into the file out.
func BuildTo(out, how string, pkg string) error {
	// Without -trimpath, what was compiled for the tests serves here, too.
	args := []string{how, "-ldflags", "-s -w", "-o", out}
	if how == "test" {
		args = append(args, "-c")
	}
	cmd := exec.Command("go", append(args, pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w: %s", pkg, err, text)
	}
	return nil
}
