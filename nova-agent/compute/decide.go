package compute

import "slices"

// found is what start-up finds of an instance that Nova says is here.
type found struct {
	vmState   string
	taskState string
	dbPower   power // power_state in Nova's database
	power     power // of the container; powerNoState if there is none
	// building: an intent of ours says that its build was cut short.
	building bool
	// resume is [DEFAULT]resume_guests_state_on_host_boot.
	resume bool
}

// repair is what start-up does with an instance.
type repair string

const (
	repairNothing        repair = "nothing"
	repairFinishDeletion repair = "finish the deletion"
	repairFailBuild      repair = "fail the build"
	repairFail           repair = "set to error"
	repairDelete         repair = "delete again"
	repairRebootSoft     repair = "reboot"
	repairRebootHard     repair = "reboot hard"
	repairActive         repair = "set to active"
	repairPaused         repair = "set to paused"
	repairUnpause        repair = "unpause"
	repairStop           repair = "stop"
	repairStart          repair = "start"
	repairPlug           repair = "check the network"
	repairPlugAndResume  repair = "check the network and start"
)

// decided is a repair, and whether the task_state is cleared before it.
type decided struct {
	repair    repair
	clearTask bool
}

// decide is the table of Nova's init_host (nova/compute/manager.py, _init_instance). It
// differs in two things: a build that was cut short is undone at once, where Nova
// leaves its remains until the user deletes the instance; and no task is left
// behind that nobody will end.
func decide(f found) decided {
	task := f.taskState
	switch {
	case f.vmState == vmSoftDeleted:
		return decided{repair: repairNothing, clearTask: task == taskRestoring}
	case f.vmState == vmError && task != taskResizeMigrating && task != taskDeleting:
		if f.building { // the crash came after the state was saved, before the intent ended
			return decided{repair: repairFailBuild}
		}
		return decided{repair: repairNothing}
	case f.vmState == vmDeleted:
		return decided{repair: repairFinishDeletion}
	case task == taskDeleting:
		// Before the builds: a user who deletes a building instance wants it gone.
		return decided{repair: repairDelete}
	case f.vmState == vmBuilding,
		slices.Contains([]string{taskScheduling, taskBlockDeviceMapping, taskNetworking, taskSpawning}, task):
		return decided{repair: repairFailBuild}
	case slices.Contains([]string{vmActive, vmStopped}, f.vmState) &&
		slices.Contains([]string{taskRebuilding, taskRebuildBlockDeviceMap, taskRebuildSpawning}, task):
		return decided{repair: repairFail}
	}

	d := decided{}
	switch task {
	case taskNone, taskPoweringOff, taskPoweringOn, taskPausing, taskUnpausing,
		taskRebooting, taskRebootPending, taskRebootStarted,
		taskRebootingHard, taskRebootPendingHard, taskRebootStartedHard:
	default:
		// Nova clears some of these and leaves others to the user. The process
		// that was told is gone, so nothing would ever end the task; if the message still
		// waits in the queue, its operation checks the state by itself.
		d.clearTask = true
		task = taskNone
	}

	kind := rebootKind(task, f.power)
	pendingSoft := (task == taskRebootPending || task == taskRebooting) && slices.Contains(softRebootStates, f.vmState)
	pendingHard := (task == taskRebootPendingHard || task == taskRebootingHard) && slices.Contains(hardRebootStates, f.vmState)
	startedDown := (task == taskRebootStarted || task == taskRebootStartedHard) && f.power != powerRunning
	switch {
	case pendingSoft, pendingHard, startedDown:
		d.repair = repairRebootHard
		if kind == rebootSoft {
			d.repair = repairRebootSoft
		}
	case f.power == powerRunning &&
		slices.Contains([]string{taskRebootStarted, taskRebootStartedHard, taskPausing, taskUnpausing}, task):
		d.repair = repairActive
	case f.power == powerPaused && task == taskPausing:
		d.repair = repairPaused
	case f.power == powerPaused && task == taskUnpausing:
		d.repair = repairUnpause
	case task == taskPoweringOff:
		d.repair = repairStop
	case task == taskPoweringOn:
		d.repair = repairStart
	case f.dbPower == powerRunning && f.power != powerRunning && f.resume && task == taskNone:
		d.repair = repairPlugAndResume
	default:
		d.repair = repairPlug
		d.clearTask = d.clearTask || task != taskNone
	}
	return d
}

// alignment is what the power-state synchronisation does about an instance.
type alignment string

const (
	alignNothing   alignment = "nothing"
	alignStop      alignment = "stop"       // the guest ended by itself: record it as the stop API would
	alignForceStop alignment = "force stop" // it runs, or ended, though it should be off
	alignWarn      alignment = "warn"
)

// align is the table of nova/compute/manager.py, _sync_instance_power_state, for an
// instance of this host without a task.
func align(vmState string, p power) alignment {
	switch vmState {
	case vmActive:
		switch p {
		case powerShutdown, powerCrashed, powerSuspended:
			return alignStop
		case powerPaused, powerNoState:
			return alignWarn
		}
	case vmStopped:
		switch p {
		case powerNoState, powerShutdown, powerCrashed:
		default:
			return alignForceStop
		}
	case vmPaused:
		switch p {
		case powerShutdown, powerCrashed:
			return alignForceStop
		}
	case vmSoftDeleted, vmDeleted:
		if p != powerNoState && p != powerShutdown {
			return alignWarn
		}
	}
	return alignNothing
}
