// Package shim builds the shim program for tests, so that they run the present
// source whether or not `make shim` was run before.
package shim

import (
	"sync"
	"testing"

	"novaagent/tests/program"
)

var built = sync.OnceValues(func() ([]byte, error) { return program.Build("novaagent/engine/shim") })

// Program returns the shim's executable, for runtime.Options.Shim.
func Program(t testing.TB) []byte {
	t.Helper()
	b, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
