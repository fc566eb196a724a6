package engine_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/network"
	"novaagent/tests/need"
)

// outside is another machine of the host's network: a namespace that a veth pair joins to the host.
type outside struct {
	ns         *kernel.NetNS
	host, peer netip.Addr
}

func newOutside(t *testing.T) *outside {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	if _, err := kernel.NewNetNS(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := kernel.RemoveNetNS(path); err != nil {
			t.Error(err)
		}
	})
	ns, err := kernel.OpenNetNS(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	o := &outside{ns: ns, host: netip.MustParseAddr("198.18.77.1"), peer: netip.MustParseAddr("198.18.77.2")}
	near, far := fmt.Sprintf("vetho%d", os.Getpid()%100000), fmt.Sprintf("vethp%d", os.Getpid()%100000)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
	}
	ip("link", "add", near, "type", "veth", "peer", "name", far)
	t.Cleanup(func() { ip("link", "del", near) })
	ip("addr", "add", o.host.String()+"/24", "dev", near)
	ip("link", "set", near, "up")
	ip("link", "set", far, "netns", path)
	return o
}

// TestBridge: a container that asks for no network in particular has an address and reaches its
// neighbours, the host, and other machines under the host's address. Those don't reach it.
func TestBridge(t *testing.T) {
	need.Root(t)
	need.Command(t, "ip")
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	o := newOutside(t)
	far := fmt.Sprintf("vethp%d", os.Getpid()%100000)

	var server net.Listener
	err := o.ns.Do(func() (err error) {
		for _, args := range [][]string{{"addr", "add", o.peer.String() + "/24", "dev", far}, {"link", "set", far, "up"}, {"route", "add", "default", "via", o.host.String()}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
		}
		server, err = net.Listen("tcp4", net.JoinHostPort(o.peer.String(), "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()

	onBridge := func(script string) engine.Container {
		s := spec(t, script)
		s.Owner, s.NetworkMode = engine.OwnerDocker, engine.NetworkBridge
		return mustRun(t, e, s)
	}
	one, two := onBridge("exec sleep 1000"), onBridge("exec sleep 1000")
	address := func(c engine.Container) netip.Addr { return c.Spec.Endpoints[0].Addresses[0].Addr() }
	if address(one) == address(two) {
		t.Fatalf("both have %s", address(one))
	}
	run := func(script string) string {
		t.Helper()
		var out lockedBuffer
		exit, err := e.Exec(ctx, one.ID, engine.ExecSpec{Args: []string{"sh", "-c", script}}, engine.Streams{Stdout: &out, Stderr: &out})
		if err != nil || exit.Code != 0 {
			t.Errorf("%s: %+v, %v: %s", script, exit, err, out.String())
		}
		return out.String()
	}
	n, err := e.BridgeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	everywhere := func() {
		t.Helper()
		run("ping -c 1 -w 20 " + address(two).String())
		run("ping -c 1 -w 20 " + n.Gateway.Addr().String())
		from := make(chan string, 1)
		go func() {
			c, err := server.Accept()
			if err != nil {
				from <- err.Error()
				return
			}
			defer c.Close()
			host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
			fmt.Fprintf(c, "hello %s\n", host)
			from <- host
		}()
		_, port, _ := net.SplitHostPort(server.Addr().String())
		if got := run(fmt.Sprintf("nc %s %s < /dev/null", o.peer, port)); got != "hello "+o.host.String()+"\n" {
			t.Errorf("the other machine answers %q", got)
		}
		if got := <-from; got != o.host.String() {
			t.Errorf("the other machine sees %s, want the host's %s", got, o.host)
		}
	}
	everywhere()
	if got := run("cat /etc/resolv.conf"); !strings.Contains(got, "nameserver ") || strings.Contains(got, "nameserver 127.") {
		t.Errorf("resolv.conf: %q", got)
	}

	// The way from the other machine to the container's address leads through the host.
	ping := func() error {
		return o.ns.Do(func() error {
			return exec.Command("ping", "-c", "1", "-W", "1", address(one).String()).Run()
		})
	}
	if err := ping(); err == nil {
		t.Error("another machine reaches the container")
	}

	// All of it outlives the engine, and a firewall that is loaded anew.
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	everywhere()
	table := "nova-agent-" + strings.TrimPrefix(n.Device, "na")
	nft := &nftables.Conn{}
	nft.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: table})
	if err := nft.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := ping(); err != nil {
		t.Errorf("without the rules the way is closed as well, so that the test above says nothing: %v", err)
	}
	three := onBridge("exec sleep 1000")
	everywhere()

	// An address is free again when its container is gone, and the last one takes all along.
	if err := e.Remove(ctx, two.ID, engine.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	four := onBridge("exec sleep 1000")
	if address(four) != address(two) {
		t.Errorf("%s, want %s again", address(four), address(two))
	}
	for _, c := range []engine.Container{one, three, four} {
		if err := e.Remove(ctx, c.ID, engine.RemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	if _, err := net.InterfaceByName(n.Device); err == nil {
		t.Errorf("bridge %s is left", n.Device)
	}
	if _, err := nft.ListTableOfFamily(table, nftables.TableFamilyIPv4); err == nil {
		t.Errorf("table %s is left", table)
	}
	if again, err := e.BridgeNetwork(); err != nil || again != n {
		t.Errorf("the network is %v now, %v; it was %v", again, err, n)
	}
}

// TestBridgeIsNotForAll: an instance has Neutron's network, and nobody brings an endpoint along.
func TestBridgeIsNotForAll(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "true")
	s.Owner, s.NetworkMode = engine.OwnerNova, engine.NetworkBridge
	if _, err := e.Run(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an instance: %v", err)
	}
	s.Owner, s.Endpoints = engine.OwnerDocker, []network.Endpoint{endpoint(31, "brx")}
	if _, err := e.Run(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an endpoint of its own: %v", err)
	}
}

func TestFreeSubnet(t *testing.T) {
	taken, free := netip.MustParsePrefix("127.0.0.0/24"), netip.MustParsePrefix("100.127.255.0/24")
	if got, err := network.FreeSubnet([]netip.Prefix{taken, free}); err != nil || got != free {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := network.FreeSubnet([]netip.Prefix{taken}); !errors.Is(err, errdefs.ErrExhausted) {
		t.Errorf("%v, %v", got, err)
	}
}
