package dockerapi_test

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/tests/need"
)

// TestOCIRuntimes plays the scripts of testdata/oci, and that of devices, with each OCI runtime as the default one.
func TestOCIRuntimes(t *testing.T) {
	need.Root(t)
	need.Command(t, "docker", "crun", "runc")
	for _, name := range []string{"crun", "runc"} {
		t.Run(name, func(t *testing.T) {
			p := ownScripts(name)
			p.Dir, p.Files = "testdata/oci", []string{"testdata/devices.txtar"}
			testscript.Run(t, p)
		})
	}
}
