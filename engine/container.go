package engine

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/store"
)

// State is the one state of a container.
type State string

const (
	// Creating: Create is at work, or was cut short; the next Open removes it.
	Creating State = "creating"
	// Created: everything is prepared, the first process never ran.
	Created State = "created"
	Running State = "running"
	Paused  State = "paused"
	// Stopped: the first process has ended; Container.Exit says how.
	Stopped State = "stopped"
	// Restarting: the first process has ended and the restart policy waits to
	// start it again.
	Restarting State = "restarting"
	// Removing: Remove is at work, or was cut short; the next Open completes it.
	Removing State = "removing"
)

// moves lists every legal transition; anything else is a conflict.
var moves = map[State][]State{
	Creating:   {Created, Removing},
	Created:    {Running, Stopped, Removing},
	Running:    {Paused, Stopped, Restarting},
	Paused:     {Running, Stopped, Restarting},
	Stopped:    {Running, Restarting, Removing},
	Restarting: {Running, Stopped},
	Removing:   {Removing},
}

// checkMove is nil if a container in state from may go to state to.
func checkMove(id string, from, to State) error {
	if !slices.Contains(moves[from], to) {
		return fmt.Errorf("container %s: %s to %s: %w", short(id), from, to, errdefs.ErrConflict)
	}
	return nil
}

// Live says that the container has a first process.
func (s State) Live() bool { return s == Running || s == Paused }

// Container is the record of one container. Callers get copies, which share slices and
// maps with the engine's: they are not to be changed.
type Container struct {
	ID    string
	Spec  Spec
	State State

	// ImageDigest is the manifest Spec.Image meant when the container was made,
	// ImageConfigDigest its configuration (Docker's image ID).
	ImageDigest       string `json:",omitempty"`
	ImageConfigDigest string `json:",omitempty"`
	// Process is the first process as resolved from Spec and image.
	Process Process

	// Mounts are Spec.Mounts and what Spec.VolumesFrom, Spec.Volumes and the image add to
	// them; anonymous volumes have their names here.
	Mounts []Mount `json:",omitempty"`
	// PluginMounts are the targets of Mounts that plug-ins have mounted, or are about to.
	PluginMounts []string `json:",omitempty"`
	// RemoveVolumes: the removal that is under way takes the anonymous volumes along.
	RemoveVolumes bool `json:",omitempty"`

	// IDs is the range of host user and group ids that the container's 0 to
	// 65535 stand for; the zero Range with the host's user namespace.
	IDs store.Range `json:",omitzero"`
	// IDsOf is the ID of the container whose user namespace, and so its IDs, this one shares; see Spec.Namespaces.
	IDsOf string `json:",omitempty"`

	Created  time.Time
	Started  time.Time `json:",omitzero"` // of the latest start
	Finished time.Time `json:",omitzero"` // of the latest exit

	// PID is the first process's in the agent's namespace, 0 unless State.Live.
	PID int `json:",omitempty"`
	// Exit tells how the latest run ended. It is meaningless before that.
	Exit Exit `json:",omitzero"`
	// Error is why the latest start failed.
	Error string `json:",omitempty"`

	// Health is what the probes of Spec.Health say of the latest run; nil without one.
	Health *Health `json:",omitempty"`

	// Restarts counts the restarts by policy since the latest start by hand.
	Restarts int `json:",omitempty"`
	// StoppedByUser keeps the restart policy from starting it again.
	StoppedByUser bool `json:",omitempty"`
	// BootID is the host's boot in which it was prepared; everything in the kernel
	// is gone if the host has another one now.
	BootID string `json:",omitempty"`
	// Published are the ports that the host forwards, unless it has ended.
	Published []Port `json:",omitempty"`
	// Quota is how Resources.DiskBytes is enforced.
	Quota QuotaKind `json:",omitempty"`
}

// Process is a command ready to run.
type Process struct {
	Args    []string
	Env     []string `json:",omitempty"`
	WorkDir string
	// UID, GID and Groups are numbers inside the container, resolved at each
	// start from User.
	User       string         `json:",omitempty"`
	StopSignal syscall.Signal `json:",omitempty"`
}

// Exit tells how a process ended.
type Exit struct {
	// Code is the exit status; 128 and the signal if one killed it; 255 if Lost.
	Code int
	// Signal is the one that killed it, or 0.
	Signal syscall.Signal `json:",omitempty"`
	// OOMKilled: the kernel killed a process for the container's memory limit.
	OOMKilled bool `json:",omitempty"`
	// Lost: nobody saw the end; a host reboot or a killed shim.
	Lost bool `json:",omitempty"`
}

// short is the form of an ID in messages.
func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
