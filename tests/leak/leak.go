// Package leak is the tests' oracle for what must not be left behind: a snapshot
// of the machine before a test is compared with one after it.
//
//	leak.Check(t, "/nova-agent-test")
//
// Some things go a moment after the call that ends them has returned: a killed
// process, the last veth of a network namespace, a lazily unmounted file system. So the comparison
// is repeated until it is equal or a generous deadline has passed.
package leak

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// settle is how long the machine has to come to rest.
const settle = 15 * time.Second

// Snapshot is what the machine holds: each entry names one thing.
type Snapshot map[string]bool

// Options say what is looked at.
type Options struct {
	// Cgroups are cgroup paths, as /nova-agent-test, whose directories count in every hierarchy. A
	// path that ends in * stands for all that start so.
	Cgroups []string
	// Dirs are directories whose mounts and loop devices' files count; empty counts all.
	Dirs []string
	// NoGoroutines leaves goroutines of this process out, for tests that run in parallel.
	NoGoroutines bool
	// NoChildren leaves out processes.
	NoChildren bool
	// NoLinks leaves out network links of this namespace, which other tests on the machine may come and go with.
	NoLinks bool
}

// Check compares now with the end of the test, after its other clean-ups that are registered later. It
// looks at mounts below the test's temporary directories, at cgroups below the given parents, and at this process; other
// programs of the machine may come and go.
func Check(t testing.TB, cgroups ...string) {
	t.Helper()
	CheckWith(t, Options{Cgroups: cgroups, NoLinks: true, Dirs: []string{filepath.Dir(t.TempDir())}})
}

// CheckWith is Check with options.
func CheckWith(t testing.TB, o Options) {
	t.Helper()
	before := Take(o)
	t.Cleanup(func() {
		t.Helper()
		if left := Await(before, o); len(left) > 0 {
			t.Errorf("left behind:\n\t%s", strings.Join(left, "\n\t"))
		}
	})
}

// Await waits until nothing is there that was not in before, and returns what is still there at the deadline.
func Await(before Snapshot, o Options) []string {
	end := time.Now().Add(settle)
	for wait := time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		var left []string
		for thing := range Take(o) {
			if !before[thing] {
				left = append(left, thing)
			}
		}
		if len(left) == 0 || time.Now().After(end) {
			slices.Sort(left)
			return left
		}
		time.Sleep(wait)
	}
}

// Take looks at the machine.
func Take(o Options) Snapshot {
	s := Snapshot{}
	s.mounts(o.Dirs)
	s.cgroups(o.Cgroups)
	s.loops(o.Dirs)
	if !o.NoChildren {
		s.children()
	}
	s.descriptors()
	if !o.NoLinks {
		s.links()
	}
	if !o.NoGoroutines {
		s.goroutines()
	}
	return s
}

func (s Snapshot) add(format string, args ...any) { s[fmt.Sprintf(format, args...)] = true }

// mounts counts mounts and, among them, pinned namespaces.
func (s Snapshot) mounts(dirs []string) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		if within(f[4], dirs) {
			s.add("mount %s (root %s)", f[4], f[3])
		}
	}
}

// within tells whether path is below one of dirs; it is if there are none.
func within(path string, dirs []string) bool {
	return len(dirs) == 0 || slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(path, d+"/") })
}

func (s Snapshot) cgroups(parents []string) {
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if len(f) < 5 || !strings.HasPrefix(after, "cgroup") {
			continue
		}
		for _, p := range parents {
			found, _ := filepath.Glob(f[4] + p)
			for _, top := range found {
				filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
					if err == nil && d.IsDir() {
						s.add("cgroup %s", path)
					}
					return nil
				})
			}
		}
	}
}

func (s Snapshot) loops(dirs []string) {
	found, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range found {
		if b, err := os.ReadFile(f); err == nil && within(string(b), dirs) {
			s.add("loop device %s of %s", strings.Split(f, "/")[3], strings.TrimSpace(string(b)))
		}
	}
}

// children counts the processes below this one, zombies included.
func (s Snapshot) children() {
	self := os.Getpid()
	parents := map[int]int{}
	names := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range dirs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		text := string(b)
		open, closing := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		fields := strings.Fields(text[closing+1:])
		pid, _ := strconv.Atoi(strings.TrimSpace(text[:open]))
		if len(fields) < 2 {
			continue
		}
		parents[pid], _ = strconv.Atoi(fields[1])
		names[pid] = text[open+1:closing] + " " + fields[0]
	}
	for pid := range parents {
		for p := pid; p != 0; p = parents[p] {
			if p != pid && p == self {
				s.add("process %d (%s)", pid, names[pid])
			}
		}
	}
}

// descriptors counts this process's open files by what they are, so that a reused number does not hide one.
func (s Snapshot) descriptors() {
	entries, _ := os.ReadDir("/proc/self/fd")
	count := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasSuffix(target, "/fd") {
			continue
		}
		if target == "/sys/fs/cgroup" { // the cgroup library opens it once and keeps it
			continue
		}
		kind, _, _ := strings.Cut(target, ":[")
		count[kind]++
		s.add("open file %s #%d", kind, count[kind])
	}
}

func (s Snapshot) links() {
	list, _ := net.Interfaces()
	for _, l := range list {
		s.add("link %s", l.Name)
	}
}

// goroutines counts this process's by what they run.
func (s Snapshot) goroutines() {
	var b strings.Builder
	pprof.Lookup("goroutine").WriteTo(&b, 1)
	runtime.GC() // closes what only a finalizer would
	for block := range strings.SplitSeq(b.String(), "\n\n") {
		lines := strings.Split(block, "\n")
		n, _, ok := strings.Cut(lines[0], " @")
		if !ok || len(lines) < 2 {
			continue
		}
		var where []string
		for _, l := range lines[1:] {
			if f := strings.Fields(l); len(f) >= 3 {
				name, _, _ := strings.Cut(f[2], "+")
				where = append(where, name)
			}
		}
		at := strings.Join(where, " < ")
		if strings.Contains(at, "tests/leak") || strings.Contains(at, "testing.(*T)") || strings.Contains(at, "testing.(*M)") ||
			strings.Contains(at, "testing.(*B)") || strings.Contains(at, "signal.loop") {
			continue
		}
		count, _ := strconv.Atoi(n)
		for i := 1; i <= count; i++ {
			s.add("goroutine #%d in %s", i, at)
		}
	}
}
