package neutron

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// Deallocate takes everything from the instance that Allocate gave it: ports that the
// user made (requested by ID, or preserved according to the instance's network
// info) are unbound, all others deleted, Nova's rows removed, and an empty network
// info saved. It asks for absence: what is already gone is no error. It goes on after an
// error and returns all of them; to call it again completes the work.
func (c *Client) Deallocate(ctx context.Context, inst Instance, requested []NetworkRequest) error {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return err
	}
	defer unlock()
	user := c.user(ctx)

	var before NetworkInfo
	var ports map[string]port
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		before, err = c.loadCache(gctx, inst.UUID)
		return err
	})
	g.Go(func() (err error) {
		ports, err = user.portsOf(gctx, Instance{UUID: inst.UUID})
		return err
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("deallocate the network of instance %s: %w", inst.UUID, err)
	}

	keep := before.preserved()
	for _, r := range requested {
		if r.PortID != "" {
			keep[r.PortID] = true
		}
	}
	work := errgroup.Group{} // no context: one failure must not stop the others
	work.SetLimit(portsAtOnce)
	var errs [3]error
	var unbind, remove []string
	for id := range keep {
		unbind = append(unbind, id)
	}
	for id := range ports {
		if !keep[id] {
			remove = append(remove, id)
		}
	}
	slices.Sort(unbind)
	slices.Sort(remove)
	work.Go(func() error {
		errs[0] = c.unbind(ctx, user, unbind)
		return nil
	})
	work.Go(func() error {
		var deleted []error
		for _, id := range remove {
			deleted = append(deleted, c.deletePort(ctx, user, id))
		}
		errs[1] = errors.Join(deleted...)
		return nil
	})
	_ = work.Wait() // the errors are in errs
	if err := errors.Join(errs[:]...); err != nil {
		return fmt.Errorf("deallocate the network of instance %s: %w", inst.UUID, err)
	}
	if err := c.opts.Records.DestroyVIFs(ctx, inst.UUID); err != nil {
		return fmt.Errorf("remove the interfaces of instance %s: %w", inst.UUID, err)
	}
	if err := c.opts.Records.SaveInfoCache(ctx, inst.UUID, NetworkInfo{}.String()); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("save the network info of instance %s: %w", inst.UUID, err)
	}
	return nil
}

// PortResources are what a port had allocated, by resource provider and class.
type PortResources map[string]map[string]int

// Detach takes one port from the instance: it is unbound if the user made it, otherwise
// deleted. It returns the interfaces that remain and the resources that the port had and
// that Placement has to be told of. A port that is gone is no error.
func (c *Client) Detach(ctx context.Context, inst Instance, portID string) (NetworkInfo, PortResources, error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	user := c.user(ctx)
	before, err := c.loadCache(ctx, inst.UUID)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.admin().port(ctx, portID)
	switch {
	case errors.Is(err, errdefs.ErrNotFound):
	case err != nil:
		return nil, nil, err
	case p.DeviceID != inst.UUID: // somebody else's by now
	case before.preserved()[portID]:
		err = c.unbind(ctx, user, []string{portID})
	default:
		err = c.deletePort(ctx, user, portID)
	}
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil, err
	}
	if err := c.opts.Records.DestroyVIF(ctx, portID); err != nil {
		return nil, nil, fmt.Errorf("port %s: remove its interface: %w", portID, err)
	}
	info, err := c.rebuild(ctx, inst, before)
	return info, p.allocated(), err
}

// allocated reads what the port has from Placement out of its binding profile.
func (p port) allocated() PortResources {
	out := PortResources{}
	for _, group := range p.resourceRequest() {
		var provider string
		switch a := p.Profile["allocation"].(type) {
		case string:
			provider = a
		case map[string]any:
			provider, _ = a[group.ID].(string)
		}
		if provider != "" {
			out[provider] = group.Resources
		}
	}
	return out
}

// ListPorts is the IDs of the instance's ports in Neutron, for clean-up checks.
func (c *Client) ListPorts(ctx context.Context, instanceUUID string) ([]string, error) {
	var answer struct{ Ports []port }
	q := url.Values{"device_id": {instanceUUID}, "fields": {"id"}}
	if err := c.admin().get(ctx, "/ports", q, &answer); err != nil {
		return nil, fmt.Errorf("ports of instance %s: %w", instanceUUID, err)
	}
	return portIDs(answer.Ports), nil
}
