package neutron

import (
	"encoding/json"
	"slices"
)

// port is a Neutron port. What only an administrator sees (bindings) is
// missing when a user asked.
type port struct {
	ID              string          `json:"id"`
	NetworkID       string          `json:"network_id"`
	TenantID        string          `json:"tenant_id"`
	MACAddress      string          `json:"mac_address"`
	AdminStateUp    *bool           `json:"admin_state_up"`
	Status          string          `json:"status"`
	DeviceID        string          `json:"device_id"`
	DeviceOwner     string          `json:"device_owner"`
	FixedIPs        []portAddress   `json:"fixed_ips"`
	DNSName         string          `json:"dns_name"`
	HostID          string          `json:"binding:host_id"`
	VIFType         string          `json:"binding:vif_type"`
	VIFDetails      Meta            `json:"binding:vif_details"`
	VNICType        *string         `json:"binding:vnic_type"`
	Profile         Meta            `json:"binding:profile"`
	ResourceRequest json.RawMessage `json:"resource_request"`
}

type portAddress struct {
	SubnetID  string `json:"subnet_id,omitempty"`
	IPAddress string `json:"ip_address,omitempty"`
}

// active is Nova's notion: nothing has to be waited for.
func (p port) active() bool {
	return p.Status == "ACTIVE" || (p.AdminStateUp != nil && !*p.AdminStateUp)
}

// failedBinding tells whether no mechanism driver could bind the port to its host.
func (p port) failedBinding() bool { return p.VIFType == vifBindingFailed }

// The vif types that this package itself looks at.
const (
	vifUnbound       = "unbound"
	vifBindingFailed = "binding_failed"
)

type network struct {
	ID                  string    `json:"id"`
	Name                string    `json:"name"`
	TenantID            string    `json:"tenant_id"`
	MTU                 int       `json:"mtu"`
	Subnets             []string  `json:"subnets"`
	Shared              bool      `json:"shared"`
	External            bool      `json:"router:external"`
	PortSecurityEnabled *bool     `json:"port_security_enabled"`
	DNSDomain           string    `json:"dns_domain"`
	PhysicalNetwork     Text      `json:"provider:physical_network"`
	NetworkType         string    `json:"provider:network_type"`
	Segments            []segment `json:"segments"`
}

type segment struct {
	PhysicalNetwork Text   `json:"provider:physical_network"`
	NetworkType     string `json:"provider:network_type"`
}

type subnet struct {
	ID              string      `json:"id"`
	NetworkID       string      `json:"network_id"`
	CIDR            string      `json:"cidr"`
	GatewayIP       Text        `json:"gateway_ip"`
	EnableDHCP      bool        `json:"enable_dhcp"`
	IPv6AddressMode string      `json:"ipv6_address_mode"`
	DNS             []string    `json:"dns_nameservers"`
	HostRoutes      []hostRoute `json:"host_routes"`
}

type hostRoute struct {
	Destination string `json:"destination"`
	NextHop     string `json:"nexthop"`
}

type floatingIP struct {
	PortID   string `json:"port_id"`
	FixedIP  string `json:"fixed_ip_address"`
	Floating string `json:"floating_ip_address"`
}

// requestGroup is one group of a port's resource_request.
type requestGroup struct {
	ID        string         `json:"id"`
	Resources map[string]int `json:"resources"`
}

// resourceRequest reads resource_request in both of its forms: with groups
// (extension port-resource-request-groups) and without, where the only group has no ID.
func (p port) resourceRequest() []requestGroup {
	var r struct {
		Groups    []requestGroup `json:"request_groups"`
		Resources map[string]int `json:"resources"`
	}
	if len(p.ResourceRequest) == 0 || json.Unmarshal(p.ResourceRequest, &r) != nil {
		return nil
	}
	if len(r.Groups) == 0 && len(r.Resources) > 0 {
		return []requestGroup{{Resources: r.Resources}}
	}
	return r.Groups
}

// uniq is list without its repetitions.
func uniq(list []string) []string {
	var out []string
	for _, s := range list {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
