package neutron

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"

	"novaagent/engine/errdefs"
)

func (r rest) port(ctx context.Context, id string) (port, error) {
	var answer struct{ Port port }
	err := r.get(ctx, "/ports/"+url.PathEscape(id), nil, &answer)
	if errors.Is(err, errdefs.ErrNotFound) {
		return port{}, fail(ClassPortNotFound, errdefs.ErrNotFound, err, "Port id %s could not be found.", id)
	}
	if err != nil {
		return port{}, fmt.Errorf("port %s: %w", id, err)
	}
	return answer.Port, nil
}

// portsOf are all ports of an instance, by ID.
func (r rest) portsOf(ctx context.Context, inst Instance) (map[string]port, error) {
	var answer struct{ Ports []port }
	q := url.Values{"device_id": {inst.UUID}}
	if inst.ProjectID != "" {
		q.Set("tenant_id", inst.ProjectID)
	}
	if err := r.get(ctx, "/ports", q, &answer); err != nil {
		return nil, fmt.Errorf("ports of instance %s: %w", inst.UUID, err)
	}
	ports := make(map[string]port, len(answer.Ports))
	for _, p := range answer.Ports {
		ports[p.ID] = p
	}
	return ports, nil
}

// updatePort changes a port and returns it as it is then.
func (r rest) updatePort(ctx context.Context, id string, body map[string]any) (port, error) {
	var answer struct{ Port port }
	err := r.do(ctx, "PUT", "/ports/"+url.PathEscape(id), map[string]any{"port": body}, &answer)
	switch neutronType(err) {
	case "MacAddressInUse":
		return port{}, fail(ClassPortInUse, errdefs.ErrConflict, err, "Port %v is still in use.", body["mac_address"])
	case "HostNotCompatibleWithFixedIps":
		return port{}, fail(ClassFixedIPInvalidOnHost, errdefs.ErrInvalid, err,
			"The fixed IP associated with port %s is not compatible with the host.", id)
	}
	if err != nil {
		return port{}, fmt.Errorf("port %s: update: %w", id, err)
	}
	if answer.Port.failedBinding() {
		return port{}, bindingFailed(id)
	}
	return answer.Port, nil
}

// deletePort asks for the absence of a port.
func (c *Client) deletePort(ctx context.Context, as rest, id string) error {
	err := as.do(ctx, "DELETE", "/ports/"+url.PathEscape(id), nil, nil)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("port %s: delete: %w", id, err)
	}
	return nil
}

// bindingKeys are the entries of a binding profile that belong to the binding and
// not to the user (nova/network/neutron.py, _unbind_ports).
var bindingKeys = [...]string{"pci_vendor_info", "pci_slot", "allocation", "arq_uuid", "physical_network",
	"card_serial_number", "vf_num", "pf_mac_address", "device_mac_address"}

// unbind takes ports from their instance and host and keeps them. A port that is
// gone is no error.
func (c *Client) unbind(ctx context.Context, user rest, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	dns, err := c.extension(ctx, "dns-integration")
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, c.unbindOne(ctx, user, id, dns))
	}
	return errors.Join(errs...)
}

func (c *Client) unbindOne(ctx context.Context, user rest, id string, dns bool) error {
	admin := c.admin()
	p, err := admin.port(ctx, id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	domain := ""
	if dns {
		var answer struct{ Network network }
		q := url.Values{"fields": {"dns_domain"}}
		if err := admin.get(ctx, "/networks/"+url.PathEscape(p.NetworkID), q, &answer); err != nil {
			c.log.WarnContext(ctx, "the DNS domain of a port's network is not known", "port", id, "error", err)
		}
		domain = answer.Network.DNSDomain
	}
	profile := orEmpty(maps.Clone(p.Profile))
	for _, key := range bindingKeys {
		delete(profile, key)
	}
	body := map[string]any{"device_id": "", "device_owner": "", "binding:host_id": nil, "binding:profile": profile}
	if dns && domain == "" {
		body["dns_name"] = ""
	}
	if _, err := admin.updatePort(ctx, id, body); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("port %s: unbind: %w", id, err)
	}
	if dns && domain != "" {
		// The record is in the user's own zone.
		if _, err := user.updatePort(ctx, id, map[string]any{"dns_name": ""}); err != nil && !errors.Is(err, errdefs.ErrNotFound) {
			return fmt.Errorf("port %s: unbind from DNS: %w", id, err)
		}
	}
	return nil
}

func portIDs(ports []port) []string {
	var ids []string
	for _, p := range ports {
		ids = append(ids, p.ID)
	}
	return ids
}
