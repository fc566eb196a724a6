package engine

import (
	"cmp"
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"novaagent/engine/network"
	"novaagent/engine/runtime"
	"novaagent/engine/store"
)

// Inspect returns the container that ref means: an ID, a name, or the unique beginning of an
// ID. ErrNotFound; ErrInvalid if several IDs begin so.
func (e *Engine) Inspect(ref string) (Container, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	t, err := e.findLocked(ref)
	if err != nil {
		return Container{}, err
	}
	return *t.rec, nil
}

// List returns all containers, the newest first.
func (e *Engine) List() []Container {
	e.mu.RLock()
	list := make([]Container, 0, len(e.containers))
	for _, t := range e.containers {
		list = append(list, *t.rec)
	}
	e.mu.RUnlock()
	slices.SortFunc(list, func(a, b Container) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	return list
}

// LogPath is the file that holds the latest output of the container with that ID; rotated ones have
// ".1" and so on appended.
func (e *Engine) LogPath(id string) string { return e.logPath(id) }

// FilePath is the host's file that is mounted over /etc/name of the container with
// that ID; name is hosts, hostname or resolv.conf.
func (e *Engine) FilePath(id, name string) string { return filepath.Join(e.containerDir(id), name) }

// DefaultShmBytes is the size of /dev/shm where nothing else is asked for.
const DefaultShmBytes = 64 << 20

// DefaultPaths are those that are masked and read-only in a container that asks for nothing else.
func DefaultPaths() (masked, readonly []string) {
	s := runtime.DefaultSpec()
	return s.Linux.MaskedPaths, s.Linux.ReadonlyPaths
}

// NetworkNamespacePath is the file that keeps the network namespace of the container with that ID.
func (e *Engine) NetworkNamespacePath(id string) string { return filepath.Join(e.nsDir(id), "net") }

// WrittenBytes is the disk space the container's own layer takes. It walks the layer.
func (e *Engine) WrittenBytes(ctx context.Context, ref string) (int64, error) {
	c, err := e.Inspect(ref)
	if err != nil {
		return 0, err
	}
	var total int64
	err = filepath.WalkDir(e.rootfs(&c, nil).Upper, func(_ string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return nil // the container may have removed it meanwhile
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				total += st.Blocks * 512
			}
		}
		return nil
	})
	return total, err
}

// Diagnostics is what there is to know of a container's health.
type Diagnostics struct {
	Container Container
	// Stats and Interfaces are zero unless it runs.
	Stats      Stats
	Interfaces []network.Statistics
	// Drift tells what is wrong with its endpoints.
	Drift        []network.Drift
	WrittenBytes int64
}

// Diagnostics looks at everything that belongs to the container.
func (e *Engine) Diagnostics(ctx context.Context, ref string) (Diagnostics, error) {
	c, err := e.Inspect(ref)
	if err != nil {
		return Diagnostics{}, err
	}
	d := Diagnostics{Container: c}
	if c.State.Live() {
		if d.Stats, err = e.Stats(ctx, c.ID); err != nil {
			return d, err
		}
		d.Interfaces = d.Stats.Interfaces
	}
	if len(c.Spec.Endpoints) > 0 && c.BootID == e.bootID && (c.State.Live() || c.Spec.NetworkMode == NetworkEndpoints) {
		if d.Drift, err = e.network.Check(ctx, e.netPath(c.ID), c.Spec.Endpoints); err != nil {
			return d, err
		}
	}
	d.WrittenBytes, err = e.WrittenBytes(ctx, c.ID)
	return d, err
}

// Snapshot is the state of the engine's insides, for the debug page.
type Snapshot struct {
	Containers map[string]State // by ID
	HeldLocks  []string         // IDs of containers whose lock is held or waited for
	Execs      int
	Intents    []store.Intent
}

// Snapshot takes one.
func (e *Engine) Snapshot() (Snapshot, error) {
	intents, err := e.db.Intents()
	s := Snapshot{Containers: map[string]State{}, HeldLocks: e.locks.keys(), Intents: intents}
	e.mu.RLock()
	defer e.mu.RUnlock()
	for id, t := range e.containers {
		s.Containers[id] = t.rec.State
	}
	s.Execs = len(e.execs)
	return s, err
}
