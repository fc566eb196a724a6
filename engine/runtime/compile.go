package runtime

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// launch is a process in the making: the program and the descriptors that it needs.
type launch struct {
	// makeCwd makes the working directory if it is missing: for the first process.
	makeCwd bool

	r    *Runtime
	id   string // the container's
	b    *kernel.Builder
	spec *specs.Spec
	ns   *namespaces
	// root is the root file system: a detached mount, or for an exec the container's root.
	root *os.File
	// files are closed once the shim has them.
	files []*os.File
	// warnings are told in the log: limits that could not be set.
	warnings []string
	limits   []limit
	// oci is the runtime's command that makes the process, if that is not ours.
	oci *ociCommand
	// execs are the steps that try to execute; the last one's error is reported.
	execs []int
	// stdio, if there is no terminal: the process's ends. Standard input is a pipe
	// or /dev/null.
	stdio     [3]*os.File
	stdinPipe bool
	// console, with a terminal: the process's end of the socket that takes the master.
	console *os.File
	// The terminal's first size in characters, 0 for none.
	width, height uint16
}

func (l *launch) close() {
	for _, f := range l.files {
		f.Close()
	}
}

// fd passes a file to the process and to close.
func (l *launch) fd(f *os.File) kernel.Ref {
	l.files = append(l.files, f)
	return l.b.FD(int(f.Fd()))
}

// compileInit appends all steps of a container's first process.
//
// The order is: what needs the host's root (cgroup, limits, joining namespaces), then
// the user namespace, then its mounts while the host's /proc can still be
// seen (the kernel demands it for a new one), then pivot_root, and at last what
// takes privileges away.
func (l *launch) compileInit(cg *cgroup) error {
	if err := l.enterCgroup(cg); err != nil {
		return err
	}
	if err := l.hostSteps(l.spec.Process); err != nil {
		return err
	}
	for _, j := range l.ns.joined {
		l.b.Setns(l.b.FD(int(j.file.Fd())), j.flag, string(j.kind)+" namespace")
	}
	if l.ns.net != nil {
		l.b.Setns(l.b.FD(int(l.ns.net.Fd())), kernel.NewNet, "network namespace")
	}
	if l.ns.user != nil {
		l.b.Setns(l.b.FD(int(l.ns.user.Fd())), kernel.NewUser, "user namespace")
		l.b.BecomeRootOf()
	}
	l.b.Unshare(l.ns.unshare)
	if l.ns.pid {
		l.b.Fork()
	}

	root := l.fd(l.root)
	l.b.SetPropagation(kernel.PropagateSlave)
	l.b.AttachAtRoot(root)
	m := &mounter{launch: l, rootRef: root, fresh: map[string]bool{}}
	if err := m.compile(cg); err != nil {
		return err
	}
	l.b.PivotRoot(root)
	if err := l.rootAttributes(root); err != nil {
		return err
	}
	if err := l.names(); err != nil {
		return err
	}
	l.b.JoinSessionKeyring("nova-agent-"+l.id).Tolerate(syscall.ENOSYS, syscall.EPERM, syscall.EDQUOT).Note()
	l.makeCwd = true
	return l.finish(l.spec.Process, m.terminal)
}

// enterCgroup makes the process start in its cgroup: in v2 by clone3, in v1 by its
// first steps.
func (l *launch) enterCgroup(cg *cgroup) error {
	if cg == nil {
		return nil
	}
	if cg.Unified != "" {
		f, err := kernel.Open(cg.Unified, kernel.OPath)
		if err != nil {
			return fmt.Errorf("cgroups: %w", err)
		}
		l.b.InCgroup2(l.fd(f))
	}
	for _, dir := range cg.dirs() {
		if dir == cg.Unified {
			continue
		}
		// The process is a thread alone. To move a process as such waits for an RCU grace period
		// (kernel/cgroup/cgroup.c, cgroup_procs_write_start); for a thread that moves itself the kernel needs none.
		f, err := kernel.Open(dir+"/tasks", os.O_WRONLY)
		if err != nil {
			return fmt.Errorf("cgroups: %w", err)
		}
		l.b.Write(l.fd(f), "0", "tasks")
	}
	return nil
}

// hostSteps are those that need the host's root and its /proc.
func (l *launch) hostSteps(p *specs.Process) error {
	adj := 0
	if p.OOMScoreAdj != nil {
		adj = *p.OOMScoreAdj
	}
	if adj < -1000 || adj > 1000 {
		return fmt.Errorf("oom_score_adj %d: must be from -1000 to 1000: %w", adj, errdefs.ErrInvalid)
	}
	f, _ := l.b.Open("/proc/self/oom_score_adj", os.O_WRONLY)
	// Lowering it below the agent's own needs CAP_SYS_RESOURCE.
	l.b.Write(f, fmt.Sprint(adj), "oom_score_adj").Tolerate(syscall.EACCES).Note()
	l.b.Close(f)
	var err error
	var warnings []string
	if l.limits, warnings, err = sortLimits(p.Rlimits, l.r.mayRaiseLimits); err != nil {
		return err
	}
	l.warnings = append(l.warnings, warnings...)
	l.setLimits(false)
	return l.ownStreams(l.spec.Process)
}

// rootAttributes makes the root file system read-only and sets its propagation.
func (l *launch) rootAttributes(root kernel.Ref) error {
	var set, propagation uint64
	if l.spec.Root != nil && l.spec.Root.Readonly {
		set = kernel.AttrReadOnly
	}
	switch p := l.spec.Linux.RootfsPropagation; p {
	case "", "private", "rprivate":
	case "slave", "rslave":
		propagation = kernel.PropagateSlave
	case "shared", "rshared":
		propagation = kernel.PropagateShared
	case "unbindable", "runbindable":
		propagation = kernel.Unbindable
	default:
		return fmt.Errorf("root file system propagation %q: %w", p, errdefs.ErrInvalid)
	}
	if set != 0 || propagation != 0 {
		l.b.SetMountAttr(root, set, 0, propagation, false, "root file system")
	}
	return nil
}

func (l *launch) names() error {
	for _, n := range []struct {
		value, what string
		set         func(string) kernel.Step
	}{{l.spec.Hostname, "hostname", l.b.Hostname}, {l.spec.Domainname, "domainname", l.b.Domainname}} {
		switch {
		case n.value == "":
		case !l.ns.has[specs.UTSNamespace]:
			return fmt.Errorf("%s %q: the container has the host's: %w", n.what, n.value, errdefs.ErrInvalid)
		case len(n.value) > 64 || strings.ContainsRune(n.value, 0):
			return fmt.Errorf("%s of %d bytes: 64 is the most: %w", n.what, len(n.value), errdefs.ErrInvalid)
		default:
			n.set(n.value)
		}
	}
	return nil
}

// sysctls writes kernel parameters through proc, the detached mount of the
// container's own, so that nothing mounted over /proc can be written instead (CVE-2025-52881).
func (l *launch) sysctls(proc kernel.Ref) error {
	values, err := l.sysctlValues()
	if err != nil {
		return err
	}
	if len(values) == 0 || proc == (kernel.Ref{}) {
		if len(l.spec.Linux.Sysctl) > 0 {
			return fmt.Errorf("sysctls need a mount of proc: %w", errdefs.ErrInvalid)
		}
		return nil
	}
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for _, k := range keys {
		_, asked := l.spec.Linux.Sysctl[k]
		// "." and "/" change places, as sysctl(8) has it.
		path := strings.Map(func(c rune) rune {
			switch c {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return c
		}, k)
		f, open := l.b.OpenIn(proc, "sys/"+path, os.O_WRONLY, kernel.OneMount)
		if !asked {
			open.TolerateAll()
		}
		write := l.b.Write(f, values[k], "sysctl "+k+" = "+values[k])
		if !asked {
			write.TolerateAll()
			open.SkipRestOnError()
		}
	}
	return nil
}

// sysctlValues are those of the specification, and those of every container with a network of its own.
func (l *launch) sysctlValues() (map[string]string, error) {
	values := map[string]string{}
	if l.ns.netOwned {
		// An unprivileged ping and low ports; the network namespace is the container's alone.
		last := uint64(1<<31 - 1)
		if l.ns.user != nil {
			last = 0
			for _, m := range l.spec.Linux.GIDMappings {
				last = max(last, uint64(m.ContainerID)+uint64(m.Size)-1)
			}
		}
		values["net.ipv4.ping_group_range"] = fmt.Sprintf("0 %d", min(last, 1<<31-1))
		values["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	for k, v := range l.spec.Linux.Sysctl {
		if err := l.allowSysctl(k); err != nil {
			return nil, err
		}
		values[k] = v
	}
	return values, nil
}

// allowSysctl refuses parameters that are the host's, as runc does
// (libcontainer/configs/validate).
func (l *launch) allowSysctl(key string) error {
	dotted := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		dotted = strings.ReplaceAll(key, "/", ".")
	}
	ipc := map[string]bool{
		"kernel.msgmax": true, "kernel.msgmnb": true, "kernel.msgmni": true, "kernel.sem": true,
		"kernel.shmall": true, "kernel.shmmax": true, "kernel.shmmni": true, "kernel.shm_rmid_forced": true,
	}
	switch {
	case strings.Contains(key, ".."):
	case ipc[dotted] || strings.HasPrefix(dotted, "fs.mqueue."):
		if l.ns.has[specs.IPCNamespace] {
			return nil
		}
	case strings.HasPrefix(dotted, "net."):
		if l.ns.net != nil || l.ns.unshare&kernel.NewNet != 0 {
			return nil
		}
	case dotted == "kernel.domainname", dotted == "kernel.hostname":
		if l.ns.has[specs.UTSNamespace] {
			return nil
		}
	}
	return fmt.Errorf("sysctl %q is not in a separate namespace: %w", key, errdefs.ErrInvalid)
}
