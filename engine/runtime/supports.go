package runtime

import (
	"os"
	"path/filepath"
)

// Limit names a limit that not every host's cgroups have.
type Limit string

// Limits.
const (
	LimitSwappiness   Limit = "memory swappiness"
	LimitOOMKill      Limit = "OOM kill"
	LimitBlkioWeight  Limit = "block IO weight"
	LimitBlkioDevices Limit = "block IO weight of a device"
	LimitBlkioRates   Limit = "block IO rates"
	LimitRealtime     Limit = "real-time CPU"
)

// limitFiles are a limit's files: of cgroup v1 with their controller, and of v2; one of them is enough.
var limitFiles = map[Limit]struct {
	controller string
	v1, v2     []string
}{
	LimitSwappiness:   {"memory", []string{"memory.swappiness"}, nil},
	LimitOOMKill:      {"memory", []string{"memory.oom_control"}, nil},
	LimitBlkioWeight:  {"blkio", []string{"blkio.weight", "blkio.bfq.weight"}, []string{"io.weight", "io.bfq.weight"}},
	LimitBlkioDevices: {"blkio", []string{"blkio.weight_device", "blkio.bfq.weight_device"}, []string{"io.weight", "io.bfq.weight"}},
	LimitBlkioRates:   {"blkio", []string{"blkio.throttle.read_bps_device"}, []string{"io.max"}},
	LimitRealtime:     {"cpu", []string{"cpu.rt_runtime_us"}, nil},
}

// Supports tells whether this host's cgroups have a limit.
func (r *Runtime) Supports(l Limit) bool {
	f := limitFiles[l]
	dir, names := filepath.Join(r.cg.unified, r.cg.parent), f.v2
	if !r.cg.pure() {
		if r.cg.v1[f.controller] == "" {
			return false
		}
		dir, names = filepath.Join(r.cg.v1[f.controller], r.cg.parent), f.v1
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}
