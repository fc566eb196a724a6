package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

// noLeaks fails the test if it leaves a device on the host.
func noLeaks(t *testing.T) {
	t.Helper()
	names := func() map[string]bool {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, l := range links {
			out[l.Attrs().Name] = true
		}
		return out
	}
	before := names()
	t.Cleanup(func() {
		for name := range names() {
			if !before[name] {
				t.Errorf("device %s is left", name)
			}
		}
	})
}

func newNamespace(t testing.TB, m *Manager) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net")
	created, err := m.NewNamespace(path)
	if err != nil || !created {
		t.Fatalf("NewNamespace: %v, %v", created, err)
	}
	t.Cleanup(func() {
		if err := m.RemoveNamespace(path); err != nil {
			t.Error(err)
		}
	})
	return path
}

func newManager(t testing.TB) *Manager {
	t.Helper()
	need.Root(t)
	m := New(Options{OVSDB: filepath.Join(t.TempDir(), "none.sock")})
	t.Cleanup(func() { m.Close() })
	return m
}

// endpoint is the n-th endpoint on a bridge.
func endpoint(n int, bridge string) Endpoint {
	return Endpoint{
		ID: uuid.NewString(), Kind: KindBridge, Bridge: bridge, BridgeCreate: true,
		MAC: fmt.Sprintf("fa:16:3e:00:00:%02x", n),
		Addresses: []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("192.0.2.%d/24", n)),
			netip.MustParsePrefix(fmt.Sprintf("2001:db8::%x/64", n)),
		},
		Gateway4: netip.MustParseAddr("192.0.2.254"), Gateway6: netip.MustParseAddr("2001:db8::fe"),
		MTU: 1450,
	}
}

func plug(t testing.TB, m *Manager, ns string, endpoints ...Endpoint) {
	t.Helper()
	if err := m.Plug(t.Context(), ns, endpoints); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Unplug(context.Background(), "", endpoints); err != nil {
			t.Error(err)
		}
	})
}

// inside runs fn in the namespace at path with a handle on it.
func inside(t testing.TB, path string, fn func(*netlink.Handle) error) {
	t.Helper()
	ns, err := kernel.OpenNetNS(path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	err = ns.Do(func() error {
		h, err := netlink.NewHandle(0)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reaches connects from one namespace to an address that another one listens on.
func reaches(t testing.TB, from, to string, address netip.Addr) error {
	t.Helper()
	var listener net.Listener
	inside(t, to, func(*netlink.Handle) (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(address.String(), "0"))
		return err
	})
	defer listener.Close()
	var result error
	inside(t, from, func(*netlink.Handle) error {
		var c net.Conn
		if c, result = net.DialTimeout("tcp", listener.Addr().String(), 10*time.Second); result == nil {
			c.Close()
		}
		return nil
	})
	return result
}

func TestBridge(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	a, b := newNamespace(t, m), newNamespace(t, m)
	ea, eb := endpoint(1, "brqtest0"), endpoint(2, "brqtest0")
	plug(t, m, a, ea)
	plug(t, m, b, eb)

	for _, p := range eb.Addresses {
		if err := reaches(t, a, b, p.Addr()); err != nil {
			t.Errorf("from %s to %s: %v", ea.Addresses[0], p, err)
		}
	}
	drift, err := m.Check(t.Context(), a, []Endpoint{ea})
	if err != nil || len(drift) > 0 {
		t.Errorf("Check: %v, %v", drift, err)
	}
	stats, err := m.Stats(t.Context(), "", []Endpoint{ea})
	if err != nil || len(stats) != 1 || stats[0].RxBytes == 0 || stats[0].TxPackets == 0 || stats[0].HostDevice != "tap"+ea.ID[:11] {
		t.Errorf("Stats: %+v, %v", stats, err)
	}

	host, err := netlink.LinkByName(ea.HostName())
	if err != nil {
		t.Fatal(err)
	}
	if host.Attrs().MTU != 1450 {
		t.Errorf("MTU of the host end: %d", host.Attrs().MTU)
	}
	for _, name := range []string{ea.HostName(), "brqtest0"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil || len(addrs) > 0 {
			t.Errorf("%s has addresses on the host: %v, %v", name, addrs, err)
		}
	}
	inside(t, a, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		if link.Attrs().MTU != 1450 || link.Attrs().HardwareAddr.String() != ea.MAC {
			t.Errorf("eth0: %+v", link.Attrs())
		}
		lo, err := h.LinkByName("lo")
		if err != nil || lo.Attrs().Flags&net.FlagUp == 0 {
			t.Errorf("lo is down: %v", err)
		}
		addrs, err := h.AddrList(link, netlink.FAMILY_V6)
		for _, a := range addrs {
			// IFA_F_TENTATIVE. The kernel's own link-local address is so for a second.
			if a.Flags&0x40 != 0 && !a.IP.IsLinkLocalUnicast() {
				t.Errorf("%s is tentative", a.IPNet)
			}
		}
		return err
	})
}

func TestPlugRepeated(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	ns := newNamespace(t, m)
	e := endpoint(1, "brqtest1")
	plug(t, m, ns, e)
	before, err := netlink.LinkByName(e.HostName())
	if err != nil {
		t.Fatal(err)
	}

	// The same again, and with other addresses and routes: the device stays.
	for _, change := range []func(*Endpoint){
		func(*Endpoint) {},
		func(e *Endpoint) {
			e.Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.7/24"), netip.MustParsePrefix("192.0.2.1/24")}
			e.Gateway4, e.Gateway6 = netip.MustParseAddr("198.51.100.1"), netip.Addr{}
			e.Routes = []Route{{To: netip.MustParsePrefix("169.254.169.254/32"), Via: netip.MustParseAddr("198.51.100.2")}}
			e.MTU = 1400
		},
	} {
		change(&e)
		if err := m.Plug(t.Context(), ns, []Endpoint{e}); err != nil {
			t.Fatal(err)
		}
		drift, err := m.Check(t.Context(), ns, []Endpoint{e})
		if err != nil || len(drift) > 0 {
			t.Errorf("Check: %v, %v", drift, err)
		}
		after, err := netlink.LinkByName(e.HostName())
		if err != nil || after.Attrs().Index != before.Attrs().Index {
			t.Errorf("the device was made again: %v", err)
		}
	}
	inside(t, ns, func(h *netlink.Handle) error {
		routes, err := h.RouteList(nil, netlink.FAMILY_V4)
		var static []string
		for _, r := range routes {
			if r.Protocol == protocolStatic {
				static = append(static, fmt.Sprintf("%s via %s", r.Dst, r.Gw))
			}
		}
		want := []string{"0.0.0.0/0 via 198.51.100.1", "169.254.169.254/32 via 198.51.100.2"}
		if d := cmp.Diff(want, static); d != "" {
			t.Error(d)
		}
		link, err2 := h.LinkByName("eth0")
		addrs, err3 := h.AddrList(link, netlink.FAMILY_V4)
		if len(addrs) != 2 {
			t.Errorf("addresses: %v", addrs)
		}
		return errors.Join(err, err2, err3)
	})
}

// TestHalfMade covers what a crash or a reboot leaves: a pair whose inner end is in
// another namespace, one with both ends on the host, a bridge that is down.
func TestHalfMade(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	ns := newNamespace(t, m)
	e := endpoint(1, "brqtest2")
	half := netlink.NewVeth(netlink.LinkAttrs{Name: e.HostName(), TxQLen: -1})
	half.PeerName = "nat-half"
	if err := netlink.LinkAdd(half); err != nil {
		t.Fatal(err)
	}
	down := netlink.NewLinkAttrs()
	down.Name = "brqtest2"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: down}); err != nil {
		t.Fatal(err)
	}
	if link, err := netlink.LinkByName("brqtest2"); err != nil || netlink.LinkSetAlias(link, mark) != nil {
		t.Fatal(err)
	}
	plug(t, m, ns, e)
	drift, err := m.Check(t.Context(), ns, []Endpoint{e})
	if err != nil || len(drift) > 0 {
		t.Errorf("Check: %v, %v", drift, err)
	}

	// The container's namespace is made anew, as after a reboot.
	other := newNamespace(t, m)
	if drift, err := m.Check(t.Context(), other, []Endpoint{e}); err != nil || len(drift) != 1 {
		t.Errorf("Check in another namespace: %v, %v", drift, err)
	}
	if err := m.Plug(t.Context(), other, []Endpoint{e}); err != nil {
		t.Fatal(err)
	}
	if drift, err := m.Check(t.Context(), other, []Endpoint{e}); err != nil || len(drift) > 0 {
		t.Errorf("Check: %v, %v", drift, err)
	}
}

func TestSeveral(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	ns := newNamespace(t, m)
	first, second, third := endpoint(1, "brqtest3"), endpoint(2, "brqtest4"), endpoint(3, "brqtest4")
	first.Gateway4, first.Gateway6 = netip.Addr{}, netip.Addr{}
	first.Addresses = []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}
	second.Gateway4 = netip.MustParseAddr("10.99.0.1") // not on the subnet
	third.Addresses = []netip.Prefix{netip.MustParsePrefix("198.51.100.3/24"), netip.MustParsePrefix("2001:db8:1::3/64")}
	third.Gateway4, third.Gateway6 = netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:1::1")
	plug(t, m, ns, first, second, third)

	inside(t, ns, func(h *netlink.Handle) error {
		names := map[string]string{}
		for i, e := range []Endpoint{first, second, third} {
			link, err := h.LinkByName(fmt.Sprintf("eth%d", i))
			if err != nil {
				return err
			}
			if link.Attrs().HardwareAddr.String() != e.MAC {
				t.Errorf("eth%d has MAC %s", i, link.Attrs().HardwareAddr)
			}
			names[e.ID] = link.Attrs().Name
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			routes, err := h.RouteList(nil, family)
			if err != nil {
				return err
			}
			best, count := netlink.Route{}, 0
			for _, r := range routes {
				if ones, _ := r.Dst.Mask.Size(); ones == 0 {
					if count++; count == 1 || r.Priority < best.Priority {
						best = r
					}
				}
			}
			link, err := h.LinkByIndex(best.LinkIndex)
			if err != nil || count != 2 || link.Attrs().Name != names[second.ID] {
				t.Errorf("family %d: %d default routes, the best is %v: %v", family, count, best, err)
			}
		}
		return nil
	})

	// The first goes; the next one that comes takes a free name, whatever it asks for.
	if err := m.Unplug(t.Context(), "", []Endpoint{first}); err != nil {
		t.Fatal(err)
	}
	fourth := endpoint(4, "brqtest3")
	fourth.Gateway4, fourth.Gateway6 = netip.Addr{}, netip.Addr{}
	fourth.GuestDevice = "eth2"
	plug(t, m, ns, second, third, fourth)
	inside(t, ns, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth3")
		if err == nil && link.Attrs().HardwareAddr.String() != fourth.MAC {
			t.Errorf("eth3 has MAC %s", link.Attrs().HardwareAddr)
		}
		return err
	})
}

func TestTap(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	ns := newNamespace(t, m)
	e := endpoint(1, "")
	e.Kind, e.BridgeCreate = KindTap, false
	plug(t, m, ns, e)
	link, err := netlink.LinkByName(e.HostName())
	if err != nil || link.Attrs().Flags&net.FlagUp == 0 || link.Attrs().MasterIndex != 0 {
		t.Errorf("%v, %v", link, err)
	}
}

// TestParallel is twenty containers that boot together on two networks.
func TestParallel(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	const boots = 20
	var wg sync.WaitGroup
	for i := range boots {
		ns := newNamespace(t, m)
		e := endpoint(i+1, fmt.Sprintf("brqtest5%d", i%2))
		wg.Go(func() {
			for range 3 {
				if err := m.Plug(t.Context(), ns, []Endpoint{e}); err != nil {
					t.Error(err)
				}
				if drift, err := m.Check(t.Context(), ns, []Endpoint{e}); err != nil || len(drift) > 0 {
					t.Errorf("Check: %v, %v", drift, err)
				}
				if err := m.Unplug(t.Context(), "", []Endpoint{e}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestForeign(t *testing.T) {
	m := newManager(t)
	ns := newNamespace(t, m)
	noLeaks(t)

	t.Run("bridge of another stays", func(t *testing.T) {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "brqtest6"
		theirs := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(theirs); err != nil {
			t.Fatal(err)
		}
		defer netlink.LinkDel(theirs)
		e := endpoint(1, "brqtest6")
		if err := m.Plug(t.Context(), ns, []Endpoint{e}); err != nil {
			t.Fatal(err)
		}
		if err := m.Unplug(t.Context(), "", []Endpoint{e}); err != nil {
			t.Fatal(err)
		}
		if _, err := netlink.LinkByName("brqtest6"); err != nil {
			t.Error(err)
		}
	})
	t.Run("name that cannot be", func(t *testing.T) {
		taken, e := endpoint(1, "brqtest8"), endpoint(2, "brqtest8")
		taken.GuestDevice = "lan"
		plug(t, m, ns, taken)
		e.GuestDevice = "lan"
		if err := m.Plug(t.Context(), ns, []Endpoint{e}); !errors.Is(err, errdefs.ErrConflict) {
			t.Errorf("Plug: %v", err)
		}
	})
	t.Run("bridge of the agent", func(t *testing.T) {
		// The host has an address of its own that a container looks for: it must
		// not answer.
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "brqtest7"
		theirs := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(theirs); err != nil {
			t.Fatal(err)
		}
		defer netlink.LinkDel(theirs)
		if err := netlink.LinkSetUp(theirs); err != nil {
			t.Fatal(err)
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		address := &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.0.2.50/32"))}
		if err := netlink.AddrAdd(lo, address); err != nil {
			t.Fatal(err)
		}
		defer netlink.AddrDel(lo, address)
		e := endpoint(1, "brqtest7")
		plug(t, m, ns, e)
		inside(t, ns, func(h *netlink.Handle) error {
			if c, err := net.DialTimeout("tcp", "192.0.2.50:9", 200*time.Millisecond); err == nil {
				c.Close()
			}
			list, err := h.NeighList(0, netlink.FAMILY_V4)
			for _, n := range list {
				if n.IP.String() == "192.0.2.50" && len(n.HardwareAddr) > 0 {
					t.Errorf("the host answers: %v", n)
				}
			}
			return err
		})
		if addrs, err := netlink.AddrList(theirs, netlink.FAMILY_V6); err != nil || len(addrs) > 0 {
			t.Errorf("the bridge has addresses: %v, %v", addrs, err)
		}
	})
	t.Run("device of another kind", func(t *testing.T) {
		e := endpoint(1, "brqtest7")
		attrs := netlink.NewLinkAttrs()
		attrs.Name = e.HostName()
		theirs := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(theirs); err != nil {
			t.Fatal(err)
		}
		defer netlink.LinkDel(theirs)
		if err := m.Plug(t.Context(), ns, []Endpoint{e}); !errors.Is(err, errdefs.ErrConflict) {
			t.Errorf("Plug: %v", err)
		}
		if err := m.Unplug(t.Context(), "", []Endpoint{e}); !errors.Is(err, errdefs.ErrConflict) {
			t.Errorf("Unplug: %v", err)
		}
		if _, err := netlink.LinkByName(e.HostName()); err != nil {
			t.Error(err)
		}
	})
	t.Run("no bridge", func(t *testing.T) {
		good, bad := endpoint(1, "brqtest8"), endpoint(2, "brqtest9")
		bad.BridgeCreate = false
		// The first endpoint, which succeeded, is taken back.
		if err := m.Plug(t.Context(), ns, []Endpoint{good, bad}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Plug: %v", err)
		}
	})
	t.Run("no namespace", func(t *testing.T) {
		e := endpoint(1, "brqtest8")
		for _, path := range []string{filepath.Join(t.TempDir(), "none"), "/dev/null", "/proc/self/ns/user"} {
			if err := m.Plug(t.Context(), path, []Endpoint{e}); !errors.Is(err, errdefs.ErrNotFound) {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
	t.Run("never plugged", func(t *testing.T) {
		for _, e := range []Endpoint{{}, {ID: "../x", Kind: KindTap}, {ID: "x", Kind: KindBridge, Bridge: "a/b"}, {ID: "x", Kind: "other"}} {
			if err := m.Unplug(t.Context(), "", []Endpoint{e}); err != nil {
				t.Errorf("%+v: %v", e, err)
			}
		}
	})
	t.Run("twice unplugged", func(t *testing.T) {
		for _, kind := range []Kind{KindBridge, KindTap} {
			e := endpoint(1, "brqtest8")
			e.Kind = kind
			if err := m.Unplug(t.Context(), "", []Endpoint{e}); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(*Endpoint){
		"id":       func(e *Endpoint) { e.ID = "" },
		"kind":     func(e *Endpoint) { e.Kind = "vhostuser" },
		"bridge":   func(e *Endpoint) { e.Bridge = "" },
		"path":     func(e *Endpoint) { e.Bridge = "../x" },
		"all":      func(e *Endpoint) { e.HostDevice = "all" },
		"long":     func(e *Endpoint) { e.HostDevice = "sixteen-bytes-xx" },
		"mac":      func(e *Endpoint) { e.MAC = "01:00:5e:00:00:01" },
		"no mac":   func(e *Endpoint) { e.MAC = "" },
		"mtu":      func(e *Endpoint) { e.MTU = 67 },
		"address":  func(e *Endpoint) { e.Addresses = []netip.Prefix{netip.MustParsePrefix("224.0.0.1/24")} },
		"gateway4": func(e *Endpoint) { e.Gateway4 = netip.MustParseAddr("::1") },
		"gateway6": func(e *Endpoint) { e.Gateway6 = netip.MustParseAddr("192.0.2.1") },
		"route": func(e *Endpoint) {
			e.Routes = []Route{{To: netip.MustParsePrefix("10.0.0.0/8"), Via: netip.MustParseAddr("::1")}}
		},
	} {
		e := endpoint(1, "br0")
		if err := e.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&e)
		if err := e.Validate(); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSysctls(t *testing.T) {
	m := newManager(t)
	ns := newNamespace(t, m)
	if err := m.SetSysctls(ns, kernel.Sysctl{Path: "net/ipv4/ip_forward", Value: "1"}); err != nil {
		t.Error(err)
	}
	for _, path := range []string{"kernel/hostname", "net/../kernel/hostname"} {
		if err := m.SetSysctls(ns, kernel.Sysctl{Path: path, Value: "x"}); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func BenchmarkPlug(b *testing.B) {
	m := newManager(b)
	ns := newNamespace(b, m)
	keep := endpoint(200, "brqbench")
	keepNS := newNamespace(b, m)
	plug(b, m, keepNS, keep)
	e := endpoint(1, "brqbench")
	var unplug time.Duration
	for b.Loop() {
		if err := m.Plug(b.Context(), ns, []Endpoint{e}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		start := time.Now()
		if err := m.Unplug(b.Context(), "", []Endpoint{e}); err != nil {
			b.Fatal(err)
		}
		unplug += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(float64(unplug.Nanoseconds())/float64(b.N), "unplug-ns/op")
}
