package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
)

// devices adds the nodes and rules that rec asks for. A container with a user namespace gets nodes of its own,
// which its root owns; the devices cgroup bounds what it may do with them.
func (e *Engine) devices(s *specs.Spec, rec *Container) error {
	r := &rec.Spec.Resources
	if rec.Spec.Security.Privileged {
		all, err := hostDevices("/dev", "/dev")
		if err != nil {
			return err
		}
		s.Linux.Devices = all
		s.Linux.Resources.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
		return nil
	}
	if len(r.Devices) == 0 && len(r.DeviceRules) == 0 {
		return nil
	}
	rules := runtime.DefaultDeviceRules()
	for _, d := range r.Devices {
		nodes, err := deviceNodes(d)
		if err != nil {
			return fmt.Errorf("error gathering device information while adding custom device %q: %w", d.Host, err)
		}
		for _, n := range nodes {
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: n.Type, Major: &n.Major, Minor: &n.Minor, Access: firstOf(d.Access, "rwm")})
		}
		s.Linux.Devices = append(s.Linux.Devices, nodes...)
	}
	for _, text := range r.DeviceRules {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return err
		}
		rules = append(rules, rule)
	}
	s.Linux.Resources.Devices = rules
	return nil
}

// deviceNodes are the host's node, or those in the directory, that d means.
func deviceNodes(d Device) ([]specs.LinuxDevice, error) {
	inside := path.Clean(firstOf(d.Container, d.Host))
	if !strings.HasPrefix(inside, "/dev/") {
		return nil, fmt.Errorf("%s is not below /dev, where a container has its devices: %w", printable(inside), errdefs.ErrUnsupported)
	}
	host, err := filepath.EvalSymlinks(d.Host)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	if info, err := os.Stat(host); err == nil && info.IsDir() {
		nodes, err := hostDevices(host, inside)
		if err == nil && len(nodes) == 0 {
			err = fmt.Errorf("no device nodes in it: %w", errdefs.ErrInvalid)
		}
		return nodes, err
	}
	node, ok, err := deviceNode(host, inside)
	if err == nil && !ok {
		err = fmt.Errorf("not a device node: %w", errdefs.ErrInvalid)
	}
	return []specs.LinuxDevice{node}, err
}

// deviceNode is the host's node at host as the container has it at inside; ok is false for other files.
func deviceNode(host, inside string) (node specs.LinuxDevice, ok bool, err error) {
	f, err := kernel.OpenPath(host)
	if err != nil {
		return node, false, fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	defer f.Close()
	kind, major, minor := kernel.DeviceOf(f)
	if kind != 'c' && kind != 'b' {
		return node, false, nil
	}
	info, err := f.Stat()
	if err != nil {
		return node, false, err
	}
	mode := info.Mode().Perm()
	uid, gid := kernel.OwnerIDs(info)
	return specs.LinuxDevice{Path: inside, Type: string(kind), Major: int64(major), Minor: int64(minor), FileMode: &mode, UID: &uid, GID: &gid}, true, nil
}

// ownDevices of a container's /dev are never the host's: terminals, and what is mounted there. As in
// runc's libcontainer/devices.
var ownDevices = []string{"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"}

// hostDevices are the nodes below the directory host, as the container has them below inside.
func hostDevices(host, inside string) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	err := filepath.WalkDir(host, func(p string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has just gone
		}
		if err != nil {
			return err
		}
		if p != host && slices.Contains(ownDevices, entry.Name()) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.Type()&os.ModeDevice == 0 {
			return nil
		}
		node, ok, err := deviceNode(p, path.Join(inside, strings.TrimPrefix(p, host)))
		if ok && err == nil {
			out = append(out, node)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	return out, nil
}

var deviceRuleFormat = regexp.MustCompile(`^([abc]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads what the kernel's devices cgroup takes.
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	m := deviceRuleFormat.FindStringSubmatch(text)
	if m == nil {
		return specs.LinuxDeviceCgroup{}, fmt.Errorf("invalid device cgroup rule format: '%s': %w", printable(text), errdefs.ErrInvalid)
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: m[1], Access: m[4]}
	for _, number := range []struct {
		text string
		to   **int64
	}{{m[2], &rule.Major}, {m[3], &rule.Minor}} {
		if number.text == "*" {
			continue
		}
		n, err := strconv.ParseInt(number.text, 10, 32)
		if err != nil {
			return rule, fmt.Errorf("invalid device cgroup rule format: '%s': %w", printable(text), errdefs.ErrInvalid)
		}
		*number.to = &n
	}
	return rule, nil
}

// blockIO are the limits of block devices.
func blockIO(r *Resources) (*specs.LinuxBlockIO, error) {
	if r.BlkioWeight == 0 && len(r.BlkioDevices) == 0 {
		return nil, nil
	}
	out := &specs.LinuxBlockIO{}
	if r.BlkioWeight > 0 {
		out.Weight = &r.BlkioWeight
	}
	throttles := map[BlkioKind]*[]specs.LinuxThrottleDevice{
		BlkioDeviceReadBps: &out.ThrottleReadBpsDevice, BlkioDeviceWriteBps: &out.ThrottleWriteBpsDevice,
		BlkioDeviceReadIOps: &out.ThrottleReadIOPSDevice, BlkioDeviceWriteIOps: &out.ThrottleWriteIOPSDevice,
	}
	for _, d := range r.BlkioDevices {
		node, ok, err := deviceNode(d.Path, d.Path)
		if err != nil || !ok || node.Type != "b" {
			return nil, fmt.Errorf("block IO limit: %s is no block device: %w", printable(d.Path), errdefs.ErrInvalid)
		}
		device := specs.LinuxThrottleDevice{Rate: d.Value}
		device.Major, device.Minor = node.Major, node.Minor
		if to := throttles[d.Kind]; to != nil {
			*to = append(*to, device)
			continue
		}
		weight := uint16(d.Value)
		w := specs.LinuxWeightDevice{Weight: &weight}
		w.Major, w.Minor = node.Major, node.Minor
		out.WeightDevice = append(out.WeightDevice, w)
	}
	return out, nil
}

// validateDevices is the part of validate for devices.
func (r *Resources) validateDevices() error {
	var errs []error
	for _, d := range r.Devices {
		if !path.IsAbs(d.Host) || d.Container != "" && !path.IsAbs(d.Container) || strings.Trim(d.Access, "rwm") != "" {
			errs = append(errs, fmt.Errorf("device %s:%s:%s is not an absolute path for each side and some of r, w, m",
				printable(d.Host), printable(d.Container), printable(d.Access)))
		}
	}
	for _, text := range r.DeviceRules {
		if _, err := parseDeviceRule(text); err != nil {
			errs = append(errs, err)
		}
	}
	for _, d := range r.BlkioDevices {
		switch d.Kind {
		case BlkioDeviceReadBps, BlkioDeviceWriteBps, BlkioDeviceReadIOps, BlkioDeviceWriteIOps:
		case BlkioDeviceWeight:
			if d.Value < 10 || d.Value > 1000 {
				errs = append(errs, fmt.Errorf("block IO weight %d of %s is not between 10 and 1000", d.Value, printable(d.Path)))
			}
		default:
			errs = append(errs, fmt.Errorf("there is no block IO limit %s", printable(string(d.Kind))))
		}
		if !path.IsAbs(d.Path) {
			errs = append(errs, fmt.Errorf("block device %s is not an absolute path", printable(d.Path)))
		}
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness > 100 {
		errs = append(errs, fmt.Errorf("Invalid value: %d, valid memory swappiness range is 0-100", *r.MemorySwappiness))
	}
	if r.CPURealtimePeriod < 0 || r.CPURealtimeRuntime < 0 {
		errs = append(errs, errors.New("real-time period and runtime must not be negative"))
	}
	if r.CPURealtimePeriod > 0 && r.CPURealtimeRuntime > r.CPURealtimePeriod {
		errs = append(errs, errors.New("cpu real-time runtime cannot be higher than cpu real-time period"))
	}
	return errors.Join(errs...)
}
