package check

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Machine says where nova-agent would keep things.
type Machine struct {
	// StateDir's file system must be able to hold containers. It need not exist.
	StateDir string
	// OVSDB is the socket of ovsdb-server.
	OVSDB string
}

// feature is something that the kernel has or has not. look tries it for real and says
// what it found.
type feature struct {
	name, without string
	needed        bool
	look          func(scratch string) (detail string, err error)
}

// Kernel tries each kernel feature that nova-agent uses, and leaves nothing behind. As
// another user than root it finds less than there is.
func (m Machine) Kernel() ([]Result, error) {
	scratch, err := scratchBelow(m.StateDir)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, f := range m.features() {
		detail, err := f.look(scratch)
		if err != nil {
			detail = err.Error()
		}
		results = append(results, Result{Name: f.name, Found: err == nil, Detail: detail, Without: f.without, Needed: f.needed})
	}
	for _, f := range kernel.Features() {
		r := Result{Name: f.Name, Found: f.Err == nil, Detail: f.Detail, Without: f.Without, Needed: f.Needed}
		if f.Err != nil {
			r.Detail = f.Err.Error()
		}
		results = append(results, r)
	}
	if err := os.RemoveAll(scratch); err != nil {
		return nil, fmt.Errorf("check: clean up: %w", err)
	}
	return results, nil
}

// scratchBelow makes a directory on the file system that dir is on, or would be.
func scratchBelow(dir string) (string, error) {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		scratch, err := os.MkdirTemp(at, ".nova-agent-check-*")
		if err == nil {
			return scratch, nil
		}
		if !errors.Is(err, os.ErrNotExist) || at == filepath.Dir(at) {
			return "", fmt.Errorf("check: %w: %w", err, errdefs.ErrInvalid)
		}
	}
}

func (m Machine) features() []feature {
	return []feature{
		{"root", "nothing that follows can be tried", true, lookRoot},
		{"kernel 5.12 or newer", "no container starts (mount_setattr)", true, lookVersion},
		{"user namespaces", "no container starts", true, lookUserNamespaces},
		{"id-mapped mounts", "no container starts: layers cannot be shared", true, lookIDMapped},
		{"overlay file system", "no container starts", true, lookOverlay},
		{"seccomp filters", "no container starts", true, lookSeccomp},
		{"cgroup: memory", "a flavor's RAM is not enforced", true, controller("memory")},
		{"cgroup: cpu", "a flavor's VCPUs are not enforced", true, controller("cpu")},
		{"cgroup: pids", "a server may fork without limit", true, controller("pids")},
		{"cgroup: freezer", "servers cannot be paused", false, controller("freezer")},
		{"cgroup: devices", "device access is bounded by capabilities alone", false, controller("devices")},
		{"cgroup: io", "disk_*_sec of quota extra specs has no effect", false, controller("io")},
		{"cgroup: cpuset", "cpusets of the Docker API have no effect", false, controller("cpuset")},
		{"disk quotas", "a flavor with a root disk does not start", false, lookQuota},
		{"veth devices", "servers with a network fail", false, lookLink(&netlink.Veth{LinkAttrs: attrs("veth0"), PeerName: "veth1"})},
		{"bridges", "ports of the Linux bridge agent fail", false, lookLink(&netlink.Bridge{LinkAttrs: attrs("bridge0")})},
		{"TUN/TAP devices", "ports of type tap fail", false, lookFile("/dev/net/tun")},
		{"IPv6", "servers get no IPv6 addresses", false, lookFile("/proc/sys/net/ipv6")},
		{"Open vSwitch", "ports of the Open vSwitch agent fail", false, lookSocket(m.OVSDB)},
	}
}

func attrs(name string) netlink.LinkAttrs {
	a := netlink.NewLinkAttrs()
	a.Name = name
	return a
}

func lookRoot(string) (string, error) {
	if uid := os.Geteuid(); uid != 0 {
		return "", fmt.Errorf("this is user %d", uid)
	}
	return "", nil
}

// leastKernel has mount_setattr(2), the newest of what nothing works without.
var leastKernel = [2]int{5, 12}

func lookVersion(string) (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	release := strings.TrimSpace(string(text))
	major, minor, err := versionOf(release)
	if err != nil {
		return "", err
	}
	if major < leastKernel[0] || major == leastKernel[0] && minor < leastKernel[1] {
		return "", fmt.Errorf("it is %s", release)
	}
	return release + " on " + runtime.GOARCH, nil
}

// versionOf reads the first two numbers of a release such as 6.1.0-18-amd64.
func versionOf(release string) (major, minor int, err error) {
	first, rest, _ := strings.Cut(release, ".")
	second := rest
	if end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		second = rest[:end]
	}
	major, err1 := strconv.Atoi(first)
	minor, err2 := strconv.Atoi(second)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("release %q: %w", release, err)
	}
	return major, minor, nil
}

// containerIDs is a map like a container's.
var containerIDs = []kernel.IDRange{{Container: 0, Host: 4_294_000_000 - 65536, Size: 65536}}

func lookUserNamespaces(string) (string, error) {
	user, network, err := kernel.NewNamespaces(kernel.IDMap{UIDs: containerIDs, GIDs: containerIDs}, true)
	if err != nil {
		return "", err
	}
	limit, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	err = errors.Join(err, user.Close(), network.Close())
	return "at most " + strings.TrimSpace(string(limit)), err
}

func withUserNamespace(f func(user *os.File) error) error {
	user, _, err := kernel.NewNamespaces(kernel.IDMap{UIDs: containerIDs, GIDs: containerIDs}, false)
	if err != nil {
		return err
	}
	return errors.Join(f(user), user.Close())
}

func lookIDMapped(scratch string) (string, error) {
	return "", withUserNamespace(func(user *os.File) error {
		mount, err := kernel.Bind(kernel.AtCwd, scratch, kernel.BindOptions{IDMap: int(user.Fd())})
		if err != nil {
			return err
		}
		return mount.Close()
	})
}

// lookOverlay stacks an overlay as a container's root is: over an id-mapped layer.
func lookOverlay(scratch string) (string, error) {
	dirs := map[string]string{}
	for _, name := range []string{"lower", "upper", "work"} {
		dirs[name] = filepath.Join(scratch, name)
		if err := os.Mkdir(dirs[name], 0o755); err != nil {
			return "", err
		}
	}
	return "over id-mapped layers", withUserNamespace(func(user *os.File) error {
		mount, err := kernel.MountOverlay(kernel.OverlayOptions{Lowers: []string{dirs["lower"]}, Upper: dirs["upper"], Work: dirs["work"], IDMap: int(user.Fd())})
		if err != nil {
			return err
		}
		return mount.Close()
	})
}

func lookSeccomp(string) (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/seccomp/actions_avail")
	if err != nil {
		return "", err
	}
	actions := strings.Fields(string(text))
	for _, needed := range []string{"errno", "allow", "kill_process"} {
		if !slices.Contains(actions, needed) {
			return "", fmt.Errorf("the action %s is missing", needed)
		}
	}
	return "", nil
}

// controller looks for a cgroup controller: mounted as version 1, or enabled in the
// root of version 2, where io stands for blkio and freezer and devices are built in.
func controller(name string) func(string) (string, error) {
	return func(string) (string, error) {
		table, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return "", err
		}
		return findController(name, string(table), os.ReadFile)
	}
}

func findController(name, mountinfo string, readFile func(string) ([]byte, error)) (string, error) {
	v1Name := name
	if name == "io" {
		v1Name = "blkio"
	}
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(fs) < 3 {
			continue
		}
		switch {
		case fs[0] == "cgroup" && slices.Contains(strings.Split(fs[2], ","), v1Name):
			return "version 1", nil
		case fs[0] == "cgroup2" && (name == "freezer" || name == "devices"):
			return "version 2", nil
		case fs[0] == "cgroup2":
			text, err := readFile(filepath.Join(fields[4], "cgroup.controllers"))
			if err == nil && slices.Contains(strings.Fields(string(text)), name) {
				return "version 2", nil
			}
		}
	}
	return "", errors.New("not mounted")
}

// lookQuota tries what the engine does, in its order.
func lookQuota(scratch string) (string, error) {
	const some = 64 << 20
	for _, q := range []struct {
		name  string
		apply func(dir string) error
	}{
		{"btrfs", func(dir string) error { return kernel.BtrfsQuota(dir, some) }},
		{"project quota", func(dir string) error { return kernel.ProjectQuota(dir, containerIDs[0].Host, some) }},
	} {
		dir := filepath.Join(scratch, "quota")
		err := q.apply(dir)
		if undo := kernel.RemoveQuota(dir); undo != nil && err == nil {
			return "", undo
		}
		if err == nil {
			return q.name, nil
		}
	}
	for _, path := range []string{"/dev/loop-control", "/sys/fs/ext4"} {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("neither btrfs nor project quotas, and no loop devices with ext4: %w", err)
		}
	}
	for _, path := range []string{"mkfs.ext4", "/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"} {
		if _, err := exec.LookPath(path); err == nil {
			return "ext4 in loop devices", nil
		}
	}
	return "", errors.New("neither btrfs nor project quotas, and no mkfs.ext4 (package e2fsprogs) for loop devices")
}

// lookLink makes a device in a network namespace of its own.
func lookLink(link netlink.Link) func(string) (string, error) {
	return func(string) (_ string, err error) {
		user, network, err := kernel.NewNamespaces(kernel.IDMap{UIDs: containerIDs, GIDs: containerIDs}, true)
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, user.Close(), network.Close()) }()
		ns, err := kernel.OpenNetNS(fmt.Sprintf("/proc/self/fd/%d", network.Fd()))
		if err != nil {
			return "", err
		}
		defer func() { err = errors.Join(err, ns.Close()) }()
		return "", ns.Do(func() error {
			h, err := netlink.NewHandle()
			if err != nil {
				return err
			}
			defer h.Close()
			return h.LinkAdd(link)
		})
	}
}

func lookFile(path string) func(string) (string, error) {
	return func(string) (string, error) {
		_, err := os.Stat(path)
		return "", err
	}
}

func lookSocket(path string) func(string) (string, error) {
	return func(string) (string, error) {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return "", err
		}
		return path, conn.Close()
	}
}
