package dockerapi

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/blkiodev"
	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// namespacesOf translates the modes of namespaces. It writes Docker's defaults into h, where inspect finds them.
func namespacesOf(h *container.HostConfig) (n engine.Namespaces, err error) {
	bad := func(what string, v any) (engine.Namespaces, error) {
		return n, fmt.Errorf("invalid %s mode: %v: %w", what, v, errdefs.ErrInvalid)
	}
	switch {
	case h.PidMode == "" || h.PidMode == "private":
	case h.PidMode.IsHost(), h.PidMode.IsContainer():
		n.PID = engine.NamespaceMode(h.PidMode)
	default:
		return bad("PID", h.PidMode)
	}
	switch h.IpcMode {
	case "", container.IPCModePrivate:
		h.IpcMode = container.IPCModePrivate
	case container.IPCModeHost, container.IPCModeNone, container.IPCModeShareable:
		n.IPC = engine.NamespaceMode(h.IpcMode)
	default:
		if !h.IpcMode.IsContainer() {
			return bad("IPC", h.IpcMode)
		}
		n.IPC = engine.NamespaceMode(h.IpcMode)
	}
	switch {
	case h.UTSMode == "" || h.UTSMode == "private":
	case h.UTSMode.IsHost():
		n.UTS = engine.NamespaceHost
	default:
		return bad("UTS", h.UTSMode)
	}
	switch h.CgroupnsMode {
	case container.CgroupnsModeEmpty, container.CgroupnsModePrivate:
		h.CgroupnsMode = container.CgroupnsModePrivate
	case container.CgroupnsModeHost:
		n.Cgroup = engine.NamespaceHost
	default:
		return bad("cgroup namespace", h.CgroupnsMode)
	}
	if !h.UsernsMode.Valid() {
		return bad("user namespace", h.UsernsMode)
	}
	return n, nil
}

// moreResources translates the rarer limits. Those that this host cannot set are taken out of r with a warning, as Docker
// does (moby's daemon/daemon_unix.go, verifyPlatformContainerResources).
func (s *server) moreResources(r *container.Resources, out *engine.Resources) (warnings []string, err error) {
	discard := func(what string) { warnings = append(warnings, what+" discarded.") }
	if cpus := int64(runtime.NumCPU()); r.NanoCPUs > cpus*1e9 {
		return nil, fmt.Errorf("Range of CPUs is from 0.01 to %d.00, as there are only %d CPUs available: %w", cpus, cpus, errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	for _, set := range []struct{ name, what, asked, online string }{
		{"cpus", "CPUs", r.CpusetCpus, "/sys/devices/system/cpu/online"},
		{"mems", "memory nodes", r.CpusetMems, "/sys/devices/system/node/online"},
	} {
		if err := checkSet(set.name, set.what, set.asked, set.online); err != nil {
			return nil, err
		}
	}
	const unsupported = "Your kernel does not support %s or the cgroup is not mounted. %s"
	if v := r.MemorySwappiness; v != nil && *v != -1 {
		switch {
		case *v < 0 || *v > 100:
			return nil, fmt.Errorf("Invalid value: %d, valid memory swappiness range is 0-100: %w", *v, errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
		case !s.engine.Supports(engine.LimitSwappiness):
			discard(fmt.Sprintf(unsupported, "memory swappiness capabilities", "Memory swappiness"))
			r.MemorySwappiness = nil
		default:
			n := uint64(*v)
			out.MemorySwappiness = &n
		}
	}
	if r.OomKillDisable != nil && *r.OomKillDisable {
		if !s.engine.Supports(engine.LimitOOMKill) {
			discard("Your kernel does not support OomKillDisable. OomKillDisable")
			r.OomKillDisable = nil
		} else {
			out.OOMKillDisable = true
			if r.Memory == 0 {
				warnings = append(warnings, "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.")
			}
		}
	}
	if r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0 {
		if !s.engine.Supports(engine.LimitRealtime) {
			return nil, fmt.Errorf("kernel does not support CPU real-time scheduler: %w", errdefs.ErrInvalid)
		}
		out.CPURealtimePeriod = time.Duration(r.CPURealtimePeriod) * time.Microsecond
		out.CPURealtimeRuntime = time.Duration(r.CPURealtimeRuntime) * time.Microsecond
	}
	if r.BlkioWeight != 0 && !s.engine.Supports(engine.LimitBlkioWeight) {
		discard(fmt.Sprintf(unsupported, "Block I/O weight", "Weight"))
		r.BlkioWeight, out.BlkioWeight = 0, 0
	}
	if len(r.BlkioWeightDevice) > 0 && !s.engine.Supports(engine.LimitBlkioDevices) {
		discard(fmt.Sprintf(unsupported, "Block I/O weight_device", "Weight-device"))
		r.BlkioWeightDevice = nil
	}
	for _, d := range r.BlkioWeightDevice {
		out.BlkioDevices = append(out.BlkioDevices, engine.BlkioDevice{Kind: engine.BlkioDeviceWeight, Path: d.Path, Value: uint64(d.Weight)})
	}
	for _, t := range []struct {
		kind engine.BlkioKind
		name string
		list *[]*blkiodev.ThrottleDevice
	}{
		{engine.BlkioDeviceReadBps, "BPS Block I/O read limit", &r.BlkioDeviceReadBps},
		{engine.BlkioDeviceWriteBps, "BPS Block I/O write limit", &r.BlkioDeviceWriteBps},
		{engine.BlkioDeviceReadIOps, "IOPS Block I/O read limit", &r.BlkioDeviceReadIOps},
		{engine.BlkioDeviceWriteIOps, "IOPS Block I/O write limit", &r.BlkioDeviceWriteIOps},
	} {
		if len(*t.list) > 0 && !s.engine.Supports(engine.LimitBlkioRates) {
			discard(fmt.Sprintf(unsupported, t.name, t.name))
			*t.list = nil
		}
		for _, d := range *t.list {
			out.BlkioDevices = append(out.BlkioDevices, engine.BlkioDevice{Kind: t.kind, Path: d.Path, Value: d.Rate})
		}
	}
	for _, windows := range []struct {
		name string
		set  bool
	}{
		{"CpuCount", r.CPUCount != 0}, {"CpuPercent", r.CPUPercent != 0},
		{"IOMaximumIOps", r.IOMaximumIOps != 0}, {"IOMaximumBandwidth", r.IOMaximumBandwidth != 0},
	} {
		if windows.set {
			warnings = append(warnings, "HostConfig."+windows.name+" is of Windows only and has no effect.")
		}
	}
	for _, d := range r.Devices {
		out.Devices = append(out.Devices, engine.Device{Host: d.PathOnHost, Container: d.PathInContainer, Access: d.CgroupPermissions})
	}
	out.DeviceRules = r.DeviceCgroupRules
	return warnings, nil
}

// securityOf translates what widens or narrows the security profile.
func securityOf(h *container.HostConfig) (engine.Security, error) {
	s := engine.Security{
		Privileged: h.Privileged, HostUserns: h.UsernsMode.IsHost(), CapAdd: h.CapAdd, CapDrop: h.CapDrop, ReadonlyRootfs: h.ReadonlyRootfs,
		// `--security-opt systempaths=unconfined` sends lists that are empty and not null.
		MaskedPaths: h.MaskedPaths, ReadonlyPaths: h.ReadonlyPaths,
	}
	for _, list := range [][]string{h.MaskedPaths, h.ReadonlyPaths} {
		for _, p := range list {
			if !path.IsAbs(p) {
				return s, fmt.Errorf("HostConfig.MaskedPaths and ReadonlyPaths: %q is not an absolute path: %w", p, errdefs.ErrInvalid)
			}
		}
	}
	for _, option := range h.SecurityOpt {
		name, value, ok := strings.Cut(option, "=")
		if !ok {
			name, value, _ = strings.Cut(option, ":")
		}
		flag := func() (bool, error) {
			if value == "" {
				return true, nil
			}
			on, err := strconv.ParseBool(value)
			if err != nil {
				return false, fmt.Errorf("HostConfig.SecurityOpt: invalid --security-opt %q: %w", option, errdefs.ErrInvalid)
			}
			return on, nil
		}
		var err error
		switch name {
		case "no-new-privileges":
			s.NoNewPrivileges, err = flag()
		case "writable-cgroups":
			s.WritableCgroups, err = flag()
		case "seccomp":
			if value != "builtin" {
				s.Seccomp = value
			}
		case "apparmor":
			err = checkLSM(option, value == "unconfined" || value == "", "AppArmor", "/sys/module/apparmor/parameters/enabled")
		case "label":
			err = checkLSM(option, value == "disable", "SELinux", "/sys/fs/selinux/enforce")
		default:
			err = fmt.Errorf("HostConfig.SecurityOpt: invalid --security-opt: %q: %w", option, errdefs.ErrInvalid)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// checkLSM refuses a profile of a security module that the host has, since the engine would not apply it. On a host without
// the module it has no effect, as with Docker.
func checkLSM(option string, none bool, module, file string) error {
	if none {
		return nil
	}
	if state, err := os.ReadFile(file); err != nil || strings.HasPrefix(string(state), "N") {
		return nil
	}
	return fmt.Errorf("HostConfig.SecurityOpt: %q: profiles of %s are not available: %w", option, module, errdefs.ErrUnsupported)
}

// privilegedWarnings tell what this host withholds from a privileged container.
func privilegedWarnings(h *container.HostConfig) []string {
	if !h.Privileged {
		return nil
	}
	missing := engine.Withheld()
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return []string{"This host withholds from privileged containers: " + strings.Join(missing, ", ") + "."}
}

// cdiOf are the devices of the driver cdi; there is no other driver.
func cdiOf(requests []container.DeviceRequest) ([]string, error) {
	var out []string
	for _, r := range requests {
		if r.Driver != "cdi" {
			return nil, fmt.Errorf("could not select device driver %q with capabilities: %v: use cdi: %w", r.Driver, r.Capabilities, errdefs.ErrInvalid)
		}
		if r.Count != 0 || len(r.Capabilities) > 0 || len(r.Options) > 0 {
			return nil, fmt.Errorf("HostConfig.DeviceRequests: the driver cdi takes DeviceIDs only: %w", errdefs.ErrInvalid)
		}
		out = append(out, r.DeviceIDs...)
	}
	return out, nil
}

// checkSet refuses processors or memory nodes that the host does not have (moby, daemon/daemon_unix.go).
func checkSet(name, what, asked, online string) error {
	wanted, err := numbersOf(asked)
	if err != nil {
		return fmt.Errorf("Invalid value %s for cpuset %s: %v: %w", asked, name, err, errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	text, err := os.ReadFile(online)
	if err != nil {
		return nil // a kernel without nodes; the cgroup refuses what it lacks
	}
	available := strings.TrimSpace(string(text))
	have, err := numbersOf(available)
	if err != nil {
		return fmt.Errorf("%s: %w", online, err)
	}
	for n := range wanted {
		if !have[n] {
			return fmt.Errorf("Requested %s are not available - requested %s, available: %s: %w", what, asked, available, errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
		}
	}
	return nil
}

// numbersOf reads a list of numbers and ranges, as "0,2-3", none above 8191, the most that a kernel can have.
func numbersOf(list string) (map[int]bool, error) {
	all := map[int]bool{}
	if list == "" {
		return all, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to, err2 := from, error(nil)
		if isRange {
			to, err2 = strconv.Atoi(last)
		}
		if err != nil || err2 != nil || from < 0 || to < from || to > 8191 {
			return nil, fmt.Errorf("invalid format: %s", part)
		}
		for n := from; n <= to; n++ {
			all[n] = true
		}
	}
	return all, nil
}
