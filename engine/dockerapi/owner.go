package dockerapi

import (
	"fmt"
	"strings"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// change is the openstack command that does to an instance what a route does to a
// container.
type change string

const (
	none    change = ""
	start   change = "openstack server start"
	stop    change = "openstack server stop"
	reboot  change = "openstack server reboot"
	pause   change = "openstack server pause"
	unpause change = "openstack server unpause"
	rename  change = "openstack server set --name NAME"
	resize  change = "openstack server resize --flavor FLAVOR"
	remove  change = "openstack server delete"
)

// instancePrefix begins the names of Nova's containers; the instance's UUID follows.
const instancePrefix = "instance-"

// checkOwner refuses a change of a container that is Nova's: Nova would undo it, or be
// wrong about its instance.
func checkOwner(c engine.Container, what change) error {
	if what == none || c.Spec.Owner == engine.OwnerDocker {
		return nil
	}
	instance := strings.TrimPrefix(c.Spec.Name, instancePrefix)
	return fmt.Errorf("container %s belongs to Nova: use `%s %s` instead: %w", c.Spec.Name, what, instance, errdefs.ErrConflict)
}
