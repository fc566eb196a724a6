package runtime

import (
	"fmt"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
)

// cgroupResources translates OCI limits to the cgroup library's; v2 tells that all
// controllers are cgroup v2's.
func cgroupResources(r *specs.LinuxResources, v2 bool) (*cgroups.Resources, error) {
	out := &cgroups.Resources{SkipDevices: r.Devices == nil, SkipFreezeOnSet: true}
	if v2 {
		out.Unified = r.Unified
	}
	if m := r.Memory; m != nil {
		set(&out.Memory, m.Limit)
		set(&out.MemoryReservation, m.Reservation)
		set(&out.MemorySwap, m.Swap)
		out.MemorySwappiness = m.Swappiness
		set(&out.OomKillDisable, m.DisableOOMKiller)
		if m.CheckBeforeUpdate != nil {
			out.MemoryCheckBeforeUpdate = *m.CheckBeforeUpdate
		}
	}
	if c := r.CPU; c != nil {
		set(&out.CpuShares, c.Shares)
		set(&out.CpuQuota, c.Quota)
		set(&out.CpuPeriod, c.Period)
		set(&out.CpuRtRuntime, c.RealtimeRuntime)
		set(&out.CpuRtPeriod, c.RealtimePeriod)
		out.CpuBurst, out.CPUIdle = c.Burst, c.Idle
		out.CpusetCpus, out.CpusetMems = c.Cpus, c.Mems
		if v2 {
			out.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(out.CpuShares)
		}
	}
	if r.Pids != nil {
		out.PidsLimit = r.Pids.Limit
	}
	if b := r.BlockIO; b != nil {
		set(&out.BlkioWeight, b.Weight)
		set(&out.BlkioLeafWeight, b.LeafWeight)
		for _, d := range b.WeightDevice {
			var weight, leaf uint16
			set(&weight, d.Weight)
			set(&leaf, d.LeafWeight)
			out.BlkioWeightDevice = append(out.BlkioWeightDevice, cgroups.NewWeightDevice(d.Major, d.Minor, weight, leaf))
		}
		for _, t := range []struct {
			from []specs.LinuxThrottleDevice
			to   *[]*cgroups.ThrottleDevice
		}{
			{b.ThrottleReadBpsDevice, &out.BlkioThrottleReadBpsDevice},
			{b.ThrottleWriteBpsDevice, &out.BlkioThrottleWriteBpsDevice},
			{b.ThrottleReadIOPSDevice, &out.BlkioThrottleReadIOPSDevice},
			{b.ThrottleWriteIOPSDevice, &out.BlkioThrottleWriteIOPSDevice},
		} {
			for _, d := range t.from {
				*t.to = append(*t.to, cgroups.NewThrottleDevice(d.Major, d.Minor, d.Rate))
			}
		}
	}
	for _, l := range r.HugepageLimits {
		out.HugetlbLimit = append(out.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: l.Pagesize, Limit: l.Limit})
	}
	for _, d := range r.Devices {
		rule, err := deviceRule(d)
		if err != nil {
			return nil, err
		}
		out.Devices = append(out.Devices, rule)
	}
	return out, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func deviceRule(d specs.LinuxDeviceCgroup) (*config.Rule, error) {
	rule := &config.Rule{Type: config.WildcardDevice, Major: config.Wildcard, Minor: config.Wildcard, Allow: d.Allow}
	switch d.Type {
	case "", "a":
	case "c", "u":
		rule.Type = config.CharDevice
	case "b":
		rule.Type = config.BlockDevice
	default:
		return nil, fmt.Errorf("device rule of type %q: %w", d.Type, errdefs.ErrInvalid)
	}
	set(&rule.Major, d.Major)
	set(&rule.Minor, d.Minor)
	rule.Permissions = config.Permissions(d.Access)
	if d.Access == "" {
		rule.Permissions = "rwm"
	}
	if !rule.Permissions.IsValid() {
		return nil, fmt.Errorf("device rule with access %q: %w", d.Access, errdefs.ErrInvalid)
	}
	return rule, nil
}

// DefaultDeviceRules let a container without a user namespace use, and make, the
// devices of the OCI specification's default list, and no others. In a user namespace
// the kernel lets nobody open a device that the container has made.
func DefaultDeviceRules() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		r := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major >= 0 {
			r.Major = &major
		}
		if minor >= 0 {
			r.Minor = &minor
		}
		return r
	}
	return []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"), rule("c", 1, 5, "rwm"), rule("c", 1, 7, "rwm"), rule("c", 1, 8, "rwm"), rule("c", 1, 9, "rwm"),
		rule("c", 5, 0, "rwm"), rule("c", 5, 1, "rwm"), rule("c", 5, 2, "rwm"), rule("c", 136, -1, "rwm"),
	}
}
