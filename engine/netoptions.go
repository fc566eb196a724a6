package engine

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

// The options of networks that are honoured, as Docker names them.
const (
	optionDevice  = "com.docker.network.bridge.name"
	optionICC     = "com.docker.network.bridge.enable_icc"
	optionMasq    = "com.docker.network.bridge.enable_ip_masquerade"
	optionHostIP4 = "com.docker.network.bridge.host_binding_ipv4"
	optionHostIP6 = "com.docker.network.bridge.host_binding_ipv6"
	optionInhibit = "com.docker.network.bridge.inhibit_ipv4"
	optionDefault = "com.docker.network.bridge.default_bridge"
	optionMode4   = "com.docker.network.bridge.gateway_mode_ipv4"
	optionMode6   = "com.docker.network.bridge.gateway_mode_ipv6"
	optionMTU     = "com.docker.network.driver.mtu"
	optionPrefix  = "com.docker.network.container_iface_prefix"
	optionIPv4    = "com.docker.network.enable_ipv4"
	optionIPv6    = "com.docker.network.enable_ipv6"
	optionIfName  = "com.docker.network.endpoint.ifname" // of an endpoint
)

// networkOptions are the driver's options as they are understood.
type networkOptions struct {
	device             string
	apart              bool // containers do not reach each other
	keepSource         bool
	noGateway          bool // the host has no IPv4 address on the bridge
	hostIPv4, hostIPv6 netip.Addr
	mtu                int
	prefix             string // of the devices in containers
}

// options reads n.Options, all of them or ErrInvalid.
func (n *Network) options() (o networkOptions, err error) {
	o.prefix = "eth"
	for _, name := range slices.Sorted(maps.Keys(n.Options)) {
		value := n.Options[name]
		var err error
		switch {
		case name == optionMTU:
			if o.mtu, err = strconv.Atoi(value); err == nil && (o.mtu != 0 && o.mtu < 68 || o.mtu > 65535) {
				err = errors.New("it is not between 68 and 65535")
			}
		case name == optionPrefix:
			o.prefix = value
			if len(value) > 12 || checkDevice(value) != nil {
				err = errors.New("it cannot begin a device's name")
			}
		case name == optionIPv4, name == optionIPv6:
			_, err = strconv.ParseBool(value)
		default:
			err = o.bridgeOption(name, value)
		}
		if err != nil {
			return o, fmt.Errorf("invalid network option %s=%s: %v: %w", printable(name), printable(value), err, errdefs.ErrInvalid)
		}
	}
	return o, nil
}

func (o *networkOptions) bridgeOption(name, value string) (err error) {
	flag := func() (on bool) {
		on, err = strconv.ParseBool(value)
		return on
	}
	switch name {
	case optionDevice:
		o.device, err = value, checkDevice(value)
	case optionICC:
		o.apart = !flag()
	case optionMasq:
		o.keepSource = !flag()
	case optionInhibit:
		o.noGateway = flag()
	case optionDefault:
		if flag() {
			err = errors.New("only the network bridge is the default bridge")
		}
	case optionHostIP4:
		if o.hostIPv4, err = netip.ParseAddr(value); err == nil && !o.hostIPv4.Is4() {
			err = errors.New("it is no IPv4 address")
		}
	case optionHostIP6:
		if o.hostIPv6, err = netip.ParseAddr(value); err == nil && !o.hostIPv6.Is6() {
			err = errors.New("it is no IPv6 address")
		}
	case optionMode4, optionMode6:
		if value != "" && value != "nat" {
			err = errors.New("use nat")
		}
	default:
		err = errors.New("the driver bridge does not have it, or it is not available yet")
	}
	return err
}

func checkDevice(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	return network.ValidName(name)
}

// validate reports what is wrong with a network that somebody asks for.
func (n *Network) validate() error {
	if strings.TrimSpace(n.Name) == "" {
		return fmt.Errorf("invalid name: name is empty: %w", errdefs.ErrInvalid)
	}
	if len(n.Name) > maxNameBytes || strings.ContainsFunc(n.Name, func(r rune) bool { return r < ' ' || r == '/' || r == ':' || r == 0x7f }) {
		return fmt.Errorf("invalid name: network name %s has a slash, a colon or a control character, or more than %d bytes: %w", printable(n.Name), maxNameBytes, errdefs.ErrInvalid)
	}
	if slices.Contains([]string{"bridge", "host", "none", "default"}, n.Name) {
		return fmt.Errorf("operation is not permitted on predefined %s network: %w", n.Name, errdefs.ErrForbidden)
	}
	switch n.Driver {
	case DriverBridge:
	case "macvlan", "ipvlan":
		return fmt.Errorf("the network driver %s is not available yet: use %s: %w", n.Driver, DriverBridge, errdefs.ErrUnsupported)
	case driverHost, driverNull:
		return fmt.Errorf("only one instance of %q network is allowed: %w", n.Driver, errdefs.ErrForbidden)
	default:
		return fmt.Errorf("could not find plugin %s in v1 plugin registry: plugin not found: use bridge: %w", printable(n.Driver), errdefs.ErrNotFound)
	}
	for name, set := range map[string]*bool{optionIPv4: &n.IPv4, optionIPv6: &n.IPv6} {
		if value, ok := n.Options[name]; ok {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("invalid network option %s=%s: %v: %w", name, printable(value), err, errdefs.ErrInvalid)
			}
			*set = on
		}
	}
	o, err := n.options()
	if err != nil {
		return err
	}
	if !n.IPv4 && !n.IPv6 {
		return fmt.Errorf("IPv4 or IPv6 must be enabled: %w", errdefs.ErrInvalid)
	}
	if o.mtu != 0 && o.mtu < 1280 && n.IPv6 {
		return fmt.Errorf("invalid network option %s=%d: IPv6 needs at least 1280: %w", optionMTU, o.mtu, errdefs.ErrInvalid)
	}
	families := map[bool]bool{}
	var errs []error
	for i := range n.Pools {
		p := &n.Pools[i]
		p.Asked = true
		if err := p.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		ipv6 := p.Subnet.Addr().Is6()
		if families[ipv6] {
			errs = append(errs, errors.New("several subnets of one family are not available: give the network one for IPv4 and one for IPv6"))
		}
		if ipv6 && !n.IPv6 {
			errs = append(errs, fmt.Errorf("invalid subnet %s: IPv6 is not enabled for this network", p.Subnet))
		}
		if !ipv6 && !n.IPv4 {
			errs = append(errs, fmt.Errorf("invalid subnet %s: IPv4 is not enabled for this network", p.Subnet))
		}
		families[ipv6] = true
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("invalid network config:\n%w: %w", err, errdefs.ErrInvalid)
	}
	return nil
}
