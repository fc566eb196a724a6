package fork_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"syscall"
	"testing"

	"novaagent/engine/kernel/fork"
	"novaagent/tests/need"
)

// asm lays out a program's data.
type asm struct{ p fork.Program }

func newAsm() *asm { return &asm{fork.Program{Cgroup: fork.NoCgroup}} }

func (a *asm) bytes(b []byte) fork.Arg {
	for len(a.p.Data)%8 != 0 {
		a.p.Data = append(a.p.Data, 0)
	}
	at := len(a.p.Data)
	a.p.Data = append(a.p.Data, b...)
	return fork.Arg{Kind: fork.Address, V: uint64(at)}
}

func (a *asm) str(s string) fork.Arg { return a.bytes(append([]byte(s), 0)) }

func (a *asm) argv(words ...string) fork.Arg {
	var to []uint64
	for _, w := range words {
		to = append(to, a.str(w).V)
	}
	v := a.bytes(make([]byte, 8*(len(words)+1)))
	for i, t := range to {
		a.p.Relocs = append(a.p.Relocs, fork.Reloc{At: uint32(v.V) + uint32(8*i), To: uint32(t)})
	}
	return v
}

func (a *asm) call(nr uintptr, args ...fork.Arg) *fork.Step {
	s := fork.Step{Nr: uint32(nr), Out: fork.NoCell}
	copy(s.Args[:], args)
	a.p.Steps = append(a.p.Steps, s)
	return &a.p.Steps[len(a.p.Steps)-1]
}

func val(v uint64) fork.Arg { return fork.Arg{V: v} }

func run(t *testing.T, a *asm, fds ...int) (fork.Result, *fork.Loaded) {
	t.Helper()
	l, err := fork.Load(a.p.Encode(), fds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Free)
	return l.Run(), l
}

func wait(t *testing.T, pid int) syscall.WaitStatus {
	t.Helper()
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil {
		t.Fatalf("wait for %d: %v", pid, err)
	}
	return ws
}

func TestRunExecutes(t *testing.T) {
	a := newAsm()
	a.call(syscall.SYS_EXECVE, a.str("/bin/sh"), a.argv("sh", "-c", "exit 42"), a.argv("A=b"))
	r, _ := run(t, a)
	if r.Failed != fork.None || r.PID == 0 {
		t.Fatalf("got %+v", r)
	}
	if got := wait(t, r.PID).ExitStatus(); got != 42 {
		t.Errorf("exit status %d, want 42", got)
	}
}

func TestRunReportsTheFailedStep(t *testing.T) {
	a := newAsm()
	a.call(syscall.SYS_GETPID)
	a.call(syscall.SYS_CHDIR, a.str("/nonexistent"))
	a.call(syscall.SYS_EXECVE, a.str("/bin/true"), a.argv("true"), a.argv())
	r, _ := run(t, a)
	if r.PID != 0 || r.Failed != 1 || r.Errno != syscall.ENOENT {
		t.Fatalf("got %+v", r)
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child was left: %v", err)
	}
}

func TestRunWithoutExecFails(t *testing.T) {
	a := newAsm()
	a.call(syscall.SYS_GETPID)
	if r, _ := run(t, a); r.Failed != 1 || r.Errno != syscall.ENOEXEC {
		t.Fatalf("got %+v", r)
	}
}

func TestCellsToleratedErrorsAndSkips(t *testing.T) {
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer in.Close()

	a := newAsm()
	cell := a.bytes(make([]byte, 8))
	s := a.call(syscall.SYS_OPENAT, val(0), a.str("/nonexistent"))
	s.Tolerate[0], s.Skip, s.Note = uint16(syscall.ENOENT), 1, true
	a.call(syscall.SYS_CHDIR, a.str("/nonexistent")) // skipped
	a.call(syscall.SYS_DUP3, fork.Arg{Kind: fork.Descriptor}, val(77), val(0)).Out = int32(cell.V)
	a.call(syscall.SYS_DUP3, fork.Arg{Kind: fork.Cell, V: cell.V}, val(1), val(0))
	a.call(syscall.SYS_EXECVE, a.str("/bin/sh"), a.argv("sh", "-c", "echo hello"), a.argv())
	a.p.Descriptors = 1
	r, l := run(t, a, int(in.Fd()))
	if r.Failed != fork.None {
		t.Fatalf("got %+v", r)
	}
	wait(t, r.PID)
	got := make([]byte, 100)
	n, _ := out.Read(got)
	if string(got[:n]) != "hello\n" {
		t.Errorf("output %q", got[:n])
	}
	if len(r.Notes) != 1 || r.Notes[0] != (fork.Note{Step: 0, Errno: syscall.ENOENT}) {
		t.Errorf("notes %v", r.Notes)
	}
	if v := binary.LittleEndian.Uint32(l.Data()[cell.V:]); v != 77 {
		t.Errorf("the cell holds %d, want 77", v)
	}
}

func TestSecondForkIsOurChildInItsPIDNamespace(t *testing.T) {
	need.Root(t)
	a := newAsm()
	a.call(syscall.SYS_UNSHARE, val(syscall.CLONE_NEWPID))
	a.call(fork.OpFork, val(0))
	a.call(syscall.SYS_EXECVE, a.str("/bin/sh"), a.argv("sh", "-c", "exit $$"), a.argv())
	r, _ := run(t, a)
	if r.Failed != fork.None {
		t.Fatalf("got %+v", r)
	}
	if got := wait(t, r.PID).ExitStatus(); got != 1 {
		t.Errorf("its pid was %d, want 1", got)
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child was left: %v", err)
	}
}

func TestSecondForkFailing(t *testing.T) {
	need.Root(t)
	a := newAsm()
	a.call(syscall.SYS_UNSHARE, val(syscall.CLONE_NEWPID))
	a.call(fork.OpFork, val(0))
	a.call(syscall.SYS_EXECVE, a.str("/nonexistent"), a.argv("x"), a.argv())
	r, _ := run(t, a)
	if r.Failed != 2 || r.Errno != syscall.ENOENT || r.PID != 0 {
		t.Fatalf("got %+v", r)
	}
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("a child was left: %v", err)
	}
}

func TestRunInCgroup(t *testing.T) {
	need.Root(t)
	root := "/sys/fs/cgroup"
	if _, err := os.Stat(root + "/unified"); err == nil {
		root += "/unified"
	}
	if _, err := os.Stat(root + "/cgroup.controllers"); err != nil {
		need.Unmet(t, "a cgroup2 file system")
	}
	dir := root + "/fork-test-" + itoa(os.Getpid())
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(dir)
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := newAsm()
	a.p.Descriptors, a.p.Cgroup = 1, 0
	a.call(syscall.SYS_EXECVE, a.str("/bin/sh"), a.argv("sh", "-c", "grep -q /fork-test- /proc/self/cgroup"), a.argv("PATH=/bin:/usr/bin"))
	r, _ := run(t, a, int(f.Fd()))
	if r.Failed != fork.None {
		t.Fatalf("got %+v", r)
	}
	if got := wait(t, r.PID).ExitStatus(); got != 0 {
		t.Errorf("it is not in its cgroup: exit status %d", got)
	}
}

func TestPark(t *testing.T) {
	need.Root(t)
	p, err := fork.Park(syscall.CLONE_NEWUTS)
	if err != nil {
		t.Fatal(err)
	}
	own, _ := os.Readlink("/proc/self/ns/uts")
	its, err := os.Readlink("/proc/" + itoa(p.PID) + "/ns/uts")
	if err != nil || own == its {
		t.Errorf("namespaces %q and %q, %v", own, its, err)
	}
	p.Kill()
	if _, err := os.Stat("/proc/" + itoa(p.PID)); err == nil {
		t.Error("it is still there")
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

// TestRunWithBusyGoroutines forks while others allocate and the collector runs: the
// child must not be disturbed by them, nor they by it.
func TestRunWithBusyGoroutines(t *testing.T) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		var keep [][]byte
		for {
			select {
			case <-stop:
				return
			default:
				keep = append(keep, bytes.Repeat([]byte{1}, 10000))
				if len(keep) > 100 {
					keep = nil
				}
			}
		}
	}()
	for range 200 {
		a := newAsm()
		for range 50 {
			a.call(syscall.SYS_GETPID)
		}
		a.call(syscall.SYS_EXECVE, a.str("/bin/true"), a.argv("true"), a.argv())
		r, _ := run(t, a)
		if r.Failed != fork.None {
			t.Fatalf("got %+v", r)
		}
		if ws := wait(t, r.PID); ws.ExitStatus() != 0 {
			t.Fatalf("status %v", ws)
		}
	}
	close(stop)
	<-done
}

func FuzzLoad(f *testing.F) {
	a := newAsm()
	a.call(syscall.SYS_EXECVE, a.str("/bin/true"), a.argv("true"), a.argv())
	f.Add(a.p.Encode(), 0)
	f.Fuzz(func(t *testing.T, b []byte, descriptors int) {
		if descriptors >= 0 && descriptors < 300 {
			if l, err := fork.Load(b, make([]int, descriptors)); err == nil {
				l.Free()
			}
		}
	})
}

func BenchmarkRun(b *testing.B) {
	for b.Loop() {
		a := newAsm()
		a.call(syscall.SYS_EXECVE, a.str("/nonexistent"), a.argv("true"), a.argv())
		l, _ := fork.Load(a.p.Encode(), nil)
		l.Run()
		l.Free()
	}
}

func BenchmarkPark(b *testing.B) {
	for b.Loop() {
		p, err := fork.Park(syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET)
		if err != nil {
			b.Fatal(err)
		}
		p.Kill()
	}
}
