package dockerapi

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// portsOf translates the ports to publish: those that are named, and with PublishAllPorts those
// that the image or the request exposes besides.
func portsOf(body *createRequest, exposed map[string]struct{}, mode engine.NetworkMode) ([]engine.Port, error) {
	h := body.HostConfig
	var out []engine.Port
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			p := engine.Port{Proto: string(port.Proto()), ContainerPort: port.Num(), HostIP: b.HostIP}
			var err error
			if p.HostPort, p.HostPortEnd, err = hostPorts(b.HostPort); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
	}
	if h.PublishAllPorts {
		all, err := exposedPorts(body, exposed)
		if err != nil {
			return nil, err
		}
		for _, port := range all {
			if _, named := h.PortBindings[port]; !named {
				out = append(out, engine.Port{Proto: string(port.Proto()), ContainerPort: port.Num()})
			}
		}
	}
	if mode != engine.NetworkBridge {
		return nil, nil // as Docker: there is nothing to publish from or to
	}
	// Ports that are named come first, so that no other gets them by chance.
	slices.SortStableFunc(out, func(a, b engine.Port) int {
		if (a.HostPort == 0) != (b.HostPort == 0) {
			return cmp.Compare(b.HostPort, a.HostPort)
		}
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.ContainerPort, b.ContainerPort))
	})
	return out, nil
}

// hostPorts reads "", "8080" or "8000-8010".
func hostPorts(text string) (first, last uint16, err error) {
	if text == "" {
		return 0, 0, nil
	}
	from, to, ranged := strings.Cut(text, "-")
	a, err := strconv.ParseUint(from, 10, 16)
	b := uint64(0)
	if err == nil && ranged {
		if b, err = strconv.ParseUint(to, 10, 16); err == nil && b < a {
			err = errdefs.ErrInvalid
		}
	}
	if err != nil {
		return 0, 0, fmt.Errorf("invalid port specification: %q: %w", text, errdefs.ErrInvalid)
	}
	return uint16(a), uint16(b), nil
}

// exposedPorts are those that the request or the image names.
func exposedPorts(body *createRequest, image map[string]struct{}) ([]network.Port, error) {
	set := map[network.Port]bool{}
	for p := range body.ExposedPorts {
		set[p] = true
	}
	for text := range image {
		r, err := network.ParsePortRange(text)
		if err != nil {
			return nil, fmt.Errorf("the image exposes the port %q: %w: %w", text, err, errdefs.ErrInvalid)
		}
		for p := range r.All() {
			set[p] = true
		}
	}
	var list []network.Port
	for p := range set {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b network.Port) int { return strings.Compare(a.String(), b.String()) })
	return list, nil
}

// portMap is what inspect shows: the ports that are published now, and the others that are exposed.
func (s *server) portMap(c *engine.Container, asked *createRequest) network.PortMap {
	out := network.PortMap{}
	if !c.State.Live() {
		return out
	}
	for _, p := range s.exposed(c, asked) {
		out[p] = nil
	}
	for _, p := range c.Published {
		port, ok := network.PortFrom(p.ContainerPort, network.IPProtocol(p.Proto))
		if ok {
			b := network.PortBinding{HostIP: shownIP(p)}
			if p.HostPort != 0 { // the network's gateway mode is routed
				b.HostPort = strconv.Itoa(int(p.HostPort))
			}
			out[port] = append(out[port], b)
		}
	}
	return out
}

func (s *server) exposed(c *engine.Container, asked *createRequest) []network.Port {
	if c.Spec.NetworkMode != engine.NetworkBridge || asked.Config == nil {
		return nil
	}
	var image map[string]struct{}
	if img, err := s.engine.Images().Get(c.ImageDigest); err == nil {
		image = img.Config.Config.ExposedPorts
	}
	list, err := exposedPorts(asked, image)
	if err != nil {
		return nil // an image that says nonsense ran nevertheless
	}
	return list
}

// portSummaries is the column PORTS of docker ps.
func (s *server) portSummaries(c *engine.Container, asked *createRequest) []container.PortSummary {
	out := []container.PortSummary{}
	if !c.State.Live() || c.Spec.NetworkMode != engine.NetworkBridge {
		return out
	}
	for port, bindings := range s.portMap(c, asked) {
		one := container.PortSummary{PrivatePort: port.Num(), Type: string(port.Proto())}
		if len(bindings) == 0 {
			out = append(out, one)
		}
		for _, b := range bindings {
			public, _ := strconv.ParseUint(b.HostPort, 10, 16) // it is one of ours
			one.IP, one.PublicPort = b.HostIP, uint16(public)
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b container.PortSummary) int {
		return cmp.Or(cmp.Compare(a.PrivatePort, b.PrivatePort), cmp.Compare(a.PublicPort, b.PublicPort), strings.Compare(a.Type, b.Type))
	})
	return out
}

// hasPort applies the filters publish, which is about the host's ports, and expose, about the container's: a port, a
// range, with a protocol or without.
func (s *server) hasPort(c *engine.Container, filter string, published bool) bool {
	wanted, err := network.ParsePortRange(filter)
	if err != nil {
		return false
	}
	for _, p := range s.portSummaries(c, brieflyOf(c)) {
		number := p.PrivatePort
		if published {
			number = p.PublicPort
		}
		for w := range wanted.All() {
			if number == w.Num() && p.Type == string(w.Proto()) {
				return true
			}
		}
	}
	return false
}

func shownIP(p engine.Port) netip.Addr {
	if p.HostIP.IsValid() {
		return p.HostIP
	}
	return netip.IPv4Unspecified()
}
