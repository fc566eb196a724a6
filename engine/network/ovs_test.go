package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/tests/need"
)

// vswitch is a real Open vSwitch with directories of its own.
type vswitch struct {
	dir    string
	server *exec.Cmd
}

func (v *vswitch) socket() string { return filepath.Join(v.dir, "db.sock") }

// startOVS runs ovsdb-server and, if daemon, ovs-vswitchd until the test ends.
func startOVS(t testing.TB, daemon bool) *vswitch {
	t.Helper()
	need.Root(t)
	need.Command(t, "ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl")
	// Short, for the path of the socket.
	dir, err := os.MkdirTemp("", "ovs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v := &vswitch{dir: dir}
	v.run(t, "ovsdb-tool", "create", filepath.Join(dir, "conf.db"), "/usr/share/openvswitch/vswitch.ovsschema")
	v.startServer(t)
	t.Cleanup(func() { stop(t, v.server) })
	v.run(t, "ovs-vsctl", "--db=unix:"+v.socket(), "--no-wait", "init")
	if daemon {
		cmd := v.start(t, "ovs-vswitchd", "unix:"+v.socket(), "--unixctl="+filepath.Join(dir, "vswitchd.ctl"), "-vconsole:off")
		t.Cleanup(func() { stop(t, cmd) })
		// The datapath's own device stays when the daemon is killed.
		t.Cleanup(func() {
			if link, err := netlink.LinkByName("ovs-netdev"); err == nil {
				netlink.LinkDel(link)
			}
		})
	}
	return v
}

func (v *vswitch) startServer(t testing.TB) {
	t.Helper()
	os.Remove(v.socket())
	v.server = v.start(t, "ovsdb-server", filepath.Join(v.dir, "conf.db"), "--remote=punix:"+v.socket(),
		"--unixctl="+filepath.Join(v.dir, "server.ctl"), "-vconsole:off")
	until(t, func() error {
		c, err := net.Dial("unix", v.socket())
		if err == nil {
			c.Close()
		}
		return err
	})
}

func (v *vswitch) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
		"OVS_RUNDIR="+v.dir, "OVS_LOGDIR="+v.dir, "OVS_DBDIR="+v.dir)
	if path, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	return cmd
}

func (v *vswitch) start(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := v.command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func stop(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}

func (v *vswitch) run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := v.command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (v *vswitch) vsctl(t testing.TB, args ...string) string {
	t.Helper()
	return v.run(t, "ovs-vsctl", append([]string{"--db=unix:" + v.socket(), "--timeout=20"}, args...)...)
}

func until(t testing.TB, ready func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = ready(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func ovsEndpoint(n int, kind Kind) Endpoint {
	e := endpoint(n, "br-int")
	e.Kind = kind
	e.OVS = OVS{OwnerID: "11111111-2222-3333-4444-555555555555", DatapathType: "netdev"}
	return e
}

func TestOVS(t *testing.T) {
	v := startOVS(t, true)
	for _, kind := range []Kind{KindOVS, KindOVSHybrid} {
		t.Run(string(kind), func(t *testing.T) {
			m := New(Options{OVSDB: v.socket()})
			t.Cleanup(func() { m.Close() })
			a, b := newNamespace(t, m), newNamespace(t, m)
			ea, eb := ovsEndpoint(1, kind), ovsEndpoint(2, kind)
			plug(t, m, a, ea)
			noLeaks(t) // br-int is there by now, and so are ea's devices
			if err := m.Plug(t.Context(), b, []Endpoint{eb}); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Unplug(context.Background(), "", []Endpoint{eb}); err != nil {
					t.Error(err)
				}
				if got := v.vsctl(t, "list-ports", "br-int"); got != ea.ovsPort() {
					t.Errorf("ports that are left: %q, want %q alone", got, ea.ovsPort())
				}
			})

			for _, p := range eb.Addresses {
				if err := reaches(t, a, b, p.Addr()); err != nil {
					t.Errorf("to %s: %v", p, err)
				}
			}
			for key, want := range map[string]string{
				"iface-id": eb.ID, "iface-status": "active", "attached-mac": eb.MAC, "vm-uuid": eb.OVS.OwnerID,
			} {
				if got := strings.Trim(v.vsctl(t, "get", "Interface", eb.ovsPort(), "external_ids:"+key), `"`); got != want {
					t.Errorf("external_ids:%s is %s, want %s", key, got, want)
				}
			}
			if drift, err := m.Check(t.Context(), a, []Endpoint{ea}); err != nil || len(drift) > 0 {
				t.Errorf("Check: %v, %v", drift, err)
			}

			// Somebody else's external IDs stay when the endpoint is plugged again.
			v.vsctl(t, "set", "Interface", eb.ovsPort(), "external_ids:theirs=1", "external_ids:iface-status=inactive")
			before := v.vsctl(t, "get", "Port", eb.ovsPort(), "_uuid")
			if err := m.Plug(t.Context(), b, []Endpoint{eb}); err != nil {
				t.Fatal(err)
			}
			if after := v.vsctl(t, "get", "Port", eb.ovsPort(), "_uuid"); after != before {
				t.Errorf("the port was made again")
			}
			if got := v.vsctl(t, "get", "Interface", eb.ovsPort(), "external_ids:theirs"); got != `"1"` {
				t.Errorf("external_ids:theirs is %s", got)
			}
			if got := v.vsctl(t, "get", "Interface", eb.ovsPort(), "external_ids:iface-status"); got != "active" {
				t.Errorf("external_ids:iface-status is %s", got)
			}

			// A reboot: the devices are gone, the rows are not.
			for _, name := range eb.Names() {
				if link, err := netlink.LinkByName(name); err == nil {
					if err := netlink.LinkDel(link); err != nil {
						t.Fatal(err)
					}
				}
			}
			if drift, err := m.Check(t.Context(), b, []Endpoint{eb}); err != nil || len(drift) == 0 {
				t.Errorf("Check: %v, %v", drift, err)
			}
			if err := m.Plug(t.Context(), b, []Endpoint{eb}); err != nil {
				t.Fatal(err)
			}
			if err := reaches(t, a, b, eb.Addresses[0].Addr()); err != nil {
				t.Errorf("after a reboot: %v", err)
			}
		})
	}

	t.Run("parallel", func(t *testing.T) {
		m := New(Options{OVSDB: v.socket()})
		t.Cleanup(func() { m.Close() })
		noLeaks(t)
		var wg sync.WaitGroup
		for i := range 20 {
			ns := newNamespace(t, m)
			e := ovsEndpoint(i+1, []Kind{KindOVS, KindOVSHybrid}[i%2])
			wg.Go(func() {
				if err := m.Plug(t.Context(), ns, []Endpoint{e}); err != nil {
					t.Error(err)
				}
				if err := m.Unplug(t.Context(), "", []Endpoint{e}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := v.vsctl(t, "list-ports", "br-int"); got != "" {
			t.Errorf("ports that are left: %q", got)
		}
	})

	t.Run("no such bridge", func(t *testing.T) {
		m := New(Options{OVSDB: v.socket()})
		t.Cleanup(func() { m.Close() })
		noLeaks(t)
		e := ovsEndpoint(1, KindOVS)
		e.Bridge, e.BridgeCreate = "br-none", false
		if err := m.Plug(t.Context(), newNamespace(t, m), []Endpoint{e}); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("Plug: %v", err)
		}
	})

	t.Run("port of another bridge", func(t *testing.T) {
		m := New(Options{OVSDB: v.socket()})
		t.Cleanup(func() { m.Close() })
		ns := newNamespace(t, m)
		e := ovsEndpoint(1, KindOVS)
		v.vsctl(t, "add-br", "br-other", "--", "set", "Bridge", "br-other", "datapath_type=netdev")
		v.vsctl(t, "--no-wait", "add-port", "br-other", e.ovsPort())
		plug(t, m, ns, e)
		if got := v.vsctl(t, "port-to-br", e.ovsPort()); got != "br-int" {
			t.Errorf("the port is on %s", got)
		}
		v.vsctl(t, "del-br", "br-other")
	})
}

// TestOVSAway: OVSDB is not there, or restarts, or nobody carries out what it says.
func TestOVSAway(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	e := ovsEndpoint(1, KindOVS)
	if err := m.Plug(t.Context(), newNamespace(t, m), []Endpoint{e}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("Plug without OVSDB: %v", err)
	}

	v := startOVS(t, false)
	o := newOVSDB(v.socket())
	defer o.Close()
	if err := o.createBridge(t.Context(), "br0", ""); err != nil {
		t.Fatal(err)
	}
	if err := o.createBridge(t.Context(), "br0", ""); err != nil {
		t.Errorf("the bridge again: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := o.addPort(ctx, portRow{Bridge: "br0", Name: "p0", ExternalIDs: map[string]string{"iface-id": "x"}})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "ovs-vswitchd") {
		t.Errorf("addPort without ovs-vswitchd: %v", err)
	}
	if err := o.removePort(t.Context(), "p0"); err != nil {
		t.Error(err)
	}

	// The server restarts: the next call connects again.
	stop(t, v.server)
	if _, err := o.findPort(t.Context(), "p0"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("findPort without a server: %v", err)
	}
	v.startServer(t)
	if port, err := o.findPort(t.Context(), "br0"); err != nil || port == "" {
		t.Errorf("findPort: %q, %v", port, err)
	}
}

func TestParseTransaction(t *testing.T) {
	for _, tt := range []struct {
		result, failure string
		n               int
		want            []ovsResult
		kind            error
	}{
		{result: `[{"count":1},{"uuid":["uuid","u"]},{"rows":[{"name":"p","ofport":["set",[]],"error":"no","external_ids":["map",[["a","b"]]]}]}]`, n: 3,
			want: []ovsResult{{Count: 1}, {UUID: "u"}, {Rows: []ovsRow{{Name: "p", OFPort: ovsInts{}, Error: ovsStrs{"no"}, ExternalIDs: ovsMap{"a": "b"}}}}}},
		{result: `[{},{"error":"timed out","details":"d"},null]`, n: 3, kind: errdefs.ErrUnavailable},
		{result: `[{},{},{"error":"constraint violation","details":"d"}]`, n: 2, kind: errdefs.ErrConflict},
		{result: `[{}]`, n: 2, kind: errdefs.ErrUnavailable},
		{result: `{}`, n: 1, kind: errdefs.ErrUnavailable},
		{result: `[{"rows":[{"ofport":{}}]}]`, n: 1, kind: errdefs.ErrUnavailable},
		{result: `null`, failure: `"unknown database"`, n: 1, kind: errdefs.ErrInvalid},
		{result: `null`, failure: `{"error":"unknown database"}`, n: 1, kind: errdefs.ErrInvalid},
	} {
		got, err := parseTransaction(ovsReply{Result: []byte(tt.result), Error: []byte(tt.failure)}, tt.n)
		if !errors.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %v", tt.result, err, tt.kind)
		}
		if d := cmp.Diff(tt.want, got); tt.kind == nil && d != "" {
			t.Errorf("%s: %s", tt.result, d)
		}
	}
}

func FuzzParseTransaction(f *testing.F) {
	f.Add([]byte(`[{"count":1},{"uuid":["uuid","u"]},{"rows":[{"_uuid":["uuid","x"],"ofport":["set",[1]],"error":["set",[]],"external_ids":["map",[["a","b"]]],"next_cfg":3}]}]`), []byte(`null`))
	f.Add([]byte(`[{},{"error":"timed out","details":"d"},null]`), []byte(``))
	f.Add([]byte(`null`), []byte(`{"error":"unknown database"}`))
	f.Fuzz(func(t *testing.T, result, failure []byte) {
		got, err := parseTransaction(ovsReply{Result: result, Error: failure}, 1)
		if err == nil && len(got) == 0 {
			t.Error("no result and no error")
		}
		if err != nil && err.Error() == "" {
			t.Error("an error without a text")
		}
	})
}

// TestOVSGarbage: what is at the other end of the socket is not OVSDB.
func TestOVSGarbage(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing":   "",
		"no JSON":   "HTTP/1.1 400 Bad Request\r\n\r\n",
		"other id":  `{"id":99,"result":[{}],"error":null}`,
		"no result": `{"id":1,"result":null,"error":null}`,
		"endless":   `{"id":1,"result":["` + strings.Repeat("x", maxOVSMessage+1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			o := newOVSDB(serveOnce(t, answer))
			defer o.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := o.findPort(ctx, "p"); !errors.Is(err, errdefs.ErrUnavailable) {
				t.Error(err)
			}
		})
	}
}

// serveOnce accepts one connection, reads a request, writes answer and hangs up.
func serveOnce(t *testing.T, answer string) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ovs")
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 4096))
		fmt.Fprint(c, answer)
	}()
	t.Cleanup(func() {
		listener.Close()
		<-done
		os.RemoveAll(dir)
	})
	return path
}
