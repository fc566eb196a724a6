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

// parkOf, in the environment of the test program, makes it the parent of a parked process.
const parkOf = "FORK_TEST_PARK"

// TestParkedEndsWithItsParent kills a process that holds namespaces: its parked child must not stay.
func TestParkedEndsWithItsParent(t *testing.T) {
	if os.Getenv(parkOf) != "" {
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
	cmd.Env = append(os.Environ(), parkOf+"=1")
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
	awaitEnd(t, pid)
}

// awaitEnd waits until a process of somebody else's has ended.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z") {
			return
		}
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	t.Errorf("process %d is left", pid)
}

// TestParkedIsBornAnOrphan stops a parked process at its birth, before it can ask for anything, and kills its parent: it must not
// stay either.
func TestParkedIsBornAnOrphan(t *testing.T) {
	need.Root(t)
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	cmd := exec.Command(os.Args[0], "-test.run=TestParkedEndsWithItsParent$")
	cmd.Env = append(os.Environ(), parkOf+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	parent := cmd.Process.Pid
	parked, gone := 0, false
	// Everything that the parent clones is traced, too, and begins with a stop.
	for !gone {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WALL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !ws.Stopped() {
			if gone = pid == parent; gone && parked == 0 {
				t.Fatalf("the parent has ended: %v", ws)
			}
			continue
		}
		sig := ws.StopSignal()
		_, notThread := os.Stat(fmt.Sprintf("/proc/%d/task/%d", parent, pid))
		switch {
		case sig == syscall.SIGSTOP && notThread != nil:
			parked = pid
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			continue
		case sig == syscall.SIGTRAP && pid == parent && ws.TrapCause() == 0: // it was executed
			if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACECLONE|syscall.PTRACE_O_TRACEFORK); err != nil {
				t.Fatal(err)
			}
			sig = 0
		case sig == syscall.SIGTRAP, sig == syscall.SIGSTOP:
			sig = 0
		}
		if err := syscall.PtraceCont(pid, int(sig)); err != nil && err != syscall.ESRCH { // it is being killed
			t.Fatal(err)
		}
	}
	if err := syscall.PtraceDetach(parked); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, parked)
}
