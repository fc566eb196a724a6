package neutron

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"novaagent/engine/errdefs"
)

// The network IDs that stand for a wish instead of a network.
const (
	NetworkNone = "none" // no interface
	NetworkAuto = "auto" // Neutron's auto-allocated topology
)

// NetworkRequest is one interface that the user asked for: a port, or a network
// on which to make one.
type NetworkRequest struct {
	NetworkID    string
	Address      string // fixed IP on NetworkID; empty lets Neutron choose
	PortID       string
	Tag          string
	PCIRequestID string
}

// AllocateRequest asks for the interfaces of an instance.
type AllocateRequest struct {
	Instance Instance
	// Networks in the order of the interfaces. None means the only network that the
	// project can use.
	Networks []NetworkRequest
	// SecurityGroups of the ports that are made here, by name or ID.
	SecurityGroups []string
	// Host is what the ports are bound to: the host of its Neutron agent.
	Host string
	// Providers are the resource providers that serve the resource request of a port
	// (or of a request group of it), by the requester's ID.
	Providers map[string][]string
	// Attach adds to the interfaces that the instance already has.
	Attach bool
}

// rollbackTime bounds the removal of what a failed operation made.
const rollbackTime = 2 * time.Minute

// portsAtOnce is how many ports of one instance are worked on side by side.
const portsAtOnce = 4

// Allocate gives the instance its ports: it checks those that were asked for, makes
// the others, binds all of them to the host, and records them in Nova. It
// returns the interfaces it added; the InfoCache is saved with all. On an error it
// leaves nothing behind: ports it made are deleted, the user's are unbound.
//
// Errors that Nova has a class for are *Error (nova/network/neutron.py,
// allocate_for_instance); others are ErrUnavailable or Neutron's own *APIError.
func (c *Client) Allocate(ctx context.Context, req AllocateRequest) (NetworkInfo, error) {
	if req.Instance.ProjectID == "" {
		return nil, fail(ClassInvalidInput, errdefs.ErrInvalid, nil,
			"Invalid input received: empty project id for instance %s", req.Instance.UUID)
	}
	if len(req.Networks) == 1 && req.Networks[0].NetworkID == NetworkNone {
		return NetworkInfo{}, nil
	}
	unlock, err := c.locks.lock(ctx, req.Instance.UUID)
	if err != nil {
		return nil, err
	}
	defer unlock()

	a := &allocation{c: c, req: req, user: c.user(ctx), admin: c.admin(), before: NetworkInfo{}}
	if req.Attach {
		if a.before, err = c.loadCache(ctx, req.Instance.UUID); err != nil {
			return nil, err
		}
	}
	added, err := a.run(ctx)
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		return nil, errors.Join(err, a.rollback(undo))
	}
	return added, nil
}

// allocation is one call of Allocate on its way.
type allocation struct {
	c           *Client
	req         AllocateRequest
	user, admin rest
	before      NetworkInfo // what the instance already has

	wanted []wantedPort
	nets   map[string]network // as the user sees them, by ID
	around *surroundings
	saved  bool // the info cache may name the new ports
}

// wantedPort is one interface on its way.
type wantedPort struct {
	NetworkRequest
	existing *port // the user's port
	id       string
	created  bool // by us
	touched  bool // a request may have changed or made the port
	recorded bool // the row of virtual_interfaces may be there
	bound    port
}

func (a *allocation) run(ctx context.Context) (NetworkInfo, error) {
	if err := a.checkPorts(ctx); err != nil {
		return nil, err
	}
	var groups []string
	known := a.recall()
	if !known {
		var err error
		if groups, err = a.checkNetworks(ctx); err != nil {
			return nil, err
		}
	}
	if len(a.wanted) == 0 {
		return NetworkInfo{}, nil
	}

	// What the new ports are surrounded by does not depend on them.
	var networks, existing []string
	for _, w := range a.wanted {
		networks = append(networks, w.NetworkID)
		if w.existing != nil {
			existing = append(existing, w.PortID)
		}
	}
	for _, v := range a.before {
		existing = append(existing, v.ID)
		if v.Network != nil {
			networks = append(networks, v.Network.ID)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		// A port that is being made has no floating IP yet; if it gets one at once, Neutron
		// sends network-changed for it.
		a.around, err = a.c.lookUp(gctx, networks, existing)
		return err
	})
	g.Go(func() error {
		if err := a.eachPort(gctx, func(ctx context.Context, w *wantedPort) error {
			return a.create(ctx, w, groups)
		}); err != nil || known {
			return err
		}
		return a.eachPort(gctx, a.bind)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if known {
		if err := a.admit(ctx, slices.Collect(maps.Values(a.around.networks)), groups); err != nil {
			return nil, err
		}
		if err := a.eachPort(ctx, a.bind); err != nil {
			return nil, err
		}
	}
	return a.record(ctx)
}

// create makes the port of a request that has none, as the user, so that the
// user's quota and policies decide. On a network of the user's own project, where a
// member may make any port, the service makes it, of the project and bound at once: Nova's
// two requests take Neutron twice as long. The project's quota decides there too.
func (a *allocation) create(ctx context.Context, w *wantedPort, groups []string) error {
	if w.existing != nil {
		return nil
	}
	body := map[string]any{
		"device_id": a.req.Instance.UUID, "network_id": w.NetworkID,
		"admin_state_up": true, "tenant_id": a.req.Instance.ProjectID,
	}
	if w.Address != "" {
		body["fixed_ips"] = []portAddress{{IPAddress: w.Address}}
	}
	if len(groups) > 0 {
		body["security_groups"] = groups
	}
	as := a.user
	if a.boundAtOnce(w) {
		if err := a.binding(ctx, w, body); err != nil {
			return err
		}
		as = a.admin
	}
	var answer struct{ Port port }
	if err := as.do(ctx, "POST", "/ports", map[string]any{"port": body}, &answer); err != nil {
		var no *APIError
		if !errors.As(err, &no) || no.Status >= 500 {
			w.touched = true // perhaps it was made all the same
		}
		return createFailure(err, w.NetworkRequest)
	}
	p := answer.Port
	w.id, w.created = p.ID, true
	if len(p.resourceRequest()) > 0 {
		// Its resources would have had to be scheduled before.
		return fail(ClassNetworksWithQoSPolicyNotSupported, errdefs.ErrInvalid, nil,
			"Using networks with QoS policy is not supported for instance %s. (Network ID is %s)", a.req.Instance.UUID, w.NetworkID)
	}
	if p.failedBinding() {
		return bindingFailed(p.ID)
	}
	if a.boundAtOnce(w) {
		w.bound = p
	}
	return nil
}

// boundAtOnce tells whether create also binds. A port on a network with a DNS domain has its
// record made by the user.
func (a *allocation) boundAtOnce(w *wantedPort) bool {
	n := a.nets[w.NetworkID]
	return w.existing == nil && !a.req.Attach && n.TenantID == a.req.Instance.ProjectID && n.DNSDomain == ""
}

// createFailure gives Neutron's refusal Nova's name.
func createFailure(err error, r NetworkRequest) error {
	switch neutronType(err) {
	case "NetworkNotFound":
		return networkNotFound(r.NetworkID)
	case "InvalidIpForNetwork":
		return fail(ClassInvalidInput, errdefs.ErrInvalid, err,
			"Invalid input received: Fixed IP %s is not a valid ip address for network %s.", r.Address, r.NetworkID)
	case "IpAddressInUse", "IpAddressAlreadyAllocated":
		return fail(ClassFixedIPAlreadyInUse, errdefs.ErrConflict, err, "Fixed IP %s is already in use.", r.Address)
	case "OverQuota":
		return fail(ClassPortLimitExceeded, errdefs.ErrConflict, err, "Maximum number of ports exceeded")
	case "HostNotCompatibleWithFixedIps":
		return fail(ClassFixedIPInvalidOnHost, errdefs.ErrInvalid, err,
			"No fixed IP address of network %s is compatible with the host.", r.NetworkID)
	case "IpAddressGenerationFailure":
		return fail(ClassNoMoreFixedIPs, errdefs.ErrConflict, err, "No fixed IP addresses available for network: %s", r.NetworkID)
	}
	return fmt.Errorf("port on network %s: %w", r.NetworkID, err)
}

// binding adds to body what makes a port the instance's on this host.
func (a *allocation) binding(ctx context.Context, w *wantedPort, body map[string]any) error {
	inst := a.req.Instance
	if w.PCIRequestID != "" {
		return fail(ClassPciDeviceNotFound, errdefs.ErrUnsupported, nil, "PCI device not found for request ID %s.", w.PCIRequestID)
	}
	dns, err := a.c.extension(ctx, "dns-integration")
	if err != nil {
		return err
	}
	body["device_id"], body["device_owner"], body["binding:host_id"] = inst.UUID, inst.deviceOwner(), a.req.Host
	if w.existing != nil && len(w.existing.Profile) > 0 {
		body["binding:profile"] = w.existing.Profile
	}
	if dns && a.nets[w.NetworkID].DNSDomain == "" {
		body["dns_name"] = inst.Hostname
	}
	return nil
}

// bind makes a port the instance's on this host, as the service.
func (a *allocation) bind(ctx context.Context, w *wantedPort) error {
	if a.boundAtOnce(w) {
		return nil
	}
	body := map[string]any{}
	if err := a.binding(ctx, w, body); err != nil {
		return err
	}
	w.touched = true
	var err error
	if w.bound, err = a.admin.updatePort(ctx, w.id, body); err != nil {
		return err
	}
	_, named := body["dns_name"]
	dns, err := a.c.extension(ctx, "dns-integration")
	if err != nil || named || !dns {
		return err
	}
	// The record is made in the user's own zone.
	inst := a.req.Instance
	_, err = a.user.updatePort(ctx, w.id, map[string]any{"dns_name": inst.Hostname})
	if isStatus(err, 400) {
		return fail(ClassInvalidInput, errdefs.ErrInvalid, err,
			"Invalid input received: Instance hostname %s is not a valid DNS name", inst.Hostname)
	}
	return err
}

// record writes Nova's rows of the new ports while Neutron is asked for the ports that the
// instance had before, and saves the network info.
func (a *allocation) record(ctx context.Context) (NetworkInfo, error) {
	inst := a.req.Instance
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for i := range a.wanted { // in order: Nova sorts interfaces by these rows
			w := &a.wanted[i]
			w.recorded = true
			row := VIFRecord{UUID: w.id, InstanceUUID: inst.UUID, Tag: w.Tag, Address: w.bound.MACAddress + "/" + w.id}
			if err := a.c.opts.Records.CreateVIF(gctx, row); err != nil {
				return fmt.Errorf("port %s: record its interface: %w", w.id, err)
			}
		}
		return nil
	})
	ports := map[string]port{}
	if len(a.before) > 0 {
		g.Go(func() (err error) {
			ports, err = a.admin.portsOf(gctx, inst)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}

	var all, added NetworkInfo
	mine := map[string]bool{}
	for _, w := range a.wanted {
		mine[w.id] = true
	}
	keep := a.before.preserved()
	for _, old := range a.before {
		p, ok := ports[old.ID]
		if !ok || mine[old.ID] {
			continue
		}
		v, err := a.around.vif(p, keep[old.ID])
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	for _, w := range a.wanted {
		v, err := a.around.vif(w.bound, w.existing != nil)
		if err != nil {
			return nil, err
		}
		all, added = append(all, v), append(added, v)
	}
	a.saved = true
	if err := a.c.opts.Records.SaveInfoCache(ctx, inst.UUID, all.String()); err != nil {
		return nil, fmt.Errorf("save the network info: %w", err)
	}
	return added, nil
}

// rollback removes what run made before it failed. nil means that it is gone.
func (a *allocation) rollback(ctx context.Context) error {
	inst := a.req.Instance
	var errs []error
	var unbind []port
	for i := range a.wanted {
		w := &a.wanted[i]
		switch {
		case w.created:
			errs = append(errs, a.c.deletePort(ctx, a.user, w.id))
		case w.existing != nil && w.touched:
			unbind = append(unbind, *w.existing)
		case w.touched:
			errs = append(errs, a.deleteUnknown(ctx, w.NetworkID))
		}
		if w.recorded {
			errs = append(errs, a.c.opts.Records.DestroyVIF(ctx, w.id))
		}
	}
	errs = append(errs, a.c.unbind(ctx, a.user, portIDs(unbind)))
	if a.saved {
		errs = append(errs, a.c.opts.Records.SaveInfoCache(ctx, inst.UUID, a.before.String()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo the allocation of ports: %w", err)
	}
	return nil
}

// deleteUnknown deletes ports that a POST without an answer has made: those of an instance
// that is being built that the user did not bring, or of others those that nobody has bound yet.
func (a *allocation) deleteUnknown(ctx context.Context, networkID string) error {
	var answer struct{ Ports []port }
	q := url.Values{"device_id": {a.req.Instance.UUID}, "network_id": {networkID}}
	if err := a.admin.get(ctx, "/ports", q, &answer); err != nil {
		return err
	}
	var errs []error
	for _, p := range answer.Ports {
		ours := (p.DeviceOwner == "" || !a.req.Attach) && a.before.index(p.ID) < 0 &&
			!slices.ContainsFunc(a.req.Networks, func(r NetworkRequest) bool { return r.PortID == p.ID })
		if ours {
			errs = append(errs, a.c.deletePort(ctx, a.user, p.ID))
		}
	}
	return errors.Join(errs...)
}

// eachPort calls do for every wanted port, several at a time, and returns the first error.
func (a *allocation) eachPort(ctx context.Context, do func(context.Context, *wantedPort) error) error {
	if len(a.wanted) == 1 {
		return do(ctx, &a.wanted[0])
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(portsAtOnce)
	for i := range a.wanted {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(ctx, &a.wanted[i])
		})
	}
	return g.Wait()
}
