package neutron

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"novaagent/engine/kernel"
	enginenet "novaagent/engine/network"
	"novaagent/tests/cloud"
	"novaagent/tests/need"
)

// cloudSession is a user of a real cloud.
type cloudSession struct {
	network, token, project string
}

func (s *cloudSession) Endpoint(context.Context, string) (string, error) { return s.network, nil }

func (s *cloudSession) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("X-Auth-Token", s.token)
	return http.DefaultClient.Do(r)
}

// openCloud logs in.
func openCloud(t *testing.T, l cloud.Login) *cloudSession {
	t.Helper()
	body, err := json.Marshal(object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{
			"user": object{"name": l.Username, "domain": object{"name": l.UserDomain}, "password": l.Password}}},
		"scope": object{"project": object{"name": l.Project, "domain": object{"name": l.ProjectDomain}}}}})
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(l.AuthURL+"/auth/tokens", "application/json", bytes.NewReader(body))
	if err != nil {
		need.Unmet(t, "a running cluster: "+err.Error())
	}
	defer res.Body.Close()
	var answer struct {
		Token struct {
			Project struct{ ID string }
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, URL string }
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode != http.StatusCreated {
		t.Fatalf("login: %s, %v", res.Status, err)
	}
	s := &cloudSession{token: res.Header.Get("X-Subject-Token"), project: answer.Token.Project.ID}
	for _, service := range answer.Token.Catalog {
		for _, e := range service.Endpoints {
			if service.Type == "network" && e.Interface == "internal" || (s.network == "" && service.Type == "network") {
				s.network = e.URL
			}
		}
	}
	return s
}

// live is a real Neutron with what the tests need of it.
type live struct {
	t           *testing.T
	admin, demo *cloudSession
	c           *Client
	rows        *rows
	net         *enginenet.Manager
	host        string // of the Linux bridge agent
}

func openLive(t *testing.T) *live {
	t.Helper()
	need.Root(t)
	need.Command(t, "ping")
	l := &live{t: t, admin: openCloud(t, cloud.Admin(t)), demo: openCloud(t, cloud.Demo(t)), rows: newRows()}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	c, err := New(Options{Service: l.admin, Records: l.rows, User: func(context.Context) Session { return l.demo }})
	if err != nil {
		t.Fatal(err)
	}
	l.c = c
	l.net = enginenet.New(enginenet.Options{})
	t.Cleanup(func() { l.net.Close() })
	var agents struct {
		Agents []struct {
			Host  string
			Alive bool
		}
	}
	l.do(l.admin, "GET", "/agents?binary=neutron-linuxbridge-agent", nil, &agents)
	for _, a := range agents.Agents {
		if a.Alive {
			l.host = a.Host
		}
	}
	if l.host == "" {
		need.Unmet(t, "a Linux bridge agent")
	}
	return l
}

func (l *live) do(s *cloudSession, method, path string, body, into any) {
	l.t.Helper()
	r := rest{c: l.c, session: s}
	start := time.Now()
	if err := r.do(context.WithoutCancel(l.t.Context()), method, path, body, into); err != nil {
		l.t.Fatal(err)
	}
	l.t.Logf("%s %s: %s", method, path, time.Since(start).Round(time.Millisecond))
}

// boot allocates what is requested, plugs it into a namespace and waits until
// Neutron has wired it.
func (l *live) boot(requests ...NetworkRequest) (namespace string, info NetworkInfo) {
	t := l.t
	t.Helper()
	inst := Instance{UUID: uuid.NewString(), ProjectID: l.demo.project, Hostname: "live-test", AvailabilityZone: "nova"}
	t.Cleanup(func() {
		ctx := context.Background()
		if err := l.c.Deallocate(ctx, inst, nil); err != nil {
			t.Error(err)
		}
		if ids, err := l.c.ListPorts(ctx, inst.UUID); err != nil || len(ids) > 0 {
			t.Errorf("ports that are left: %v, %v", ids, err)
		}
	})
	start := time.Now()
	info, err := l.c.Allocate(t.Context(), AllocateRequest{Instance: inst, Networks: requests, Host: l.host})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("allocated %d ports in %s", len(info), time.Since(start).Round(time.Millisecond))

	namespace = filepath.Join(t.TempDir(), "net")
	if _, err := l.net.NewNamespace(namespace); err != nil {
		t.Fatal(err)
	}
	var endpoints []enginenet.Endpoint
	for _, v := range info {
		e := enginenet.Endpoint{ID: v.ID, Kind: enginenet.Kind(v.Type), MAC: v.Address, Addresses: v.Addresses(),
			Bridge: string(v.Network.Bridge), BridgeCreate: true, MTU: v.MTU()}
		e.Gateway4, e.Gateway6 = v.Gateways()
		for _, r := range v.Routes() {
			e.Routes = append(e.Routes, enginenet.Route{To: r.To, Via: r.Via})
		}
		endpoints = append(endpoints, e)
	}
	t.Cleanup(func() {
		if err := l.net.Unplug(context.Background(), "", endpoints); err != nil {
			t.Error(err)
		}
		if err := l.net.RemoveNamespace(namespace); err != nil {
			t.Error(err)
		}
		for _, e := range endpoints {
			if _, err := net.InterfaceByName(e.HostName()); err == nil {
				t.Errorf("device %s is left", e.HostName())
			}
		}
	})
	start = time.Now()
	if err := l.net.Plug(t.Context(), namespace, endpoints); err != nil {
		t.Fatal(err)
	}
	t.Logf("plugged in %s", time.Since(start).Round(time.Microsecond))
	for _, v := range info {
		l.eventually("port ACTIVE", func() error {
			p, err := l.c.admin().port(t.Context(), v.ID)
			if err == nil && p.Status != "ACTIVE" {
				err = fmt.Errorf("port %s is %s", v.ID, p.Status)
			}
			return err
		})
	}
	t.Logf("active %s after it was plugged", time.Since(start).Round(time.Millisecond))
	return namespace, info
}

func (l *live) eventually(what string, do func() error) {
	l.t.Helper()
	start := time.Now()
	defer func() { l.t.Logf("%s: %s", what, time.Since(start).Round(time.Millisecond)) }()
	var err error
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = do(); err == nil {
			return
		}
	}
	l.t.Fatalf("%s: %v", what, err)
}

func (l *live) inside(namespace string, do func() error) error {
	ns, err := kernel.OpenNetNS(namespace)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(do)
}

func (l *live) ping(namespace string, to netip.Addr) {
	l.t.Helper()
	l.eventually("ping "+to.String(), func() error {
		return l.inside(namespace, func() error {
			out, err := exec.Command("ping", "-n", "-c1", "-W2", to.String()).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		})
	})
}

// TestLive puts a namespace on the project's network "private" the way a boot does.
func TestLive(t *testing.T) {
	l := openLive(t)
	var nets struct{ Networks []network }
	l.do(l.demo, "GET", "/networks?name=private", nil, &nets)
	if len(nets.Networks) != 1 {
		need.Unmet(t, "a network named private")
	}
	namespace, info := l.boot(NetworkRequest{NetworkID: nets.Networks[0].ID})
	gateway, _ := info[0].Gateways()
	l.ping(namespace, gateway)
	server, err := netip.ParseAddr(info[0].Network.Subnets[0].dhcpServer())
	if err != nil {
		t.Fatal(err)
	}
	l.ping(namespace, server)

	// Nova knows no such instance, so its metadata service says 404: it was reached.
	l.eventually("metadata service", func() error {
		return l.inside(namespace, func() error {
			c, err := net.DialTimeout("tcp", "169.254.169.254:80", 5*time.Second)
			if err != nil {
				return err
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			fmt.Fprint(c, "GET /openstack HTTP/1.0\r\nHost: 169.254.169.254\r\n\r\n")
			answer, err := io.ReadAll(c)
			if err == nil && !bytes.HasPrefix(answer, []byte("HTTP/1.")) {
				err = fmt.Errorf("answer %.100q", answer)
			}
			return err
		})
	})
}

// TestLiveDualStack makes a network with an IPv4 and an IPv6 subnet and lets two
// namespaces talk over both; one has a port that the user made, and a fixed address.
func TestLiveDualStack(t *testing.T) {
	l := openLive(t)
	var n struct{ Network network }
	l.do(l.demo, "POST", "/networks", object{"network": object{"name": "nova-agent-test-" + uuid.NewString()}}, &n)
	t.Cleanup(func() {
		l.eventually("delete the network", func() error {
			return l.c.admin().do(context.Background(), "DELETE", "/networks/"+n.Network.ID, nil, nil)
		})
	})
	for _, s := range []object{
		{"ip_version": 4, "cidr": "10.199.0.0/24", "gateway_ip": nil, "host_routes": []object{{"destination": "10.200.0.0/16", "nexthop": "10.199.0.9"}}},
		{"ip_version": 6, "cidr": "2001:db8:199::/64", "dns_nameservers": []string{"2001:db8::53"}},
	} {
		s["network_id"] = n.Network.ID
		l.do(l.demo, "POST", "/subnets", object{"subnet": s}, nil)
	}
	var mine struct{ Port port }
	l.do(l.demo, "POST", "/ports", object{"port": object{"network_id": n.Network.ID}}, &mine)
	t.Cleanup(func() { // it outlives its instance
		p, err := l.c.admin().port(context.Background(), mine.Port.ID)
		if err != nil || p.DeviceID != "" || p.HostID != "" {
			t.Errorf("the user's port: %+v, %v", p, err)
		}
		if err := l.c.deletePort(context.Background(), l.c.admin(), mine.Port.ID); err != nil {
			t.Error(err)
		}
	})

	// Neutron allots addresses of all subnets, unless one is asked for.
	a, infoA := l.boot(NetworkRequest{NetworkID: n.Network.ID}, NetworkRequest{NetworkID: n.Network.ID, Address: "10.199.0.77"})
	_, infoB := l.boot(NetworkRequest{PortID: mine.Port.ID})
	if got := infoA[0].Addresses(); len(got) != 2 {
		t.Errorf("addresses: %v", got)
	}
	if got := infoA[1].Addresses(); len(got) != 1 || got[0] != netip.MustParsePrefix("10.199.0.77/24") {
		t.Errorf("fixed address: %v", got)
	}
	if got := fmt.Sprint(infoA[0].Routes()); !strings.Contains(got, "{10.200.0.0/16 10.199.0.9}") || !strings.Contains(got, "169.254.169.254/32") {
		t.Errorf("routes: %v", got)
	}
	if got := infoA[0].DNSServers(); len(got) != 1 || got[0] != netip.MustParseAddr("2001:db8::53") {
		t.Errorf("name servers: %v", got)
	}
	for _, p := range infoB[0].Addresses() {
		l.ping(a, p.Addr())
	}

	// A port that is taken is refused, and nothing is left of the attempt.
	other := Instance{UUID: uuid.NewString(), ProjectID: l.demo.project, AvailabilityZone: "nova"}
	_, err := l.c.Allocate(t.Context(), AllocateRequest{Instance: other, Host: l.host, Networks: []NetworkRequest{{PortID: mine.Port.ID}}})
	if !HasClass(err, ClassPortInUse) {
		t.Errorf("a port in use: %v", err)
	}
	// So is an address.
	_, err = l.c.Allocate(t.Context(), AllocateRequest{Instance: other, Host: l.host,
		Networks: []NetworkRequest{{NetworkID: n.Network.ID}, {NetworkID: n.Network.ID, Address: "10.199.0.77"}}})
	if !HasClass(err, ClassFixedIPAlreadyInUse) {
		t.Errorf("an address in use: %v", err)
	}
	// And a host without an agent.
	_, err = l.c.Allocate(t.Context(), AllocateRequest{Instance: other, Host: "no-such-host", Networks: []NetworkRequest{{NetworkID: n.Network.ID}}})
	if !HasClass(err, ClassPortBindingFailed) {
		t.Errorf("no agent: %v", err)
	}
	if ids, err := l.c.ListPorts(t.Context(), other.UUID); err != nil || len(ids) > 0 {
		t.Errorf("ports that are left: %v, %v", ids, err)
	}
}
