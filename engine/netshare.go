package engine

import (
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
)

// sharedPrefix begins the mode of a container that is in another one's network namespace.
const sharedPrefix = "container:"

// NetworkOf is the mode of a container that shares the network of the one with that ID or name: its
// namespace, its /etc/hosts and its name servers. It has the other's user namespace and id range as well, since
// capabilities in one of its own would count for nothing in that network.
func NetworkOf(container string) NetworkMode { return NetworkMode(sharedPrefix + container) }

// Shared is the ID of the container whose network it is.
func (m NetworkMode) Shared() (id string, ok bool) { return strings.CutPrefix(string(m), sharedPrefix) }

// planSharedNetwork names the container whose network spec shares by its ID, and takes over what goes with it. It
// returns whose user namespace and ids that means, as Container.IDsOf.
func (e *Engine) planSharedNetwork(spec *Spec, self string) (idsOf string, err error) {
	ref, ok := spec.NetworkMode.Shared()
	if !ok {
		return "", nil
	}
	owner, err := e.Inspect(ref)
	if err != nil {
		// Not ErrNotFound: docker takes that for the image.
		return "", fmt.Errorf("joining network namespace of container: No such container: %s: %w", printable(ref), errdefs.ErrInvalid)
	}
	if _, again := owner.Spec.NetworkMode.Shared(); again {
		return "", fmt.Errorf("cannot share the network of container %s, which shares another one's itself: name that one, %s: %w", owner.Spec.Name, owner.Spec.NetworkMode, errdefs.ErrInvalid)
	}
	switch {
	case owner.ID == self:
		return "", fmt.Errorf("cannot join own network namespace: %w", errdefs.ErrInvalid)
	case owner.Spec.Owner != OwnerDocker:
		return "", fmt.Errorf("the network of container %s is not to be shared: it belongs to %s: %w", owner.Spec.Name, owner.Spec.Owner, errdefs.ErrForbidden)
	case spec.Resources.DiskBytes > 0:
		return "", fmt.Errorf("a disk quota needs an id range of the container's own, which it does not have with the network mode %s: %w", spec.NetworkMode, errdefs.ErrInvalid)
	}
	spec.NetworkMode = NetworkOf(owner.ID)
	spec.Hostname, spec.Domainname = owner.Spec.hostname(owner.ID), owner.Spec.Domainname
	if owner.Spec.Security.HostUserns {
		spec.Security.HostUserns = true
		return "", nil
	}
	return firstOf(owner.IDsOf, owner.ID), nil
}

// networkOwner is the ID of the container whose namespaces and files of the network rec uses: its own, if
// it shares none.
func (rec *Container) networkOwner() string {
	if id, ok := rec.Spec.NetworkMode.Shared(); ok {
		return id
	}
	return rec.ID
}

// hostNetworked tells whether rec is in the host's network, maybe by way of another container.
func (e *Engine) hostNetworked(rec *Container) bool {
	if id, ok := rec.Spec.NetworkMode.Shared(); ok {
		owner, err := e.Inspect(id)
		return err == nil && owner.Spec.NetworkMode == NetworkHost
	}
	return rec.Spec.NetworkMode == NetworkHost
}

// checkShared refuses the start of a container whose network is not there.
func (e *Engine) checkShared(rec *Container) error {
	id, ok := rec.Spec.NetworkMode.Shared()
	if !ok {
		return nil
	}
	owner, err := e.Inspect(id)
	if err != nil {
		return fmt.Errorf("joining network namespace of container: No such container: %s: %w", id, errdefs.ErrConflict)
	}
	if !owner.State.Live() {
		return fmt.Errorf("cannot join network of a non running container: %s: %w", id, errdefs.ErrConflict)
	}
	return nil
}
