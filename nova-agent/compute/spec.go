package compute

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/nova-agent/neutron"
)

// specOptions are the host's part of a container's Spec.
type specOptions struct {
	// stopGrace is how long a guest has to end when it is stopped, unless its image says otherwise.
	stopGrace time.Duration
	dnsSearch []string
	log       engine.LogConfig
}

// specFor is where Nova's words become the engine's: instance, flavor, image and ports
// make a container's Spec. image is the manifest's digest. ErrInvalid: the image or the
// server has a setting that means nothing.
func specFor(g guest, image string, vifs neutron.NetworkInfo, mounts []engine.Mount, o specOptions) (engine.Spec, error) {
	s := engine.Spec{
		ID:          containerID(g.uuid),
		Name:        containerName(g.uuid),
		Owner:       engine.OwnerNova,
		Image:       image,
		Hostname:    g.hostname,
		Labels:      labels(g),
		Mounts:      mounts,
		NetworkMode: engine.NetworkEndpoints,
		StopGrace:   stopGrace(g, o.stopGrace),
		Log:         o.log,
	}
	var err error
	if s.Endpoints, err = endpoints(g.uuid, vifs); err != nil {
		return engine.Spec{}, err
	}
	if s.Resources, err = resources(g.flavor); err != nil {
		return engine.Spec{}, err
	}
	if err = security(&s.Security, g); err != nil {
		return engine.Spec{}, err
	}
	if err = runSettings(&s, g); err != nil {
		return engine.Spec{}, err
	}
	s.DNS = dns(vifs, o.dnsSearch)
	return s, nil
}

// runSettings applies what image and server say about the first process.
func runSettings(s *engine.Spec, g guest) (err error) {
	if v, ok := g.setting(settingEntrypoint...); ok {
		if s.Entrypoint, err = words(settingEntrypoint[0], v); err != nil {
			return err
		}
	}
	if v, ok := g.setting(settingCommand...); ok {
		if s.Args, err = words(settingCommand[0], v); err != nil {
			return err
		}
	}
	if v, ok := g.setting(settingEnv...); ok {
		if s.Env, err = environment(settingEnv[0], v); err != nil {
			return err
		}
		sort.Strings(s.Env)
	}
	s.User, _ = g.setting(settingUser...)
	s.WorkDir, _ = g.setting(settingWorkDir...)
	if v, ok := g.setting(settingTTY...); ok {
		if s.TTY, err = truth(settingTTY[0], v); err != nil {
			return err
		}
		s.OpenStdin = s.TTY // a shell on a terminal would end at once otherwise
	}
	if v, ok := g.setting(settingInit...); ok {
		if s.Init, err = truth(settingInit[0], v); err != nil {
			return err
		}
	}
	return nil
}

// The extra specs of a flavor that this driver reads besides quota:*.
const (
	specSecurity = "container:security"
	specPids     = "container:pids_limit"
	specShm      = "container:shm_mb"
)

// security is the operator's choice, never the image's or the user's: it comes from the flavor. An
// image may ask for less than the default.
func security(s *engine.Security, g guest) (err error) {
	switch v := g.flavor.extraSpecs[specSecurity]; v {
	case "", "default":
	case "system":
		s.System = true
	default:
		return fmt.Errorf("flavor %s: %s %q is neither default nor system: %w", g.flavor.name, specSecurity, v, errdefs.ErrInvalid)
	}
	if v, ok := g.setting(settingNoNewPrivs...); ok {
		s.NoNewPrivileges, err = truth(settingNoNewPrivs[0], v)
	}
	return err
}

// Bounds of CPU shares in cgroup v1.
const (
	minCPUShares = 2
	maxCPUShares = 262144
	sharesPerCPU = 1024
)

// defaultCPUPeriod is the kernel's, in microseconds.
const defaultCPUPeriod = 100_000

// resources turns a flavor into limits. VCPUs become both weight and quota; quota:cpu_shares,
// quota:cpu_quota and quota:cpu_period replace them as they do for Nova's libvirt driver: the
// quota is for each VCPU, in microseconds of the period, and negative for none. Ephemeral
// space counts to the root disk's; a root disk of 0 GB has no bound.
func resources(f flavor) (engine.Resources, error) {
	vcpus := int64(max(f.vcpus, 1))
	r := engine.Resources{
		MemoryBytes: int64(f.memoryMB) << 20,
		SwapBytes:   int64(f.swapMB) << 20,
		CPUMilli:    1000 * vcpus,
		CPUShares:   uint64(min(max(sharesPerCPU*vcpus, minCPUShares), maxCPUShares)),
	}
	if f.rootGB > 0 {
		r.DiskBytes = int64(f.rootGB+f.ephemeralGB) << 30
	}
	bad := func(err error) (engine.Resources, error) {
		return engine.Resources{}, fmt.Errorf("flavor %s: %w", f.name, err)
	}
	if v, ok := f.extraSpecs["quota:cpu_shares"]; ok {
		n, err := number("quota:cpu_shares", v, 0, 1<<31)
		if err != nil {
			return bad(err)
		}
		r.CPUShares = uint64(min(max(n, minCPUShares), maxCPUShares))
	}
	period := int64(defaultCPUPeriod)
	if v, ok := f.extraSpecs["quota:cpu_period"]; ok {
		n, err := number("quota:cpu_period", v, 0, 1_000_000)
		if err != nil {
			return bad(err)
		}
		if n > 0 {
			period = min(max(n, 1000), 1_000_000)
			r.CPUPeriod = time.Duration(period) * time.Microsecond
		}
	}
	if v, ok := f.extraSpecs["quota:cpu_quota"]; ok {
		n, err := number("quota:cpu_quota", v, -1, 1<<44)
		if err != nil {
			return bad(err)
		}
		switch {
		case n < 0:
			r.CPUMilli = 0
		case n > 0:
			r.CPUMilli = max(vcpus*n*1000/period, 10)
		}
	}
	if v, ok := f.extraSpecs[specPids]; ok {
		n, err := number(specPids, v, 1, 1<<22)
		if err != nil {
			return bad(err)
		}
		r.PidsLimit = n
	}
	if v, ok := f.extraSpecs[specShm]; ok {
		n, err := number(specShm, v, 1, 1<<20)
		if err != nil {
			return bad(err)
		}
		r.ShmBytes = n << 20
	}
	return r, nil
}

// stopGrace is the image's os_shutdown_timeout, in seconds, or the host's.
func stopGrace(g guest, host time.Duration) time.Duration {
	if v, ok := g.properties["os_shutdown_timeout"]; ok {
		if n, err := number("os_shutdown_timeout", v, 0, 24*3600); err == nil {
			return time.Duration(n) * time.Second
		}
	}
	return host
}

// The labels of an instance's container.
const (
	labelUUID    = "org.openstack.instance"
	labelName    = "org.openstack.instance.name"
	labelProject = "org.openstack.project"
	labelUser    = "org.openstack.user"
	labelFlavor  = "org.openstack.flavor"
	labelImage   = "org.openstack.image"
)

func labels(g guest) map[string]string {
	return map[string]string{
		labelUUID: g.uuid, labelName: g.name, labelProject: g.projectID, labelUser: g.userID,
		labelFlavor: g.flavor.name, labelImage: g.imageRef,
	}
}

// endpoints turns VIFs into the engine's endpoints, in order. A port that is not bound to this
// host is VirtualInterfacePlugException; a type that containers can't have is ErrUnsupported.
func endpoints(instance string, vifs neutron.NetworkInfo) ([]network.Endpoint, error) {
	out := make([]network.Endpoint, 0, len(vifs))
	for i, v := range vifs {
		e, err := endpoint(instance, v)
		if err != nil {
			return nil, err
		}
		e.GuestDevice = guestDevice(i)
		out = append(out, e)
	}
	return out, nil
}

func guestDevice(i int) string { return fmt.Sprintf("eth%d", i) }

func endpoint(instance string, v neutron.VIF) (network.Endpoint, error) {
	e := network.Endpoint{
		ID:         v.ID,
		HostDevice: string(v.DevName),
		MAC:        v.Address,
		Addresses:  v.Addresses(),
		MTU:        v.MTU(),
	}
	e.Gateway4, e.Gateway6 = v.Gateways()
	for _, r := range v.Routes() {
		e.Routes = append(e.Routes, network.Route{To: r.To, Via: r.Via})
	}
	create, said := false, false
	if v.Network != nil {
		e.Bridge = string(v.Network.Bridge)
		create, said = v.Network.Meta["should_create_bridge"].(bool)
	}
	switch v.Type {
	case "bridge":
		if e.Bridge == "" {
			return e, fmt.Errorf("port %s: its network names no bridge: %w", v.ID, errdefs.ErrUnavailable)
		}
		e.Kind = network.KindBridge
		// Nova lets os-vif make the bridge unless the network says otherwise.
		e.BridgeCreate = create || !said
	case "ovs":
		e.Kind = network.KindOVS
		if v.HybridPlug() {
			e.Kind = network.KindOVSHybrid
		}
		e.OVS = network.OVS{IfaceID: string(v.OVSInterfaceID), OwnerID: instance, DatapathType: v.DatapathType()}
	case "tap":
		e.Kind = network.KindTap
		e.Bridge = ""
	case "unbound", "binding_failed", "":
		return e, &Exception{Class: "VirtualInterfacePlugException", Kind: errdefs.ErrUnavailable,
			Message: fmt.Sprintf("Virtual interface plugin failed: port %s is not bound to this host (vif_type=%s)", v.ID, v.Type)}
	default:
		return e, fmt.Errorf("port %s: a container cannot have an interface of type %s: %w", v.ID, v.Type, errdefs.ErrUnsupported)
	}
	return e, nil
}

// maxNameservers is how many the C library reads (resolv.h, MAXNS).
const maxNameservers = 3

// dns makes the resolver's configuration that a virtual machine would get by DHCP: the
// subnets' name servers, or the DHCP server where a subnet has none.
func dns(vifs neutron.NetworkInfo, search []string) engine.DNS {
	d := engine.DNS{Search: search}
	add := func(a netip.Addr) {
		if s := a.String(); a.IsValid() && !slices.Contains(d.Nameservers, s) && len(d.Nameservers) < maxNameservers {
			d.Nameservers = append(d.Nameservers, s)
		}
	}
	for _, v := range vifs {
		if v.Network == nil {
			continue
		}
		for _, s := range v.Network.Subnets {
			if len(s.DNS) == 0 {
				server, _ := s.Meta["dhcp_server"].(string)
				a, _ := netip.ParseAddr(server)
				add(a)
			}
			for _, ip := range s.DNS {
				a, _ := netip.ParseAddr(string(ip.Address))
				add(a)
			}
		}
	}
	return d
}
