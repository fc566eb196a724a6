package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

	"novaagent/engine/errdefs"
)

// add adds the table of one family. In the language of nft, for IPv4:
//
//	table ip TABLE {
//	  map ports { type inet_proto . inet_service : ipv4_addr . inet_service }
//	  map addresses { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//	  set open { type ipv4_addr . inet_proto . inet_service }
//	  chain ports {
//	    dnat to ip daddr . meta l4proto . th dport map @addresses
//	    fib daddr type local dnat to meta l4proto . th dport map @ports }
//	  chain prerouting { type nat hook prerouting priority dstnat; jump ports }
//	  chain output { type nat hook output priority dstnat; jump ports }
//	  chain postrouting { type nat hook postrouting priority srcnat;
//	    ip saddr SUBNET oifname != BRIDGE masquerade
//	    ct status dnat oifname BRIDGE ip saddr SUBNET masquerade
//	    ct status dnat oifname BRIDGE ip saddr 127.0.0.0/8 masquerade }
//	  chain loopback { type filter hook prerouting priority raw;
//	    iifname BRIDGE ip daddr 127.0.0.0/8 drop }
//	  chain forward { type filter hook forward priority filter;
//	    oifname BRIDGE ct state established,related accept
//	    oifname BRIDGE ct status dnat accept
//	    iifname DEVICE oifname BRIDGE accept     for each of Trusted
//	    oifname BRIDGE icmp accept                                        in ModeRouted
//	    oifname BRIDGE ip daddr . meta l4proto . th dport @open accept    in ModeRouted
//	    iifname BRIDGE oifname BRIDGE accept     drop, if Apart
//	    iifname BRIDGE drop                      if Internal; then nothing of the above but the line before
//	    oifname BRIDGE drop }                    accept, in ModeUnprotected
//	}
//
// with the lines that name BRIDGE once for each. In ModeRouted nothing is masqueraded. For IPv6 the chain "ports" begins with
// "ip6 daddr ::1 return": the kernel takes no answers for that address from a device, so that somebody must take its
// connections on the host.
//
// A port is an element of a map, so that publishing
// one is one request and a packet's way one lookup, however many there are.
//
// A container that reaches another one, or itself, by the host's port, and the host itself by
// its loopback address, need the answer to come back through the host: hence the masquerades
// towards the bridge. The latter also needs route_localnet on the bridge, which would let a
// container speak to what listens on the host's loopback address: hence the drop.
//
// The last rule keeps other machines of the host's network, and containers of other networks, from reaching
// containers by a route through the host. A verdict "accept" ends this table alone: the host's own rules decide as well.
func (r Rules) add(nft *nftables.Conn, family nftables.TableFamily) error {
	ipv6 := family == nftables.TableFamilyIPv6
	if len(r.Gateways) == 0 || ipv6 && !r.hasIPv6() {
		return nil
	}
	t := nft.AddTable(&nftables.Table{Family: family, Name: r.Table})
	sets, elements := portSets(t), elementsOf(r.Forwards, family)
	for i, m := range sets {
		if err := nft.AddSet(m, nil); err != nil {
			return fmt.Errorf("nftables: table %s: %w: %w", r.Table, err, errdefs.ErrUnavailable)
		}
		for chunk := range slices.Chunk(elements[i], 200) { // a netlink attribute has 64 KiB
			if err := nft.SetAddElements(m, chunk); err != nil {
				return fmt.Errorf("nftables: table %s: %w: %w", r.Table, err, errdefs.ErrUnavailable)
			}
		}
	}
	chain := func(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return nft.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: hook, Priority: priority})
	}
	ports := nft.AddChain(&nftables.Chain{Name: "ports", Table: t})
	pre := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	output := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	post := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	loopback := chain("loopback", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	add := func(c *nftables.Chain, parts ...[]expr.Any) {
		nft.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: slices.Concat(parts...)})
	}
	drop, accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	jump, masquerade := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ports.Name}}, []expr.Any{&expr.Masq{}}
	if ipv6 {
		add(ports, address(destinationOffset(ipv6), netip.PrefixFrom(netip.IPv6Loopback(), 128)), []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}})
	}
	add(ports, portKey(ipv6, true), redirect(sets[1], ipv6))
	add(ports, local(), portKey(ipv6, false), redirect(sets[0], ipv6))
	add(pre, jump)
	add(output, jump)
	for _, g := range r.Gateways {
		to, from := device(expr.MetaKeyOIFNAME, expr.CmpOpEq, g.Bridge), device(expr.MetaKeyIIFNAME, expr.CmpOpEq, g.Bridge)
		for _, subnet := range g.Subnets {
			if subnet.Addr().Is6() != ipv6 || g.Internal || g.mode(ipv6) == ModeRouted {
				continue
			}
			if !g.KeepSource {
				add(post, address(sourceOffset(ipv6), subnet), device(expr.MetaKeyOIFNAME, expr.CmpOpNeq, g.Bridge), masquerade)
			}
			add(post, forwarded(), to, address(sourceOffset(ipv6), subnet), masquerade)
		}
		if !ipv6 {
			add(post, forwarded(), to, address(sourceOffset(ipv6), loopbackNet), masquerade)
			add(loopback, from, address(destinationOffset(ipv6), loopbackNet), drop)
		}
		if !g.Internal {
			add(forward, to, established(), accept)
			add(forward, to, forwarded(), accept)
			for _, name := range g.Trusted {
				add(forward, device(expr.MetaKeyIIFNAME, expr.CmpOpEq, name), to, accept)
			}
			if g.mode(ipv6) == ModeRouted {
				add(forward, to, icmp(ipv6), accept)
				add(forward, to, portKey(ipv6, true), []expr.Any{&expr.Lookup{SourceRegister: register(0), SetName: sets[2].Name, SetID: sets[2].ID}}, accept)
			}
		}
		if g.Apart {
			add(forward, from, to, drop)
		} else {
			add(forward, from, to, accept)
		}
		if g.Internal {
			add(forward, from, drop)
		}
		if g.mode(ipv6) == ModeUnprotected && !g.Internal {
			add(forward, to, accept)
		} else {
			add(forward, to, drop)
		}
	}
	return nil
}

// portSets are the sets of a table: the maps of ports at any address, and at one, and the ports of containers that are
// reached directly.
func portSets(t *nftables.Table) [3]*nftables.Set {
	addr := nftables.TypeIPAddr
	if t.Family == nftables.TableFamilyIPv6 {
		addr = nftables.TypeIP6Addr
	}
	proto, port := nftables.TypeInetProto, nftables.TypeInetService
	m := func(name string, key nftables.SetDatatype) *nftables.Set {
		return &nftables.Set{Table: t, Name: name, IsMap: true, Concatenation: true, KeyType: key, DataType: nftables.MustConcatSetType(addr, port)}
	}
	key := nftables.MustConcatSetType(addr, proto, port)
	return [3]*nftables.Set{
		m("ports", nftables.MustConcatSetType(proto, port)), m("addresses", key),
		{Table: t, Name: "open", Concatenation: true, KeyType: key},
	}
}

// elementsOf are the elements of portSets. Each part of a key is padded to four bytes.
func elementsOf(list []Forward, family nftables.TableFamily) (out [3][]nftables.SetElement) {
	for _, f := range list {
		if f.To.Addr().Is6() != (family == nftables.TableFamilyIPv6) {
			continue
		}
		proto := byte(syscall.IPPROTO_TCP)
		if f.Proto == "udp" {
			proto = syscall.IPPROTO_UDP
		}
		if f.Direct {
			key := append(f.To.Addr().AsSlice(), proto, 0, 0, 0)
			key = append(append(key, binaryutil.BigEndian.PutUint16(f.To.Port())...), 0, 0)
			out[2] = append(out[2], nftables.SetElement{Key: key})
			continue
		}
		which, key := 0, []byte{}
		if f.HostIP.IsValid() && !f.HostIP.IsUnspecified() {
			which, key = 1, f.HostIP.AsSlice()
		}
		key = append(key, proto, 0, 0, 0)
		key = append(append(key, binaryutil.BigEndian.PutUint16(f.HostPort)...), 0, 0)
		value := append(f.To.Addr().AsSlice(), binaryutil.BigEndian.PutUint16(f.To.Port())...)
		out[which] = append(out[which], nftables.SetElement{Key: key, Val: append(value, 0, 0)})
	}
	return out
}

// register is the kernel's number of the n-th four bytes of its 64 (NFT_REG32_00 and so on).
func register(n uint32) uint32 { return 8 + n }

// words is the length of an address in registers.
func words(ipv6 bool) uint32 {
	if ipv6 {
		return 4
	}
	return 1
}

// portKey loads a key of portSets from a packet.
func portKey(ipv6, withAddress bool) (out []expr.Any) {
	next := uint32(0)
	if withAddress {
		out = append(out, &expr.Payload{DestRegister: register(0), Base: expr.PayloadBaseNetworkHeader, Offset: destinationOffset(ipv6), Len: 4 * words(ipv6)})
		next = words(ipv6)
	}
	return append(out,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register(next)},
		&expr.Payload{DestRegister: register(next + 1), Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2})
}

// redirect leads a packet to where the map says, if it has its key.
func redirect(m *nftables.Set, ipv6 bool) []expr.Any {
	family := uint32(syscall.AF_INET)
	if ipv6 {
		family = syscall.AF_INET6
	}
	return []expr.Any{
		&expr.Lookup{SourceRegister: register(0), DestRegister: register(0), IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: register(0), RegProtoMin: register(words(ipv6))},
	}
}

// local matches what is for one of the host's addresses.
func local() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(syscall.RTN_LOCAL)},
	}
}

// device compares the name of the device that a packet came in by, or goes out by.
func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, 16) // IFNAMSIZ
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// sourceOffset and destinationOffset are where the addresses are in an IP header.
func sourceOffset(ipv6 bool) uint32 {
	if ipv6 {
		return 8
	}
	return 12
}

func destinationOffset(ipv6 bool) uint32 { return sourceOffset(ipv6) + 4*words(ipv6) }

var loopbackNet = netip.MustParsePrefix("127.0.0.0/8")

// address compares the address at an offset of the IP header.
func address(offset uint32, p netip.Prefix) []expr.Any {
	length := uint32(p.Addr().BitLen() / 8)
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

// icmp matches ICMP, or that of IPv6.
func icmp(ipv6 bool) []expr.Any {
	proto := byte(syscall.IPPROTO_ICMP)
	if ipv6 {
		proto = syscall.IPPROTO_ICMPV6
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}}}
}

func established() []expr.Any {
	return conntrack(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// forwarded matches the connections that a forward has led elsewhere (IPS_DST_NAT).
func forwarded() []expr.Any { return conntrack(expr.CtKeySTATUS, 1<<5) }

func conntrack(key expr.CtKey, anyOf uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(anyOf), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
