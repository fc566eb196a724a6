package network

import (
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
)

// rules adds the table. In the language of nft:
//
//	table ip TABLE {
//	  chain postrouting { type nat hook postrouting priority srcnat;
//	    ip saddr SUBNET oifname != BRIDGE masquerade }
//	  chain forward { type filter hook forward priority filter;
//	    oifname BRIDGE ct state established,related accept
//	    iifname BRIDGE oifname BRIDGE accept
//	    oifname BRIDGE drop }
//	}
//
// The last rule keeps other machines of the host's network from reaching containers by a route
// through the host. A verdict "accept" ends this table alone: the host's own rules decide as well.
func (n NAT) rules(nft *nftables.Conn) {
	t := nft.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: n.Table})
	post := nft.AddChain(&nftables.Chain{Name: "postrouting", Table: t,
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
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
	add(post, source(n.Gateway.Masked()), device(expr.MetaKeyOIFNAME, expr.CmpOpNeq, n.Bridge), []expr.Any{&expr.Masq{}})
	add(forward, to, established(), accept)
	add(forward, from, to, accept)
	add(forward, to, drop)
}

// device compares the name of the device that a packet came in by, or goes out by.
func device(key expr.MetaKey, op expr.CmpOp, name string) []expr.Any {
	data := make([]byte, 16) // IFNAMSIZ
	copy(data, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: data}}
}

// source compares a packet's source address, which is at offset 12 of an IPv4 header.
func source(p netip.Prefix) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Addr().AsSlice()},
	}
}

func established() []expr.Any {
	states := binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: states, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}
