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
	optionTrusted = "com.docker.network.bridge.trusted_host_interfaces"
	optionMTU     = "com.docker.network.driver.mtu"
	optionPrefix  = "com.docker.network.container_iface_prefix"
	optionIPv4    = "com.docker.network.enable_ipv4"
	optionIPv6    = "com.docker.network.enable_ipv6"
	optionParent  = "parent"
	optionMacvlan = "macvlan_mode"
	optionIPvlan  = "ipvlan_mode"
	optionFlag    = "ipvlan_flag"
)

// networkOptions are the driver's options as they are understood.
type networkOptions struct {
	device             string // of a bridge network, or the parent of others
	apart              bool   // containers do not reach each other
	keepSource         bool
	noGateway          bool // the host has no IPv4 address on the bridge
	hostIPv4, hostIPv6 netip.Addr
	mode4, mode6       network.GatewayMode
	trusted            []string
	mtu                int
	prefix             string // of the devices in containers
	mode, flag         string // of macvlan and ipvlan
}

// routed says that the driver is ipvlan at layer 3: everything is reached through the device, without a gateway.
func (o *networkOptions) routed() bool { return o.mode == "l3" || o.mode == "l3s" }

// options reads n.Options, all of them or ErrInvalid.
func (n *Network) options() (o networkOptions, err error) {
	o.prefix = "eth"
	o.mode4, o.mode6 = network.ModeNAT, network.ModeNAT
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
		case n.Driver == DriverMacvlan, n.Driver == DriverIPvlan:
			err = o.parentOption(n.Driver, name, value)
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
	case optionMode4:
		o.mode4, err = gatewayMode(value)
	case optionMode6:
		o.mode6, err = gatewayMode(value)
	case optionTrusted:
		o.trusted = strings.Split(value, ":")
		for _, device := range o.trusted {
			err = errors.Join(err, checkDevice(device))
		}
	default:
		err = errors.New("the driver bridge does not have it, or it is not available yet")
	}
	return err
}

func gatewayMode(value string) (network.GatewayMode, error) {
	switch m := network.GatewayMode(value); m {
	case "":
		return network.ModeNAT, nil
	case network.ModeNAT, network.ModeUnprotected, network.ModeRouted, network.ModeIsolated:
		return m, nil
	}
	return "", errors.New("unknown gateway mode: use nat, nat-unprotected, routed or isolated")
}

// parentOption reads an option of the drivers macvlan and ipvlan, in moby's words (daemon/libnetwork/drivers).
func (o *networkOptions) parentOption(driver, name, value string) error {
	oneOf := func(into *string, format string, values ...string) error {
		if *into = value; value != "" && !slices.Contains(values, value) {
			return fmt.Errorf(format, value)
		}
		return nil
	}
	switch {
	case name == optionParent:
		o.device = value
		if value == "lo" {
			return fmt.Errorf("loopback interface is not a valid %s parent link", driver)
		}
		return network.ValidName(value) // none is one of the network's own
	case name == optionMacvlan && driver == DriverMacvlan:
		return oneOf(&o.mode, "requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", "bridge", "private", "vepa", "passthru")
	case name == optionIPvlan && driver == DriverIPvlan:
		return oneOf(&o.mode, "requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default", "l2", "l3", "l3s")
	case name == optionFlag && driver == DriverIPvlan:
		return oneOf(&o.flag, "requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default", "bridge", "private", "vepa")
	}
	return fmt.Errorf("the driver %s does not have it", driver)
}

func checkDevice(name string) error {
	if name == "" {
		return errors.New("it is empty")
	}
	return network.ValidName(name)
}

// validate reports what is wrong with a network that somebody asks for, and completes the flags that are options as well.
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
	switch {
	case n.ConfigOnly: // its options are another driver's
		return n.validatePools()
	case slices.Contains([]string{DriverBridge, DriverMacvlan, DriverIPvlan}, n.Driver):
	case n.Driver == driverHost, n.Driver == driverNull:
		return fmt.Errorf("only one instance of %q network is allowed: %w", n.Driver, errdefs.ErrForbidden)
	default:
		return fmt.Errorf("could not find plugin %s in v1 plugin registry: plugin not found: use bridge, macvlan or ipvlan: %w", printable(n.Driver), errdefs.ErrNotFound)
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
	if !n.IPv4 && !n.IPv6 && !n.shares() { // those may have addresses from elsewhere
		return fmt.Errorf("IPv4 or IPv6 must be enabled: %w", errdefs.ErrInvalid)
	}
	if o.mtu != 0 && o.mtu < 1280 && n.IPv6 {
		return fmt.Errorf("invalid network option %s=%d: IPv6 needs at least 1280: %w", optionMTU, o.mtu, errdefs.ErrInvalid)
	}
	if !n.Internal && (o.mode4 == network.ModeIsolated || o.mode6 == network.ModeIsolated) {
		return fmt.Errorf("gateway mode 'isolated' can only be used for an internal network: %w", errdefs.ErrInvalid)
	}
	return n.validatePools()
}

// validatePools reports what is wrong with the subnets that somebody asks for.
func (n *Network) validatePools() error {
	if n.IPAM == ipamNull && len(n.Pools) > 0 {
		return fmt.Errorf("null ipam driver does not handle specific address pool requests: %w", errdefs.ErrInvalid)
	}
	for name, value := range n.IPAMOptions {
		// Addresses are given in the order of their numbers, in any case.
		if _, err := strconv.ParseBool(value); name != optionSerial || err != nil {
			return fmt.Errorf("invalid IPAM option %s=%s: use %s=true or false: %w", printable(name), printable(value), optionSerial, errdefs.ErrInvalid)
		}
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
		if families[ipv6] && n.Driver == DriverBridge && !n.ConfigOnly {
			return fmt.Errorf("bridge driver doesn't support multiple subnets: %w", errdefs.ErrForbidden)
		}
		if slices.ContainsFunc(n.Pools[:i], func(o Pool) bool { return o.Subnet.Overlaps(p.Subnet) }) {
			errs = append(errs, fmt.Errorf("invalid subnet %s: it overlaps with another one of the network", p.Subnet))
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
