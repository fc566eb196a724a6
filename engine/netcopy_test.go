package engine_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/tests/need"
)

// TestNetworksRebuilt: after the database was lost the networks are there as they were, and the containers that run
// are in them, with their names, addresses and ports.
func TestNetworksRebuilt(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	own, err := e.CreateNetwork(ctx, engine.Network{Name: "own", Driver: engine.DriverBridge, IPv4: true, Labels: map[string]string{"a": "b"},
		Pools: []engine.Pool{{Subnet: netip.MustParsePrefix("10.231.60.0/24")}}})
	if err != nil {
		t.Fatal(err)
	}
	lan, err := e.CreateNetwork(ctx, engine.Network{Name: "lan", Driver: engine.DriverMacvlan, IPv4: true})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := e.CreateNetwork(ctx, engine.Network{Name: "gone", Driver: engine.DriverBridge, IPv4: true})
	if err == nil {
		err = e.RemoveNetwork(ctx, gone.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(name, script string, ports ...engine.Port) engine.Container {
		s := spec(t, script)
		s.Name, s.NetworkMode, s.Ports = name, engine.NetworkBridge, ports
		s.Networks = []engine.Join{{Network: "own"}, {Network: "bridge"}, {Network: "lan"}}
		return mustRun(t, e, s)
	}
	web := run("web", serving, engine.Port{Proto: "tcp", ContainerPort: 80})
	port := web.Published[0].HostPort
	bridge, err := e.BridgeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "state.db"), []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	for _, want := range []engine.Network{own, lan} {
		got, err := e.Network(want.Name)
		if err != nil || got.ID != want.ID || got.Labels["a"] != want.Labels["a"] || got.Pools[0].Subnet != want.Pools[0].Subnet || got.Device != want.Device {
			t.Errorf("%+v, %v; it was %+v", got, err, want)
		}
		if users := e.NetworkUsers(want.ID); len(users) != 1 {
			t.Errorf("in network %s are %+v", want.Name, users)
		}
	}
	if n, err := e.Network("gone"); err == nil {
		t.Errorf("a network that was removed is there: %+v", n)
	}
	if again, err := e.BridgeNetwork(); err != nil || again != bridge {
		t.Errorf("the bridge is %+v, %v; it was %+v", again, err, bridge)
	}
	other := run("other", "exec sleep 1000")
	for _, a := range web.Spec.Endpoints {
		pings(t, e, other.ID, a.Addresses[0].Addr())
	}
	if out, err := shell(t, e, other.ID, "until wget -q -O - http://web/ 2> /dev/null; do :; done"); err != nil || out != "served\n" {
		t.Errorf("by its name: %q, %v", out, err)
	}
	now := mustInspect(t, e, web.ID).Published
	if len(now) == 0 || now[0].HostPort != port {
		t.Fatalf("published: %+v; the port was %d", now, port)
	}
	if got := get(netip.MustParseAddrPort(fmt.Sprintf("127.0.0.1:%d", port))); got != "served\n" {
		t.Errorf("by its port: %q", got)
	}
}
