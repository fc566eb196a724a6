package enginetest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// settle bounds the wait for what goes asynchronously: dying cgroups, namespaces, loop devices.
const settle = 10 * time.Second

// Leaks fails the test if, at its end, something of the engine with that root and
// cgroup is left that was not there when Leaks was called: mounts, loop devices, links, cgroups, processes,
// directories of containers, volumes. Call it before anything is started.
func Leaks(t testing.TB, root, cgroup string) {
	t.Helper()
	before := traces(root, cgroup)
	t.Cleanup(func() {
		var left []string
		for end := time.Now().Add(settle); ; time.Sleep(20 * time.Millisecond) {
			left = slices.DeleteFunc(traces(root, cgroup), func(s string) bool { return slices.Contains(before, s) })
			if len(left) == 0 {
				return
			}
			if time.Now().After(end) {
				break
			}
		}
		t.Errorf("left behind:\n  %s", strings.Join(left, "\n  "))
	})
}

// traces lists what there is of an engine.
func traces(root, cgroup string) []string {
	var out []string
	sum := sha256.Sum256([]byte(root))
	mark := hex.EncodeToString(sum[:4]) // of the engine's devices and tables
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, root) {
				add("mount %s", strings.Fields(line)[4])
			}
		}
	}
	loops, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, loop := range loops {
		if file, err := os.ReadFile(loop); err == nil && strings.HasPrefix(string(file), root) {
			add("loop device %s of %s", loop, bytes.TrimSpace(file))
		}
	}
	if tables, err := (&nftables.Conn{}).ListTables(); err == nil {
		for _, table := range tables {
			if table.Name == "nova-agent-"+mark {
				add("nftables table %s", table.Name)
			}
		}
	}
	if links, err := netlink.LinkList(); err == nil {
		for _, l := range links {
			if l.Attrs().Alias == "nova-agent "+mark {
				add("link %s", l.Attrs().Name)
			}
		}
	}
	hierarchies, _ := filepath.Glob("/sys/fs/cgroup/*")
	for _, h := range append(hierarchies, "/sys/fs/cgroup") {
		for _, e := range dirs(filepath.Join(h, cgroup)) {
			if e != "shims" {
				add("cgroup %s", filepath.Join(h, cgroup, e))
			}
		}
	}
	for _, dir := range []string{"containers", "trash", "volumes", "run/ns", "run/runtime/tasks"} {
		for _, e := range dirs(filepath.Join(root, dir)) {
			add("directory %s", filepath.Join(root, dir, e))
		}
	}
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cgroup"))
		if err != nil || !bytes.Contains(groups, []byte(cgroup+"/")) || bytes.Contains(groups, []byte(cgroup+"/shims")) {
			continue
		}
		cmd, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		add("process %d %s", pid, bytes.ReplaceAll(cmd, []byte{0}, []byte{' '}))
	}
	return out
}

func dirs(path string) []string {
	var names []string
	list, _ := os.ReadDir(path)
	for _, e := range list {
		if e.Type() == fs.ModeDir {
			names = append(names, e.Name())
		}
	}
	return names
}
