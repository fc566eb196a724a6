package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
	"novaagent/engine/store"
)

// planShared resolves the containers whose namespaces rec shares, and decides whose user namespace it has.
func (e *Engine) planShared(rec *Container) error {
	n := &rec.Spec.Namespaces
	for _, shared := range []struct {
		kind string
		mode *NamespaceMode
	}{{"PID", &n.PID}, {"IPC", &n.IPC}} {
		ref, ok := shared.mode.Container()
		if !ok {
			if *shared.mode == NamespaceHost {
				rec.Spec.Security.HostUserns = true
			}
			continue
		}
		t, err := e.find(ref)
		if err != nil {
			// Not ErrNotFound: docker takes that for an image that it has to pull.
			return fmt.Errorf("%s mode: %v: %w", shared.kind, err, errdefs.ErrInvalid)
		}
		other := e.record(t)
		if other.Spec.Owner != rec.Spec.Owner {
			return fmt.Errorf("%s mode: container %s is of %s: %w", shared.kind, other.Spec.Name, other.Spec.Owner, errdefs.ErrConflict)
		}
		*shared.mode = NamespaceMode(containerMode + other.ID)
		owner := firstOf(other.IDsOf, other.ID)
		switch {
		case other.Spec.Security.HostUserns:
			rec.Spec.Security.HostUserns = true
		case rec.IDsOf != "" && rec.IDsOf != owner:
			return fmt.Errorf("%s mode: container %s has another user namespace than %s: %w", shared.kind, other.Spec.Name, short(rec.IDsOf), errdefs.ErrConflict)
		default:
			rec.IDsOf = owner
		}
	}
	if rec.Spec.Security.HostUserns {
		rec.IDsOf = ""
	}
	return nil
}

// sharedIDs is the id range of the container whose user namespace rec shares. It stays taken from now on, since rec is
// known to the engine.
func (e *Engine) sharedIDs(rec *Container) (store.Range, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	owner := e.containers[rec.IDsOf]
	if owner == nil || owner.gone || owner.rec.IDs.IsZero() {
		return store.Range{}, fmt.Errorf("no such container: %s, whose user namespace is to be shared: %w", short(rec.IDsOf), errdefs.ErrNotFound)
	}
	return owner.rec.IDs, nil
}

// sharersLocked tells whether a container has the ids of the container id. The caller holds e.mu.
func (e *Engine) sharersLocked(id string) bool {
	for _, t := range e.containers {
		if t.rec.IDsOf == id {
			return true
		}
	}
	return false
}

// prepareShared makes the network namespace of a container that shares the user namespace of another one.
func (e *Engine) prepareShared(rec *Container) error {
	user, err := os.Open(filepath.Join(e.nsDir(rec.IDsOf), "user"))
	if err != nil {
		return fmt.Errorf("the user namespace of container %s is not there, start it first: %v: %w", short(rec.IDsOf), err, errdefs.ErrConflict)
	}
	defer user.Close()
	return kernel.CreateNetworkIn(e.nsDir(rec.ID), user)
}

// joinShared makes s join the namespaces of others, which must run.
func (e *Engine) joinShared(ctx context.Context, s *specs.Spec, rec *Container) (held heldFiles, err error) {
	for _, shared := range []struct {
		name, file string
		mode       NamespaceMode
		kind       specs.LinuxNamespaceType
	}{
		{"PID", "pid", rec.Spec.Namespaces.PID, specs.PIDNamespace},
		{"IPC", "ipc", rec.Spec.Namespaces.IPC, specs.IPCNamespace},
	} {
		id, ok := shared.mode.Container()
		if !ok {
			continue
		}
		t, err := e.find(id)
		if err != nil {
			return held, err
		}
		// Its own lock is not taken: two containers' locks are never held together.
		e.mu.RLock()
		other := t.rec
		e.mu.RUnlock()
		process, err := e.runtime.Load(ctx, other.ID)
		if err != nil || !other.State.Live() {
			return held, fmt.Errorf("cannot join the %s namespace of a container that is not running: %s: %w", shared.name, other.Spec.Name, errdefs.ErrConflict)
		}
		if shared.kind == specs.IPCNamespace && other.Spec.Namespaces.IPC != NamespaceShareable && other.Spec.Namespaces.IPC != NamespaceHost {
			return held, fmt.Errorf("cannot join the IPC namespace of container %s: non-shareable IPC (hint: use IpcMode:shareable for the donor container): %w",
				other.Spec.Name, errdefs.ErrInvalid)
		}
		ns, err := process.Namespace(shared.file)
		if err != nil {
			return held, err
		}
		held = append(held, ns)
		setNamespace(s, shared.kind, fmt.Sprintf("/proc/self/fd/%d", ns.Fd()))
		if shared.kind == specs.IPCNamespace {
			shm, err := process.CloneMount("/dev/shm")
			if err != nil {
				return held, err
			}
			held = append(held, shm)
			replaceMount(s, "/dev/shm", specs.Mount{Type: runtime.MountDetached, Source: fmt.Sprintf("/proc/self/fd/%d", shm.Fd())})
		}
	}
	return held, nil
}
