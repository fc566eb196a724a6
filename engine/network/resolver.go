package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/miekg/dns"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// ResolverAddress is where a container finds its Resolver: Docker's address.
var ResolverAddress = netip.MustParseAddr("127.0.0.11")

const (
	// resolverTable is in the container's namespace.
	resolverTable = "nova-agent-dns"
	// resolverTTL is how long answers may be kept, in seconds: Docker's (moby, daemon/libnetwork/resolver.go).
	resolverTTL = 600
	// upstreamTimeout bounds the wait for one server.
	upstreamTimeout = 4 * time.Second
	// maxForwards bounds how many of a container's questions wait for other servers.
	maxForwards = 1024
)

// Names answers for the containers that one container can see.
type Names interface {
	// Lookup returns the addresses of a name, in lower case and without a dot at its end. known says
	// that the name is one of a container, which may have no address of the family that is asked for.
	Lookup(name string) (addresses []netip.Addr, known bool)
	// Reverse is the name that has an address.
	Reverse(address netip.Addr) (name string, known bool)
	// Upstream are the servers to ask for the rest.
	Upstream() []Upstream
}

// Upstream is a server for names that Names does not know.
type Upstream struct {
	Address netip.Addr
	// Inside: it is asked from the container's namespace, not from the host's.
	Inside bool
}

// Resolver is the name server of one container, at port 53 of ResolverAddress in its namespace. Its sockets
// are at another port: a program of the container may listen on 53 itself.
type Resolver struct {
	names   Names
	ns      *kernel.NetNS
	log     *slog.Logger
	servers []*dns.Server
	running sync.WaitGroup
	slots   chan struct{}
	cancel  context.CancelFunc // ends the context of all questions
}

// OpenResolver serves the names in the namespace that is pinned at nsPath. port is the one its sockets
// get if it is free; a resolver that comes in another's place does well to ask for the same. ErrNotFound: no
// such namespace. ErrUnavailable: the kernel failed, or has no nftables.
func (m *Manager) OpenResolver(nsPath string, port uint16, names Names) (_ *Resolver, err error) {
	ns, err := kernel.OpenNetNS(nsPath)
	if err != nil {
		return nil, err
	}
	r := &Resolver{names: names, ns: ns, log: m.log, slots: make(chan struct{}, maxForwards)}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("name service of %s: %w", nsPath, err), r.Close())
		}
	}()
	var packets net.PacketConn
	var stream net.Listener
	err = ns.Do(func() (err error) {
		if packets, err = net.ListenUDP("udp4", r.at(port)); errors.Is(err, syscall.EADDRINUSE) {
			packets, err = net.ListenUDP("udp4", r.at(0))
		}
		if err == nil {
			stream, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: ResolverAddress.AsSlice()})
		}
		return err
	})
	if packets != nil {
		r.serve(ctx, &dns.Server{PacketConn: packets})
	}
	if stream != nil {
		r.serve(ctx, &dns.Server{Listener: stream})
	}
	if err != nil {
		return r, fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
	}
	return r, r.redirect(packets.LocalAddr().(*net.UDPAddr).AddrPort().Port(), stream.Addr().(*net.TCPAddr).AddrPort().Port())
}

func (r *Resolver) at(port uint16) *net.UDPAddr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ResolverAddress, port))
}

func (r *Resolver) serve(ctx context.Context, s *dns.Server) {
	started := make(chan struct{})
	s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, query *dns.Msg) { r.answer(ctx, w, query) })
	s.NotifyStartedFunc = func() { close(started) }
	r.servers = append(r.servers, s)
	r.running.Go(func() {
		if err := s.ActivateAndServe(); err != nil {
			r.log.Error("the name service of a container ended", "error", err)
		}
	})
	<-started // a Shutdown before that would be none
}

// redirect leads what the container sends to port 53 to the resolver's own ports:
//
//	table ip nova-agent-dns {
//	  chain output { type nat hook output priority dstnat;
//	    ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:PORT
//	    ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:PORT }
//	}
func (r *Resolver) redirect(udp, tcp uint16) error {
	nft, err := nftables.New(nftables.WithNetNSFd(r.ns.FD()))
	if err != nil {
		return fmt.Errorf("nftables: %w: %w", err, errdefs.ErrUnavailable)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: resolverTable}
	nft.AddTable(t)
	nft.DelTable(t)
	nft.AddTable(t)
	output := nft.AddChain(&nftables.Chain{Name: "output", Table: t,
		Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	for proto, port := range map[byte]uint16{syscall.IPPROTO_UDP: udp, syscall.IPPROTO_TCP: tcp} {
		nft.AddRule(&nftables.Rule{Table: t, Chain: output, Exprs: append(address(destinationOffset(false), netip.PrefixFrom(ResolverAddress, 32)),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(53)},
			&expr.Immediate{Register: 1, Data: ResolverAddress.AsSlice()},
			&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: syscall.AF_INET, RegAddrMin: 1, RegProtoMin: 2})})
	}
	if err := nft.Flush(); err != nil {
		return fmt.Errorf("nftables: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// Close ends the service and waits for its goroutines. The redirection stays in the namespace, for the
// next resolver to replace.
func (r *Resolver) Close() error {
	r.cancel()
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Shutdown())
	}
	r.running.Wait()
	return errors.Join(append(errs, r.ns.Close())...)
}

// answer serves one question.
func (r *Resolver) answer(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) {
	// Not of this goroutine's making: what it panics with would end the agent.
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("panic in a name service", "panic", p)
		}
	}()
	reply := r.local(query)
	if reply == nil {
		reply = r.forward(ctx, w, query)
	}
	if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		reply.Truncate(size)
	}
	if err := w.WriteMsg(reply); err != nil && ctx.Err() == nil {
		r.log.Debug("a name service's answer was not sent", "error", err)
	}
}

// local answers a question about containers, or returns nil.
func (r *Resolver) local(query *dns.Msg) *dns.Msg {
	if len(query.Question) != 1 || query.Opcode != dns.OpcodeQuery {
		reply := new(dns.Msg).SetRcode(query, dns.RcodeFormatError)
		return reply
	}
	q := query.Question[0]
	if q.Qclass != dns.ClassINET {
		return nil
	}
	reply := new(dns.Msg).SetReply(query)
	reply.RecursionAvailable = true
	header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: resolverTTL}
	switch q.Qtype {
	case dns.TypePTR:
		name, known := r.names.Reverse(reverseAddress(q.Name))
		if !known {
			return nil
		}
		reply.Answer = append(reply.Answer, &dns.PTR{Hdr: header, Ptr: dns.Fqdn(name)})
		return reply
	case dns.TypeA, dns.TypeAAAA:
	default: // a container has nothing else, but is nobody else's to tell
		if _, known := r.names.Lookup(strings.ToLower(strings.TrimSuffix(q.Name, "."))); known {
			return reply
		}
		return nil
	}
	addresses, known := r.names.Lookup(strings.ToLower(strings.TrimSuffix(q.Name, ".")))
	if !known {
		return nil
	}
	for _, a := range addresses {
		switch {
		case a.Is4() && q.Qtype == dns.TypeA:
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: a.AsSlice()})
		case a.Is6() && q.Qtype == dns.TypeAAAA:
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: a.AsSlice()})
		}
	}
	// Clients take the first: containers that share a name share the work.
	rand.Shuffle(len(reply.Answer), func(i, j int) { reply.Answer[i], reply.Answer[j] = reply.Answer[j], reply.Answer[i] })
	return reply
}

// reverseAddress is the address that a name below in-addr.arpa or ip6.arpa stands for, or the zero Addr.
func reverseAddress(name string) netip.Addr {
	name = strings.ToLower(name)
	labels := func(suffix string) []string {
		list := strings.Split(strings.TrimSuffix(name, suffix), ".")
		for i, j := 0, len(list)-1; i < j; i, j = i+1, j-1 {
			list[i], list[j] = list[j], list[i]
		}
		return list
	}
	var text string
	switch {
	case strings.HasSuffix(name, ".in-addr.arpa."):
		text = strings.Join(labels(".in-addr.arpa."), ".")
	case strings.HasSuffix(name, ".ip6.arpa."):
		digits := labels(".ip6.arpa.")
		if len(digits) != 32 {
			return netip.Addr{}
		}
		for i := 0; i < 32; i += 4 {
			text += ":" + strings.Join(digits[i:i+4], "")
		}
		text = text[1:]
	}
	a, _ := netip.ParseAddr(text) // what is none is nobody's
	return a
}

// forward asks the other servers one after the other.
func (r *Resolver) forward(ctx context.Context, w dns.ResponseWriter, query *dns.Msg) *dns.Msg {
	failure := new(dns.Msg).SetRcode(query, dns.RcodeServerFailure)
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	default:
		return failure
	}
	proto := "udp"
	if _, tcp := w.LocalAddr().(*net.TCPAddr); tcp {
		proto = "tcp"
	}
	for _, server := range r.names.Upstream() {
		reply, err := r.ask(ctx, proto, server, query)
		if err != nil {
			r.log.Debug("a name server does not answer", "server", server.Address, "error", err)
			continue
		}
		if reply.Rcode == dns.RcodeServerFailure || reply.Rcode == dns.RcodeRefused {
			failure = reply
			continue
		}
		return reply
	}
	return failure
}

func (r *Resolver) ask(ctx context.Context, proto string, server Upstream, query *dns.Msg) (*dns.Msg, error) {
	dial := func() (conn net.Conn, err error) {
		return (&net.Dialer{Timeout: upstreamTimeout}).DialContext(ctx, proto, netip.AddrPortFrom(server.Address, 53).String())
	}
	var conn net.Conn
	var err error
	if server.Inside {
		err = r.ns.Do(func() (err error) {
			conn, err = dial()
			return err
		})
	} else {
		conn, err = dial()
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	client := &dns.Client{Net: proto, Timeout: upstreamTimeout, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeWithConn(query, &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize})
	return reply, err
}
