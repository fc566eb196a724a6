package compute

import (
	"slices"

	"novaagent/engine"
)

// Nova's vm_state: what an instance is when nothing is being done to it
// (nova/compute/vm_states.py).
const (
	vmActive           = "active"
	vmBuilding         = "building"
	vmPaused           = "paused"
	vmSuspended        = "suspended"
	vmStopped          = "stopped"
	vmRescued          = "rescued"
	vmResized          = "resized"
	vmSoftDeleted      = "soft-delete"
	vmDeleted          = "deleted"
	vmError            = "error"
	vmShelved          = "shelved"
	vmShelvedOffloaded = "shelved_offloaded"
)

// Nova's task_state: what is being done to an instance (nova/compute/task_states.py).
// No task is null on the wire and "" here.
const (
	taskNone                  = ""
	taskScheduling            = "scheduling"
	taskBlockDeviceMapping    = "block_device_mapping"
	taskNetworking            = "networking"
	taskSpawning              = "spawning"
	taskImageSnapshotPending  = "image_snapshot_pending"
	taskImageSnapshot         = "image_snapshot"
	taskImagePendingUpload    = "image_pending_upload"
	taskImageUploading        = "image_uploading"
	taskImageBackup           = "image_backup"
	taskUpdatingPassword      = "updating_password"
	taskResizePrep            = "resize_prep"
	taskResizeMigrating       = "resize_migrating"
	taskRebooting             = "rebooting"
	taskRebootPending         = "reboot_pending"
	taskRebootStarted         = "reboot_started"
	taskRebootingHard         = "rebooting_hard"
	taskRebootPendingHard     = "reboot_pending_hard"
	taskRebootStartedHard     = "reboot_started_hard"
	taskPausing               = "pausing"
	taskUnpausing             = "unpausing"
	taskPoweringOff           = "powering-off"
	taskPoweringOn            = "powering-on"
	taskRebuilding            = "rebuilding"
	taskRebuildBlockDeviceMap = "rebuild_block_device_mapping"
	taskRebuildSpawning       = "rebuild_spawning"
	taskRescuing              = "rescuing"
	taskUnshelving            = "unshelving"
	taskMigrating             = "migrating"
	taskDeleting              = "deleting"
	taskSoftDeleting          = "soft-deleting"
	taskRestoring             = "restoring"
)

// Nova's power_state: what the hypervisor says (nova/compute/power_state.py).
type power int

const (
	powerNoState   power = 0
	powerRunning   power = 1
	powerPaused    power = 3
	powerShutdown  power = 4
	powerCrashed   power = 6
	powerSuspended power = 7
)

// String is the word that Nova's power_state.STATE_MAP has for p.
func (p power) String() string {
	switch p {
	case powerRunning:
		return "running"
	case powerPaused:
		return "paused"
	case powerShutdown:
		return "shutdown"
	case powerCrashed:
		return "crashed"
	case powerSuspended:
		return "suspended"
	default:
		return "pending"
	}
}

// powerStates is what Nova is told of a container in each state. A first process that
// ended is not a crash: the instance is shut down, whatever its exit code.
var powerStates = map[engine.State]power{
	engine.Creating:   powerNoState,
	engine.Created:    powerShutdown,
	engine.Running:    powerRunning,
	engine.Paused:     powerPaused,
	engine.Stopped:    powerShutdown,
	engine.Restarting: powerShutdown,
	engine.Removing:   powerNoState,
}

// powerState translates a container's state.
func powerState(s engine.State) power { return powerStates[s] }

// off says that an instance with that power state has no running guest
// (the list of nova/compute/manager.py, stop_instance).
func (p power) off() bool {
	return p == powerNoState || p == powerShutdown || p == powerCrashed
}

var (
	softRebootTasks = []string{taskRebooting, taskRebootPending, taskRebootStarted}
	hardRebootTasks = []string{taskRebootingHard, taskRebootPendingHard, taskRebootStartedHard}

	softRebootStates = []string{vmActive}
	hardRebootStates = []string{vmActive, vmStopped, vmPaused, vmSuspended, vmError}
)

// freed says that an instance in that state takes no room on its host
// (nova/compute/vm_states.py, allow_resource_removal).
func freed(vmState, taskState string) bool {
	return vmState == vmDeleted || (vmState == vmShelvedOffloaded && taskState != taskSpawning)
}

// rebootKind is the reboot that an instance in that state needs: one whose guest
// does not run can only be rebooted hard (nova/compute/utils.py, get_reboot_type).
func rebootKind(taskState string, p power) string {
	if p == powerRunning && slices.Contains(softRebootTasks, taskState) {
		return rebootSoft
	}
	return rebootHard
}

// The values of reboot_instance's reboot_type.
const (
	rebootSoft = "SOFT"
	rebootHard = "HARD"
)
