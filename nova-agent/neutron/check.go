package neutron

import (
	"context"
	"errors"
	"maps"
	"net/url"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// checkPorts reads the ports that the user gave and refuses those that are not the
// instance's to take.
func (a *allocation) checkPorts(ctx context.Context) error {
	inst := a.req.Instance
	a.wanted = make([]wantedPort, 0, len(a.req.Networks))
	for _, r := range a.req.Networks {
		if r.NetworkID == NetworkAuto || (r.PortID == "" && r.NetworkID == "") {
			continue
		}
		a.wanted = append(a.wanted, wantedPort{NetworkRequest: r})
	}
	return a.eachPort(ctx, func(ctx context.Context, w *wantedPort) error {
		if w.PortID == "" {
			return nil
		}
		p, err := a.admin.port(ctx, w.PortID)
		if err != nil {
			return err
		}
		switch {
		case p.TenantID != inst.ProjectID:
			return fail(ClassPortNotUsable, errdefs.ErrInvalid, nil, "Port %s not usable for instance %s.", p.ID, inst.UUID)
		case p.DeviceID != "":
			return fail(ClassPortInUse, errdefs.ErrConflict, nil, "Port %s is still in use.", p.ID)
		case p.DNSName != "" && p.DNSName != inst.Hostname:
			return fail(ClassPortNotUsableDNS, errdefs.ErrInvalid, nil,
				"Port %s not usable for instance %s. Value %s assigned to dns_name attribute does not match instance's hostname %s",
				p.ID, inst.UUID, p.DNSName, inst.Hostname)
		case p.failedBinding():
			return bindingFailed(p.ID)
		}
		if groups := p.resourceRequest(); len(groups) > 0 {
			if err := allocateProviders(&p, groups, a.req.Providers); err != nil {
				return err
			}
		}
		w.existing, w.id, w.NetworkID = &p, p.ID, p.NetworkID
		return nil
	})
}

func bindingFailed(portID string) error {
	return fail(ClassPortBindingFailed, errdefs.ErrUnavailable, nil,
		"Binding failed for port %s, please check neutron logs for more information.", portID)
}

// allocateProviders writes the resource providers that serve the port's request
// into its binding profile.
func allocateProviders(p *port, groups []requestGroup, providers map[string][]string) error {
	one := func(requester string) (string, error) {
		if len(providers[requester]) == 0 {
			return "", fail(ClassPortUpdateFailed, errdefs.ErrInvalid, nil,
				"Port update failed for port %s: no resource provider was allocated for its resource request", p.ID)
		}
		return providers[requester][0], nil
	}
	profile := maps.Clone(orEmpty(p.Profile))
	if len(groups) == 1 && groups[0].ID == "" { // before port-resource-request-groups
		rp, err := one(p.ID)
		if err != nil {
			return err
		}
		profile["allocation"] = rp
	} else {
		all := map[string]any{}
		for _, group := range groups {
			rp, err := one(group.ID)
			if err != nil {
				return err
			}
			all[group.ID] = rp
		}
		profile["allocation"] = all
	}
	p.Profile = profile
	return nil
}

// checkNetworks finds the networks, as the user may see them, and the security groups' IDs.
func (a *allocation) checkNetworks(ctx context.Context) (groups []string, err error) {
	auto := len(a.req.Networks) == 1 && a.req.Networks[0].NetworkID == NetworkAuto
	g, gctx := errgroup.WithContext(ctx)
	var nets []network
	g.Go(func() (err error) {
		nets, err = a.networks(gctx, auto)
		return err
	})
	g.Go(func() (err error) {
		groups, err = a.securityGroups(gctx)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if len(nets) == 0 {
		if len(a.req.Networks) == 0 {
			return nil, nil // no wish, nothing there: no interface
		}
		if auto {
			n, err := a.autoAllocate(ctx)
			if err != nil {
				return nil, err
			}
			nets = []network{n}
		}
	}
	if len(a.wanted) == 0 {
		switch {
		case len(nets) == 0:
			return nil, fail(ClassInterfaceAttachFailedNoNetwork, errdefs.ErrInvalid, nil,
				"No specific network was requested and none are available for project '%s'.", a.req.Instance.ProjectID)
		case len(nets) > 1:
			return nil, fail(ClassNetworkAmbiguous, errdefs.ErrInvalid, nil,
				"Multiple possible networks found, use a Network ID to be more specific.")
		}
		w := wantedPort{NetworkRequest: NetworkRequest{NetworkID: nets[0].ID}}
		if len(a.req.Networks) == 1 { // an attach without a wish may still carry a tag
			w.Tag = a.req.Networks[0].Tag
		}
		a.wanted = append(a.wanted, w)
	}
	return groups, a.admit(ctx, nets, groups)
}

// admit holds the wanted ports against the networks that are there, and keeps those in mind.
func (a *allocation) admit(ctx context.Context, nets []network, groups []string) error {
	a.nets = map[string]network{}
	for _, n := range nets {
		a.nets[n.ID] = n
		if n.External && !n.Shared && (a.c.opts.AttachExternal == nil || !a.c.opts.AttachExternal(ctx)) {
			return fail(ClassExternalNetworkAttachForbidden, errdefs.ErrInvalid, nil,
				"It is not allowed to create an interface on external network %s", n.ID)
		}
	}
	for _, w := range a.wanted {
		n, ok := a.nets[w.NetworkID]
		if !ok {
			a.c.known.forget(w.NetworkID)
			return networkNotFound(w.NetworkID)
		}
		secure := n.PortSecurityEnabled == nil || *n.PortSecurityEnabled
		if (secure && len(n.Subnets) == 0) || (!secure && len(groups) > 0) {
			return fail(ClassSecurityGroupCannotBeApplied, errdefs.ErrInvalid, nil,
				"Network requires port_security_enabled and subnet associated in order to apply security groups.")
		}
	}
	a.c.known.remember(a.nets)
	return nil
}

func networkNotFound(id string) error {
	return fail(ClassNetworkNotFound, errdefs.ErrInvalid, nil, "Network %s could not be found.", id)
}

// networks are those that were asked for, or all that the project can use.
func (a *allocation) networks(ctx context.Context, auto bool) ([]network, error) {
	list := func(ctx context.Context, q url.Values) ([]network, error) {
		var answer struct{ Networks []network }
		err := a.user.get(ctx, "/networks", q, &answer)
		return answer.Networks, err
	}
	if len(a.wanted) > 0 {
		var ids []string
		for _, w := range a.wanted {
			ids = append(ids, w.NetworkID)
		}
		return list(ctx, url.Values{"id": uniq(ids)})
	}
	own := url.Values{"tenant_id": {a.req.Instance.ProjectID}, "shared": {"False"}}
	if auto {
		// The topology is built piece by piece; admin_state_up tells that it is done.
		own.Set("admin_state_up", "True")
	}
	var mine, shared []network
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { mine, err = list(ctx, own); return err })
	g.Go(func() (err error) { shared, err = list(ctx, url.Values{"shared": {"True"}}); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return append(mine, shared...), nil
}

// autoAllocate has Neutron build a network for the project
// (extension auto-allocated-topology).
func (a *allocation) autoAllocate(ctx context.Context) (network, error) {
	project := a.req.Instance.ProjectID
	refused := func(err error) error {
		return fail(ClassUnableToAutoAllocateNetwork, errdefs.ErrInvalid, err,
			"Unable to automatically allocate a network for project %s", project)
	}
	var topology struct {
		Topology struct{ ID string } `json:"auto_allocated_topology"`
	}
	if err := a.user.get(ctx, "/auto-allocated-topology/"+url.PathEscape(project), nil, &topology); err != nil {
		if errors.Is(err, errdefs.ErrConflict) {
			return network{}, refused(err)
		}
		return network{}, err
	}
	var answer struct{ Network network }
	err := a.user.get(ctx, "/networks/"+url.PathEscape(topology.Topology.ID), nil, &answer)
	if errors.Is(err, errdefs.ErrNotFound) {
		return network{}, refused(err)
	}
	return answer.Network, err
}

// securityGroups turns names into IDs. "default" alone is what Neutron gives a port anyway.
func (a *allocation) securityGroups(ctx context.Context) ([]string, error) {
	names := a.req.SecurityGroups
	if len(names) == 0 || (len(names) == 1 && names[0] == "default") {
		return nil, nil
	}
	var answer struct {
		Groups []struct{ ID, Name string } `json:"security_groups"`
	}
	q := url.Values{"tenant_id": {a.req.Instance.ProjectID}, "fields": {"id", "name"}}
	if err := a.user.get(ctx, "/security-groups", q, &answer); err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		var byName, byID string
		for _, g := range answer.Groups {
			if g.Name == name {
				if byName != "" {
					return nil, fail(ClassNoUniqueMatch, errdefs.ErrInvalid, nil,
						"Multiple security groups found matching '%s'. Use an ID to be more specific.", name)
				}
				byName = g.ID
			}
			if g.ID == name {
				byID = g.ID
			}
		}
		id := orDefault(byName, byID) // a name that looks like an ID is a name
		if id == "" {
			return nil, fail(ClassSecurityGroupNotFound, errdefs.ErrInvalid, nil, "Security group %s not found.", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
