package engine

import (
	"context"
	"errors"
	"fmt"
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
	// HostIP is the host's address; the zero Addr is every address that the network's options allow. Of a port in
	// Container.Published it is the one.
	HostIP netip.Addr `json:",omitzero"`
	// HostPort and HostPortEnd are a range to choose from; HostPort alone is that port, and 0
	// any port that is free. Of a port in Container.Published HostPort is the chosen one; it is 0 where the network's gateway
	// mode is routed, since the host has none then.
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
type published []*binding

// binding is one published port at one address of the host.
type binding struct {
	port Port
	to   netip.AddrPort
	// direct: the container is reached at its own address.
	direct bool
	// socket keeps other programs of the host from the port, and takes what comes for it in spite of the rules.
	socket hostSocket
}

// hostSocket is a socket of the host's. Lead says where what it takes is to go; the zero AddrPort is nowhere.
type hostSocket interface {
	Lead(to netip.AddrPort)
	Close() error
}

// forward is what the packet filter needs to know, if it can do it.
func (b *binding) forward() (network.Forward, bool) {
	f := network.Forward{Proto: b.port.Proto, HostIP: b.port.HostIP, HostPort: b.port.HostPort, To: b.to, Direct: b.direct}
	return f, b.direct || b.to.IsValid() && b.to.Addr().Is6() == b.port.HostIP.Is6() && !(b.port.HostIP.Is6() && b.port.HostIP.IsLoopback())
}

// lead sends what comes for the port to another address. What the packet filter does not lead there the socket does: that is
// what comes for ::1, and for IPv6 addresses of the host when the container has none.
func (b *binding) lead(to netip.AddrPort) {
	b.to = to
	if b.socket != nil && b.port.HostIP.Is6() {
		b.socket.Lead(to)
	}
}

func (p published) forwards() (list []network.Forward) {
	for _, b := range p {
		if f, ok := b.forward(); ok {
			list = append(list, f)
		}
	}
	return list
}

func (p published) close() error {
	var errs []error
	for _, b := range p {
		if b.socket != nil {
			errs = append(errs, b.socket.Close())
		}
	}
	return errors.Join(errs...)
}

// publish forwards the ports that wanted names to a container, and returns them with the host's ports that
// were chosen. The engine listens on these itself: no other program of the host gets them. ErrConflict: a port is
// taken; then nothing is published.
//
// A port that names no address of the host is one of IPv4 and one of IPv6.
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
	for _, w := range wanted {
		hosts, implied := to.hosts(w)
		if slices.ContainsFunc(wanted, func(o Port) bool { return o.HostIP.Is6() && o.HostPort == w.HostPort && o.Proto == w.Proto }) {
			implied = nil // an earlier version published it, at both
		}
		for _, host := range slices.Concat(hosts, implied) {
			if !to.address(host).IsValid() {
				return nil, fmt.Errorf("port %d/%s: the network %s has no address of the family of the host address %s: %w", w.ContainerPort, w.Proto, to.network.Name, host, errdefs.ErrInvalid)
			}
		}
		direct := func(host netip.Addr) bool { return to.routed(host) }
		for _, host := range slices.Concat(hosts, implied) {
			if direct(host) && to.address(host).Is6() == host.Is6() {
				b := &binding{port: Port{Proto: w.Proto, ContainerPort: w.ContainerPort, HostIP: host}, direct: true}
				b.lead(netip.AddrPortFrom(to.address(host), w.ContainerPort))
				p = append(p, b)
			}
		}
		bound, err := e.bind(w, slices.DeleteFunc(hosts, direct), slices.DeleteFunc(implied, direct), to)
		if err != nil {
			return nil, err
		}
		p = append(p, bound...)
	}
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	e.gateways.published[rec.ID] = p
	if err := e.addForwardsLocked(ctx, p.forwards()); err != nil {
		delete(e.gateways.published, rec.ID)
		return nil, err
	}
	return p.ports(), nil
}

func (p published) ports() (list []Port) {
	for _, b := range p {
		list = append(list, b.port)
	}
	return list
}

// target is where a container's ports lead.
type target struct {
	network  Network
	options  networkOptions
	endpoint network.Endpoint
}

// publishedTo is the endpoint that a container's ports lead to: that of its default route, in a bridge
// network that is not internal. The zero target if there is none.
func (e *Engine) publishedTo(rec *Container) target {
	ep, join, ok := rec.router(anyRouter)
	if !ok || ep.Kind != network.KindBridge {
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
	return target{network: n, options: o, endpoint: ep}
}

// hosts are the host's addresses that a port is published at, and those besides which it is not missed at if the host does not
// have them.
func (t target) hosts(w Port) (hosts, implied []netip.Addr) {
	if w.HostIP.IsValid() {
		return []netip.Addr{w.HostIP}, nil
	}
	four, six := t.options.hostIPv4, t.options.hostIPv6
	if !four.IsValid() {
		four = netip.IPv4Unspecified()
	}
	// As dockerd with its proxy: an IPv4 network's ports are at the host's IPv6 addresses as well, unless it is told where.
	wanted := t.network.IPv6 || six.IsValid() || four.IsUnspecified()
	if !six.IsValid() {
		six = netip.IPv6Unspecified()
	}
	switch {
	case !t.network.IPv4:
		return []netip.Addr{six}, nil
	case wanted:
		return []netip.Addr{four}, []netip.Addr{six}
	}
	return []netip.Addr{four}, nil
}

// routed says that ports of the family of a host's address are reached at the container's own.
func (t target) routed(host netip.Addr) bool {
	if host.Is6() && t.network.IPv6 {
		return t.options.mode6 == network.ModeRouted
	}
	return t.options.mode4 == network.ModeRouted
}

// address is the container's address that a port leads to: of the family of the host's address, or for IPv6 at least of IPv4.
func (t target) address(host netip.Addr) (best netip.Addr) {
	for _, a := range t.endpoint.Addresses {
		if a.Addr().Is6() == host.Is6() {
			return a.Addr()
		}
		if a.Addr().Is4() {
			best = a.Addr()
		}
	}
	return best
}

// republish leads the ports that are published already to where the container's default route is now. It
// keeps the sockets that hold them.
func (e *Engine) republish(ctx context.Context, rec *Container) (ports []Port, err error) {
	to := e.publishedTo(rec)
	e.gateways.mu.Lock()
	p, ok := e.gateways.published[rec.ID]
	kept := ok && to.network.ID != ""
	for _, b := range p {
		kept = kept && to.routed(b.port.HostIP) == b.direct && to.address(b.port.HostIP).IsValid()
	}
	if !kept {
		e.gateways.mu.Unlock()
		if err := e.unpublish(ctx, rec.ID); err != nil {
			return nil, err
		}
		return e.publish(ctx, rec, rec.Spec.Ports)
	}
	defer e.gateways.mu.Unlock()
	old := p.forwards()
	for _, b := range p {
		b.lead(netip.AddrPortFrom(to.address(b.port.HostIP), b.port.ContainerPort))
	}
	if err := e.network.RemoveForwards(ctx, e.natTable(), old); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return p.ports(), err
	}
	e.forgetFlows(ctx, old)
	return p.ports(), e.addForwardsLocked(ctx, p.forwards())
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
	if err == nil {
		e.forgetFlows(ctx, list)
	}
	return err
}

// forgetFlows makes clients of UDP ports that go on sending be led anew.
func (e *Engine) forgetFlows(ctx context.Context, list []network.Forward) {
	if err := e.network.ForgetFlows(ctx, list); err != nil {
		e.log.Warn("clients of a UDP port may be led where it led before, until they pause for some minutes", "error", err)
	}
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
		list := p.forwards()
		if err = e.network.RemoveForwards(ctx, e.natTable(), list); errors.Is(err, errdefs.ErrNotFound) {
			err = e.writeRulesLocked(ctx)
		}
		e.forgetFlows(ctx, list)
	}
	return errors.Join(err, p.close())
}

// forwardsLocked are all that there are, in an order that stays. The caller holds e.gateways.mu.
func (b *gateways) forwardsLocked() []network.Forward {
	var all []network.Forward
	for _, p := range b.published {
		all = append(all, p.forwards()...)
	}
	slices.SortFunc(all, func(a, b network.Forward) int { return a.Compare(b) })
	return all
}

// randomTries bounds the search for a port that is free at several addresses of the host.
const randomTries = 50

// bind takes the first port of a range that is free at all of the host's addresses.
func (e *Engine) bind(p Port, hosts, implied []netip.Addr, to target) (published, error) {
	if len(hosts) == 0 {
		hosts, implied = implied, nil
	}
	if len(hosts) == 0 {
		return nil, nil
	}
	end := max(p.HostPort, p.HostPortEnd)
	var tried published // of random ports, so that the kernel gives another one
	defer func() {
		if err := tried.close(); err != nil {
			e.log.Error("giving a port back", "error", err)
		}
	}()
	for port := p.HostPort; ; {
		bound, err := bindAt(p, port, hosts, implied, to)
		switch {
		case err == nil:
			return bound, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, errors.Join(fmt.Errorf("port %d/%s: %w: %w", port, p.Proto, err, errdefs.ErrInvalid), bound.close())
		case port == 0 && len(tried) < randomTries*len(hosts):
			tried = append(tried, bound...)
			continue
		case port != end:
			port++
			if err := bound.close(); err != nil {
				return nil, err
			}
			continue
		}
		if err := bound.close(); err != nil {
			return nil, err
		}
		return nil, e.taken(p, hosts[0], to)
	}
}

// bindAt takes one port at all of the host's addresses. After an error it returns those that it has taken already.
func bindAt(p Port, port uint16, hosts, implied []netip.Addr, to target) (bound published, err error) {
	p.HostPortEnd = 0
	for _, p.HostIP = range slices.Concat(hosts, implied) {
		var socket hostSocket
		if socket, p.HostPort, err = listen(p, port); err != nil {
			if slices.Contains(implied, p.HostIP) && !errors.Is(err, syscall.EADDRINUSE) {
				continue // a host without IPv6
			}
			return bound, err
		}
		port = p.HostPort
		b := &binding{port: p, socket: socket}
		b.lead(netip.AddrPortFrom(to.address(p.HostIP), p.ContainerPort))
		bound = append(bound, b)
	}
	return bound, nil
}

// taken says who has a port, in Docker's words.
func (e *Engine) taken(p Port, host netip.Addr, to target) error {
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	for _, other := range e.gateways.published {
		for _, b := range other {
			if b.port.Proto == p.Proto && b.port.HostPort >= p.HostPort && b.port.HostPort <= max(p.HostPort, p.HostPortEnd) && p.HostPort != 0 {
				return fmt.Errorf("Bind for %s failed: port is already allocated: %w", net.JoinHostPort(host.String(), p.hostPorts()), errdefs.ErrConflict) //nolint:staticcheck // Docker's words
			}
		}
	}
	return fmt.Errorf("failed to bind host port for %s:%s/%s: address already in use: %w", net.JoinHostPort(host.String(), p.hostPorts()),
		netip.AddrPortFrom(to.address(host), p.ContainerPort), p.Proto, errdefs.ErrConflict)
}

func (p Port) hostPorts() string {
	if p.HostPortEnd > p.HostPort {
		return fmt.Sprintf("%d-%d", p.HostPort, p.HostPortEnd)
	}
	return strconv.Itoa(int(p.HostPort))
}
