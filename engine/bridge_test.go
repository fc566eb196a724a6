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
	"novaagent/engine/network"
	"novaagent/tests/need"
)

// outside is another machine of the host's network: a namespace that a veth pair joins to the host.
type outside struct {
	ns         *kernel.NetNS
	device     string
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
	o := &outside{ns: ns, device: fmt.Sprintf("vethp%d", os.Getpid()%100000), host: netip.MustParseAddr("198.18.77.1"), peer: netip.MustParseAddr("198.18.77.2")}
	near, far := fmt.Sprintf("vetho%d", os.Getpid()%100000), o.device
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

// up gives the other machine its address, and the host as its router.
func (o *outside) up(t *testing.T) {
	t.Helper()
	err := o.ns.Do(func() error {
		for _, args := range [][]string{{"addr", "add", o.peer.String() + "/24", "dev", o.device}, {"link", "set", o.device, "up"}, {"route", "add", "default", "via", o.host.String()}} {
			if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("ip %v: %w: %s", args, err, out)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
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
	o.up(t)
	var server net.Listener
	err := o.ns.Do(func() (err error) {
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
	if got, err := network.FreeSubnet([]netip.Prefix{taken, free}, nil); err != nil || got != free {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := network.FreeSubnet([]netip.Prefix{free}, []netip.Prefix{free}); !errors.Is(err, errdefs.ErrExhausted) {
		t.Errorf("%v, %v", got, err)
	}
}

// echoUDP answers at port 53 of a network namespace, with prefix and what it was sent.
func echoUDP(t *testing.T, path, prefix string) {
	t.Helper()
	ns, err := kernel.OpenNetNS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var conn net.PacketConn
	err = ns.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", ":53")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 64)
		for {
			k, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo([]byte(prefix+string(buf[:k])), from)
		}
	}()
}

// TestPorts: published ports are reached from the host by each of its addresses, from other
// machines and from containers, as long as the container runs.
func TestPorts(t *testing.T) {
	need.Root(t)
	root := tempRoot(t)
	enginetest.Leaks(t, root, testCgroup(root))
	e := open(t, options(t, root))
	ctx := testContext(t)
	o := newOutside(t)
	o.up(t)

	publish := func(script string, ports ...engine.Port) (engine.Container, error) {
		s := spec(t, script)
		s.Owner, s.NetworkMode, s.Ports = engine.OwnerDocker, engine.NetworkBridge, ports
		return e.Run(ctx, s)
	}
	echo := "mkdir /tmp/w; echo served > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"
	c, err := publish(echo, engine.Port{Proto: "tcp", ContainerPort: 80}, engine.Port{Proto: "udp", ContainerPort: 53},
		engine.Port{Proto: "tcp", ContainerPort: 80, HostIP: o.host})
	if err != nil {
		t.Fatal(err)
	}
	// Those that name no address are at all of IPv4 and of IPv6.
	if len(c.Published) != 5 || c.Published[0].HostPort != c.Published[1].HostPort || c.Published[1].HostIP != netip.IPv6Unspecified() {
		t.Fatalf("published: %+v", c.Published)
	}
	anyPort, udp, one := c.Published[0].HostPort, c.Published[2].HostPort, c.Published[4].HostPort
	if anyPort == 0 || udp == 0 || one == 0 {
		t.Fatalf("published: %+v", c.Published)
	}
	n, err := e.BridgeNetwork()
	if err != nil {
		t.Fatal(err)
	}
	get := func(ip netip.Addr, port uint16) string {
		resp, err := (&http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}).Get(fmt.Sprintf("http://%s/", netip.AddrPortFrom(ip, port)))
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	localhost := netip.MustParseAddr("127.0.0.1")
	everywhere := func() {
		t.Helper()
		for _, ip := range []netip.Addr{localhost, netip.IPv6Loopback(), o.host, n.Gateway.Addr()} {
			if got := get(ip, anyPort); got != "served\n" {
				t.Errorf("the host at %s: %s", ip, got)
			}
		}
		if got := get(o.host, one); got != "served\n" {
			t.Errorf("the host at its one address: %s", got)
		}
		if got := get(localhost, one); got == "served\n" {
			t.Error("a port of one address answers at another")
		}
		for _, port := range []uint16{anyPort, one} {
			err := o.ns.Do(func() error {
				if out, err := exec.Command("busybox", "wget", "-q", "-O", "-", fmt.Sprintf("http://%s:%d/", o.host, port)).CombinedOutput(); string(out) != "served\n" {
					return fmt.Errorf("%w: %s", err, out)
				}
				return nil
			})
			if err != nil {
				t.Errorf("another machine, port %d: %v", port, err)
			}
		}
		for _, ip := range []netip.Addr{localhost, netip.IPv6Loopback()} {
			conn, err := net.Dial("udp", netip.AddrPortFrom(ip, udp).String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if got, err := ask(conn, "echo"); err != nil || got != "echo" {
				t.Errorf("UDP at %s: %q, %v", ip, got, err)
			}
		}
	}
	echoUDP(t, filepath.Join(root, "run", "ns", c.ID, "net"), "")
	// The server is there when it answers itself.
	if exit, err := e.Exec(ctx, c.ID, engine.ExecSpec{Args: []string{"sh", "-c", "until wget -q -O - http://127.0.0.1/; do :; done"}}, engine.Streams{}); err != nil || exit.Code != 0 {
		t.Fatal(exit, err)
	}
	everywhere()

	// From the container itself and from a neighbour, the way leads through the host.
	peer, err := publish("exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{c.ID, peer.ID} {
		var out lockedBuffer
		script := fmt.Sprintf("wget -q -O - http://%s:%d/", n.Gateway.Addr(), anyPort)
		if exit, err := e.Exec(ctx, id, engine.ExecSpec{Args: []string{"sh", "-c", script}}, engine.Streams{Stdout: &out, Stderr: &out}); err != nil || out.String() != "served\n" {
			t.Errorf("a container: %+v, %v: %s", exit, err, out.String())
		}
	}

	// Nobody else gets the port: no container, no program of the host.
	taken := engine.Port{Proto: "tcp", ContainerPort: 81, HostPort: anyPort}
	if _, err := publish("true", taken); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "port is already allocated") {
		t.Errorf("a second container: %v", err)
	}
	if l, err := net.Listen("tcp4", netip.AddrPortFrom(localhost, anyPort).String()); err == nil {
		l.Close()
		t.Error("a program of the host got the port")
	}
	program, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	used := engine.Port{Proto: "tcp", ContainerPort: 81, HostPort: program.Addr().(*net.TCPAddr).AddrPort().Port()}
	if _, err := publish("true", used); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the port of a program: %v", err)
	}
	taken.HostPortEnd = anyPort + 20
	ranged, err := publish("exec sleep 1000", taken)
	if err != nil || ranged.Published[0].HostPort <= anyPort {
		t.Errorf("the next one of a range: %+v, %v", ranged.Published, err)
	}

	// It outlives the engine and ends with the container.
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open(t, options(t, root))
	everywhere()
	if _, err := e.Stop(ctx, c.ID, 9, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", netip.AddrPortFrom(localhost, anyPort).String())
	if err != nil {
		t.Errorf("after the end of the container: %v", err)
	} else {
		l.Close()
	}
	for _, bad := range []engine.Port{{Proto: "sctp", ContainerPort: 1}, {Proto: "tcp"}} {
		if _, err := publish("true", bad); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
