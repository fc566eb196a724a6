package compute

import (
	"regexp"
	"testing"
	"time"
)

func TestUptimeText(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 13, 5, 0, time.UTC)
	for up, want := range map[string]string{
		"59.10 1.0":      " 10:13:05 up 0 min,  0 users,  load average: 0.10, 0.20, 0.30",
		"3720.5 1.0":     " 10:13:05 up  1:02,  0 users,  load average: 0.10, 0.20, 0.30",
		"90000.00 1.0":   " 10:13:05 up 1 day,  1:00,  0 users,  load average: 0.10, 0.20, 0.30",
		"176520.00 1.00": " 10:13:05 up 2 days,  1:02,  0 users,  load average: 0.10, 0.20, 0.30",
	} {
		got, err := uptimeText(now, up, "0.10 0.20 0.30 1/234 5678\n")
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", up, got, err)
		}
		// What nova/api/openstack/compute/hypervisors.py looks for.
		api := regexp.MustCompile(`^\s*.*?\s+up\s+(.*?),\s+(\d+)\s+users?,\s+load average:\s+(.*?)$`)
		if !api.MatchString(got) {
			t.Errorf("the API does not understand %q", got)
		}
	}
	for _, bad := range [][2]string{{"", "1 2 3"}, {"x y", "1 2 3"}, {"1 1", "1 2"}} {
		if _, err := uptimeText(now, bad[0], bad[1]); err == nil {
			t.Errorf("%v is understood", bad)
		}
	}
}
