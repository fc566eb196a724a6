//go:build !peer

package clients

import (
	"testing"

	"novaagent/tests/peer"
)

// without are parts of the clients' scripts that nova-agent has nothing for yet.
var without = []string{"networks"}

// servers are what the clients are run against. With the build tag peer they are real dockerds,
// which proves that the tests ask for Docker's behaviour.
func servers() map[string]func(*testing.T) *peer.Daemon {
	return map[string]func(*testing.T) *peer.Daemon{"nova-agent": nova}
}
