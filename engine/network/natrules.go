package network

import (
	"net"
	"net/netip"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// rules adds the table. In the language of nft:
//
//	table ip TABLE {
//	  chain ports {
//	    ip daddr HOSTIP tcp dport PORT dnat to CONTAINER:PORT        for each forward
//	    fib daddr type local tcp dport PORT dnat to CONTAINER:PORT   if it is for any address }
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
//	    iifname BRIDGE oifname BRIDGE accept
//	    oifname BRIDGE drop }
//	}
//
// A container that reaches another one, or itself, by the host's port, and the host itself by
// its loopback address, need the answer to come back through the host: hence the masquerades
// towards the bridge. The latter also needs route_localnet on the bridge, which would let a
// container speak to what listens on the host's loopback address: hence the drop.
//
// The last rule keeps other machines of the host's network from reaching containers by a route
// through the host. A verdict "accept" ends this table alone: the host's own rules decide as well.
func (n NAT) rules(nft *nftables.Conn) {
	t := nft.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.Table})
	post := nft.AddChain(&nftables.Chain{Name: "postrouting", Table: t,
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	ports := nft.AddChain(&nftables.Chain{Name: "ports", Table: t})
	pre := nft.AddChain(&nftables.Chain{Name: "prerouting", Table: t,
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	output := nft.AddChain(&nftables.Chain{Name: "output", Table: t,
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	loopback := nft.AddChain(&nftables.Chain{Name: "loopback", Table: t,
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRaw})
	forward := nft.AddChain(&nftables.Chain{Name: "forward", Table: t,
		Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	add := func(c *nftables.Chain, parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		nft.AddRule(&nftables.Rule{Table: t, Chain: c, Exprs: all})
	}
	drop, accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	to, from := device(expr.MetaKeyOIFNAME, expr.CmpOpEq, n.Bridge), device(expr.MetaKeyIIFNAME, expr.CmpOpEq, n.Bridge)
	jump, masquerade := []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: ports.Name}}, []expr.Any{&expr.Masq{}}
	for _, f := range n.Forwards {
		add(ports, f.exprs())
	}
	add(pre, jump)
	add(output, jump)
	subnet := n.Gateway.Masked()
	add(post, address(sourceOffset, subnet), device(expr.MetaKeyOIFNAME, expr.CmpOpNeq, n.Bridge), masquerade)
	add(post, forwarded(), to, address(sourceOffset, subnet), masquerade)
	add(post, forwarded(), to, address(sourceOffset, loopbackNet), masquerade)
	add(loopback, from, address(destinationOffset, loopbackNet), drop)
	add(forward, to, established(), accept)
	add(forward, to, forwarded(), accept)
	add(forward, from, to, accept)
	add(forward, to, drop)
}

// device compares the name of the device that a packet came in by, or goes out by.
func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, 16) // IFNAMSIZ
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// The offsets of the addresses in an IPv4 header.
const (
	sourceOffset      = 12
	destinationOffset = 16
)

var loopbackNet = netip.MustParsePrefix("127.0.0.0/8")

// address compares the address at an offset of the IPv4 header.
func address(offset uint32, p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

// exprs is the rule of a forward.
func (f Forward) exprs() []expr.Any {
	proto := byte(syscall.IPPROTO_TCP)
	if f.Proto == "udp" {
		proto = syscall.IPPROTO_UDP
	}
	to := f.To.Addr().AsSlice()
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(f.HostPort)},
	}
	if f.HostIP.IsValid() && !f.HostIP.IsUnspecified() {
		rule = append(rule, address(destinationOffset, netip.PrefixFrom(f.HostIP, 32))...)
	} else {
		rule = append(rule,
			&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(syscall.RTN_LOCAL)})
	}
	return append(rule,
		&expr.Immediate{Register: 1, Data: to},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(f.To.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: syscall.AF_INET, RegAddrMin: 1, RegProtoMin: 2})
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
