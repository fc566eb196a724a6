package compute

import "testing"

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    found
		want decided
	}{
		{"a server that runs", found{vmState: vmActive, dbPower: powerRunning, power: powerRunning}, decided{repair: repairPlug}},
		{"a stopped one", found{vmState: vmStopped, dbPower: powerShutdown, power: powerShutdown}, decided{repair: repairPlug}},
		{"soft deleted", found{vmState: vmSoftDeleted, power: powerShutdown}, decided{repair: repairNothing}},
		{"soft deleted, a restore lost", found{vmState: vmSoftDeleted, taskState: taskRestoring}, decided{repair: repairNothing, clearTask: true}},
		{"an error stays", found{vmState: vmError, power: powerRunning}, decided{repair: repairNothing}},
		{"an error whose build is not undone", found{vmState: vmError, building: true}, decided{repair: repairFailBuild}},
		{"an error that is being deleted", found{vmState: vmError, taskState: taskDeleting}, decided{repair: repairDelete}},
		{"deleted but for the row", found{vmState: vmDeleted}, decided{repair: repairFinishDeletion}},
		{"building", found{vmState: vmBuilding, taskState: taskSpawning, building: true}, decided{repair: repairFailBuild}},
		{"building, no task", found{vmState: vmBuilding}, decided{repair: repairFailBuild}},
		{"a build that is being deleted", found{vmState: vmBuilding, taskState: taskDeleting, building: true}, decided{repair: repairDelete}},
		{"a build that came to its end", found{vmState: vmActive, building: true, power: powerRunning, dbPower: powerRunning}, decided{repair: repairPlug}},
		{"a rebuild", found{vmState: vmActive, taskState: taskRebuildSpawning}, decided{repair: repairFail}},
		{"a snapshot", found{vmState: vmActive, taskState: taskImageUploading, power: powerRunning, dbPower: powerRunning}, decided{repair: repairPlug, clearTask: true}},
		{"a task of somebody unknown", found{vmState: vmActive, taskState: "updating_firmware", power: powerRunning}, decided{repair: repairPlug, clearTask: true}},
		{"a soft reboot that was not begun", found{vmState: vmActive, taskState: taskRebooting, power: powerRunning}, decided{repair: repairRebootSoft}},
		{"a soft reboot pending", found{vmState: vmActive, taskState: taskRebootPending, power: powerRunning}, decided{repair: repairRebootSoft}},
		{"a soft reboot whose guest is down", found{vmState: vmActive, taskState: taskRebootStarted, power: powerShutdown}, decided{repair: repairRebootHard}},
		{"a soft reboot that is done", found{vmState: vmActive, taskState: taskRebootStarted, power: powerRunning}, decided{repair: repairActive}},
		{"a soft reboot of a server that may not have one", found{vmState: vmStopped, taskState: taskRebootPending, power: powerShutdown}, decided{repair: repairPlug, clearTask: true}},
		{"a hard reboot pending", found{vmState: vmStopped, taskState: taskRebootPendingHard, power: powerShutdown}, decided{repair: repairRebootHard}},
		{"a hard reboot that is done", found{vmState: vmActive, taskState: taskRebootStartedHard, power: powerRunning}, decided{repair: repairActive}},
		{"a pause not done", found{vmState: vmActive, taskState: taskPausing, power: powerRunning}, decided{repair: repairActive}},
		{"a pause done", found{vmState: vmActive, taskState: taskPausing, power: powerPaused}, decided{repair: repairPaused}},
		{"an unpause done", found{vmState: vmPaused, taskState: taskUnpausing, power: powerRunning}, decided{repair: repairActive}},
		{"an unpause not done", found{vmState: vmPaused, taskState: taskUnpausing, power: powerPaused}, decided{repair: repairUnpause}},
		{"a pause whose guest ended", found{vmState: vmActive, taskState: taskPausing, power: powerShutdown}, decided{repair: repairPlug, clearTask: true}},
		{"a stop", found{vmState: vmActive, taskState: taskPoweringOff, power: powerRunning}, decided{repair: repairStop}},
		{"a start", found{vmState: vmStopped, taskState: taskPoweringOn, power: powerShutdown}, decided{repair: repairStart}},
		{"after the machine's reboot", found{vmState: vmActive, dbPower: powerRunning, power: powerShutdown}, decided{repair: repairPlug}},
		{"after the machine's reboot, resumed", found{vmState: vmActive, dbPower: powerRunning, power: powerShutdown, resume: true}, decided{repair: repairPlugAndResume}},
		{"a stopped one is not resumed", found{vmState: vmStopped, dbPower: powerShutdown, power: powerShutdown, resume: true}, decided{repair: repairPlug}},
	} {
		if got := decide(tt.f); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

// TestDecideLeavesNoTask: whatever is found, a task ends: it is cleared, or what is done ends it.
func TestDecideLeavesNoTask(t *testing.T) {
	states := []string{vmActive, vmBuilding, vmPaused, vmSuspended, vmStopped, vmRescued, vmResized, vmShelved, vmShelvedOffloaded}
	tasks := []string{taskScheduling, taskSpawning, taskImageBackup, taskUpdatingPassword, taskResizePrep, taskResizeMigrating,
		taskRebooting, taskRebootPending, taskRebootStarted, taskRebootingHard, taskRebootPendingHard, taskRebootStartedHard,
		taskPausing, taskUnpausing, taskPoweringOff, taskPoweringOn, taskRebuilding, taskRescuing, taskUnshelving, taskMigrating,
		taskDeleting, taskSoftDeleting, taskRestoring, "suspending", "resuming", "shelving", "unrescuing"}
	for _, state := range states {
		for _, task := range tasks {
			for _, p := range []power{powerNoState, powerRunning, powerPaused, powerShutdown} {
				d := decide(found{vmState: state, taskState: task, power: p, dbPower: powerRunning})
				if !d.clearTask && (d.repair == repairPlug || d.repair == repairNothing || d.repair == repairPlugAndResume) {
					t.Errorf("%s/%s with the guest %s: %+v leaves the task", state, task, p, d)
				}
			}
		}
	}
}

func TestAlign(t *testing.T) {
	for _, tt := range []struct {
		state string
		power power
		want  alignment
	}{
		{vmActive, powerRunning, alignNothing},
		{vmActive, powerShutdown, alignStop},
		{vmActive, powerCrashed, alignStop},
		{vmActive, powerPaused, alignWarn},
		{vmActive, powerNoState, alignWarn},
		{vmStopped, powerShutdown, alignNothing},
		{vmStopped, powerNoState, alignNothing},
		{vmStopped, powerRunning, alignForceStop},
		{vmPaused, powerPaused, alignNothing},
		{vmPaused, powerShutdown, alignForceStop},
		{vmPaused, powerRunning, alignNothing},
		{vmBuilding, powerShutdown, alignNothing},
		{vmError, powerRunning, alignNothing},
		{vmSoftDeleted, powerRunning, alignWarn},
		{vmDeleted, powerRunning, alignWarn},
	} {
		if got := align(tt.state, tt.power); got != tt.want {
			t.Errorf("%s with the guest %s: got %s, want %s", tt.state, tt.power, got, tt.want)
		}
	}
}
