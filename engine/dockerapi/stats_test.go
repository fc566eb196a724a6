package dockerapi_test

import (
	"encoding/json"
	"testing"

	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
)

// TestStatsFields holds the answer against what the kernel has.
func TestStatsFields(t *testing.T) {
	a := newAPI(t)
	c, err := a.engine.Run(t.Context(), engine.Spec{
		Owner: engine.OwnerDocker, Name: "busy", Image: "busybox", Args: []string{"sleep", "1000"}, NetworkMode: engine.NetworkNone,
		Resources: engine.Resources{MemoryBytes: 64 << 20, PidsLimit: 17},
	})
	if err != nil {
		t.Fatal(err)
	}
	status, body := a.do(t, "GET", "/containers/"+c.ID+"/stats?stream=0&one-shot=1", "")
	var s container.StatsResponse
	if err := json.Unmarshal([]byte(body), &s); err != nil || status != 200 {
		t.Fatalf("%d: %v: %s", status, err, body)
	}
	if s.ID != c.ID || s.Name != "/busy" || s.OSType != "linux" || s.Read.IsZero() {
		t.Errorf("%+v", s)
	}
	if s.CPUStats.CPUUsage.TotalUsage == 0 || s.CPUStats.SystemUsage == 0 || s.CPUStats.OnlineCPUs == 0 {
		t.Errorf("CPU %+v", s.CPUStats)
	}
	if m := s.MemoryStats; m.Usage == 0 || m.Limit != 64<<20 {
		t.Errorf("memory %+v", m)
	}
	for _, name := range []string{"inactive_file", "active_anon", "pgfault", "unevictable"} {
		if _, ok := s.MemoryStats.Stats[name]; !ok {
			t.Errorf("memory.stat has no %s: %v", name, s.MemoryStats.Stats)
		}
	}
	if p := s.PidsStats; p.Current != 1 || p.Limit != 17 {
		t.Errorf("pids %+v", p)
	}
}
