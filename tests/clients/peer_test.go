//go:build peer

package clients

import (
	"testing"

	"novaagent/tests/peer"
)

var without []string

var composes = peer.AllClients

func servers() map[string]func(*testing.T) *peer.Daemon {
	all := map[string]func(*testing.T) *peer.Daemon{}
	for _, r := range peer.Releases {
		all["dockerd-"+r.Docker] = func(t *testing.T) *peer.Daemon { return peer.Dockerd(t, r) }
	}
	return all
}
