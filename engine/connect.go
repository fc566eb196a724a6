package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// Connect puts a container into one more network, while it runs or not.
//
// ErrNotFound; ErrInvalid: an address or alias cannot be; ErrForbidden: it is in the network already, or an
// address is taken; ErrConflict: the container has another kind of network.
func (e *Engine) Connect(ctx context.Context, ref string, j Join) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	rec := e.record(t)
	n, err := e.connectable(rec, &j)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(rec.Spec.Networks, func(o Join) bool { return o.Network == n.ID }) {
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", rec.Spec.Name, n.Name, errdefs.ErrForbidden)
	}
	next := rec.Spec
	next.Networks = append(slices.Clone(rec.Spec.Networks), j)
	if err := next.validate(); err != nil {
		return err
	}
	if !rec.State.Live() {
		return e.amend(t, synced, func(c *Container) { c.Spec.Networks = next.Networks })
	}
	endpoints, err := e.claim(t, []Join{j}, []Network{n})
	if err != nil {
		return err
	}
	// The endpoint's ID is in the claim.
	next.Networks[len(next.Networks)-1].EndpointID = endpoints[0].ID
	before, _, _ := rec.router(anyRouter)
	err = e.amend(t, synced, func(c *Container) {
		c.Spec.Networks, c.Spec.Endpoints = next.Networks, append(slices.Clone(c.Spec.Endpoints), endpoints[0])
	})
	if err == nil {
		err = e.openNetwork(ctx, &n)
	}
	if err == nil {
		err = e.plug(ctx, t)
	}
	if err == nil {
		err = e.movePorts(ctx, t, before)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("container %s: network %s: %w", rec.Spec.Name, n.Name, err), e.part(ctx, t, n.ID))
	}
	e.emitNetwork(ActionConnect, &n, t.id)
	return nil
}

// Disconnect takes a container out of a network, while it runs or not.
//
// ErrNotFound; ErrForbidden: it is not in the network; ErrConflict: it has another kind of network.
func (e *Engine) Disconnect(ctx context.Context, ref, networkRef string) error {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)
	rec := e.record(t)
	j := Join{Network: networkRef}
	n, err := e.connectable(rec, &j)
	if errors.Is(err, errdefs.ErrNotFound) {
		// It may have been removed while the container did not run.
		if i := slices.IndexFunc(rec.Spec.Networks, func(o Join) bool { return o.Name == networkRef || o.Network == networkRef }); i >= 0 {
			n, err = Network{ID: rec.Spec.Networks[i].Network, Name: rec.Spec.Networks[i].Name}, nil
		}
	}
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(rec.Spec.Networks, func(o Join) bool { return o.Network == n.ID }) {
		return fmt.Errorf("container %s is not connected to network %s: %w", rec.ID, n.Name, errdefs.ErrForbidden)
	}
	before, _, _ := rec.router(anyRouter)
	if err := e.part(ctx, t, n.ID); err != nil {
		return fmt.Errorf("container %s: network %s: %w", rec.Spec.Name, n.Name, err)
	}
	if !rec.State.Live() {
		return nil
	}
	e.emitNetwork(ActionDisconnect, &n, t.id)
	return e.movePorts(ctx, t, before)
}

func anyRouter(ep network.Endpoint) bool { return ep.Gateway4.IsValid() || ep.Gateway6.IsValid() }

// connectable finds the network of j and refuses containers that cannot be in any.
func (e *Engine) connectable(rec *Container, j *Join) (Network, error) {
	var n Network
	switch {
	case rec.State == Removing || rec.State == Creating:
		return n, fmt.Errorf("container %s is marked for removal and cannot be connected or disconnected to the network: %w", rec.ID, errdefs.ErrConflict)
	case rec.Spec.Owner != OwnerDocker:
		return n, fmt.Errorf("container %s has the network of its owner, %s: %w", rec.Spec.Name, rec.Spec.Owner, errdefs.ErrConflict)
	case rec.Spec.NetworkMode == NetworkNone:
		return n, fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrConflict)
	case rec.Spec.NetworkMode != NetworkBridge:
		return n, fmt.Errorf("container sharing network namespace with another container or host cannot be connected to any other network: %w", errdefs.ErrConflict)
	}
	return e.networkOf(j)
}

// part ends t's membership in a network, in the kernel as well. The caller holds t's lock.
func (e *Engine) part(ctx context.Context, t *tracked, id string) error {
	rec := e.record(t)
	var leaving []network.Endpoint
	var joins []Join
	for _, j := range rec.Spec.Networks {
		if j.Network != id {
			joins = append(joins, j)
		} else if ep, ok := rec.endpoint(&j); ok {
			leaving = append(leaving, ep)
		}
	}
	if err := e.network.Unplug(ctx, e.netPath(t.id), leaving); err != nil {
		return err
	}
	err := e.amend(t, synced, func(c *Container) {
		c.Spec.Networks = joins
		c.Spec.Endpoints = slices.DeleteFunc(slices.Clone(c.Spec.Endpoints), func(ep network.Endpoint) bool {
			return slices.ContainsFunc(leaving, func(l network.Endpoint) bool { return l.ID == ep.ID })
		})
	})
	if err != nil {
		return err
	}
	e.mu.Lock()
	t.claims = slices.DeleteFunc(slices.Clone(t.claims), func(c claim) bool { return c.network == id })
	e.mu.Unlock()
	if rec.State.Live() {
		if err := e.plug(ctx, t); err != nil { // another default route, other files
			return err
		}
	}
	if id == BridgeNetworkID {
		return e.closeBridge(ctx)
	}
	return nil
}

// movePorts publishes t's ports anew if its default route has changed from before.
func (e *Engine) movePorts(ctx context.Context, t *tracked, before network.Endpoint) error {
	rec := e.record(t)
	now, _, _ := rec.router(anyRouter)
	if len(rec.Spec.Ports) == 0 || now.ID == before.ID {
		return nil
	}
	ports, err := e.republish(ctx, rec)
	return errors.Join(err, e.amend(t, lazy, func(c *Container) { c.Published = ports }))
}
