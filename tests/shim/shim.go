// Package shim builds the shim program for tests, so that they run the present
// source whether or not `make shim` was run before.
package shim

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "shim")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shim")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "novaagent/engine/shim")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// Program returns the shim's executable, for runtime.Options.Shim.
func Program(t testing.TB) []byte {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatalf("build the shim: %v", err)
	}
	return b
}
