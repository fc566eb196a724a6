package neutron

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// migratingTo is the entry of a binding profile that names the host which an
// instance is moving to.
const migratingTo = "migrating_to"

// Rebind binds the instance's ports to host, those that are bound elsewhere or whose
// binding failed, as after a move, an unshelve or lost messages. Providers serve the ports'
// resource requests there, as in AllocateRequest; nil keeps what the ports have.
func (c *Client) Rebind(ctx context.Context, inst Instance, host string, providers map[string][]string) error {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return err
	}
	defer unlock()
	ports, err := c.admin().portsOf(ctx, inst)
	if err != nil {
		return err
	}
	// First find all changes, so that a refusal leaves no half of them.
	updates := map[string]map[string]any{}
	for _, p := range ports {
		body := map[string]any{}
		profile := maps.Clone(orEmpty(p.Profile))
		if p.HostID != host || p.VIFType == vifUnbound || p.failedBinding() {
			body["binding:host_id"], body["device_owner"] = host, inst.deviceOwner()
			if _, moving := profile[migratingTo]; moving {
				delete(profile, migratingTo)
				body["binding:profile"] = profile
			}
		}
		if groups := p.resourceRequest(); providers != nil && len(groups) > 0 {
			p.Profile = profile
			if err := allocateProviders(&p, groups, providers); err != nil {
				return err
			}
			body["binding:profile"] = p.Profile
		}
		if len(body) > 0 {
			updates[p.ID] = body
		}
	}
	return c.updateAll(ctx, updates)
}

// updateAll changes several ports and returns all errors.
func (c *Client) updateAll(ctx context.Context, updates map[string]map[string]any) error {
	ids := slices.Sorted(maps.Keys(updates))
	errs := make([]error, len(ids))
	var g errgroup.Group
	g.SetLimit(portsAtOnce)
	for i, id := range ids {
		g.Go(func() error {
			_, errs[i] = c.admin().updatePort(ctx, id, updates[id])
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return errors.Join(errs...)
}

// NeedsRebind tells whether one of the instance's ports is bound to another host
// than host, or to none. Nova's periodic healing asks that.
func (c *Client) NeedsRebind(ctx context.Context, inst Instance, host string) (bool, error) {
	var answer struct{ Ports []port }
	q := url.Values{"device_id": {inst.UUID}, "fields": {"binding:host_id", "binding:vif_type"}}
	if err := c.admin().get(ctx, "/ports", q, &answer); err != nil {
		return false, fmt.Errorf("ports of instance %s: %w", inst.UUID, err)
	}
	return slices.ContainsFunc(answer.Ports, func(p port) bool {
		return p.HostID != host || p.VIFType == vifUnbound || p.failedBinding()
	}), nil
}

// MarkMigrating notes in the instance's ports that it is moving to dest
// (nova/network/neutron.py, _setup_migration_port_profile). Neutron's drivers
// prepare the ports there.
func (c *Client) MarkMigrating(ctx context.Context, inst Instance, dest string) error {
	return c.profiles(ctx, inst, func(profile Meta) bool {
		changed := profile[migratingTo] != dest
		profile[migratingTo] = dest
		return changed
	})
}

// UnmarkMigrating takes the note of MarkMigrating back.
func (c *Client) UnmarkMigrating(ctx context.Context, inst Instance) error {
	return c.profiles(ctx, inst, func(profile Meta) bool {
		_, changed := profile[migratingTo]
		delete(profile, migratingTo)
		return changed
	})
}

func (c *Client) profiles(ctx context.Context, inst Instance, change func(Meta) bool) error {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return err
	}
	defer unlock()
	ports, err := c.admin().portsOf(ctx, inst)
	if err != nil {
		return err
	}
	updates := map[string]map[string]any{}
	for _, p := range ports {
		profile := maps.Clone(orEmpty(p.Profile))
		if change(profile) {
			updates[p.ID] = map[string]any{"binding:profile": profile}
		}
	}
	return c.updateAll(ctx, updates)
}

// ActivateBindings makes the bindings that the instance's ports have for host the
// active ones (extension binding-extended). A port without a binding for host is left alone.
func (c *Client) ActivateBindings(ctx context.Context, inst Instance, host string) error {
	return c.bindings(ctx, inst, func(id string) error {
		err := c.admin().do(ctx, http.MethodPut, bindingPath(id, host)+"/activate", map[string]any{}, nil)
		switch {
		case err == nil, isStatus(err, http.StatusConflict): // active already
			return nil
		case errors.Is(err, errdefs.ErrNotFound):
			return nil
		}
		return fail(ClassPortBindingActivationFailed, errdefs.ErrUnavailable, err,
			"Failed to activate binding for port %s on host %s; please check neutron logs for more information", id, host)
	})
}

// DeleteBindings removes the bindings that the instance's ports have for host, where it no
// longer is. The ports stay the instance's. Without the extension binding-extended
// there is nothing to remove.
func (c *Client) DeleteBindings(ctx context.Context, inst Instance, host string) error {
	return c.bindings(ctx, inst, func(id string) error {
		err := c.admin().do(ctx, http.MethodDelete, bindingPath(id, host), nil, nil)
		if err == nil || errors.Is(err, errdefs.ErrNotFound) {
			return nil
		}
		return fail(ClassPortBindingDeletionFailed, errdefs.ErrUnavailable, err,
			"Failed to delete binding for port(s) %s on host %s; please check neutron logs for more information", id, host)
	})
}

func bindingPath(portID, host string) string {
	return "/ports/" + url.PathEscape(portID) + "/bindings/" + url.PathEscape(host)
}

// bindings does something for each port of the instance, if Neutron knows several
// bindings of a port.
func (c *Client) bindings(ctx context.Context, inst Instance, do func(portID string) error) error {
	extended, err := c.extension(ctx, "binding-extended")
	if err != nil || !extended {
		return err
	}
	ids, err := c.ListPorts(ctx, inst.UUID)
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, do(id))
	}
	return errors.Join(errs...)
}

// AddFixedIP gives the instance an address more on the network and returns its
// interfaces with it (nova/network/neutron.py, add_fixed_ip_to_instance).
func (c *Client) AddFixedIP(ctx context.Context, inst Instance, networkID string) (NetworkInfo, error) {
	notFound := fail(ClassNetworkNotFoundForInstance, errdefs.ErrNotFound, nil, "Network could not be found for instance %s.", inst.UUID)
	var subnets struct{ Subnets []subnet }
	if err := c.user(ctx).get(ctx, "/subnets", url.Values{"network_id": {networkID}, "fields": {"id"}}, &subnets); err != nil {
		return nil, err
	}
	return c.changeFixedIPs(ctx, inst, url.Values{"network_id": {networkID}}, notFound, func(p port) error {
		last := error(notFound)
		for _, s := range subnets.Subnets {
			ips := append(slices.Clone(p.FixedIPs), portAddress{SubnetID: s.ID})
			if _, last = c.user(ctx).updatePort(ctx, p.ID, map[string]any{"fixed_ips": ips}); last == nil {
				return nil
			}
			c.log.InfoContext(ctx, "no address in a subnet", "port", p.ID, "subnet", s.ID, "error", last)
		}
		return last
	})
}

// RemoveFixedIP takes an address from the instance and returns its interfaces without it.
func (c *Client) RemoveFixedIP(ctx context.Context, inst Instance, address string) (NetworkInfo, error) {
	notFound := fail(ClassFixedIPNotFoundForInstance, errdefs.ErrNotFound, nil,
		"Instance %s does not have fixed IP '%s'.", inst.UUID, address)
	return c.changeFixedIPs(ctx, inst, url.Values{"fixed_ips": {"ip_address=" + address}}, notFound, func(p port) error {
		ips := slices.DeleteFunc(slices.Clone(p.FixedIPs), func(a portAddress) bool { return a.IPAddress == address })
		if ips == nil {
			ips = []portAddress{}
		}
		_, err := c.user(ctx).updatePort(ctx, p.ID, map[string]any{"fixed_ips": ips})
		return err
	})
}

// changeFixedIPs changes the first of the instance's ports that match q for which
// change succeeds, and brings the network info up to date.
func (c *Client) changeFixedIPs(ctx context.Context, inst Instance, q url.Values, notFound error, change func(port) error) (NetworkInfo, error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var answer struct{ Ports []port }
	q.Set("device_id", inst.UUID)
	if err := c.user(ctx).get(ctx, "/ports", q, &answer); err != nil {
		return nil, err
	}
	err = notFound
	for _, p := range answer.Ports {
		if err = change(p); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	before, err := c.loadCache(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	return c.rebuild(ctx, inst, before)
}
