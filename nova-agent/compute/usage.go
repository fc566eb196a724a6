package compute

import (
	"strconv"
	"strings"
)

// usage is what an instance takes of its host, as its flavor says.
type usage struct {
	vcpus       int
	memoryMB    int
	rootGB      int // 0 for an instance whose root disk is a volume
	ephemeralGB int
	swapMB      int
}

// tracked is an instance of this host as the resource tracker sees it.
type tracked struct {
	uuid      string
	vmState   string
	taskState string // "" is none
	osType    string // "" is none
	projectID string
	usage     usage
}

// ledger sums up the instances of the host. The caller serialises its use.
type ledger struct {
	instances    map[string]tracked
	failedBuilds int
}

func newLedger() *ledger { return &ledger{instances: map[string]tracked{}} }

// set takes an instance in, or its new state; one that takes no room any more is dropped.
func (l *ledger) set(t tracked) {
	if freed(t.vmState, t.taskState) {
		delete(l.instances, t.uuid)
		return
	}
	l.instances[t.uuid] = t
}

func (l *ledger) remove(uuid string) { delete(l.instances, uuid) }

// replace forgets all instances but those given. Builds that have claimed and are
// not among them yet stay.
func (l *ledger) replace(list []tracked, claimed map[string]bool) {
	old := l.instances
	l.instances = map[string]tracked{}
	for _, t := range list {
		l.set(t)
	}
	for uuid, t := range old {
		if _, there := l.instances[uuid]; !there && claimed[uuid] {
			l.instances[uuid] = t
		}
	}
}

// reserved is what is kept from instances.
type reserved struct {
	vcpus    int
	memoryMB int
	diskMB   int
}

// totals are the "used" columns of Nova's compute_nodes.
type totals struct {
	vcpusUsed    int
	memoryMBUsed int
	localGBUsed  int
	runningVMs   int // every instance, as Nova counts
	workload     int // instances with a task
}

// totals sums up the instances and what is reserved
// (nova/compute/resource_tracker.py, _update_usage).
func (l *ledger) totals(r reserved) totals {
	t := totals{vcpusUsed: r.vcpus, memoryMBUsed: r.memoryMB, runningVMs: len(l.instances)}
	diskMB := r.diskMB
	for _, i := range l.instances {
		t.vcpusUsed += i.usage.vcpus
		t.memoryMBUsed += i.usage.memoryMB
		diskMB += (i.usage.rootGB+i.usage.ephemeralGB)*1024 + i.usage.swapMB
		if i.taskState != taskNone {
			t.workload++
		}
	}
	t.localGBUsed = diskMB / 1024
	return t
}

// ioTasks are the tasks that load the host's disks, by the states that Nova
// counts (nova/compute/stats.py, io_workload).
var ioTasks = map[string]bool{
	taskRebuilding: true, taskResizePrep: true, taskResizeMigrating: true, taskImageSnapshot: true,
	taskImageBackup: true, taskRescuing: true, taskUnshelving: true,
}

// stats is ComputeNode.stats, which the scheduler's weighers and filters read. Values
// must be strings on the wire.
func (l *ledger) stats() map[string]string {
	counts := map[string]int{"num_instances": len(l.instances), "failed_builds": l.failedBuilds, "io_workload": 0}
	for _, i := range l.instances {
		counts["num_vm_"+i.vmState]++
		counts["num_task_"+pythonNone(i.taskState)]++
		counts["num_os_type_"+pythonNone(i.osType)]++
		counts["num_proj_"+i.projectID]++
		if i.vmState == vmBuilding || ioTasks[i.taskState] {
			counts["io_workload"]++
		}
	}
	out := make(map[string]string, len(counts))
	for k, n := range counts {
		out[k] = strconv.Itoa(n)
	}
	return out
}

// pythonNone is how Nova spells a missing value inside a key.
func pythonNone(s string) string {
	if s == "" {
		return "None"
	}
	return s
}

// failedBuildsOf reads the counter back from a record, so that a restart keeps it.
func failedBuildsOf(stats map[string]string) int {
	n, err := strconv.Atoi(strings.TrimSpace(stats["failed_builds"]))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
