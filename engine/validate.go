package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"tags.cncf.io/container-device-interface/pkg/parser"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
)

const (
	maxNameBytes = 128
	// maxTextBytes bounds each string that ends up in the process's memory: the
	// kernel's MAX_ARG_STRLEN.
	maxTextBytes = 128 << 10
	// maxLabelBytes bounds all labels together.
	maxLabelBytes = 256 << 10
	minMemory     = 6 << 20 // Docker's
)

// validate reports everything that is wrong with s, as ErrInvalid.
func (s *Spec) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if s.ID != "" && (len(s.ID) != 64 || !isHex(s.ID)) {
		bad("ID %s is not 64 hexadecimal digits", printable(s.ID))
	}
	if s.Name != "" {
		if err := checkName(s.Name); err != nil {
			errs = append(errs, err)
		}
	}
	if s.Owner != OwnerNova && s.Owner != OwnerDocker {
		bad("owner %q is neither %s nor %s", s.Owner, OwnerNova, OwnerDocker)
	}
	if (s.Image == "") == (s.Rootfs == "") {
		bad("one of image and rootfs is needed, not both")
	}
	if s.Rootfs != "" && !path.IsAbs(s.Rootfs) {
		bad("rootfs %s is not an absolute path", printable(s.Rootfs))
	}
	for _, list := range [][]string{s.Entrypoint, s.Args, s.Env, {s.WorkDir, s.User}, s.Groups} {
		for _, text := range list {
			if strings.ContainsRune(text, 0) || len(text) > maxTextBytes {
				bad("%s has a NUL or is longer than %d bytes", printable(text), maxTextBytes)
			}
		}
	}
	for _, v := range s.Env {
		if strings.HasPrefix(v, "=") || v == "" {
			bad("invalid environment variable: %s", printable(v))
		}
	}
	if s.WorkDir != "" && !path.IsAbs(s.WorkDir) {
		bad("the working directory '%s' is invalid, it needs to be an absolute path", printable(s.WorkDir))
	}
	if err := checkHostname(s.Hostname, 64); err != nil {
		errs = append(errs, err)
	}
	if err := checkHostname(s.Domainname, 64); err != nil {
		errs = append(errs, err)
	}
	total := 0
	for k, v := range s.Labels {
		total += len(k) + len(v)
	}
	if total > maxLabelBytes {
		bad("the labels are longer than %d bytes", maxLabelBytes)
	}
	if s.StopSignal < 0 || s.StopSignal > 64 {
		bad("there is no signal %d", s.StopSignal)
	}
	errs = append(errs, s.Resources.validate(), validateMounts(s.Mounts), validateVolumes(s.Volumes), s.validateNetwork(), s.validateSecurity(),
		s.validateRestart(), s.DNS.validate(), s.Health.validate(), s.validateNamespaces(), s.Log.validate())
	if len(s.CDIDevices) > 0 && s.Owner != OwnerDocker {
		bad("a container of %s gets no CDI devices", s.Owner)
	}
	for _, name := range s.CDIDevices {
		if _, _, _, err := parser.ParseQualifiedName(name); err != nil {
			bad("CDI device %s: %v", printable(name), err)
		}
	}
	if s.Umask != nil && *s.Umask > 0o777 {
		bad("umask %o is more than 777", *s.Umask)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
	}
	if _, err := s.groups(); err != nil {
		return err
	}
	return nil
}

func checkName(name string) error {
	ok := len(name) >= 2
	for i, r := range name {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && strings.ContainsRune("_.-", r))
	}
	if len(name) > maxNameBytes {
		return fmt.Errorf("Invalid container name (%s), it is longer than %d bytes: %w", printable(name), maxNameBytes, errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	if !ok {
		return fmt.Errorf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed: %w", printable(name), errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	return nil
}

// checkHostname accepts what sethostname takes and cannot break a line of /etc/hosts.
func checkHostname(name string, limit int) error {
	if len(name) > limit || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == '/' || r == '#' || r >= 0x7f
	}) {
		return fmt.Errorf("host or domain name %s is not at most %d printable characters", printable(name), limit)
	}
	return nil
}

func (r *Resources) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if r.MemoryBytes != 0 && r.MemoryBytes < minMemory {
		bad("Minimum memory limit allowed is 6MB")
	}
	if r.MemoryReservationBytes < 0 || r.MemoryBytes > 0 && r.MemoryReservationBytes > r.MemoryBytes {
		bad("Minimum memory limit can not be less than memory reservation limit, see usage")
	}
	if r.SwapBytes != 0 && r.MemoryBytes == 0 {
		bad("a swap limit needs a memory limit")
	}
	if r.CPUMilli < 0 || r.CPUMilli != 0 && r.CPUMilli < 10 {
		bad("a CPU limit of %d thousandths is less than 10", r.CPUMilli)
	}
	if r.CPUPeriod != 0 && (r.CPUPeriod.Microseconds() < 1000 || r.CPUPeriod.Microseconds() > 1_000_000) {
		bad("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
	}
	if r.CPUShares != 0 && (r.CPUShares < 2 || r.CPUShares > 262144) {
		bad("CPU shares %d are not between 2 and 262144", r.CPUShares)
	}
	for _, list := range []string{r.CPUs, r.Mems} {
		if strings.Trim(list, "0123456789,-") != "" {
			bad("%s is not a list of numbers and ranges", printable(list))
		}
	}
	if r.DiskBytes < 0 || r.DiskBytes != 0 && r.DiskBytes < minDisk {
		bad("a disk limit of %d bytes is less than %d", r.DiskBytes, minDisk)
	}
	if r.BlkioWeight != 0 && (r.BlkioWeight < 10 || r.BlkioWeight > 1000) {
		bad("block IO weight %d is not between 10 and 1000", r.BlkioWeight)
	}
	if r.OOMScoreAdj < -1000 || r.OOMScoreAdj > 1000 {
		bad("Invalid value %d, range for oom score adj is [-1000, 1000]", r.OOMScoreAdj)
	}
	if r.ShmBytes < 0 {
		bad("SHM size can not be less than 0")
	}
	errs = append(errs, r.validateDevices())
	for _, u := range r.Ulimits {
		if !slices.Contains(ulimitNames, u.Name) {
			bad("there is no ulimit %s", printable(u.Name))
		}
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft < 0) {
			bad("ulimit %s: the soft limit %d is above the hard limit %d", u.Name, u.Soft, u.Hard)
		}
	}
	return errors.Join(errs...)
}

// ulimitNames are setrlimit's, without RLIMIT_ and in lower case.
var ulimitNames = []string{"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
	"nproc", "rss", "rtprio", "rttime", "sigpending", "stack", "as"}

func validateMounts(mounts []Mount) error {
	var errs []error
	targets := map[string]bool{}
	for _, m := range mounts {
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("mount at %s: %s", printable(m.Target), fmt.Sprintf(format, args...)))
		}
		target := path.Clean(m.Target)
		switch {
		case !path.IsAbs(m.Target):
			bad("the target is not an absolute path")
		case target == "/":
			bad("the root cannot be a target")
		case targets[target]:
			errs = append(errs, fmt.Errorf("Duplicate mount point: %s", printable(m.Target))) //nolint:staticcheck // Docker's words
		case strings.ContainsRune(m.Target, 0) || strings.ContainsRune(m.Source, 0):
			bad("a path has a NUL")
		}
		targets[target] = true
		switch m.Type {
		case MountBind:
			if !path.IsAbs(m.Source) {
				bad("the source %s is not an absolute path", printable(m.Source))
			}
			if m.SizeBytes != 0 || m.Mode != 0 || m.UID != 0 || m.GID != 0 {
				bad("size, mode and owner are for tmpfs only")
			}
		case MountTmpfs:
			if m.Source != "" {
				bad("a tmpfs has no source")
			}
			if m.SizeBytes < 0 || m.Mode > 0o7777 {
				bad("size or mode is out of range")
			}
		case MountVolume:
			errs = append(errs, validateVolumeMount(m))
		default:
			bad("type %s is none of bind, tmpfs, volume", printable(string(m.Type)))
		}
		switch m.Propagation {
		case "", "private", "rprivate", "slave", "rslave":
		default:
			bad("propagation %s is none of private, rprivate, slave, rslave", printable(m.Propagation))
		}
	}
	return errors.Join(errs...)
}

func (s *Spec) validateNetwork() error {
	for _, p := range s.Ports {
		if err := p.validate(); err != nil {
			return err
		}
	}
	if len(s.Ports) > 0 && s.NetworkMode != NetworkBridge {
		return fmt.Errorf("published ports need the network mode %s", NetworkBridge)
	}
	switch {
	case s.NetworkMode == NetworkBridge && s.Owner != OwnerDocker:
		return fmt.Errorf("network mode %s is not for a container of %s", NetworkBridge, s.Owner)
	case s.NetworkMode == NetworkBridge:
		return s.validateJoins()
	case s.shares() && s.Owner != OwnerDocker:
		return fmt.Errorf("network mode %s is not for a container of %s", s.NetworkMode, s.Owner)
	case s.shares() && len(s.Networks)+len(s.Endpoints) == 0:
		return nil
	case len(s.Networks) > 0:
		return fmt.Errorf("networks need the network mode %s", NetworkBridge)
	case s.NetworkMode == NetworkEndpoints:
		for _, ep := range s.Endpoints {
			if err := ep.Validate(); err != nil {
				return err
			}
		}
		return nil
	case len(s.Endpoints) > 0:
		return fmt.Errorf("endpoints need the network mode %s", NetworkEndpoints)
	case s.NetworkMode == "", s.NetworkMode == NetworkNone:
		return nil
	case s.NetworkMode == NetworkHost:
		if s.Owner != OwnerDocker {
			return fmt.Errorf("network mode %s is not for a container of %s", NetworkHost, s.Owner)
		}
		return nil
	}
	return fmt.Errorf("there is no network mode %s", printable(string(s.NetworkMode)))
}

func (s *Spec) validateNamespaces() error {
	n := &s.Namespaces
	for _, m := range []struct {
		kind    string
		mode    NamespaceMode
		allowed []NamespaceMode
		join    bool
	}{
		{"PID", n.PID, []NamespaceMode{NamespaceHost}, true},
		{"IPC", n.IPC, []NamespaceMode{NamespaceHost, NamespaceNone, NamespaceShareable}, true},
		{"UTS", n.UTS, []NamespaceMode{NamespaceHost}, false},
		{"cgroup", n.Cgroup, []NamespaceMode{NamespaceHost}, false},
	} {
		if m.mode == "" {
			continue
		}
		ref, join := m.mode.Container()
		if !slices.Contains(m.allowed, m.mode) && !(join && m.join && ref != "") {
			return fmt.Errorf("invalid %s mode: %s", m.kind, printable(string(m.mode)))
		}
		if s.Owner != OwnerDocker {
			return fmt.Errorf("a container of %s must have a %s namespace of its own", s.Owner, m.kind)
		}
	}
	if n.UTS == NamespaceHost && s.Hostname != "" {
		return errors.New("conflicting options: hostname and the UTS mode")
	}
	if s.CgroupParent != "" {
		if s.Owner != OwnerDocker {
			return fmt.Errorf("a container of %s cannot choose its cgroup parent", s.Owner)
		}
		if strings.ContainsFunc(s.CgroupParent, func(r rune) bool { return r < ' ' }) || path.Clean("/"+s.CgroupParent) == "/" ||
			slices.Contains(strings.Split(s.CgroupParent, "/"), "..") {
			return fmt.Errorf("cgroup parent %s is not the path of a cgroup", printable(s.CgroupParent))
		}
	}
	return nil
}

func (s *Spec) shares() bool { _, ok := s.NetworkMode.Shared(); return ok }

func (s *Spec) validateJoins() error {
	for _, j := range s.Networks {
		bad := func(format string, args ...any) error {
			return fmt.Errorf("network %s: %s", printable(firstOf(j.Name, j.Network)), fmt.Sprintf(format, args...))
		}
		if j.Network == "" {
			return errors.New("a network has no name")
		}
		if j.IPv4.IsValid() && !j.IPv4.Is4() || j.IPv6.IsValid() && (!j.IPv6.Is6() || j.IPv6.Is4In6()) {
			return bad("invalid endpoint settings: %s is no IPv4 address, or %s no IPv6 address", j.IPv4, j.IPv6)
		}
		if j.MAC != "" {
			if mac, err := net.ParseMAC(j.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				return bad("invalid MAC address: %s is not a unicast Ethernet address", printable(j.MAC))
			}
		}
		for _, name := range j.Aliases {
			if err := checkHostname(name, 255); err != nil || name == "" {
				return bad("invalid alias %s", printable(name))
			}
		}
		for _, l := range j.Links {
			if err := checkHostname(l.Alias, 255); err != nil || l.Alias == "" || l.Container == "" {
				return bad("invalid link %s:%s", printable(l.Container), printable(l.Alias))
			}
		}
		if j.IfName != "" {
			if err := network.ValidName(j.IfName); err != nil || j.IfName == "lo" {
				return bad("invalid interface name %s", printable(j.IfName))
			}
		}
	}
	return nil
}

func (s *Spec) validateSecurity() error {
	for _, list := range []struct {
		name string
		caps []string
	}{{"CapAdd", s.Security.CapAdd}, {"CapDrop", s.Security.CapDrop}} {
		if _, _, err := capabilityNames(list.caps); err != nil {
			return fmt.Errorf("invalid %s: %w", list.name, err)
		}
	}
	if s.Owner != OwnerDocker && (s.Security.Privileged || s.Security.HostUserns) {
		return fmt.Errorf("a container of %s must have a user namespace of its own", s.Owner)
	}
	return nil
}

func (s *Spec) validateRestart() error {
	switch s.Restart.Mode {
	case "", RestartNo, RestartAlways, RestartUnlessStopped, RestartOnFailure:
	default:
		return fmt.Errorf("invalid restart policy: unknown policy '%s'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'", printable(string(s.Restart.Mode)))
	}
	if s.Restart.MaxRetries < 0 {
		return errors.New("invalid restart policy: maximum retry count cannot be negative")
	}
	if s.Restart.MaxRetries > 0 && s.Restart.Mode != RestartOnFailure {
		return errors.New("invalid restart policy: maximum retry count can only be used with 'on-failure'")
	}
	if s.AutoRemove && s.Restart.Mode != "" && s.Restart.Mode != RestartNo {
		return errors.New("can't create 'AutoRemove' container with restart policy")
	}
	return nil
}

func (d *DNS) validate() error {
	var errs []error
	for _, server := range d.Nameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			errs = append(errs, fmt.Errorf("name server %s is not an address", printable(server)))
		}
	}
	for _, list := range [][]string{d.Search, d.Options} {
		for _, word := range list {
			if err := checkHostname(word, 253); err != nil || word == "" {
				errs = append(errs, fmt.Errorf("%s cannot be in resolv.conf", printable(word)))
			}
		}
	}
	for _, h := range d.Hosts {
		name, addr, _ := strings.Cut(h, ":")
		_, err := netip.ParseAddr(strings.Trim(addr, "[]"))
		if addr == hostGateway {
			err = nil
		}
		if err != nil || name == "" || checkHostname(name, 253) != nil {
			errs = append(errs, fmt.Errorf("bad format for add-host: %q", printable(h)))
		}
	}
	return errors.Join(errs...)
}
