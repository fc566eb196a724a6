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
	case p.HostIP.IsValid() && !p.HostIP.Is4():
		return fmt.Errorf("host address %s is not IPv4: the bridge network has no IPv6", p.HostIP)
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
func (e *Engine) publish(ctx context.Context, rec *Container, wanted []Port) (ports []Port, err error) {
	if len(wanted) == 0 || len(rec.Spec.Endpoints) == 0 {
		return nil, nil
	}
	to := rec.Spec.Endpoints[0].Addresses[0].Addr()
	var p published
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for _, w := range wanted {
		claim, got, err := claimPort(w)
		if err != nil {
			return nil, err
		}
		p.claims = append(p.claims, claim)
		p.forwards = append(p.forwards, network.Forward{Proto: got.Proto, HostIP: got.HostIP, HostPort: got.HostPort, To: netip.AddrPortFrom(to, got.ContainerPort)})
		ports = append(ports, got)
	}
	e.bridge.mu.Lock()
	defer e.bridge.mu.Unlock()
	e.bridge.published[rec.ID] = p
	if err := e.openBridgeLocked(ctx); err != nil {
		delete(e.bridge.published, rec.ID)
		return nil, err
	}
	return ports, nil
}

// unpublish takes back what publish did. It is called for each container that has ended.
func (e *Engine) unpublish(ctx context.Context, id string) error {
	e.bridge.mu.Lock()
	defer e.bridge.mu.Unlock()
	p, ok := e.bridge.published[id]
	if !ok {
		return nil
	}
	delete(e.bridge.published, id)
	return errors.Join(e.openBridgeLocked(ctx), p.close())
}

// forwardsLocked are all that there are, in an order that stays. The caller holds e.bridge.mu.
func (b *bridge) forwardsLocked() []network.Forward {
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
	at := netip.AddrPortFrom(p.hostIP(), port)
	if p.Proto == "udp" {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return nil, 0, err
		}
		return c, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	c, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, 0, err
	}
	return c, c.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}
