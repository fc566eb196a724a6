//go:build peer

package dockerapi_test

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// TestPeer plays the scripts against real dockerds, which proves that they ask for Docker's behaviour. A
// line of what only this project does has the condition [!peer]; one that Docker's versions answer
// differently has [docker:26.1], or [!docker:20.10].
func TestPeer(t *testing.T) {
	need.Root(t)
	need.Command(t, "docker")
	for _, r := range peer.Releases {
		t.Run(r.Docker, func(t *testing.T) {
			testscript.Run(t, scripts(r.Docker, func(env *testscript.Env) (*peer.Daemon, error) {
				t := env.T().(testing.TB)
				d := peer.Dockerd(t, r)
				return d, d.Call("POST", "/images/load", archive(t), nil)
			}))
		})
	}
}
