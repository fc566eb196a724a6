package engine_test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// TestSharedDevices has containers on a device of the host's that not every kernel can share so. One that cannot says which
// module it lacks; the kernel of tests/guest lacks none.
func TestSharedDevices(t *testing.T) {
	need.Root(t)
	need.Command(t, "ip")
	for name, tt := range map[string]struct {
		n      engine.Network
		module string
	}{
		"ipvlan l2": {engine.Network{Driver: engine.DriverIPvlan, Options: map[string]string{"parent": "nashared0"}}, "ipvlan"},
		"ipvlan l3": {engine.Network{Driver: engine.DriverIPvlan, Options: map[string]string{"parent": "nashared0", "ipvlan_mode": "l3"}}, "ipvlan"},
		"vlan":      {engine.Network{Driver: engine.DriverMacvlan, Options: map[string]string{"parent": "nashared0.7"}}, "8021q"},
	} {
		t.Run(name, func(t *testing.T) {
			root := tempRoot(t)
			enginetest.Leaks(t, root, testCgroup(root))
			if out, err := exec.Command("ip", "link", "add", "nashared0", "up", "type", "veth", "peer", "name", "nashared1").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if out, err := exec.Command("ip", "link", "set", "nashared1", "up").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			t.Cleanup(func() {
				if out, err := exec.Command("ip", "link", "del", "nashared0").CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
			e := open(t, options(t, root))
			tt.n.Name, tt.n.IPv4 = "lan", true
			_, err := e.CreateNetwork(testContext(t), tt.n)
			if errors.Is(err, errdefs.ErrUnsupported) && strings.Contains(err.Error(), "load its module "+tt.module) && os.Getenv("NOVA_AGENT_TEST_MODULES") == "" {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			join := func(name, script string) string {
				s := spec(t, script)
				s.Name, s.NetworkMode, s.Networks = name, engine.NetworkBridge, []engine.Join{{Network: "lan"}}
				return mustRun(t, e, s).ID
			}
			web := join("web", serving)
			other := join("other", "sleep 1000")
			if out, err := shell(t, e, other, "until wget -q -O - http://web/ 2> /dev/null; do :; done"); err != nil || out != "served\n" {
				t.Errorf("the neighbour's answer is %q, %v", out, err)
			}
			for _, id := range []string{web, other} {
				if err := e.Remove(testContext(t), id, engine.RemoveOptions{Force: true}); err != nil {
					t.Error(err)
				}
			}
			if err := e.RemoveNetwork(testContext(t), "lan"); err != nil {
				t.Error(err)
			}
			if _, err := net.InterfaceByName("nashared0.7"); err == nil {
				t.Error("the VLAN's device is left")
			}
		})
	}
}
