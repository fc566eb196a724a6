package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/store"
	"novaagent/tests/need"
)

// TestNetworkCrash kills the engine at each step of making and removing a network, and of a container's way into
// it: the next engine has the network whole or not at all, and the container works.
func TestNetworkCrash(t *testing.T) {
	need.Root(t)
	for _, tt := range []struct {
		ops, step string
		there     bool
	}{
		{"network", "network.recorded", true},
		{"network", "network.copied", true},
		{"network", "network.opened", true},
		{"network,network-remove", "network.closed", false},
		{"network,joined,start", "start.joined", true},
		{"network,joined,start", "start.process", true},
		{"network,joined,start,disconnect", "ready", true},
		{"network,joined,disconnect,start,connect", "ready", true},
		{"network,joined,start,remove", "remove.network", true},
		{"macvlan", "network.recorded", true},
		{"macvlan", "network.opened", true},
		{"macvlan,network-remove", "network.closed", false},
		{"macvlan,joined,start", "start.joined", true},
		{"macvlan,joined,start", "start.process", true},
		{"macvlan,joined,start,disconnect", "ready", true},
		{"macvlan,joined,start,remove", "remove.network", true},
	} {
		// Not side by side: engines that open their networks in the same instant choose the same subnets.
		t.Run(tt.ops+"/"+tt.step, func(t *testing.T) {
			root := tempRoot(t)
			enginetest.Leaks(t, root, testCgroup(root))
			crash(t, root, tt.ops, tt.step)
			e := open(t, options(t, root))
			ctx := testContext(t)
			if !tt.there {
				// The device is gone and so is the record, or the next removal takes both.
				if err := e.RemoveNetwork(ctx, crashName); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
					t.Error(err)
				}
				return
			}
			n, err := e.Network(crashName)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := net.InterfaceByName(n.Device); err != nil {
				t.Errorf("bridge %s: %v", n.Device, err)
			}
			if c, err := e.Inspect(crashName); err == nil {
				if strings.HasSuffix(tt.step, "joined") && c.State.Live() {
					t.Errorf("the container is %s", c.State)
				}
				if _, err := e.Start(ctx, crashName); err != nil {
					t.Fatal(err)
				}
				if n.Driver == engine.DriverBridge {
					pings(t, e, crashName, n.Pools[0].Gateway)
				}
			}
			var addresses []netip.Addr
			for range 2 {
				s := spec(t, "exec sleep 1000")
				s.NetworkMode, s.Networks = engine.NetworkBridge, []engine.Join{{Network: crashName}}
				c := mustRun(t, e, s)
				addresses = append(addresses, c.Spec.Endpoints[0].Addresses[0].Addr())
				if n.Driver == engine.DriverBridge {
					addresses[0] = n.Pools[0].Gateway
				}
				pings(t, e, c.ID, addresses[0])
			}
		})
	}
}

// shell runs a script in a container.
func shell(t *testing.T, e *engine.Engine, ref, script string) (string, error) {
	t.Helper()
	var out lockedBuffer
	exit, err := e.Exec(testContext(t), ref, engine.ExecSpec{Args: []string{"sh", "-c", script}}, engine.Streams{Stdout: &out, Stderr: &out})
	if err == nil && exit.Code != 0 {
		err = fmt.Errorf("exit code %d", exit.Code)
	}
	return out.String(), err
}

func pings(t *testing.T, e *engine.Engine, ref string, address netip.Addr) {
	t.Helper()
	if out, err := shell(t, e, ref, "ping -c 1 -w 20 "+address.String()); err != nil {
		t.Errorf("ping %s: %v: %s", address, err, out)
	}
}

// get fetches a page from the host.
func get(address netip.AddrPort) string {
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(fmt.Sprintf("http://%s/", address))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

const serving = "mkdir /tmp/w; echo served > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"

// TestNetworkOutlives: names, addresses and ports of a network go on under the next engine, while a firewall is
// loaded anew, and after a reboot of the host.
func TestNetworkOutlives(t *testing.T) {
	need.Root(t)
	need.Command(t, "ip")
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	n, err := e.CreateNetwork(ctx, engine.Network{Name: "net", Driver: engine.DriverBridge, IPv4: true, Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	join := func(script, name string) engine.Spec {
		s := spec(t, script)
		s.Name, s.NetworkMode, s.Networks = name, engine.NetworkBridge, []engine.Join{{Network: "net"}}
		return s
	}
	s := join(serving, "web")
	s.Ports = []engine.Port{{Proto: "tcp", ContainerPort: 80}}
	web := mustRun(t, e, s)
	other := mustRun(t, e, join("exec sleep 1000", "other"))
	port := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), web.Published[0].HostPort)
	works := func() {
		t.Helper()
		if out, err := shell(t, e, other.ID, "until wget -q -O - http://web/ 2> /dev/null; do :; done"); err != nil || out != "served\n" {
			t.Errorf("by its name: %q, %v", out, err)
		}
		if got := get(port); got != "served\n" {
			t.Errorf("by its port: %q", got)
		}
	}
	works()
	before := mustInspect(t, e, web.ID).Spec.Endpoints[0].Addresses[0]
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	works()
	bridge, err := e.Network("bridge")
	if err != nil {
		t.Fatal(err)
	}
	nft := &nftables.Conn{}
	nft.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "nova-agent-" + strings.TrimPrefix(bridge.Device, "na")})
	if err := nft.Flush(); err != nil {
		t.Fatal(err)
	}
	mustRun(t, e, join("exec sleep 1000", "third"))
	works()

	reboot(t, root, e)
	if out, err := exec.Command("ip", "link", "del", n.Device).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	e = open(t, options(t, root))
	again, err := e.Network("net")
	if err != nil || again.ID != n.ID || again.Labels["a"] != "b" || again.Pools[0].Subnet != n.Pools[0].Subnet {
		t.Errorf("the network is %+v, %v; it was %+v", again, err, n)
	}
	if _, err := net.InterfaceByName(n.Device); err != nil {
		t.Errorf("after the reboot: bridge %s: %v", n.Device, err)
	}
	// In the other order: addresses are the containers' own, not the first's who comes.
	for _, id := range []string{other.ID, web.ID} {
		if _, err := e.Start(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	if got := mustInspect(t, e, web.ID).Spec.Endpoints[0].Addresses[0]; got != before {
		t.Errorf("the address is %s and was %s", got, before)
	}
	port = netip.AddrPortFrom(port.Addr(), mustInspect(t, e, web.ID).Published[0].HostPort)
	works()
}

// TestNetworksApart: with the host's filters for bridged packets and without, containers of one network reach each other
// unless the network forbids it, and those of others do not.
func TestNetworksApart(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	for _, n := range []engine.Network{
		{Name: "one", Driver: engine.DriverBridge, IPv4: true},
		{Name: "two", Driver: engine.DriverBridge, IPv4: true},
		{Name: "apart", Driver: engine.DriverBridge, IPv4: true, Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}},
	} {
		if _, err := e.CreateNetwork(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	address := map[string]netip.Addr{}
	for _, name := range []string{"one", "two", "apart"} {
		for _, i := range []string{"1", "2"} {
			s := spec(t, "exec sleep 1000")
			s.Name, s.NetworkMode, s.Networks = name+i, engine.NetworkBridge, []engine.Join{{Network: name}}
			address[s.Name] = mustRun(t, e, s).Spec.Endpoints[0].Addresses[0].Addr()
		}
	}
	const filter = "/proc/sys/net/bridge/bridge-nf-call-iptables"
	if was, err := os.ReadFile(filter); err == nil {
		t.Cleanup(func() {
			if err := os.WriteFile(filter, was, 0); err != nil {
				t.Error(err)
			}
		})
	}
	for _, filtered := range []string{"0", "1"} {
		param := kernel.Sysctl{Path: "net/bridge/bridge-nf-call-iptables", Value: filtered, Optional: true}
		if err := kernel.SetSysctls(param); err != nil {
			t.Fatal(err)
		}
		reaches := func(from, to string) bool {
			_, err := shell(t, e, from, "ping -c 1 -W 1 "+address[to].String())
			return err == nil
		}
		for _, tt := range []struct {
			from, to string
			want     bool
		}{{"one1", "one2", true}, {"one1", "two1", false}, {"two1", "one1", false}, {"apart1", "apart2", false}, {"apart1", "one1", false}} {
			if got := reaches(tt.from, tt.to); got != tt.want {
				t.Errorf("bridge-nf-call-iptables=%s: %s reaches %s: %v", filtered, tt.from, tt.to, got)
			}
		}
	}
}

// TestIPv6: containers of a network with IPv6 have addresses and names of it, reach the host, and publish ports by it.
func TestIPv6(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	n, err := e.CreateNetwork(testContext(t), engine.Network{Name: "six", Driver: engine.DriverBridge, IPv4: true, IPv6: true,
		Pools: []engine.Pool{{Subnet: netip.MustParsePrefix("fd00:6666::/64")}}})
	if err != nil {
		t.Fatal(err)
	}
	join := func(script, name string, ports ...engine.Port) engine.Container {
		s := spec(t, script)
		s.Name, s.NetworkMode, s.Ports = name, engine.NetworkBridge, ports
		s.Networks = []engine.Join{{Network: "six"}}
		if name == "web" {
			s.Networks[0].IPv6 = netip.MustParseAddr("fd00:6666::77")
		}
		return mustRun(t, e, s)
	}
	web := join(serving, "web", engine.Port{Proto: "tcp", ContainerPort: 80})
	other := join("exec sleep 1000", "other")
	if out, err := shell(t, e, other.ID, "ping -6 -c 1 -w 20 web && ip -6 route"); err != nil || !strings.Contains(out, "fd00:6666::77") || !strings.Contains(out, "default via fd00:6666::1 dev eth0") {
		t.Errorf("%v: %s", err, out)
	}
	if len(web.Published) != 2 || web.Published[0].HostPort != web.Published[1].HostPort || !web.Published[1].HostIP.Is6() {
		t.Fatalf("published: %+v", web.Published)
	}
	if out, err := shell(t, e, web.ID, "until wget -q -O - http://127.0.0.1/; do :; done"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	gateway := n.Pools[0].Gateway
	works := func() {
		t.Helper()
		for _, host := range []netip.Addr{gateway, netip.MustParseAddr("127.0.0.1")} {
			if got := get(netip.AddrPortFrom(host, web.Published[0].HostPort)); got != "served\n" {
				t.Errorf("at %s: %q", host, got)
			}
		}
		script := fmt.Sprintf("wget -q -O - http://[%s]:%d/", gateway, web.Published[0].HostPort)
		if out, err := shell(t, e, other.ID, script); err != nil || out != "served\n" {
			t.Errorf("from a container: %v: %s", err, out)
		}
	}
	works()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	works()
	if again := mustInspect(t, e, web.ID); len(again.Published) != 2 {
		t.Errorf("published: %+v", again.Published)
	}
	for _, bad := range []engine.Network{
		{Name: "bad", Driver: engine.DriverBridge, IPv4: true, Pools: []engine.Pool{{Subnet: netip.MustParsePrefix("fd00:7777::/64")}}},
		{Name: "bad", Driver: engine.DriverBridge, IPv6: true, Options: map[string]string{"com.docker.network.driver.mtu": "1000"}},
	} {
		if _, err := e.CreateNetwork(testContext(t), bad); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestOldBridgeContainer: a container that an earlier version made has its endpoint from its creation.
func TestOldBridgeContainer(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	s := spec(t, "exec sleep 1000")
	s.NetworkMode = engine.NetworkBridge
	c := mustRun(t, e, s)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	rewriteRecord(t, root, c.ID, func(rec *engine.Container) {
		rec.Spec.Networks = nil
		rec.Spec.Endpoints[0].ID = rec.ID
	})
	e = open(t, options(t, root))
	c = mustInspect(t, e, c.ID)
	if len(c.Spec.Networks) != 1 || c.Spec.Networks[0].Network != engine.BridgeNetworkID {
		t.Errorf("its networks are %+v", c.Spec.Networks)
	}
	b, err := e.BridgeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	pings(t, e, c.ID, b.Gateway.Addr())
	if users := e.NetworkUsers(engine.BridgeNetworkID); len(users) != 1 {
		t.Errorf("in the network are %+v", users)
	}
	if err := e.Restart(testContext(t), c.ID, 9, 0); err != nil {
		t.Fatal(err)
	}
	pings(t, e, c.ID, b.Gateway.Addr())
}

// rewriteRecord changes the record of a container of an engine that is closed.
func rewriteRecord(t *testing.T, root, id string, change func(*engine.Container)) {
	t.Helper()
	db, err := store.Open(filepath.Join(root, "state.db"), logger(t))
	if err != nil {
		t.Fatal(err)
	}
	rec, err := store.Get[engine.Container](db, "container", id)
	if err == nil {
		change(&rec)
		err = store.Put(db, "container", id, rec)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
