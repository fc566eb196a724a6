package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/tests/need"
)

// endpoint is a port on a bridge that the engine makes.
func endpoint(n int, bridge string) network.Endpoint {
	id := fmt.Sprintf("%08d-aaaa-bbbb-cccc-%012d", os.Getpid(), n)
	return network.Endpoint{
		ID: id, Kind: network.KindBridge, Bridge: bridge, BridgeCreate: true, MAC: fmt.Sprintf("fa:16:3e:00:00:%02x", n),
		HostDevice: fmt.Sprintf("tap%05dx%d", os.Getpid()%100000, n),
		Addresses:  []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", n))}, MTU: 1400,
	}
}

func TestEndpoints(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	bridge := fmt.Sprintf("brt%d", os.Getpid()%100000)
	one, two := endpoint(11, bridge), endpoint(12, bridge)
	s := spec(t, "exec sleep 1000")
	s.Owner, s.NetworkMode, s.Endpoints, s.Hostname = engine.OwnerNova, engine.NetworkEndpoints, []network.Endpoint{one}, "guest"
	c := mustRun(t, e, s)
	peer := spec(t, "exec sleep 1000")
	peer.NetworkMode, peer.Endpoints = engine.NetworkEndpoints, []network.Endpoint{two}
	p := mustRun(t, e, peer)

	run := func(id, script string) string {
		t.Helper()
		var out lockedBuffer
		exit, err := e.Exec(ctx, id, engine.ExecSpec{Args: []string{"sh", "-c", script}}, engine.Streams{Stdout: &out, Stderr: &out})
		if err != nil || exit.Code != 0 {
			t.Errorf("%s: %+v, %v: %s", script, exit, err, out.String())
		}
		return out.String()
	}
	reach := "ping -c 1 -w 20 192.0.2.12 > /dev/null && cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu && grep guest /etc/hosts"
	if got := run(c.ID, reach); got != "fa:16:3e:00:00:0b\n1400\n192.0.2.11\tguest\n" {
		t.Errorf("got %q", got)
	}
	d, err := e.Diagnostics(ctx, c.ID)
	if err != nil || len(d.Drift) != 0 || len(d.Interfaces) != 1 || d.Interfaces[0].TxBytes == 0 {
		t.Errorf("diagnostics %+v, %v", d, err)
	}

	// The network outlives the process, and the engine.
	if err := e.Restart(ctx, c.ID, 9, 0); err != nil {
		t.Fatal(err)
	}
	run(c.ID, reach)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	run(c.ID, reach)

	// Another endpoint comes while it runs, and goes.
	three := endpoint(13, bridge)
	if err := e.SetEndpoints(ctx, c.ID, []network.Endpoint{one, three}); err != nil {
		t.Fatal(err)
	}
	if got := run(c.ID, "ip -o -4 addr show dev eth1"); !strings.Contains(got, "192.0.2.13/24") {
		t.Errorf("eth1: %s", got)
	}
	if err := e.SetEndpoints(ctx, c.ID, []network.Endpoint{one}); err != nil {
		t.Fatal(err)
	}
	run(c.ID, "! ip link show dev eth1 2> /dev/null")
	if _, err := net.InterfaceByName(three.HostName()); err == nil {
		t.Errorf("device %s is left", three.HostName())
	}

	// Not for those that have none, and not with nonsense.
	if err := e.SetEndpoints(ctx, mustRun(t, e, spec(t, "true")).ID, []network.Endpoint{three}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a container without a network: %v", err)
	}
	three.MAC = "nonsense"
	if err := e.SetEndpoints(ctx, c.ID, []network.Endpoint{three}); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("a bad endpoint: %v", err)
	}
	for _, id := range []string{c.ID, p.ID} {
		if err := e.Remove(ctx, id, engine.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if _, err := net.InterfaceByName(bridge); err == nil {
		t.Errorf("bridge %s is left", bridge)
	}
}

// TestFailedPlug leaves nothing of a container whose second endpoint can't be plugged.
func TestFailedPlug(t *testing.T) {
	e := newEngine(t)
	bridge := fmt.Sprintf("brf%d", os.Getpid()%100000)
	good, bad := endpoint(21, bridge), endpoint(22, "no-such-bridge")
	bad.BridgeCreate = false
	s := spec(t, "true")
	s.NetworkMode, s.Endpoints = engine.NetworkEndpoints, []network.Endpoint{good, bad}
	if _, err := e.Run(testContext(t), s); !errors.Is(err, errdefs.ErrNotFound) || !strings.Contains(err.Error(), "no-such-bridge") {
		t.Errorf("got %v", err)
	}
	if _, err := net.InterfaceByName(good.HostName()); err == nil {
		t.Errorf("device %s is left", good.HostName())
	}
	if n := len(e.List()); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}
