package compute

import (
	"context"
	"time"

	"novaagent/engine"
)

const (
	// directStepMB is what the memory of containers without a limit is rounded up to, so that not every
	// count changes Placement.
	directStepMB = 64
	// sizesKept is for how long a measured size of files stands: measuring walks them.
	sizesKept = 10 * time.Minute
)

// direct measures what containers and volumes that Nova did not make take of the host. The scheduler
// must not give it to instances, so it is added to what the operator reserves.
//
//   - Processors: a container that runs, paused or not, takes its quota; without a quota one processor. The sum is rounded up.
//   - Memory: a container that runs takes its limit; without a limit what it uses now, caches that the
//     kernel can drop aside, rounded up.
//   - Disk: every container takes its quota; without a quota what is in its own layer. Every volume takes what is in it.
//
// One goroutine at a time uses it.
type direct struct {
	engine *engine.Engine
	sizes  map[string]int64 // bytes, by container ID and by volume name
	sized  time.Time
}

// measure sums up what is there now.
func (d *direct) measure(ctx context.Context) reserved {
	if time.Since(d.sized) > sizesKept {
		d.sizes, d.sized = map[string]int64{}, time.Now()
	}
	var milli, memoryBytes, unlimitedBytes, diskBytes int64
	seen := map[string]bool{}
	size := func(key string, bytes func(context.Context, string) (int64, error)) int64 {
		seen[key] = true
		n, known := d.sizes[key]
		if !known {
			var err error
			if n, err = bytes(ctx, key); err != nil {
				return 0 // it goes just now
			}
			d.sizes[key] = n
		}
		return n
	}
	for _, c := range d.engine.List() {
		if c.Spec.Owner == engine.OwnerNova {
			continue
		}
		r := c.Spec.Resources
		if r.DiskBytes > 0 {
			diskBytes += r.DiskBytes
		} else {
			diskBytes += size(c.ID, d.engine.WrittenBytes)
		}
		if !c.State.Live() && c.State != engine.Restarting {
			continue
		}
		if milli += r.CPUMilli; r.CPUMilli == 0 {
			milli += 1000
		}
		if memoryBytes += r.MemoryBytes; r.MemoryBytes == 0 {
			if s, err := d.engine.Stats(ctx, c.ID); err == nil {
				unlimitedBytes += int64(s.MemoryBytes - min(s.MemoryBytes, s.MemoryInactiveFileBytes))
			}
		}
	}
	for _, v := range d.engine.Volumes() {
		diskBytes += size(v.Name, d.engine.VolumeBytes)
	}
	for key := range d.sizes {
		if !seen[key] {
			delete(d.sizes, key)
		}
	}
	return reserved{
		vcpus:    int((milli + 999) / 1000),
		memoryMB: mib(memoryBytes) + (mib(unlimitedBytes)+directStepMB-1)/directStepMB*directStepMB,
		diskMB:   mib(diskBytes),
	}
}

// mib is bytes in MiB, rounded up.
func mib(bytes int64) int { return int((bytes + 1<<20 - 1) >> 20) }

// directChanged tells whether an event of a container that Nova did not make changes what it takes.
func directChanged(ev engine.Event) bool {
	if ev.Owner != engine.OwnerDocker {
		return false
	}
	switch ev.Action {
	case engine.ActionCreate, engine.ActionStart, engine.ActionDie, engine.ActionUpdate, engine.ActionDestroy:
		return true
	}
	return false
}
