package dockerapi

import (
	"bufio"
	"errors"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// statsInterval is Docker's.
const statsInterval = time.Second

func (s *server) containerStats(r *request) error {
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	stream, oneShot := r.boolean("stream", true), r.version >= 41 && r.boolean("one-shot", false)
	r.w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(r.w)
	ticker := time.NewTicker(statsInterval)
	defer ticker.Stop()
	var previous *container.StatsResponse
	for {
		sample, err := s.sample(r, &c)
		switch {
		case errors.Is(err, errdefs.ErrNotFound) && previous != nil:
			return nil // removed meanwhile
		case err != nil:
			return err
		}
		if previous != nil {
			sample.PreCPUStats, sample.PreRead = previous.CPUStats, previous.Read
		}
		// Without a stream the client wants rates all the same: the first sample is for the second's.
		if stream || oneShot || previous != nil || sample.Read.IsZero() {
			if r.line(sample) != nil || !stream || control.Flush() != nil {
				return nil
			}
		}
		previous = sample
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return nil
		}
	}
}

// sample is the container's counters now; a container that does not run has none.
func (s *server) sample(r *request, c *engine.Container) (*container.StatsResponse, error) {
	out := &container.StatsResponse{ID: c.ID, Name: "/" + c.Spec.Name, OSType: "linux"}
	stats, err := s.engine.Stats(r.Context(), c.ID)
	if errors.Is(err, errdefs.ErrConflict) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	out.Read = stats.At
	out.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: stats.CPUNanos, PercpuUsage: stats.CPUNanosEach, UsageInUsermode: stats.CPUUserNanos, UsageInKernelmode: stats.CPUSystemNanos,
		},
		SystemUsage: systemCPU(), OnlineCPUs: uint32(runtime.NumCPU()),
		ThrottlingData: container.ThrottlingData{
			Periods: stats.CPUPeriods, ThrottledPeriods: stats.CPUThrottledPeriods, ThrottledTime: stats.CPUThrottledNanos,
		},
	}
	limit := stats.MemoryLimitBytes
	if total := uint64(memTotal()); limit == 0 || limit > total {
		limit = total
	}
	// Clients subtract the one of these that they know from the usage.
	out.MemoryStats = container.MemoryStats{
		Usage: stats.MemoryBytes, MaxUsage: stats.MemoryMaxBytes, Limit: limit, Failcnt: stats.MemoryFailures,
		Stats: map[string]uint64{},
	}
	for name, v := range stats.Memory {
		out.MemoryStats.Stats[name] = v
	}
	for name, v := range map[string]uint64{
		"inactive_file": stats.MemoryInactiveFileBytes, "total_inactive_file": stats.MemoryInactiveFileBytes, "swap": stats.SwapBytes,
	} {
		out.MemoryStats.Stats[name] = v
	}
	out.PidsStats = container.PidsStats{Current: stats.Pids, Limit: stats.PidsLimit}
	if cgroupVersion() == "1" { // as Docker: lists of version 1 are empty, those that version 2 has no figures for are null
		none, io := []container.BlkioStatEntry{}, &out.BlkioStats
		io.IoServiceBytesRecursive, io.IoServicedRecursive, io.IoQueuedRecursive, io.IoServiceTimeRecursive = none, none, none, none
		io.IoWaitTimeRecursive, io.IoMergedRecursive, io.IoTimeRecursive, io.SectorsRecursive = none, none, none, none
	}
	for _, b := range stats.Block {
		entry := func(op string, v uint64) container.BlkioStatEntry {
			return container.BlkioStatEntry{Major: b.Major, Minor: b.Minor, Op: op, Value: v}
		}
		io := &out.BlkioStats
		io.IoServiceBytesRecursive = append(io.IoServiceBytesRecursive, entry("read", b.ReadBytes), entry("write", b.WriteBytes))
		io.IoServicedRecursive = append(io.IoServicedRecursive, entry("read", b.ReadOps), entry("write", b.WriteOps))
	}
	for i, n := range stats.Interfaces {
		if out.Networks == nil {
			out.Networks = map[string]container.NetworkStats{}
		}
		out.Networks["eth"+strconv.Itoa(i)] = container.NetworkStats{
			RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDropped: n.RxDropped,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDropped: n.TxDropped,
		}
	}
	return out, nil
}

// ticksPerSecond is USER_HZ, the same on every Linux Go runs on.
const ticksPerSecond = 100

// systemCPU is the time all processors have spent, in nanoseconds (proc_stat(5)).
func systemCPU() uint64 {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	if !lines.Scan() {
		return 0
	}
	fields := strings.Fields(lines.Text())
	var total uint64
	for _, field := range fields[1:min(8, len(fields))] {
		ticks, err := strconv.ParseUint(field, 10, 64)
		if err != nil {
			return 0
		}
		total += ticks
	}
	return total * uint64(time.Second) / ticksPerSecond
}
