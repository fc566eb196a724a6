package neutron

import (
	"errors"
	"net/url"
	"strings"
	"testing"
)

// ownNetwork is what is remembered of the recorded boot's network.
func ownNetwork() map[string]network {
	return map[string]network{private: {ID: private, TenantID: project, Subnets: []string{"one"}}}
}

// TestKnownNetwork: on a network that is known already the port is made without a look at it
// first, and Nova is told the same. If the network has changed meanwhile, that counts.
func TestKnownNetwork(t *testing.T) {
	const asked = "GET /v2.0/networks"
	for _, tt := range []struct {
		name   string
		change object // of the network, nil if it is gone
		looks  int    // for networks
		writes int
		class  string
	}{
		{name: "as before", change: object{}, looks: 1, writes: 1},
		{name: "with a DNS domain now", change: object{"dns_domain": "example.org."}, looks: 1, writes: 2},
		{name: "without subnets now", change: object{"subnets": []any{}}, looks: 1, writes: 2, class: ClassSecurityGroupCannotBeApplied},
		{name: "gone", looks: 1, writes: 2, class: ClassNetworkNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, r := newReplay(t, "create"), newRows()
			if tt.change == nil {
				delete(f.store["networks"], private)
			} else {
				f.store["networks"][private] = merged(f.store["networks"][private], tt.change)
			}
			c := serve(t, f, r, nil)
			c.known.remember(ownNetwork())
			_, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1",
				Networks: []NetworkRequest{{NetworkID: private, Tag: "nic1"}}, SecurityGroups: []string{"default"}})
			var classed *Error
			switch {
			case tt.class == "" && err != nil:
				t.Error(err)
			case tt.class == "":
				sameJSON(t, savedCaches(t, "create")[0], last(r.saves))
			case !errors.As(err, &classed) || classed.Class != tt.class:
				t.Errorf("got %v, want %s", err, tt.class)
			case f.portsOf(server) > 0:
				t.Error("a port is left")
			}
			looks := 0
			for _, e := range f.asked {
				path, _, _ := strings.Cut(e.Path, "?")
				if e.Method+" "+path == asked {
					looks++
				}
			}
			if looks != tt.looks || len(f.writes()) != tt.writes {
				t.Errorf("%d looks at the network, want %d; %d writes, want %d:\n%s", looks, tt.looks,
					len(f.writes()), tt.writes, strings.Join(f.writes(), "\n"))
			}
			_, known := c.known.get(private)
			if want := tt.class != ClassNetworkNotFound; known != want {
				t.Errorf("known afterwards: %t, want %t", known, want)
			}
		})
	}
	// The second of two boots is such a one.
	f := newReplay(t, "create", "create")
	c := serve(t, f, newRows(), nil)
	for range 2 {
		if _, err := c.Allocate(t.Context(), AllocateRequest{Instance: theInstance(), Host: "lab1",
			Networks: []NetworkRequest{{NetworkID: private}}}); err != nil {
			t.Fatal(err)
		}
	}
	if q := (url.Values{"id": {private}}); strings.Count(paths(f), asked+"?"+q.Encode()) != 3 {
		t.Errorf("asked:\n%s", paths(f))
	}
}

// paths lists all requests.
func paths(f *replay) string {
	var b strings.Builder
	for _, e := range f.asked {
		b.WriteString(e.Method + " " + e.Path + "\n")
	}
	return b.String()
}
