//go:build !peer

package clients

import (
	"testing"

	"novaagent/tests/peer"
)

// without are parts of the clients' scripts that nova-agent has nothing for yet.
var without = []string{"networks"}

// composes are the docker-composes whose scripts are played: the oldest and the newest.
var composes = []peer.Clients{peer.AllClients[0], peer.AllClients[len(peer.AllClients)-1]}

// servers are what the clients are run against. With the build tag peer they are real dockerds,
// which proves that the tests ask for Docker's behaviour.
func servers() map[string]func(*testing.T) *peer.Daemon {
	return map[string]func(*testing.T) *peer.Daemon{"nova-agent": nova}
}
