package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/image"
	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// Steps are the names Options.Hooks announces. Each comes after what it names.
var Steps = []string{
	"create.recorded", "create.files", "create.namespaces", "create.network", "create.volumes", "create.done",
	"start.prepared", "start.joined", "start.process", "start.done",
	"remove.recorded", "remove.process", "remove.network", "remove.files", "remove.volumes", "remove.done",
	"trash.files", "trash.namespaces",
	"volume.files", "volume.recorded", "volume.forgotten", "volume.plugin", "volume.mounted",
	"network.recorded", "network.copied", "network.opened", "network.closed",
}

// undoTimeout bounds cleanup, which goes on when the caller has left.
const undoTimeout = time.Minute

// Create prepares a container: its record, id range, namespaces, endpoints and
// writable layer. No process runs yet.
//
// ErrInvalid: the spec or the image's configuration is wrong. ErrNotFound: no such image.
// ErrConflict: the name or ID is taken. ErrExhausted: no id range is left. On an error nothing is left behind.
func (e *Engine) Create(ctx context.Context, spec Spec) (Container, error) {
	return e.create(ctx, spec, synced)
}

// create is Create; w is how durable the container is when it returns.
func (e *Engine) create(ctx context.Context, spec Spec, w writing) (Container, error) {
	rec, err := e.plan(spec)
	if err != nil {
		return Container{}, err
	}
	unlock, err := e.lockContainer(ctx, rec.ID)
	if err != nil {
		return Container{}, err
	}
	defer unlock()
	t, err := e.reserve(rec)
	if err != nil {
		return Container{}, err
	}
	if err := e.build(ctx, t, w); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
		defer cancel()
		return Container{}, errors.Join(fmt.Errorf("create container %s: %w", e.record(t).Spec.Name, err), e.purge(undo, t))
	}
	e.emit(t, ActionCreate, nil)
	return *e.record(t), nil
}

// plan turns a spec into a record, without side effects.
func (e *Engine) plan(spec Spec) (*Container, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if _, err := e.ociRuntime(spec.Runtime); err != nil {
		return nil, err
	}
	rec := &Container{ID: spec.ID, State: Creating, Created: time.Now().UTC(), BootID: e.bootID}
	if rec.ID == "" {
		rec.ID = NewID()
	}
	if spec.Name == "" {
		spec.Name = "container-" + short(rec.ID)
	}
	if spec.NetworkMode == "" {
		spec.NetworkMode = NetworkNone
	}
	if spec.NetworkMode == NetworkBridge && len(spec.Endpoints) > 0 {
		return nil, fmt.Errorf("network mode %s comes with endpoints of the engine's: %w", NetworkBridge, errdefs.ErrInvalid)
	}
	err := e.planJoins(&spec)
	if err != nil {
		return nil, err
	}
	if rec.IDsOf, err = e.planSharedNetwork(&spec, rec.ID); err != nil {
		return nil, err
	}
	if spec.NetworkMode == NetworkHost || spec.Security.Privileged {
		// Capabilities in a user namespace of its own count for nothing in the host's
		// network, and sysfs can't be mounted there.
		spec.Security.HostUserns = true
	}
	spec.ID = rec.ID
	rec.Spec = spec
	if err := e.planShared(rec); err != nil {
		return nil, err
	}
	var img image.Image
	if spec.Image != "" {
		if img, err = e.images.Get(spec.Image); err != nil {
			return nil, err
		}
		rec.ImageDigest, rec.ImageConfigDigest = img.Digest.String(), img.ConfigDigest.String()
	} else if info, err := os.Stat(spec.Rootfs); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("rootfs %s is no directory: %w", printable(spec.Rootfs), errdefs.ErrInvalid)
	}
	process, err := rec.Spec.resolve(rec.ID, img.Config.Config)
	if err != nil {
		return nil, err
	}
	rec.Process = process
	if rec.Mounts, err = e.planMounts(&rec.Spec, img.Config.Config.Volumes); err != nil {
		return nil, err
	}
	return rec, nil
}

// NewID makes up a container's ID.
func NewID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// nameTaken says in Docker's words who has a name.
func nameTaken(name, id string) error {
	return fmt.Errorf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.: %w", //nolint:staticcheck // Docker's words
		"/"+name, id, errdefs.ErrConflict)
}

// reserve takes rec's name and ID.
func (e *Engine) reserve(rec *Container) (*tracked, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if id, taken := e.names[rec.Spec.Name]; taken {
		return nil, nameTaken(rec.Spec.Name, id)
	}
	if e.containers[rec.ID] != nil {
		return nil, fmt.Errorf("the container ID %s is already in use: %w", rec.ID, errdefs.ErrConflict)
	}
	t := newTracked(rec)
	e.containers[rec.ID] = t
	e.names[rec.Spec.Name] = rec.ID
	return t, nil
}

func newTracked(rec *Container) *tracked {
	return &tracked{id: rec.ID, rec: rec, changed: make(chan struct{}), traces: true}
}

// build does what purge undoes. The caller holds t's lock.
func (e *Engine) build(ctx context.Context, t *tracked, w writing) error {
	rec := *e.record(t)
	if rec.IDsOf != "" {
		ids, err := e.sharedIDs(&rec)
		if err != nil {
			return err
		}
		rec.IDs = ids
	}
	var s *spare
	if !rec.Spec.Security.HostUserns && rec.IDsOf == "" {
		s = e.takeSpare()
	}
	err := e.db.UpdateLazy(func(tx *store.Tx) (err error) {
		switch {
		case rec.Spec.Security.HostUserns, rec.IDsOf != "":
		case s != nil:
			rec.IDs, err = tx.AllocateReserved(rec.ID, s.ids)
		default:
			rec.IDs, err = tx.AllocateRange(rec.ID)
		}
		if err != nil {
			return err
		}
		return tx.Put(kindContainer, rec.ID, &rec)
	})
	switch {
	case s == nil:
	case err != nil || rec.IDs != s.ids:
		e.drop(s)
	default:
		t.spare = s
		defer func() {
			s.close()
			t.spare = nil
		}()
	}
	if err != nil {
		return err
	}
	t.traces = false
	e.show(t, &rec)
	e.step("create.recorded", rec.ID)
	// An earlier container of that ID may be gone but for these; see emptyTrash.
	if err := kernel.RemoveNamespaces(e.nsDir(rec.ID)); err != nil {
		return err
	}
	if rec.ImageDigest != "" {
		if err := e.images.Use(digestOf(rec.ImageDigest), rec.ID); err != nil {
			return err
		}
	}
	if err := e.prepare(ctx, t, true); err != nil {
		return err
	}
	if err := e.prepareVolumes(ctx, t); err != nil {
		return err
	}
	e.step("create.volumes", rec.ID)
	// If w is synced the caller may count on it from here on.
	if err := e.move(t, Created, w, nil); err != nil {
		return err
	}
	e.step("create.done", rec.ID)
	return nil
}
