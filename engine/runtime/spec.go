package runtime

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime/seccomp"

	profiles "github.com/moby/profiles/seccomp"
)

// annotationSeccomp in a specification asks for the default seccomp profile. It
// stands for several hundred rules that depend on the capabilities; Start compiles
// them once for each set.
const (
	annotationSeccomp = "nova-agent.seccomp"
	seccompDefault    = "default"
)

// devOptions are those of the default /dev; see mounter.standardDev.
var devOptions = []string{"nosuid", "strictatime", "mode=755", "size=65536k"}

// MountDetached is the type of a mount in a specification whose source is the path of a descriptor of a detached
// mount, which is attached as it is.
const MountDetached = "nova-agent.detached"

// DefaultSpec is the profile of a container that nothing else is said about: all
// namespaces its own, Docker's 14 capabilities, its masked and read-only paths and its default
// seccomp profile. The caller adds the command, the root, the ids and limits, and
// applies the user's choices.
func DefaultSpec() *specs.Spec {
	// Docker's defaults: daemon/pkg/oci/defaults.go and caps/defaults.go in moby.
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
		"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
	}
	adj := 0
	return &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Cwd:          "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			OOMScoreAdj:  &adj,
		},
		Root: &specs.Root{},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: slices.Clone(devOptions)},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "max=1024"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid", "noexec", "nodev"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		},
		Linux: &specs.Linux{
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.UserNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.MountNamespace}, {Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.CgroupNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
				"/sys/devices/virtual/powercap", "/sys/firmware", "/sys/devices/system/cpu/*/thermal_throttle",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
		Annotations: map[string]string{annotationSeccomp: seccompDefault},
	}
}

// ApplySeccomp chooses s's seccomp filter: profile is empty for the default,
// "unconfined" for none, or a profile in Docker's JSON format. A privileged container
// has none, unless it names a profile. errdefs.ErrInvalid: the profile makes no sense.
func ApplySeccomp(s *specs.Spec, profile string, privileged bool) error {
	delete(s.Annotations, annotationSeccomp)
	s.Linux.Seccomp = nil
	switch {
	case profile == "unconfined", profile == "" && privileged:
		return nil
	case profile == "", profile == seccompDefault:
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[annotationSeccomp] = seccompDefault
		return nil
	}
	if !json.Valid([]byte(profile)) {
		return fmt.Errorf("seccomp profile is not JSON: %w", errdefs.ErrInvalid)
	}
	p, err := profiles.LoadProfile(profile, s)
	if err != nil {
		return fmt.Errorf("seccomp profile: %v: %w", err, errdefs.ErrInvalid)
	}
	if p != nil {
		if _, err := seccomp.Compile(p); err != nil {
			return err
		}
	}
	s.Linux.Seccomp = p
	return nil
}

// filter returns s's compiled seccomp filter, nil for none.
func (r *Runtime) filter(s *specs.Spec, bounding uint64) (*seccomp.Filter, error) {
	if p := s.Linux.Seccomp; p != nil {
		f, err := seccomp.Compile(p)
		return &f, err
	}
	if s.Annotations[annotationSeccomp] != seccompDefault {
		return nil, nil
	}
	r.mu.Lock()
	f := r.filters[bounding]
	r.mu.Unlock()
	if f != nil {
		return f, nil
	}
	p, err := profiles.GetDefaultProfile(&specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: capabilityList(bounding)},
	}})
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	compiled, err := seccomp.Compile(p)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.filters[bounding] = &compiled
	r.mu.Unlock()
	return &compiled, nil
}
