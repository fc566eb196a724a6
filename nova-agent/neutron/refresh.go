package neutron

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// loadCache reads the instance's network info. The caller holds the instance's lock.
func (c *Client) loadCache(ctx context.Context, instanceUUID string) (NetworkInfo, error) {
	text, err := c.opts.Records.LoadInfoCache(ctx, instanceUUID)
	if err != nil {
		return nil, fmt.Errorf("network info of instance %s: %w", instanceUUID, err)
	}
	info, err := ParseNetworkInfo(text)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", instanceUUID, err)
	}
	return info, nil
}

// Rebuild reads the state of the instance's known interfaces from Neutron and saves
// it. Interfaces whose port is no longer the instance's are dropped.
func (c *Client) Rebuild(ctx context.Context, inst Instance) (NetworkInfo, error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := c.loadCache(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	return c.rebuild(ctx, inst, before)
}

// Heal is Rebuild from what Neutron has, not from what Nova remembers: the ports are
// in the order of Nova's rows, those without a row last. It repairs a network
// info that was lost.
func (c *Client) Heal(ctx context.Context, inst Instance) (NetworkInfo, error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := c.loadCache(ctx, inst.UUID)
	if errors.Is(err, errdefs.ErrInvalid) { // unreadable: that is what healing is for
		c.log.WarnContext(ctx, "the network info is unreadable and is built anew", "error", err)
		before, err = NetworkInfo{}, nil
	}
	if err != nil {
		return nil, err
	}
	var rows []string
	var ports map[string]port
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if rows, err = c.opts.Records.VIFOrder(gctx, inst.UUID); err != nil {
			return fmt.Errorf("interfaces of instance %s: %w", inst.UUID, err)
		}
		return nil
	})
	g.Go(func() (err error) {
		ports, err = c.admin().portsOf(gctx, inst)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var order, late []string
	for _, id := range rows {
		if _, ok := ports[id]; ok {
			order = append(order, id)
		}
	}
	for id := range ports {
		if !slices.Contains(order, id) {
			late = append(late, id)
		}
	}
	slices.Sort(late)
	return c.describe(ctx, inst, before, append(order, late...), ports)
}

// Refresh brings the entry of one port up to date, as Neutron's event network-changed
// asks for: an entry is added if there is none, and dropped if the port is no
// longer the instance's.
func (c *Client) Refresh(ctx context.Context, inst Instance, portID string) (NetworkInfo, error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	defer unlock()
	before, err := c.loadCache(ctx, inst.UUID)
	if err != nil {
		return nil, err
	}
	p, err := c.admin().port(ctx, portID)
	gone := errors.Is(err, errdefs.ErrNotFound) || (err == nil && p.DeviceID != inst.UUID)
	if err != nil && !gone {
		return nil, err
	}
	i := before.index(portID)
	after := slices.Clone(before)
	switch {
	case gone && i < 0:
		return before, nil
	case gone:
		c.log.InfoContext(ctx, "a port is no longer the instance's", "port", portID)
		after = slices.Delete(after, i, i+1)
	default:
		around, err := c.lookUp(ctx, []string{p.NetworkID}, []string{portID})
		if err != nil {
			return nil, err
		}
		v, err := around.vif(p, before.preserved()[portID])
		if err != nil {
			return nil, err
		}
		if i < 0 {
			after = append(after, v)
		} else {
			after[i] = v
		}
	}
	return after, c.saveCache(ctx, inst, after)
}

// Forget drops a port from the instance's network info, as network-vif-deleted asks
// for, and returns the interface if it was there.
func (c *Client) Forget(ctx context.Context, inst Instance, portID string) (vif VIF, known bool, err error) {
	unlock, err := c.locks.lock(ctx, inst.UUID)
	if err != nil {
		return VIF{}, false, err
	}
	defer unlock()
	before, err := c.loadCache(ctx, inst.UUID)
	if err != nil {
		return VIF{}, false, err
	}
	i := before.index(portID)
	if i < 0 {
		return VIF{}, false, nil
	}
	after := slices.Delete(slices.Clone(before), i, i+1)
	return before[i], true, c.saveCache(ctx, inst, after)
}

// rebuild describes the ports of before as they are now. The caller holds the lock.
func (c *Client) rebuild(ctx context.Context, inst Instance, before NetworkInfo) (NetworkInfo, error) {
	ports, err := c.admin().portsOf(ctx, inst)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, v := range before {
		if _, ok := ports[v.ID]; ok {
			ids = append(ids, v.ID)
		} else {
			c.log.InfoContext(ctx, "a port is no longer the instance's", "port", v.ID)
		}
	}
	return c.describe(ctx, inst, before, ids, ports)
}

// describe builds and saves the network info of the ports ids.
func (c *Client) describe(ctx context.Context, inst Instance, before NetworkInfo, ids []string, ports map[string]port) (NetworkInfo, error) {
	var networks []string
	for _, id := range ids {
		networks = append(networks, ports[id].NetworkID)
	}
	around, err := c.lookUp(ctx, networks, ids)
	if err != nil {
		return nil, err
	}
	keep := before.preserved()
	after := NetworkInfo{}
	for _, id := range ids {
		v, err := around.vif(ports[id], keep[id])
		if err != nil {
			return nil, err
		}
		after = append(after, v)
	}
	return after, c.saveCache(ctx, inst, after)
}

func (c *Client) saveCache(ctx context.Context, inst Instance, info NetworkInfo) error {
	if err := c.opts.Records.SaveInfoCache(ctx, inst.UUID, info.String()); err != nil {
		return fmt.Errorf("save the network info of instance %s: %w", inst.UUID, err)
	}
	return nil
}
