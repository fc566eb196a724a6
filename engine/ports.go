package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// Port is a port of a container in the bridge network that the host publishes while the
// container runs.
type Port struct {
	Proto         string // "tcp" or "udp"
	ContainerPort uint16
	// HostIP is the host's address; the zero Addr is every IPv4 address.
	HostIP netip.Addr `json:",omitzero"`
	// HostPort and HostPortEnd are a range to choose from; HostPort alone is that port, and 0
	// any port that is free. Of a port in Container.Published HostPort is the chosen one.
	HostPort    uint16 `json:",omitempty"`
	HostPortEnd uint16 `json:",omitempty"`
}

func (p Port) validate() error {
	switch {
	case p.Proto != "tcp" && p.Proto != "udp":
		return fmt.Errorf("protocol %s cannot be published", printable(p.Proto))
	case p.ContainerPort == 0:
		return errors.New("port 0 of a container cannot be published")
	case p.HostIP.Is4In6():
		return fmt.Errorf("host address %s is neither IPv4 nor IPv6", p.HostIP)
	case p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort:
		return fmt.Errorf("the range of ports %d-%d is empty", p.HostPort, p.HostPortEnd)
	}
	return nil
}

// published is what the host has for one container.
type published struct {
	forwards []network.Forward
	claims   []io.Closer
}

func (p published) close() error {
	var errs []error
	for _, c := range p.claims {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// publish forwards the ports that wanted names to a container, and returns them with the host's ports that
// were chosen. The engine listens on these itself, without ever answering: no other program of
// the host gets them. ErrConflict: a port is taken; then nothing is published.
//
// A port that names no address of the host is one of IPv4 and one of IPv6, as far as the container's network has both.
func (e *Engine) publish(ctx context.Context, rec *Container, wanted []Port) (ports []Port, err error) {
	to := e.publishedTo(rec)
	if len(wanted) == 0 || to.network.ID == "" {
		return nil, nil
	}
	var p published
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	queue := slices.Clone(wanted)
	for len(queue) > 0 {
		w := queue[0]
		queue = queue[1:]
		both := !w.HostIP.IsValid() && to.network.IPv6
		if !w.HostIP.IsValid() {
			if w.HostIP = to.hostIPv4; !to.network.IPv4 {
				w.HostIP, both = to.hostIPv6, false
			}
		}
		addr := to.address(w)
		if !addr.IsValid() {
			return nil, fmt.Errorf("port %d/%s: the network %s has no address of the family of the host address %s: %w", w.ContainerPort, w.Proto, to.network.Name, w.hostIP(), errdefs.ErrInvalid)
		}
		claim, got, err := claimPort(w)
		if err != nil {
			return nil, err
		}
		p.claims = append(p.claims, claim)
		p.forwards = append(p.forwards, network.Forward{Proto: got.Proto, HostIP: got.HostIP, HostPort: got.HostPort, To: netip.AddrPortFrom(addr, got.ContainerPort)})
		ports = append(ports, got)
		if both && !slices.ContainsFunc(wanted, func(o Port) bool {
			return o.HostIP.Is6() && o.HostPort == got.HostPort && o.Proto == got.Proto
		}) { // it is there already when an earlier engine published it
			got.HostIP = to.hostIPv6
			queue = append([]Port{got}, queue...)
		}
	}
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	e.gateways.published[rec.ID] = p
	if err := e.addForwardsLocked(ctx, p.forwards); err != nil {
		delete(e.gateways.published, rec.ID)
		return nil, err
	}
	return ports, nil
}

// target is where a container's ports lead.
type target struct {
	network  Network
	endpoint network.Endpoint
	// hostIPv4 and hostIPv6 are where ports are published unless they say where. hostIPv4 may be
	// the zero Addr, which is every address as well.
	hostIPv4, hostIPv6 netip.Addr
}

// publishedTo is the endpoint that a container's ports lead to: that of its default route, in a bridge
// network that is not internal. The zero target if there is none.
func (e *Engine) publishedTo(rec *Container) target {
	ep, join, ok := rec.router(func(ep network.Endpoint) bool {
		return ep.Kind == network.KindBridge && ep.Gateway4.IsValid() || ep.Gateway6.IsValid()
	})
	if !ok {
		return target{}
	}
	n, err := e.Network(join.Network)
	if err != nil || n.Internal {
		return target{}
	}
	o, err := n.options()
	if err != nil {
		return target{}
	}
	to := target{network: n, endpoint: ep, hostIPv4: o.hostIPv4, hostIPv6: o.hostIPv6}
	if !to.hostIPv6.IsValid() {
		to.hostIPv6 = netip.IPv6Unspecified()
	}
	return to
}

// address is the container's address that a port leads to: of the family of the host's address.
func (t target) address(p Port) netip.Addr {
	for _, a := range t.endpoint.Addresses {
		if a.Addr().Is6() == (p.HostIP.IsValid() && p.HostIP.Is6()) {
			return a.Addr()
		}
	}
	return netip.Addr{}
}

// republish leads the ports that are published already to where the container's default route is now. It
// keeps the sockets that hold them.
func (e *Engine) republish(ctx context.Context, rec *Container) (ports []Port, err error) {
	to := e.publishedTo(rec)
	e.gateways.mu.Lock()
	p, ok := e.gateways.published[rec.ID]
	if !ok || to.network.ID == "" {
		e.gateways.mu.Unlock()
		if err := e.unpublish(ctx, rec.ID); err != nil {
			return nil, err
		}
		return e.publish(ctx, rec, rec.Spec.Ports)
	}
	defer e.gateways.mu.Unlock()
	old := p.forwards
	p.forwards = nil
	for _, port := range rec.Published {
		addr := to.address(port)
		if !addr.IsValid() {
			continue // no IPv6 there
		}
		ports = append(ports, port)
		p.forwards = append(p.forwards, network.Forward{Proto: port.Proto, HostIP: port.HostIP, HostPort: port.HostPort, To: netip.AddrPortFrom(addr, port.ContainerPort)})
	}
	e.gateways.published[rec.ID] = p
	if err := e.network.RemoveForwards(ctx, e.natTable(), old); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return ports, err
	}
	return ports, e.addForwardsLocked(ctx, p.forwards)
}

// addForwardsLocked adds to the rules, or writes all of them if they are not there. The caller holds e.gateways.mu.
func (e *Engine) addForwardsLocked(ctx context.Context, list []network.Forward) error {
	if e.gateways.opening {
		return nil
	}
	err := e.network.AddForwards(ctx, e.natTable(), list)
	if errors.Is(err, errdefs.ErrNotFound) {
		err = e.writeRulesLocked(ctx)
	}
	return err
}

// unpublish takes back what publish did. It is called for each container that has ended.
func (e *Engine) unpublish(ctx context.Context, id string) error {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	p, ok := e.gateways.published[id]
	if !ok {
		return nil
	}
	delete(e.gateways.published, id)
	var err error
	if !e.gateways.opening {
		if err = e.network.RemoveForwards(ctx, e.natTable(), p.forwards); errors.Is(err, errdefs.ErrNotFound) {
			err = e.writeRulesLocked(ctx)
		}
	}
	return errors.Join(err, p.close())
}

// forwardsLocked are all that there are, in an order that stays. The caller holds e.gateways.mu.
func (b *gateways) forwardsLocked() []network.Forward {
	var all []network.Forward
	for _, p := range b.published {
		all = append(all, p.forwards...)
	}
	slices.SortFunc(all, func(a, b network.Forward) int { return a.Compare(b) })
	return all
}

// claimPort takes the first port of a range that is free on the host.
func claimPort(p Port) (io.Closer, Port, error) {
	end := max(p.HostPort, p.HostPortEnd)
	for port := p.HostPort; ; port++ {
		claim, got, err := listen(p, port)
		switch {
		case err == nil:
			p.HostPort, p.HostPortEnd = got, 0
			return claim, p, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, p, fmt.Errorf("port %d/%s: %w: %w", port, p.Proto, err, errdefs.ErrInvalid)
		case port == end:
			return nil, p, fmt.Errorf("bind for %s:%s failed: port is already allocated: %w", p.hostIP(), p.hostPorts(), errdefs.ErrConflict)
		}
	}
}

func (p Port) hostIP() netip.Addr {
	if p.HostIP.IsValid() {
		return p.HostIP
	}
	return netip.IPv4Unspecified()
}

func (p Port) hostPorts() string {
	if p.HostPortEnd > p.HostPort {
		return fmt.Sprintf("%d-%d", p.HostPort, p.HostPortEnd)
	}
	return strconv.Itoa(int(p.HostPort))
}

func listen(p Port, port uint16) (io.Closer, uint16, error) {
	at, family := netip.AddrPortFrom(p.hostIP(), port), "4"
	if p.hostIP().Is6() {
		family = "6" // alone: the same port of IPv4 is another one
	}
	if p.Proto == "udp" {
		c, err := net.ListenUDP("udp"+family, net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, 0, err
		}
		return c, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	c, err := net.ListenTCP("tcp"+family, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, 0, err
	}
	return listener{c}, c.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// listener gives its port back when it is closed, even while a child that was forked meanwhile
// still has its descriptor.
type listener struct{ *net.TCPListener }

func (l listener) Close() error {
	raw, err := l.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // it is closed anyway
	}
	return errors.Join(err, l.TCPListener.Close())
}
