package compute

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func TestLedger(t *testing.T) {
	l := newLedger()
	small := usage{vcpus: 1, memoryMB: 64, rootGB: 1}
	large := usage{vcpus: 4, memoryMB: 2048, rootGB: 10, ephemeralGB: 5, swapMB: 1536}
	l.set(tracked{uuid: "a", vmState: vmActive, projectID: "p", usage: small})
	l.set(tracked{uuid: "b", vmState: vmBuilding, taskState: taskSpawning, osType: "linux", projectID: "q", usage: large})
	l.set(tracked{uuid: "c", vmState: vmDeleted, usage: large})
	l.set(tracked{uuid: "d", vmState: vmShelvedOffloaded, usage: large})
	want := totals{vcpusUsed: 2 + 5, memoryMBUsed: 512 + 2112, localGBUsed: 18, runningVMs: 2, workload: 1}
	if got := l.totals(reserved{vcpus: 2, memoryMB: 512, diskMB: 1024}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	stats := map[string]string{
		"num_instances": "2", "failed_builds": "0", "io_workload": "1",
		"num_vm_active": "1", "num_vm_building": "1", "num_task_None": "1", "num_task_spawning": "1",
		"num_os_type_None": "1", "num_os_type_linux": "1", "num_proj_p": "1", "num_proj_q": "1",
	}
	if got := l.stats(); !maps.Equal(got, stats) {
		t.Errorf("got %v, want %v", got, stats)
	}
	l.set(tracked{uuid: "a", vmState: vmDeleted})
	l.remove("b")
	if got := l.totals(reserved{}); got != (totals{}) {
		t.Errorf("left: %+v", got)
	}
}

// TestLedgerKeepsClaims: a recount does not lose the builds that Nova does not list yet.
func TestLedgerKeepsClaims(t *testing.T) {
	l := newLedger()
	l.set(tracked{uuid: "building", vmState: vmBuilding, usage: usage{vcpus: 1}})
	l.set(tracked{uuid: "gone", vmState: vmActive, usage: usage{vcpus: 1}})
	l.replace([]tracked{{uuid: "here", vmState: vmActive, usage: usage{vcpus: 2}}}, map[string]bool{"building": true})
	if got := l.totals(reserved{}).vcpusUsed; got != 3 || l.instances["gone"].uuid != "" {
		t.Errorf("%d CPUs of %v", got, l.instances)
	}
}

// TestLedgerSums: whatever comes and goes, the totals are the sum of what is there.
func TestLedgerSums(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, model := newLedger(), map[string]int{}
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			uuid := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "uuid")
			state := rapid.SampledFrom([]string{vmActive, vmStopped, vmBuilding, vmDeleted, vmError}).Draw(t, "state")
			mb := rapid.IntRange(0, 4096).Draw(t, "mb")
			if state == vmDeleted {
				delete(model, uuid)
			} else {
				model[uuid] = mb
			}
			l.set(tracked{uuid: uuid, vmState: state, usage: usage{memoryMB: mb}})
		}
		sum := 0
		for _, mb := range model {
			sum += mb
		}
		if got := l.totals(reserved{}); got.memoryMBUsed != sum || got.runningVMs != len(model) {
			t.Fatalf("got %+v, want %d MB of %d", got, sum, len(model))
		}
	})
}

func TestFailedBuildsOf(t *testing.T) {
	for text, want := range map[string]int{"3": 3, " 4 ": 4, "": 0, "x": 0, "-1": 0} {
		if got := failedBuildsOf(map[string]string{"failed_builds": text}); got != want {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}
