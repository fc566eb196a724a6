package fork_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"novaagent/engine/kernel/fork"
	"novaagent/tests/need"
)

// TestParkedEndsWithItsParent kills a process that holds namespaces: its parked child must not stay.
func TestParkedEndsWithItsParent(t *testing.T) {
	const child = "FORK_TEST_PARK"
	if os.Getenv(child) != "" {
		runtime.LockOSThread()
		p, err := fork.Park(syscall.CLONE_NEWUSER)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("parked", p.PID)
		select {}
	}
	need.Root(t)
	cmd := exec.Command(os.Args[0], "-test.run=TestParkedEndsWithItsParent$")
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "parked ")))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z") {
			return
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d is left", pid)
}
