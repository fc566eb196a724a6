package engine

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/runtime"
)

// ociSpec is rec as an OCI runtime specification: the runtime's default, and what rec says. It
// names files by descriptors that are to be closed, also after an error, when it is not needed any more.
func (e *Engine) ociSpec(ctx context.Context, rec *Container) (*specs.Spec, heldFiles, error) {
	s := runtime.DefaultSpec()
	if rec.Spec.Namespaces.UTS != NamespaceHost {
		s.Hostname, s.Domainname = rec.Spec.hostname(rec.ID), rec.Spec.Domainname
	}
	for k, v := range rec.Spec.Annotations {
		s.Annotations[k] = v
	}
	s.Root = &specs.Root{Readonly: rec.Spec.Security.ReadonlyRootfs}
	p := s.Process
	p.Args, p.Env, p.Cwd, p.Terminal = rec.Process.Args, slices.Concat(e.linkEnv(rec), rec.Process.Env), rec.Process.WorkDir, rec.Spec.TTY
	groups, err := rec.Spec.groups()
	if err != nil {
		return nil, nil, err
	}
	p.User.AdditionalGids, p.User.Umask = groups, rec.Spec.Umask
	if adj := rec.Spec.Resources.OOMScoreAdj; adj != 0 {
		p.OOMScoreAdj = &adj
	}
	for _, u := range rec.Spec.Resources.Ulimits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard),
		})
	}
	if err := e.secure(s, rec); err != nil {
		return nil, nil, err
	}
	e.namespaces(s, rec)
	held, err := e.joinShared(ctx, s, rec)
	if err != nil {
		return nil, held, err
	}
	volumes, err := e.mounts(s, rec)
	held = append(held, volumes...)
	if err != nil {
		return nil, held, err
	}
	if s.Linux.Resources, err = linuxResources(rec); err != nil {
		return nil, held, err
	}
	if err := e.devices(s, rec); err != nil {
		return nil, held, err
	}
	if err := e.injectCDI(s, rec); err != nil {
		return nil, held, err
	}
	s.Linux.CgroupsPath = filepath.Join(firstOf(rec.Spec.CgroupParent, e.cgroup), rec.ID)
	s.Linux.Sysctl = maps.Clone(rec.Spec.Sysctls)
	return s, held, nil
}

// namespaces names those that the container joins; the others are made with its process.
func (e *Engine) namespaces(s *specs.Spec, rec *Container) {
	set := func(kind specs.LinuxNamespaceType, path string) { setNamespace(s, kind, path) }
	drop := func(kind specs.LinuxNamespaceType) {
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	}
	dir := e.nsDir(rec.ID)
	switch {
	case rec.IDsOf != "":
		m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: rec.IDs.Start, Size: rec.IDs.Size}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
		set(specs.UserNamespace, filepath.Join(e.nsDir(rec.IDsOf), "user"))
	case !rec.IDs.IsZero():
		m := []specs.LinuxIDMapping{{ContainerID: 0, HostID: rec.IDs.Start, Size: rec.IDs.Size}}
		s.Linux.UIDMappings, s.Linux.GIDMappings = m, m
		set(specs.UserNamespace, filepath.Join(dir, "user"))
	default:
		drop(specs.UserNamespace)
	}
	if e.hostNetworked(rec) {
		drop(specs.NetworkNamespace)
	} else {
		set(specs.NetworkNamespace, e.netPath(rec.networkOwner()))
	}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		mode NamespaceMode
	}{
		{specs.PIDNamespace, rec.Spec.Namespaces.PID}, {specs.IPCNamespace, rec.Spec.Namespaces.IPC},
		{specs.UTSNamespace, rec.Spec.Namespaces.UTS}, {specs.CgroupNamespace, rec.Spec.Namespaces.Cgroup},
	} {
		if ns.mode == NamespaceHost {
			drop(ns.kind)
		}
	}
	switch rec.Spec.Namespaces.IPC {
	case NamespaceNone:
		replaceMount(s, "/dev/shm")
	case NamespaceHost:
		for _, path := range []string{"/dev/shm", "/dev/mqueue"} {
			replaceMount(s, path)
			if _, err := os.Stat(path); err == nil {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: path, Type: "bind", Source: path, Options: []string{"bind", "rw", "nosuid", "nodev", "noexec"}})
			}
		}
	}
}

// setNamespace makes s join a namespace.
func setNamespace(s *specs.Spec, kind specs.LinuxNamespaceType, path string) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == kind })
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: kind, Path: path})
}

// replaceMount puts others, if any, in the place of the mount at path.
func replaceMount(s *specs.Spec, path string, others ...specs.Mount) {
	for i, m := range s.Mounts {
		if m.Destination == path {
			for j := range others {
				others[j].Destination = path
			}
			s.Mounts = slices.Replace(slices.Clone(s.Mounts), i, i+1, others...)
			return
		}
	}
}

// mounts adds the files of etcFiles and the spec's own mounts.
func (e *Engine) mounts(s *specs.Spec, rec *Container) (held heldFiles, err error) {
	for i, m := range s.Mounts {
		if size := rec.Spec.Resources.ShmBytes; m.Destination == "/dev/shm" && size > 0 {
			options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "size=") })
			s.Mounts[i].Options = append(options, fmt.Sprintf("size=%d", size))
		}
	}
	taken := map[string]bool{}
	for _, m := range rec.Mounts {
		taken[filepath.Clean(m.Target)] = true
	}
	s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return taken[m.Destination] })
	for _, name := range etcFiles {
		if target := "/etc/" + name; !taken[target] {
			s.Mounts = append(s.Mounts, specs.Mount{
				Destination: target, Type: "bind", Source: e.FilePath(rec.networkOwner(), name),
				Options: []string{"bind", "rw", "nosuid", "nodev", "noexec", "private"},
			})
		}
	}
	if rec.Spec.Init && rec.Spec.Namespaces.PID == "" {
		// Where Docker has it.
		s.Process.Args = append([]string{initPath, "--"}, s.Process.Args...)
		s.Mounts = append(s.Mounts, specs.Mount{Destination: initPath, Type: "bind", Source: e.runtime.InitProgram(), Options: []string{"bind", "ro", "nosuid", "nodev", "exec", "private"}})
	}
	mounts := slices.Clone(rec.Mounts)
	slices.SortStableFunc(mounts, func(a, b Mount) int {
		return strings.Count(filepath.Clean(a.Target), "/") - strings.Count(filepath.Clean(b.Target), "/")
	})
	for _, m := range mounts {
		if m.Type == MountVolume {
			var f *os.File
			if m, f, err = e.volumeBind(m); err != nil {
				return held, err
			}
			held = append(held, f)
		}
		mount, err := ociMount(rec, m)
		if err != nil {
			return held, err
		}
		s.Mounts = append(s.Mounts, mount)
	}
	return held, nil
}

func ociMount(rec *Container, m Mount) (specs.Mount, error) {
	out := specs.Mount{Destination: filepath.Clean(m.Target), Type: string(m.Type), Source: m.Source}
	option := func(on bool, yes, no string) {
		if on {
			out.Options = append(out.Options, yes)
		} else if no != "" {
			out.Options = append(out.Options, no)
		}
	}
	option(m.ReadOnly, "ro", "rw")
	option(m.NoSuid, "nosuid", "")
	option(m.NoDev, "nodev", "")
	option(m.NoExec, "noexec", "")
	if m.Type == MountTmpfs {
		out.Source = "tmpfs"
		if m.SizeBytes > 0 {
			out.Options = append(out.Options, fmt.Sprintf("size=%d", m.SizeBytes))
		}
		mode := m.Mode
		if mode == 0 {
			mode = 0o1777
		}
		out.Options = append(out.Options, fmt.Sprintf("mode=%o", mode), fmt.Sprintf("uid=%d", m.UID), fmt.Sprintf("gid=%d", m.GID))
		return out, nil
	}
	option(m.Recursive, "rbind", "bind")
	option(true, firstOf(m.Propagation, "rprivate"), "")
	if _, err := os.Stat(m.Source); err != nil {
		if !m.CreateSource || !os.IsNotExist(err) {
			return out, fmt.Errorf("invalid mount config for type \"bind\": bind source path does not exist: %s: %w", printable(m.Source), errdefs.ErrInvalid)
		}
		if err := os.MkdirAll(m.Source, 0o755); err != nil {
			return out, fmt.Errorf("bind source path %s: %v: %w", printable(m.Source), err, errdefs.ErrInvalid)
		}
	}
	if !rec.IDs.IsZero() {
		// The files keep the owners they have on the host: its root is the container's.
		out.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: rec.IDs.Start, Size: rec.IDs.Size}}
		out.GIDMappings = out.UIDMappings
	}
	return out, nil
}

// secure applies the security profile.
func (e *Engine) secure(s *specs.Spec, rec *Container) error {
	sec := &rec.Spec.Security
	s.Process.NoNewPrivileges = sec.NoNewPrivileges
	if sec.Unmasked || sec.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	if sec.MaskedPaths != nil {
		s.Linux.MaskedPaths = sec.MaskedPaths
	}
	if sec.ReadonlyPaths != nil {
		s.Linux.ReadonlyPaths = sec.ReadonlyPaths
	}
	if sec.Privileged || sec.WritableCgroups {
		for i, m := range s.Mounts {
			if m.Type == "sysfs" && sec.Privileged || m.Type == "cgroup" {
				s.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
			}
		}
	}
	caps, err := capabilities(s.Process.Capabilities.Bounding, sec)
	if err != nil {
		return err
	}
	if rec.IDs.IsZero() {
		// In the host's user namespace it can't have what the agent itself has not.
		all := runtime.Capabilities()
		caps = slices.DeleteFunc(caps, func(c string) bool { return !kernel.HasCapability(slices.Index(all, c)) })
	}
	// Inheritable and ambient stay empty (CVE-2022-24769).
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
	return runtime.ApplySeccomp(s, sec.Seccomp, sec.Privileged)
}

// systemCaps are what the "system" profile adds, inside the user namespace.
var systemCaps = []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE"}

// capabilityNames are those of list in the kernel's spelling; everything is true if ALL is among them.
func capabilityNames(list []string) (names []string, everything bool, err error) {
	all := runtime.Capabilities()
	for _, c := range list {
		name := strings.ToUpper(c)
		if name == "ALL" {
			everything = true
			continue
		}
		if !strings.HasPrefix(name, "CAP_") {
			name = "CAP_" + name
		}
		if !slices.Contains(all, name) {
			return nil, false, fmt.Errorf("unknown capability: %q: %w", name, errdefs.ErrInvalid)
		}
		names = append(names, name)
	}
	return names, everything, nil
}

// capabilities applies sec to the default set, in Docker's order: drop, then add, ALL first.
func capabilities(base []string, sec *Security) ([]string, error) {
	all := runtime.Capabilities()
	if sec.Privileged {
		return all, nil
	}
	add, addAll, err := capabilityNames(sec.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, dropAll, err := capabilityNames(sec.CapDrop)
	if err != nil {
		return nil, err
	}
	if sec.System {
		add = append(add, systemCaps...)
	}
	caps := slices.Clone(base)
	switch {
	case addAll:
		caps = slices.Clone(all)
	case dropAll:
		caps = nil
	}
	caps = slices.DeleteFunc(caps, func(c string) bool { return slices.Contains(drop, c) })
	for _, c := range add {
		if !slices.Contains(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// initPath is where the program of Spec.Init is mounted, as in Docker.
const initPath = "/sbin/docker-init"

// linuxResources are rec's limits.
func linuxResources(rec *Container) (*specs.LinuxResources, error) {
	r := &rec.Spec.Resources
	out := &specs.LinuxResources{}
	if r.MemoryBytes > 0 {
		out.Memory = &specs.LinuxMemory{Limit: &r.MemoryBytes}
		// OCI counts memory and swap together.
		total := r.MemoryBytes + r.SwapBytes
		if r.SwapBytes < 0 {
			total = -1
		}
		out.Memory.Swap = &total
	}
	if r.MemoryReservationBytes > 0 {
		if out.Memory == nil {
			out.Memory = &specs.LinuxMemory{}
		}
		out.Memory.Reservation = &r.MemoryReservationBytes
	}
	cpu := &specs.LinuxCPU{Cpus: r.CPUs, Mems: r.Mems}
	if r.CPUMilli > 0 {
		period := uint64(100_000)
		if r.CPUPeriod > 0 {
			period = uint64(r.CPUPeriod.Microseconds())
		}
		quota := r.CPUMilli * int64(period) / 1000
		cpu.Period, cpu.Quota = &period, &quota
	}
	if r.CPUShares > 0 {
		cpu.Shares = &r.CPUShares
	}
	if r.CPURealtimePeriod > 0 {
		period := uint64(r.CPURealtimePeriod.Microseconds())
		cpu.RealtimePeriod = &period
	}
	if r.CPURealtimeRuntime > 0 {
		runtime := r.CPURealtimeRuntime.Microseconds()
		cpu.RealtimeRuntime = &runtime
	}
	if cpu.RealtimePeriod != nil || cpu.RealtimeRuntime != nil || cpu.Quota != nil || cpu.Shares != nil || cpu.Cpus != "" || cpu.Mems != "" {
		out.CPU = cpu
	}
	pids := orDefault(r.PidsLimit, DefaultPidsLimit)
	out.Pids = &specs.LinuxPids{Limit: &pids}
	if r.MemorySwappiness != nil || r.OOMKillDisable {
		if out.Memory == nil {
			out.Memory = &specs.LinuxMemory{}
		}
		out.Memory.Swappiness = r.MemorySwappiness
		if r.OOMKillDisable {
			out.Memory.DisableOOMKiller = &r.OOMKillDisable
		}
	}
	var err error
	if out.BlockIO, err = blockIO(r); err != nil {
		return nil, err
	}
	return out, nil
}
