package neutron

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"novaagent/engine/errdefs"
)

// troubles are the ways in which one request can go wrong.
func troubles() map[string]func(f *replay, w http.ResponseWriter, r *http.Request) bool {
	status := func(code int, body string) func(*replay, http.ResponseWriter, *http.Request) bool {
		return func(_ *replay, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, body)
			return true
		}
	}
	refusal := func(code int, kind string) func(*replay, http.ResponseWriter, *http.Request) bool {
		b, _ := json.Marshal(neutronError(kind, "no"))
		return status(code, string(b))
	}
	return map[string]func(f *replay, w http.ResponseWriter, r *http.Request) bool{
		"hang up": func(_ *replay, w http.ResponseWriter, _ *http.Request) bool {
			hangUp(w)
			return true
		},
		"hang up afterwards": func(f *replay, w http.ResponseWriter, r *http.Request) bool {
			f.answer(discard{http.Header{}}, r, f.asked[len(f.asked)-1].Request)
			hangUp(w)
			return true
		},
		"hang": func(f *replay, w http.ResponseWriter, r *http.Request) bool {
			f.mu.Unlock()
			<-r.Context().Done()
			f.mu.Lock()
			return true
		},
		"cut short": func(f *replay, w http.ResponseWriter, r *http.Request) bool {
			f.answer(discard{http.Header{}}, r, f.asked[len(f.asked)-1].Request)
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `{"port": {"id": "`)
			return true
		},
		"no JSON":            status(200, "<html>ok</html>"),
		"401":                status(401, "Authentication required"),
		"403":                refusal(403, "PolicyNotAuthorized"),
		"404":                refusal(404, "NotFound"),
		"409 quota":          refusal(409, "OverQuota"),
		"409 address":        refusal(409, "IpAddressInUse"),
		"409 no address":     refusal(409, "IpAddressGenerationFailure"),
		"500":                status(500, "<html>oops</html>"),
		"503":                status(503, ""),
		"empty 200":          status(200, ""),
		"JSON of other type": status(200, `{"port":[],"ports":{},"networks":7,"subnets":"","floatingips":{},"extensions":1}`),
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		c.Close()
	}
}

// TestEachCallFails lets each request of a boot with a new and a given port fail in each way: the
// boot succeeds, or it fails with a kind and leaves nothing behind. The new port is on a network
// of the project, or of another one, or without a given port on one that is known already.
func TestEachCallFails(t *testing.T) {
	for name, trouble := range troubles() {
		for _, network := range []string{"own", "shared", "known"} {
			t.Run(name+" on a network "+network, func(t *testing.T) { eachCallFails(t, name, trouble, network) })
		}
	}
}

func eachCallFails(t *testing.T, name string, trouble func(*replay, http.ResponseWriter, *http.Request) bool, network string) {
	t.Parallel()
	failures := 0
	for n := 0; ; n++ {
		f, r := newReplay(t, "create", "add_port"), newRows()
		want := []NetworkRequest{{NetworkID: private}, {PortID: usersPort}}
		switch network {
		case "shared":
			f.shareNetwork(private)
		case "known":
			want = want[:1]
		}
		f.store["ports"][usersPort] = merged(f.after[usersPort], object{"device_id": "", "device_owner": "", "status": "DOWN"})
		hit := false
		f.interfere = func(i int, w http.ResponseWriter, req *http.Request) bool {
			if i != n {
				return false
			}
			hit = true
			return trouble(f, w, req)
		}
		c := serve(t, f, r, func(o *Options) {
			if name == "hang" {
				o.Timeout = time.Second
			}
		})
		if network == "known" {
			c.known.remember(ownNetwork())
		}
		info, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: want})
		if err == nil && len(info) != len(want) {
			t.Errorf("request %d: %v", n, info)
		}
		if err != nil {
			failures++
			if isNot(err, errdefs.ErrInvalid, errdefs.ErrNotFound, errdefs.ErrConflict, errdefs.ErrUnavailable) {
				t.Errorf("request %d: an error of no kind: %v", n, err)
			}
			if left := f.portsOf(server); left > 0 || len(r.vifs) > 0 || (r.cache[server] != "" && r.cache[server] != "[]") {
				t.Errorf("request %d: %v\nleft: %d ports, %v, %q\n%s", n, err, left, r.vifs, r.cache[server], strings.Join(f.writes(), "\n"))
			}
			if f.store["ports"][usersPort] == nil {
				t.Errorf("request %d: the user's port was deleted", n)
			}
		}
		f.mu.Lock()
		tried := hit
		f.mu.Unlock()
		if !tried {
			if err != nil && name != "hang" {
				t.Errorf("without trouble: %v", err)
			}
			break
		}
	}
	if failures == 0 {
		t.Error("nothing ever failed")
	}
}

// TestEachCallFailsOnce: with retries, what passes by itself is not noticed.
func TestEachCallFailsOnce(t *testing.T) {
	for _, name := range []string{"503", "hang up"} {
		trouble := troubles()[name]
		for n := 0; ; n++ {
			f, r := newReplay(t, "create"), newRows()
			hit, post := false, false
			f.interfere = func(i int, w http.ResponseWriter, req *http.Request) bool {
				if i != n {
					return false
				}
				hit, post = true, req.Method == "POST"
				return trouble(f, w, req)
			}
			c := serve(t, f, r, func(o *Options) { o.Retries = 2 })
			_, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: []NetworkRequest{{NetworkID: private}}})
			// A POST that got no answer is not repeated: it may have made a port.
			if mayFail := post && name == "hang up"; (err != nil) != mayFail {
				t.Errorf("%s: request %d: %v", name, n, err)
			}
			if err == nil {
				sameJSON(t, savedCaches(t, "create")[0], last(r.saves))
			}
			if !hit {
				break
			}
		}
	}
}

// TestHangIsBounded: a Neutron that does not answer costs one timeout, not one for each retry.
func TestHangIsBounded(t *testing.T) {
	f := newReplay(t, "create")
	f.interfere = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		return troubles()["hang"](f, w, r)
	}
	c := serve(t, f, newRows(), func(o *Options) { o.Retries, o.Timeout = 5, 100*time.Millisecond })
	_, err := c.ListPorts(t.Context(), server)
	f.mu.Lock()
	defer f.mu.Unlock()
	if !errors.Is(err, errdefs.ErrUnavailable) || len(f.asked) != 1 {
		t.Errorf("%d requests, %v", len(f.asked), err)
	}
}

// TestNobodyListens: the connection is refused, until it is not.
func TestNobodyListens(t *testing.T) {
	f := newReplay(t, "create")
	server := httptest.NewServer(f)
	dead := session{server.URL}
	server.Close()
	c, err := New(Options{Service: dead, Records: newRows(), Retries: 2, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ListPorts(t.Context(), "x"); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Error(err)
	}
}

// TestRecordsFail: Nova's database refuses.
func TestRecordsFail(t *testing.T) {
	for _, method := range []string{"CreateVIF", "SaveInfoCache"} {
		f, r := newReplay(t, "create"), newRows()
		r.fail[method] = errBroken
		c := serve(t, f, r, nil)
		_, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: []NetworkRequest{{NetworkID: private}}})
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", method, err)
		}
		if f.portsOf(server) > 0 || len(r.vifs) > 0 {
			t.Errorf("%s: left: %v, %v", method, f.store["ports"], r.vifs)
		}
	}
}

// TestCanceled: the user hangs up in the middle of a boot. The clean-up goes on.
func TestCanceled(t *testing.T) {
	for n := 0; ; n++ {
		f, r := newReplay(t, "create"), newRows()
		ctx, cancel := context.WithCancel(t.Context())
		hit := false
		f.interfere = func(i int, _ http.ResponseWriter, _ *http.Request) bool {
			if i == n {
				hit = true
				cancel()
			}
			return false
		}
		c := serve(t, f, r, nil)
		_, err := c.Allocate(ctx, AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: []NetworkRequest{{NetworkID: private}}})
		cancel()
		if err != nil && (f.portsOf(server) > 0 || len(r.vifs) > 0) {
			t.Errorf("request %d: %v: left: %v", n, err, r.vifs)
		}
		if !hit {
			break
		}
	}
}

// TestRefusals: what Nova has a class for.
func TestRefusals(t *testing.T) {
	request := func(nets ...NetworkRequest) AllocateRequest {
		return AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: nets}
	}
	shared := func(f *replay, _ *AllocateRequest) { f.shareNetwork(private) } // so that the port is bound after it was made
	for name, tt := range map[string]struct {
		req    AllocateRequest
		change func(f *replay, r *AllocateRequest)
		answer map[string]string // by method: NeutronError.type
		class  string
		kind   error
	}{
		"no project":            {req: AllocateRequest{Instance: Instance{UUID: server}}, class: ClassInvalidInput, kind: errdefs.ErrInvalid},
		"unknown net":           {req: request(NetworkRequest{NetworkID: "00000000-0000-0000-0000-000000000000"}), class: ClassNetworkNotFound, kind: errdefs.ErrInvalid},
		"unknown port":          {req: request(NetworkRequest{PortID: "00000000-0000-0000-0000-000000000000"}), class: ClassPortNotFound, kind: errdefs.ErrNotFound},
		"address in use":        {req: request(NetworkRequest{NetworkID: private, Address: "192.0.2.9"}), answer: map[string]string{"POST": "IpAddressInUse"}, class: ClassFixedIPAlreadyInUse, kind: errdefs.ErrConflict},
		"bad address":           {req: request(NetworkRequest{NetworkID: private, Address: "10.0.0.9"}), answer: map[string]string{"POST": "InvalidIpForNetwork"}, class: ClassInvalidInput, kind: errdefs.ErrInvalid},
		"quota":                 {req: request(NetworkRequest{NetworkID: private}), answer: map[string]string{"POST": "OverQuota"}, class: ClassPortLimitExceeded, kind: errdefs.ErrConflict},
		"no address":            {req: request(NetworkRequest{NetworkID: private}), answer: map[string]string{"POST": "IpAddressGenerationFailure"}, class: ClassNoMoreFixedIPs, kind: errdefs.ErrConflict},
		"wrong segment":         {req: request(NetworkRequest{NetworkID: private}), answer: map[string]string{"PUT": "HostNotCompatibleWithFixedIps"}, class: ClassFixedIPInvalidOnHost, change: shared, kind: errdefs.ErrInvalid},
		"wrong segment at once": {req: request(NetworkRequest{NetworkID: private}), answer: map[string]string{"POST": "HostNotCompatibleWithFixedIps"}, class: ClassFixedIPInvalidOnHost, kind: errdefs.ErrInvalid},
		"mac in use":            {req: request(NetworkRequest{NetworkID: private}), answer: map[string]string{"PUT": "MacAddressInUse"}, class: ClassPortInUse, change: shared, kind: errdefs.ErrConflict},
		"unknown group": {req: request(NetworkRequest{NetworkID: private}), class: ClassSecurityGroupNotFound, kind: errdefs.ErrInvalid,
			change: func(_ *replay, r *AllocateRequest) { r.SecurityGroups = []string{"web"} }},
		"two groups of a name": {req: request(NetworkRequest{NetworkID: private}), class: ClassNoUniqueMatch, kind: errdefs.ErrInvalid,
			change: func(f *replay, r *AllocateRequest) {
				r.SecurityGroups = []string{"web"}
				f.put("security-groups", "1", object{"id": "1", "name": "web", "tenant_id": project})
				f.put("security-groups", "2", object{"id": "2", "name": "web", "tenant_id": project})
			}},
		"no subnets": {req: request(NetworkRequest{NetworkID: private}), class: ClassSecurityGroupCannotBeApplied, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) { f.store["networks"][private]["subnets"] = []string{} }},
		"external": {req: request(NetworkRequest{NetworkID: private}), class: ClassExternalNetworkAttachForbidden, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) { f.store["networks"][private]["router:external"] = true }},
		"ambiguous": {req: request(), class: ClassNetworkAmbiguous, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) {
				f.put("networks", "2", object{"id": "2", "name": "other", "tenant_id": "other", "shared": true, "subnets": []string{"x"}})
			}},
		"binding failed": {req: request(NetworkRequest{NetworkID: private}), class: ClassPortBindingFailed, kind: errdefs.ErrUnavailable,
			change: func(f *replay, _ *AllocateRequest) { f.after[createdPort]["binding:vif_type"] = vifBindingFailed }},
		"another's port": {req: request(NetworkRequest{PortID: createdPort}), class: ClassPortNotUsable, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) {
				f.put("ports", createdPort, object{"id": createdPort, "tenant_id": "other"})
			}},
		"port in use": {req: request(NetworkRequest{PortID: createdPort}), class: ClassPortInUse, kind: errdefs.ErrConflict,
			change: func(f *replay, _ *AllocateRequest) {
				f.put("ports", createdPort, object{"id": createdPort, "tenant_id": project, "device_id": "other"})
			}},
		"port of another name": {req: request(NetworkRequest{PortID: createdPort}), class: ClassPortNotUsableDNS, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) {
				f.put("ports", createdPort, object{"id": createdPort, "tenant_id": project, "dns_name": "other"})
			}},
		"guaranteed bandwidth": {req: request(NetworkRequest{NetworkID: private}), class: ClassNetworksWithQoSPolicyNotSupported, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) {
				f.after[createdPort]["resource_request"] = object{"request_groups": []any{object{"id": "g", "resources": object{"NET_BW_EGR_KILOBIT_PER_SEC": 1000}}}}
			}},
		"bandwidth of nobody": {req: request(NetworkRequest{PortID: createdPort}), class: ClassPortUpdateFailed, kind: errdefs.ErrInvalid,
			change: func(f *replay, _ *AllocateRequest) {
				f.put("ports", createdPort, object{"id": createdPort, "tenant_id": project, "network_id": private,
					"resource_request": object{"resources": object{"NET_BW_EGR_KILOBIT_PER_SEC": 1000}}})
			}},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newReplay(t, "create"), newRows()
			req := tt.req
			if tt.change != nil {
				tt.change(f, &req)
			}
			f.interfere = func(_ int, w http.ResponseWriter, r *http.Request) bool {
				kind := tt.answer[r.Method]
				if kind == "" {
					return false
				}
				w.WriteHeader(409)
				json.NewEncoder(w).Encode(neutronError(kind, "no"))
				return true
			}
			c := serve(t, f, r, nil)
			_, err := c.Allocate(t.Context(), req)
			if !HasClass(err, tt.class) || !errors.Is(err, tt.kind) {
				t.Errorf("%v, want %s of kind %v", err, tt.class, tt.kind)
			}
			var e *Error
			if errors.As(err, &e) {
				if module, class := e.RemoteClass(); module != "nova.exception" || class != tt.class {
					t.Errorf("on the wire: %s.%s", module, class)
				}
			}
			if f.portsOf(server) > 0 || len(r.vifs) > 0 {
				t.Errorf("left: %v, %v", f.store["ports"], r.vifs)
			}
		})
	}
}

// TestWishes: requests that name no network.
func TestWishes(t *testing.T) {
	for name, tt := range map[string]struct {
		nets   []NetworkRequest
		change func(f *replay)
		want   int
	}{
		"none":                {nets: []NetworkRequest{{NetworkID: NetworkNone}}},
		"nothing there":       {change: func(f *replay) { delete(f.store, "networks") }},
		"the only one":        {want: 1},
		"the only one shared": {want: 1, change: func(f *replay) { f.store["networks"][private]["shared"] = true }},
		"auto": {nets: []NetworkRequest{{NetworkID: NetworkAuto}}, want: 1, change: func(f *replay) {
			f.store["networks"][private]["tenant_id"] = "nobody" // it is not listed, as it is not there yet
			f.put("auto-allocated-topology", project, object{"id": private})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := newReplay(t, "create"), newRows()
			if tt.change != nil {
				tt.change(f)
			}
			c := serve(t, f, r, nil)
			info, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1", Networks: tt.nets})
			if err != nil || len(info) != tt.want || len(r.vifs) != tt.want {
				t.Errorf("%v, %v", info, err)
			}
		})
	}
}
