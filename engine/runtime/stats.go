package runtime

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/cgroups"

	"novaagent/engine/errdefs"
)

// Stats reads the container's counters. errdefs.ErrConflict: it has ended.
func (t *Task) Stats(ctx context.Context) (Stats, error) {
	cg, err := t.freezer()
	if err != nil {
		return Stats{}, err
	}
	m, err := cg.manager(&cgroups.Resources{})
	if err != nil {
		return Stats{}, err
	}
	s, err := m.GetStats()
	if err != nil {
		return Stats{}, fmt.Errorf("container %s: statistics: %v: %w", t.rec.ID, err, errdefs.ErrUnavailable)
	}
	out := Stats{
		At:                  time.Now(),
		CPUNanos:            s.CpuStats.CpuUsage.TotalUsage,
		CPUUserNanos:        s.CpuStats.CpuUsage.UsageInUsermode,
		CPUSystemNanos:      s.CpuStats.CpuUsage.UsageInKernelmode,
		CPUPeriods:          s.CpuStats.ThrottlingData.Periods,
		CPUThrottledPeriods: s.CpuStats.ThrottlingData.ThrottledPeriods,
		CPUThrottledNanos:   s.CpuStats.ThrottlingData.ThrottledTime,
		MemoryBytes:         s.MemoryStats.Usage.Usage,
		MemoryLimitBytes:    s.MemoryStats.Usage.Limit,
		MemoryMaxBytes:      s.MemoryStats.Usage.MaxUsage,
		MemoryFailures:      s.MemoryStats.Usage.Failcnt,
		Pids:                s.PidsStats.Current,
		PidsLimit:           s.PidsStats.Limit,
		OOMKills:            cg.oomKills(),
		CPUNanosEach:        s.CpuStats.CpuUsage.PercpuUsage,
		Memory:              s.MemoryStats.Stats,
	}
	// v1 counts children under total_*.
	if v, ok := s.MemoryStats.Stats["total_inactive_file"]; ok {
		out.MemoryInactiveFileBytes = v
	} else {
		out.MemoryInactiveFileBytes = s.MemoryStats.Stats["inactive_file"]
	}
	if swap := s.MemoryStats.SwapUsage.Usage; cg.h.pure() {
		out.SwapBytes = swap
	} else if swap > out.MemoryBytes { // v1 counts both
		out.SwapBytes = swap - out.MemoryBytes
	}
	out.Block = blockStats(s.BlkioStats)
	return out, nil
}

func blockStats(s cgroups.BlkioStats) []BlockStats {
	var out []BlockStats
	device := func(major, minor uint64) *BlockStats {
		for i := range out {
			if out[i].Major == major && out[i].Minor == minor {
				return &out[i]
			}
		}
		out = append(out, BlockStats{Major: major, Minor: minor})
		return &out[len(out)-1]
	}
	for _, e := range s.IoServiceBytesRecursive {
		switch e.Op {
		case "Read", "read":
			device(e.Major, e.Minor).ReadBytes += e.Value
		case "Write", "write":
			device(e.Major, e.Minor).WriteBytes += e.Value
		}
	}
	for _, e := range s.IoServicedRecursive {
		switch e.Op {
		case "Read", "read":
			device(e.Major, e.Minor).ReadOps += e.Value
		case "Write", "write":
			device(e.Major, e.Minor).WriteOps += e.Value
		}
	}
	return out
}
