package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// Join is a container's membership in a network.
type Join struct {
	// Network is its ID. In a Spec it is an ID, the beginning of one, or a name; one that isn't there when the
	// container is created must be when it starts.
	Network string
	// Name is the network's.
	Name string `json:",omitempty"`
	// EndpointID is that of the endpoint in Spec.Endpoints, once the container was started.
	EndpointID string `json:",omitempty"`
	// IPv4, IPv6 and MAC are what somebody asked for; the zero values let the engine choose.
	IPv4 netip.Addr `json:",omitzero"`
	IPv6 netip.Addr `json:",omitzero"`
	MAC  string     `json:",omitempty"`
	// LinkLocal are addresses besides those, of 169.254.0.0/16 or fe80::/64.
	LinkLocal []netip.Addr `json:",omitempty"`
	// Sysctls are parameters of the device.
	Sysctls []network.DeviceSysctl `json:",omitempty"`
	// Aliases are names of the container in this network besides its own.
	Aliases []string `json:",omitempty"`
	// Links are other containers by names that this one alone knows.
	Links []Link `json:",omitempty"`
	// IfName is the device's name in the container; "eth" and a number if empty.
	IfName string `json:",omitempty"`
	// Priority decides which network has the default route: the highest, and of equal ones the first by name.
	Priority int `json:",omitempty"`
}

// Link is another container under a name of its own.
type Link struct {
	Container string // ID or name
	Alias     string
}

// claim is what a container holds in a network from before its start until after its end.
type claim struct {
	network  string // ID
	endpoint network.Endpoint
}

// join puts t, which is about to start, into its networks. The caller holds t's lock, and calls
// leave after an error as well.
func (e *Engine) join(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	if rec.Spec.NetworkMode != NetworkBridge {
		return nil
	}
	joins := slices.Clone(rec.Spec.Networks)
	nets := make([]Network, len(joins))
	var err error
	for i := range joins {
		if nets[i], err = e.networkOf(&joins[i]); err != nil {
			return err
		}
	}
	if err := e.checkLinks(rec); err != nil {
		return err
	}
	endpoints, err := e.claim(t, joins, nets)
	if err != nil {
		return fmt.Errorf("failed to set up container networking: %w", err)
	}
	// On record before it is in the kernel, so that a crash leaves nothing that Open would not find.
	err = e.amend(t, lazy, func(c *Container) { c.Spec.Networks, c.Spec.Endpoints = joins, endpoints })
	if err != nil {
		return err
	}
	for i := range nets {
		if err := e.openNetwork(ctx, &nets[i]); err != nil {
			return fmt.Errorf("network %s: %w", nets[i].Name, err)
		}
	}
	if err := e.plug(ctx, t); err != nil {
		return err
	}
	for i := range nets {
		e.emitNetwork(ActionConnect, &nets[i], t.id)
	}
	e.refreshLinks(t)
	return nil
}

// plug makes the kernel, the container's files and its name service agree with its endpoints.
func (e *Engine) plug(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	if err := e.network.Plug(ctx, e.netPath(t.id), rec.routed()); err != nil {
		return err
	}
	dir := e.containerDir(t.id)
	if err := errors.Join(e.writeEtc(rec, dir), writeRecord(dir, rec)); err != nil {
		return err
	}
	return e.openNames(t)
}

// leave takes t out of its networks, as after its end. It may be repeated. The caller holds t's lock.
func (e *Engine) leave(ctx context.Context, t *tracked) error {
	rec := e.record(t)
	if rec.Spec.NetworkMode != NetworkBridge {
		return nil
	}
	e.closeNames(t)
	if err := e.network.Unplug(ctx, e.netPath(t.id), rec.Spec.Endpoints); err != nil {
		return err
	}
	e.mu.Lock()
	claims := t.claims
	t.claims = nil
	e.mu.Unlock()
	for _, c := range claims {
		if n, err := e.Network(c.network); err == nil {
			e.emitNetwork(ActionDisconnect, &n, t.id)
		}
	}
	if slices.ContainsFunc(rec.Spec.Networks, func(j Join) bool { return j.Network == BridgeNetworkID }) {
		return e.closeBridge(ctx)
	}
	return nil
}

// networkOf finds the network that j means, and names it in j. One that was removed and made
// again under its name is the same to a container.
func (e *Engine) networkOf(j *Join) (Network, error) {
	n, err := e.Network(j.Network)
	if errors.Is(err, errdefs.ErrNotFound) && j.Name != "" && j.Name != j.Network {
		n, err = e.Network(j.Name)
	}
	if err != nil {
		return n, err
	}
	switch {
	case n.ConfigOnly:
		return n, fmt.Errorf("cannot create endpoint on configuration-only network %s: %w", n.Name, errdefs.ErrForbidden)
	case n.Driver == driverHost:
		return n, fmt.Errorf("container cannot be disconnected from host network or connected to host network: %w", errdefs.ErrInvalid)
	case n.Driver == driverNull:
		return n, fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrInvalid)
	}
	if j.Network != n.ID {
		j.EndpointID = ""
	}
	j.Network, j.Name = n.ID, n.Name
	return n, nil
}

// checkJoin refuses what a container cannot be in n, as moby does (daemon/container_operations.go).
func (e *Engine) checkJoin(j *Join, n *Network) error {
	if n.Predefined() && len(j.Aliases) > 0 {
		return fmt.Errorf("network-scoped alias is supported only for containers in user defined networks: %w", errdefs.ErrInvalid)
	}
	if n.Driver == DriverIPvlan && j.MAC != "" {
		return fmt.Errorf("ipvlan interfaces do not support custom mac address assignment: network %s: %w", n.Name, errdefs.ErrInvalid)
	}
	for _, a := range j.LinkLocal {
		if !a.IsLinkLocalUnicast() || a.Is4In6() {
			return fmt.Errorf("invalid link local IP address: %s: it is in neither 169.254.0.0/16 nor fe80::/64: %w", a, errdefs.ErrInvalid)
		}
	}
	for _, a := range []netip.Addr{j.IPv4, j.IPv6} {
		if err := n.checkAddress(a); err != nil {
			return err
		}
	}
	return nil
}

// planJoins names the networks that are there already.
func (e *Engine) planJoins(spec *Spec) error {
	if spec.NetworkMode != NetworkBridge {
		return nil
	}
	if len(spec.Networks) == 0 {
		spec.Networks = []Join{{Network: BridgeNetworkID}}
	}
	spec.Networks = slices.Clone(spec.Networks)
	seen := map[string]bool{}
	for i := range spec.Networks {
		j := &spec.Networks[i]
		n, err := e.networkOf(j)
		switch {
		case errors.Is(err, errdefs.ErrNotFound):
			j.Name = j.Network // it must be there when the container starts
		case err != nil:
			return err
		default:
			if err := e.checkJoin(j, &n); err != nil {
				return err
			}
			if n.ID == BridgeNetworkID {
				if err := e.planLinks(j); err != nil {
					return err
				}
			}
		}
		if seen[j.Network] {
			return fmt.Errorf("the network %s is named twice: %w", j.Name, errdefs.ErrInvalid)
		}
		seen[j.Network] = true
	}
	return nil
}

// claim gives t an endpoint in each of the networks. An address that t had before is its again if
// nobody took it meanwhile.
func (e *Engine) claim(t *tracked, joins []Join, nets []Network) ([]network.Endpoint, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	claims := slices.Clone(t.claims)
	var endpoints []network.Endpoint
	for i := range joins {
		n := &nets[i]
		if _, there := e.networks[n.ID]; !there && n.ID != BridgeNetworkID {
			return nil, fmt.Errorf("network %s not found: %w", n.Name, errdefs.ErrNotFound)
		}
		if err := e.checkJoin(&joins[i], n); err != nil {
			return nil, err
		}
		ep, err := e.endpointLocked(t, &joins[i], n, len(claims))
		if err != nil {
			return nil, err
		}
		claims, endpoints = append(claims, claim{n.ID, ep}), append(endpoints, ep)
	}
	t.claims = claims
	return endpoints, nil
}

// endpointLocked makes t's endpoint in n, the one at that position. The caller holds e.mu.
func (e *Engine) endpointLocked(t *tracked, j *Join, n *Network, position int) (network.Endpoint, error) {
	o, err := n.options()
	if err != nil {
		return network.Endpoint{}, err
	}
	if j.EndpointID == "" {
		sum := sha256.Sum256([]byte(t.id + n.ID))
		j.EndpointID = hex.EncodeToString(sum[:])
	}
	ep := network.Endpoint{ID: j.EndpointID, GuestDevice: j.IfName, MTU: o.mtu, Sysctls: j.Sysctls}
	if n.shares() {
		ep.Kind, ep.Parent, ep.Mode, ep.Flag = network.Kind(n.Driver), n.Device, o.mode, o.flag
	} else {
		ep.Kind, ep.Bridge, ep.Hairpin, ep.Isolated, ep.HostDevice = network.KindBridge, n.Device, true, o.apart, "veth"+j.EndpointID[:10]
	}
	if ep.GuestDevice == "" && o.prefix != "eth" {
		ep.GuestDevice = o.prefix + strconv.Itoa(position)
	}
	taken, resting := e.takenLocked(t, n.ID)
	earlier := map[netip.Addr]bool{}
	for _, old := range t.rec.Spec.Endpoints {
		if old.ID == ep.ID {
			for _, a := range old.Addresses {
				earlier[a.Addr()] = true
			}
		}
	}
	for _, ipv6 := range []bool{false, true} {
		pools := n.poolsOf(ipv6)
		if len(pools) == 0 {
			continue
		}
		asked := j.IPv4
		if ipv6 {
			asked = j.IPv6
		}
		a, p, err := choose(pools, asked, earlier, taken, resting)
		if err != nil {
			return ep, err
		}
		ep.Addresses = append(ep.Addresses, netip.PrefixFrom(a, p.Subnet.Bits()))
		router := p.router()
		switch {
		case n.Internal || router == a || n.shares() && o.device == "":
			router = netip.Addr{}
		case o.routed():
			router = unspecified(ipv6)
		}
		if ipv6 {
			ep.Gateway6 = router
		} else {
			ep.Gateway4 = router
		}
	}
	for _, a := range j.LinkLocal {
		ep.LinkLocal = append(ep.LinkLocal, netip.PrefixFrom(a, map[bool]int{true: 16, false: 64}[a.Is4()]))
	}
	if n.Driver != DriverIPvlan {
		ep.MAC = firstOf(j.MAC, macOf(ep))
	}
	return ep, nil
}

func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// choose is asked, if it is free, or else an address that the container had earlier, one that nobody
// has, or one that somebody has who does not run. The pools are one network's of one family.
func choose(pools []*Pool, asked netip.Addr, earlier, taken, resting map[netip.Addr]bool) (netip.Addr, *Pool, error) {
	if asked.IsValid() {
		i := slices.IndexFunc(pools, func(p *Pool) bool { return p.contains(asked) })
		if i < 0 { // the network was made anew with another subnet
			return asked, nil, fmt.Errorf("invalid IP address %s: the network's subnet is %s now: %w", asked, pools[0].Subnet, errdefs.ErrInvalid)
		}
		if taken[asked] || asked == pools[i].Gateway {
			return asked, nil, fmt.Errorf("%s: Address already in use: %w", asked, errdefs.ErrForbidden)
		}
		return asked, pools[i], nil
	}
	for _, p := range pools {
		for a := range earlier {
			if p.contains(a) && !taken[a] && a != p.Gateway {
				return a, p, nil
			}
		}
	}
	for _, refused := range []func(netip.Addr) bool{
		func(a netip.Addr) bool { return taken[a] || resting[a] },
		func(a netip.Addr) bool { return taken[a] },
	} {
		for _, p := range pools {
			if a, ok := p.pick(refused); ok {
				return a, p, nil
			}
		}
	}
	return netip.Addr{}, nil, fmt.Errorf("no available IPv4 or IPv6 addresses on this network's address pool %s: %w", pools[0].Subnet, errdefs.ErrExhausted)
}

// takenLocked are the addresses that others have in a network, and those that others who don't run
// had or will ask for. The caller holds e.mu.
func (e *Engine) takenLocked(but *tracked, id string) (taken, resting map[netip.Addr]bool) {
	taken, resting = map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, t := range e.containers {
		if t == but {
			continue
		}
		for _, c := range t.claims {
			if c.network == id {
				for _, a := range c.endpoint.Addresses {
					taken[a.Addr()] = true
				}
			}
		}
		for _, j := range t.rec.Spec.Networks {
			if j.Network != id {
				continue
			}
			resting[j.IPv4], resting[j.IPv6] = true, true
			if ep, ok := t.rec.endpoint(&j); ok {
				for _, a := range ep.Addresses {
					resting[a.Addr()] = true
				}
			}
		}
	}
	return taken, resting
}

// macOf is a MAC address of ep's first address, as dockerd's were: a neighbour's cache stays right when a container comes
// in another's place.
func macOf(ep network.Endpoint) string {
	for _, a := range ep.Addresses {
		if a.Addr().Is4() {
			o := a.Addr().As4()
			return fmt.Sprintf("02:42:%02x:%02x:%02x:%02x", o[0], o[1], o[2], o[3])
		}
	}
	return fmt.Sprintf("02:42:%s:%s:%s:%s", ep.ID[:2], ep.ID[2:4], ep.ID[4:6], ep.ID[6:8])
}

// endpoint is c's endpoint of a membership.
func (c *Container) endpoint(j *Join) (network.Endpoint, bool) {
	i := slices.IndexFunc(c.Spec.Endpoints, func(ep network.Endpoint) bool { return j.EndpointID != "" && ep.ID == j.EndpointID })
	if i < 0 {
		return network.Endpoint{}, false
	}
	return c.Spec.Endpoints[i], true
}

// Endpoint is the endpoint of a membership while c runs.
func (c *Container) Endpoint(j Join) (network.Endpoint, bool) {
	if !c.State.Live() {
		return network.Endpoint{}, false
	}
	return c.endpoint(&j)
}

// router is the endpoint with the default route among those that fit.
func (c *Container) router(fits func(network.Endpoint) bool) (best network.Endpoint, join Join, ok bool) {
	for _, j := range c.Spec.Networks {
		ep, there := c.endpoint(&j)
		if !there || !fits(ep) {
			continue
		}
		if !ok || j.Priority > join.Priority || j.Priority == join.Priority && strings.Compare(j.Name, join.Name) < 0 {
			best, join, ok = ep, j, true
		}
	}
	return best, join, ok
}

// routed are c's endpoints with a gateway in one of them only, for each family.
func (c *Container) routed() []network.Endpoint {
	four, _, _ := c.router(func(ep network.Endpoint) bool { return ep.Gateway4.IsValid() })
	six, _, _ := c.router(func(ep network.Endpoint) bool { return ep.Gateway6.IsValid() })
	list := slices.Clone(c.Spec.Endpoints)
	for i := range list {
		if list[i].ID != four.ID {
			list[i].Gateway4 = netip.Addr{}
		}
		if list[i].ID != six.ID {
			list[i].Gateway6 = netip.Addr{}
		}
	}
	return list
}
