package dockerapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	netdev "novaagent/engine/network"
)

// networkCreateRequest is what POST /networks/create takes.
type networkCreateRequest struct {
	network.CreateRequest
	// CheckDuplicate is always done.
	CheckDuplicate bool
}

// networkSummary has the containers, too, which lists have up to 1.27.
type networkSummary struct {
	network.Network
	Containers map[string]network.EndpointResource
}

// endpointsIn are the running containers in a network.
func (s *server) endpointsIn(n engine.Network) map[string]network.EndpointResource {
	out := map[string]network.EndpointResource{}
	for _, u := range s.engine.NetworkUsers(n.ID) {
		out[u.Container.ID] = endpointResource(u)
	}
	if mode := modeOf(n); mode != "" {
		for _, c := range s.engine.List() {
			if c.State.Live() && c.Spec.NetworkMode == mode {
				out[c.ID] = network.EndpointResource{Name: c.Spec.Name, EndpointID: c.ID}
			}
		}
	}
	return out
}

// networkInfo is an engine's network as Docker shows it.
func networkInfo(n engine.Network) network.Network {
	out := network.Network{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver, EnableIPv4: n.IPv4, EnableIPv6: n.IPv6,
		Internal: n.Internal, Attachable: n.Attachable,
		IPAM:       network.IPAM{Driver: cmp.Or(n.IPAM, "default")},
		ConfigOnly: n.ConfigOnly, ConfigFrom: network.ConfigReference{Network: n.ConfigFrom},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	maps.Copy(out.Options, n.Options)
	maps.Copy(out.Labels, n.Labels)
	out.IPAM.Options = maps.Clone(n.IPAMOptions)
	for _, p := range n.Pools {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: p.Subnet, IPRange: p.Range, Gateway: p.Gateway, AuxAddress: p.Aux})
	}
	if n.IPAM == "null" && n.IPv4 {
		out.IPAM.Config = append(out.IPAM.Config, network.IPAMConfig{Subnet: netip.PrefixFrom(netip.IPv4Unspecified(), 0)})
	}
	if n.ID == engine.BridgeNetworkID {
		maps.Copy(out.Options, map[string]string{
			"com.docker.network.bridge.default_bridge":       "true",
			"com.docker.network.bridge.enable_icc":           "true",
			"com.docker.network.bridge.enable_ip_masquerade": "true",
			"com.docker.network.bridge.host_binding_ipv4":    "0.0.0.0",
			"com.docker.network.driver.mtu":                  "1500",
			"com.docker.network.bridge.name":                 n.Device,
		})
	}
	return out
}

func (s *server) networkList(r *request) error {
	f, err := r.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	for _, v := range f["type"] {
		if v != "custom" && v != "builtin" {
			return fmt.Errorf("invalid filter: 'type'='%s': %w", v, errdefs.ErrInvalid)
		}
	}
	var dangling *bool
	for _, v := range f["dangling"] {
		want, err := strconv.ParseBool(v)
		if err != nil || dangling != nil && *dangling != want {
			return fmt.Errorf("invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\"): %w", errdefs.ErrInvalid)
		}
		dangling = &want
	}
	list, err := s.engine.Networks()
	if err != nil {
		return err
	}
	out := []networkSummary{}
	for _, n := range list {
		if dangling != nil && *dangling != (!n.Predefined() && len(s.engine.NetworkUsers(n.ID)) == 0) {
			continue
		}
		if f.any("driver", func(v string) bool { return v == n.Driver }) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
			f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
			f.any("scope", func(v string) bool { return v == "local" }) &&
			f.any("type", func(v string) bool { return (v == "builtin") == n.Predefined() }) &&
			f.labels(n.Labels) {
			out = append(out, networkSummary{Network: networkInfo(n), Containers: s.endpointsIn(n)})
		}
	}
	return r.reply(http.StatusOK, out)
}

// networkInspect has no more to tell with the parameter verbose: that is about swarms.
func (s *server) networkInspect(r *request) error {
	if v := r.query.Get("verbose"); v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return fmt.Errorf("invalid value for verbose: %s: %v: %w", v, err, errdefs.ErrInvalid)
		}
	}
	if scope := r.query.Get("scope"); scope != "" && scope != "local" {
		return fmt.Errorf("network %s not found: %w", r.vars["id"], errdefs.ErrNotFound)
	}
	n, err := s.engine.Network(r.vars["id"])
	if err != nil {
		return err
	}
	return r.reply(http.StatusOK, network.Inspect{Network: networkInfo(n), Containers: s.endpointsIn(n)})
}

// modeOf is the mode of containers in the networks host and none, and empty for others.
func modeOf(n engine.Network) engine.NetworkMode {
	switch n.Name {
	case "host":
		return engine.NetworkHost
	case "none":
		return engine.NetworkNone
	}
	return ""
}

func endpointResource(u engine.NetworkUser) network.EndpointResource {
	out := network.EndpointResource{Name: u.Container.Spec.Name, EndpointID: u.Endpoint.ID}
	_ = out.MacAddress.UnmarshalText([]byte(u.Endpoint.MAC)) // it was validated
	for _, a := range u.Endpoint.Addresses {
		if a.Addr().Is4() {
			out.IPv4Address = a
		} else {
			out.IPv6Address = a
		}
	}
	return out
}

func (s *server) networkCreate(r *request) error {
	var body networkCreateRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	n, err := networkOfRequest(&body)
	if err != nil {
		return err
	}
	if n, err = s.engine.CreateNetwork(r.Context(), n); err != nil {
		return err
	}
	return r.reply(http.StatusCreated, network.CreateResponse{ID: n.ID})
}

// networkOfRequest translates a request, and refuses what cannot be honoured.
func networkOfRequest(body *networkCreateRequest) (engine.Network, error) {
	n := engine.Network{
		Name: body.Name, Driver: body.Driver, Labels: body.Labels, Options: body.Options, Internal: body.Internal, Attachable: body.Attachable,
		IPv4: body.EnableIPv4 == nil || *body.EnableIPv4, IPv6: body.EnableIPv6 != nil && *body.EnableIPv6,
	}
	if n.Driver == "" || n.Driver == "default" {
		n.Driver = engine.DriverBridge
	}
	switch {
	case n.Driver == "overlay" || body.Scope == "swarm" || body.Scope == "global":
		return n, notASwarm(nil, nil)
	case body.Scope != "" && body.Scope != "local":
		return n, fmt.Errorf("invalid scope %q: %w", body.Scope, errdefs.ErrInvalid)
	case body.Ingress:
		return n, fmt.Errorf("ingress networks are a swarm's, which this node is not part of: %w", errdefs.ErrInvalid)
	}
	n.ConfigOnly = body.ConfigOnly
	if body.ConfigFrom != nil {
		n.ConfigFrom = body.ConfigFrom.Network
	}
	if body.IPAM == nil {
		return n, nil
	}
	switch n.IPAM, n.IPAMOptions = body.IPAM.Driver, body.IPAM.Options; n.IPAM {
	case "", "default", "null":
	default:
		return n, fmt.Errorf("could not find plugin %s in v1 plugin registry: plugin not found: IPAM.Driver can be default or null: %w", body.IPAM.Driver, errdefs.ErrNotFound)
	}
	for _, c := range body.IPAM.Config {
		if !c.Subnet.IsValid() && !c.IPRange.IsValid() && !c.Gateway.IsValid() && len(c.AuxAddress) == 0 {
			continue // as good as none: clients send it
		}
		n.Pools = append(n.Pools, engine.Pool{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxAddress})
	}
	return n, nil
}

func (s *server) networkRemove(r *request) error {
	if err := s.engine.RemoveNetwork(r.Context(), r.vars["id"]); err != nil {
		return err
	}
	return r.done(http.StatusNoContent)
}

func (s *server) networkPrune(r *request) error {
	f, err := r.filters("label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.until(time.Now())
	if err != nil {
		return err
	}
	names, err := s.engine.PruneNetworks(r.Context(), func(n engine.Network) bool { return !f.prunable(n.Labels, n.Created, until) })
	if err != nil {
		return err
	}
	s.engine.TellPrune(engine.KindNetwork, 0)
	return r.reply(http.StatusOK, network.PruneReport{NetworksDeleted: names})
}

func (s *server) networkConnect(r *request) error {
	var body network.ConnectRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	n, err := s.engine.Network(r.vars["id"])
	if err != nil {
		return err
	}
	j, err := s.joinOf(n.ID, body.EndpointConfig)
	if err != nil {
		return err
	}
	if err := s.engine.Connect(r.Context(), body.Container, j); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

// networkDisconnect does the same with Force: a container that cannot be asked has left its networks already.
func (s *server) networkDisconnect(r *request) error {
	var body network.DisconnectRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	if err := s.engine.Disconnect(r.Context(), body.Container, r.vars["id"]); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

// The options of endpoints that there are.
const (
	ifNameOption  = "com.docker.network.endpoint.ifname"
	sysctlsOption = "com.docker.network.endpoint.sysctls"
)

// joinOf translates what a client asks of an endpoint in a network. Operational fields, which clients send
// back as inspect showed them, mean nothing.
func (s *server) joinOf(ref string, e *network.EndpointSettings) (engine.Join, error) {
	j := engine.Join{Network: ref}
	if e == nil {
		return j, nil
	}
	j.Aliases, j.Priority = e.Aliases, e.GwPriority
	if len(e.MacAddress) > 0 {
		j.MAC = e.MacAddress.String()
	}
	for _, option := range slices.Sorted(maps.Keys(e.DriverOpts)) {
		var err error
		switch value := e.DriverOpts[option]; option {
		case ifNameOption:
			j.IfName = value
		case sysctlsOption:
			j.Sysctls, err = endpointSysctls(value)
		default:
			err = fmt.Errorf("endpoint option %q of network %s is not available: use %s or %s: %w", option, ref, ifNameOption, sysctlsOption, errdefs.ErrInvalid)
		}
		if err != nil {
			return j, err
		}
	}
	if c := e.IPAMConfig; c != nil {
		j.IPv4, j.IPv6, j.LinkLocal = c.IPv4Address, c.IPv6Address, c.LinkLocalIPs
	}
	links, err := linksOf(e.Links)
	j.Links = links
	return j, err
}

// endpointSysctls reads "net.ipv4.conf.IFNAME.forwarding=1" and more, with commas between.
func endpointSysctls(text string) (list []netdev.DeviceSysctl, err error) {
	for one := range strings.SplitSeq(text, ",") {
		key, value, assigned := strings.Cut(one, "=")
		parts := strings.Split(key, ".")
		if !assigned || len(parts) != 5 || parts[0] != "net" || !strings.EqualFold(parts[3], netdev.DeviceName) || slices.Contains(parts, "") || strings.Contains(key, "/") {
			return nil, fmt.Errorf("%s: %q must be of the form net.X.Y.%s.Z=VALUE: %w", sysctlsOption, one, netdev.DeviceName, errdefs.ErrInvalid)
		}
		parts[3] = netdev.DeviceName // docker makes small letters of it
		list = append(list, netdev.DeviceSysctl{Path: strings.Join(parts, "/"), Value: value})
	}
	return list, nil
}

// linksOf reads CONTAINER[:ALIAS].
func linksOf(list []string) (links []engine.Link, err error) {
	for _, text := range list {
		name, alias, both := strings.Cut(text, ":")
		name, alias = strings.TrimPrefix(name, "/"), alias[strings.LastIndex(alias, "/")+1:]
		if !both {
			alias = name
		}
		if name == "" || alias == "" || strings.Contains(alias, ":") {
			return nil, fmt.Errorf("bad format for links: %s: %w", text, errdefs.ErrInvalid)
		}
		links = append(links, engine.Link{Container: name, Alias: alias})
	}
	return links, nil
}

// joinsOf are the networks of a create request, the one of NetworkMode first.
func (s *server) joinsOf(body *createRequest) ([]engine.Join, error) {
	known := func(name string) string { // networks by their names, however they are called
		name = networkName(name)
		if n, err := s.engine.Network(name); err == nil {
			return n.Name
		}
		return name
	}
	first := known(string(body.HostConfig.NetworkMode))
	settings := map[string]*network.EndpointSettings{first: nil}
	if body.NetworkingConfig != nil {
		for name, e := range body.NetworkingConfig.EndpointsConfig {
			settings[known(name)] = e
		}
	}
	others := slices.DeleteFunc(slices.Sorted(maps.Keys(settings)), func(name string) bool { return name == first })
	var joins []engine.Join
	for _, name := range append([]string{first}, others...) {
		if name == "none" || name == "host" {
			return nil, fmt.Errorf("conflicting options: a container of the network %s cannot be in the network %s as well: %w", first, name, errdefs.ErrInvalid)
		}
		j, err := s.joinOf(name, settings[name])
		if err != nil {
			return nil, err
		}
		if name == first {
			links, err := linksOf(body.HostConfig.Links)
			if err != nil {
				return nil, err
			}
			j.Links = append(j.Links, links...)
			if body.MacAddress != "" && j.MAC == "" {
				j.MAC = body.MacAddress // as clients before 1.44 ask for it
			}
		}
		joins = append(joins, j)
	}
	return joins, nil
}

// networksOf are the container's networks by name.
func networksOf(c *engine.Container) map[string]*network.EndpointSettings {
	out := map[string]*network.EndpointSettings{}
	switch c.Spec.NetworkMode {
	case engine.NetworkNone, engine.NetworkHost:
		name := string(c.Spec.NetworkMode)
		out[name] = &network.EndpointSettings{NetworkID: predefinedIDs[name]}
		if c.State.Live() {
			out[name].EndpointID = c.ID
		}
		return out
	case engine.NetworkBridge:
		for _, j := range c.Spec.Networks {
			out[j.Name] = joinSettings(c, j)
		}
		return out
	}
	if _, shared := c.Spec.NetworkMode.Shared(); shared {
		return out
	}
	for _, ep := range c.Spec.Endpoints {
		// Neutron's ports are this node's to plug, not to name: the port's ID stands for the network.
		out[ep.ID] = &network.EndpointSettings{NetworkID: ep.ID, EndpointID: ep.ID}
		showEndpoint(out[ep.ID], ep.MAC, ep.Addresses, ep.Gateway4, ep.Gateway6)
	}
	return out
}

// predefinedIDs are those of networks that are modes of containers.
var predefinedIDs = map[string]string{
	"none": strings.Repeat("0", 63) + "1",
	"host": strings.Repeat("0", 63) + "2",
}

// joinSettings is what was asked of a membership and, while the container runs, what it got.
func joinSettings(c *engine.Container, j engine.Join) *network.EndpointSettings {
	s := &network.EndpointSettings{NetworkID: j.Network, Aliases: j.Aliases, GwPriority: j.Priority}
	if j.IPv4.IsValid() || j.IPv6.IsValid() || len(j.LinkLocal) > 0 {
		s.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: j.IPv4, IPv6Address: j.IPv6, LinkLocalIPs: j.LinkLocal}
	}
	if j.IfName != "" || len(j.Sysctls) > 0 {
		s.DriverOpts = map[string]string{}
	}
	if j.IfName != "" {
		s.DriverOpts[ifNameOption] = j.IfName
	}
	if len(j.Sysctls) > 0 {
		var list []string
		for _, p := range j.Sysctls {
			list = append(list, strings.ReplaceAll(p.Path, "/", ".")+"="+p.Value)
		}
		s.DriverOpts[sysctlsOption] = strings.Join(list, ",")
	}
	if j.Network != engine.BridgeNetworkID {
		s.DNSNames = c.DNSNames(j)
		for _, l := range j.Links {
			s.Links = append(s.Links, l.Container+":"+l.Alias)
		}
	}
	_ = s.MacAddress.UnmarshalText([]byte(j.MAC)) // it was validated
	if ep, ok := c.Endpoint(j); ok {
		s.EndpointID = ep.ID
		showEndpoint(s, ep.MAC, ep.Addresses, ep.Gateway4, ep.Gateway6)
	}
	return s
}

func showEndpoint(s *network.EndpointSettings, mac string, addresses []netip.Prefix, gateway4, gateway6 netip.Addr) {
	if !gateway4.IsUnspecified() { // else: everything is on the link
		s.Gateway = gateway4
	}
	if !gateway6.IsUnspecified() {
		s.IPv6Gateway = gateway6
	}
	_ = s.MacAddress.UnmarshalText([]byte(mac)) // it was validated
	for _, a := range addresses {
		switch {
		case a.Addr().Is4() && !s.IPAddress.IsValid():
			s.IPAddress, s.IPPrefixLen = a.Addr(), a.Bits()
		case a.Addr().Is6() && !s.GlobalIPv6Address.IsValid():
			s.GlobalIPv6Address, s.GlobalIPv6PrefixLen = a.Addr(), a.Bits()
		}
	}
}
