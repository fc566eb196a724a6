package dockerapi

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// cgroupVersion is 2 where the unified hierarchy has the controllers that limits need.
func cgroupVersion() string {
	if controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil && strings.Contains(string(controllers), "memory") {
		return "2"
	}
	return "1"
}

func kernelRelease() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(release))
}

// machine is this architecture as uname has it.
func machine() string {
	switch runtime.GOARCH {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return runtime.GOARCH
}

func osName() string {
	if name := osRelease("PRETTY_NAME"); name != "" {
		return name
	}
	return "Linux"
}

// osRelease is a value of os-release(5).
func osRelease(key string) string {
	file, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(file)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

func memTotal() int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kib << 10
		}
	}
	return 0
}

// osVersion is VERSION_ID of os-release(5).
func osVersion() string { return osRelease("VERSION_ID") }

// controllers are the cgroup controllers that limits can be set with.
func controllers() map[string]bool {
	have := map[string]bool{}
	for _, file := range []string{"/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for name := range strings.FieldsSeq(string(text)) {
			have[name] = true
		}
	}
	for _, name := range []string{"memory", "cpu", "cpuset", "pids", "blkio"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + name + "/tasks"); err == nil {
			have[name] = true
		}
	}
	have["blkio"] = have["blkio"] || have["io"]
	return have
}

// swapLimits tells whether the memory controller counts swap.
func swapLimits() bool {
	for _, pattern := range []string{"/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes", "/sys/fs/cgroup/*/memory.swap.max"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return true
		}
	}
	return false
}

// openFiles is how many file descriptors this process has.
func openFiles() int {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(list) - 1 // the directory's own
}

// forwarding tells whether the host passes IPv4 packets on.
func forwarding() bool {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(text)) == "1"
}

// fileSystem is the type of the file system that path is on, as the mount table has it.
func fileSystem(path string) string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	best, kind := "", ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(fs) < 1 {
			continue
		}
		point := fields[4]
		if (path == point || point == "/" || strings.HasPrefix(path, point+"/")) && len(point) >= len(best) {
			best, kind = point, fs[0]
		}
	}
	return kind
}
