package dockerapi_test

import (
	"encoding/json"
	"testing"
)

// TestUmaskAndPaths: fields for which the docker client has no flag. What is masked or read-only is what was asked for, and nothing else.
func TestUmaskAndPaths(t *testing.T) {
	a := newAPI(t)
	status, body := a.do(t, "POST", "/containers/create", `{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none",
		"Umask":23,"MaskedPaths":["/proc/version","/etc/hide","/etc/hidden"],"ReadonlyPaths":["/proc/sys","/etc/fixed"],
		"Tmpfs":{"/etc/hide":"","/etc/fixed":""}}}`)
	var made struct{ ID string }
	if err := json.Unmarshal([]byte(body), &made); err != nil || status != 201 {
		t.Fatal(status, body)
	}
	a.start(t, made.ID)
	for _, tt := range []struct{ script, want string }{
		{"umask", "0027\n"},
		{"cat /proc/version", ""},
		{"touch /etc/hide/x 2>/dev/null || echo masked", "masked\n"},
		{"touch /etc/fixed/x 2>/dev/null || echo read-only", "read-only\n"},
		{"echo x 2>/dev/null >/proc/sys/kernel/domainname || echo read-only", "read-only\n"},
		{"[ -s /proc/timer_list ] || [ -d /sys/firmware ] && ls -d /sys/firmware", "/sys/firmware\n"},
	} {
		if got := a.shell(t, made.ID, tt.script); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.script, got, tt.want)
		}
	}
}
