package rabbit

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A broker comes up, comes up again after a crash, and leaves neither a process
// nor a file.
func TestBrokerLeavesNothing(t *testing.T) {
	Need(t)
	b, err := New(Options{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	b.Kill()
	if err := b.Start(); err != nil {
		t.Error(err)
	}
	if out := b.Ctl(t, "list_users"); !strings.Contains(out, "guest") {
		t.Errorf("list_users: %s", out)
	}
	if conn, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(b.TLSPort)); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(b.Dir); !os.IsNotExist(err) {
		t.Errorf("%s: %v", b.Dir, err)
	}
	environs, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range environs {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), "HOME="+b.Dir) {
			cmdline, _ := os.ReadFile(filepath.Dir(file) + "/cmdline")
			t.Errorf("%s is left: %s", filepath.Dir(file), strings.ReplaceAll(string(cmdline), "\x00", " "))
		}
	}
}
