package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/nftables"

	"novaagent/engine/errdefs"
)

// manyForwards is a table with the ports of n containers.
func manyForwards(n int) Rules {
	r := Rules{Table: "nova-agent-many", Gateways: []Gateway{{Bridge: "br-many", Subnets: []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("fd00:18::/64")}}}}
	for i := range n {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 80)
		r.Forwards = append(r.Forwards, Forward{Proto: "tcp", HostPort: uint16(20000 + i), To: to},
			Forward{Proto: "udp", HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: uint16(20000 + i), To: to},
			Forward{Proto: "tcp", HostPort: uint16(20000 + i), To: netip.AddrPortFrom(netip.MustParseAddr("fd00:18::2"), 80)})
	}
	return r
}

// TestManyGateways: the rules of as many networks as there can be are one transaction.
func TestManyGateways(t *testing.T) {
	m := newManager(t)
	r := Rules{Table: "nova-agent-many"}
	for i := range 250 {
		r.Gateways = append(r.Gateways, Gateway{Bridge: fmt.Sprintf("br-many%d", i), Subnets: []netip.Prefix{
			netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i), 0}), 24), netip.MustParsePrefix(fmt.Sprintf("fd00:%x::/64", i+1))}})
	}
	for range 2 { // the second replaces the first
		if err := m.SetRules(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.SetRules(t.Context(), Rules{Table: r.Table}); err != nil || m.HasRules(r.Table) {
		t.Errorf("the table is left: %v", err)
	}
}

// TestForwards: ports are added to the table and taken out of it one by one, and a flush is noticed.
func TestForwards(t *testing.T) {
	m := newManager(t)
	ctx := t.Context()
	r := manyForwards(300) // more than fit into one message
	if err := m.AddForwards(ctx, r.Table, r.Forwards[:1]); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("without the table: %v", err)
	}
	if err := m.SetRules(ctx, r); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.SetRules(context.Background(), Rules{Table: r.Table}); err != nil {
			t.Error(err)
		}
		if m.HasRules(r.Table) {
			t.Error("the table is left")
		}
	})
	elements := func() (n int) {
		nft := &nftables.Conn{}
		for _, family := range families {
			for _, set := range portSets(&nftables.Table{Family: family, Name: r.Table}) {
				list, err := nft.GetSetElements(set)
				if err != nil {
					t.Fatal(err)
				}
				n += len(list)
			}
		}
		return n
	}
	if got := elements(); got != len(r.Forwards) {
		t.Errorf("the maps have %d elements, want %d", got, len(r.Forwards))
	}
	one := []Forward{{Proto: "tcp", HostPort: 80, To: netip.MustParseAddrPort("198.18.9.9:80")}}
	if err := m.AddForwards(ctx, r.Table, one); err != nil {
		t.Fatal(err)
	}
	if got := elements(); got != len(r.Forwards)+1 {
		t.Errorf("with one more: %d", got)
	}
	if err := m.RemoveForwards(ctx, r.Table, one); err != nil {
		t.Fatal(err)
	}
	if err := m.RemoveForwards(ctx, r.Table, one); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	if got := elements(); got != len(r.Forwards) {
		t.Errorf("without it: %d", got)
	}
}

// BenchmarkForward publishes a port and takes it back, beside those of 200 containers.
func BenchmarkForward(b *testing.B) {
	m := newManager(b)
	r := manyForwards(200)
	if err := m.SetRules(b.Context(), r); err != nil {
		b.Fatal(err)
	}
	defer m.SetRules(b.Context(), Rules{Table: r.Table})
	one := []Forward{{Proto: "tcp", HostPort: 80, To: netip.MustParseAddrPort("198.18.9.9:80")}}
	for b.Loop() {
		if err := errors.Join(m.AddForwards(b.Context(), r.Table, one), m.RemoveForwards(b.Context(), r.Table, one)); err != nil {
			b.Fatal(err)
		}
	}
}
