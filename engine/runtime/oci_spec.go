package runtime

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	profiles "github.com/moby/profiles/seccomp"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// ociVersion is that of the specifications that runtimes get. Nothing of a later one is in them, but for the domain name,
// and crun refuses those that it does not know.
const ociVersion = "1.0.2"

// stage is where a runtime finds the mounts that the agent has made for a container: on a tmpfs, in a mount namespace
// that only the runtime has.
type stage struct {
	*launch
	dir   string
	top   kernel.Ref // the tmpfs, attached at dir
	count int
}

// attach attaches a detached mount and returns the path.
func (s *stage) attach(mount kernel.Ref, dir bool) string {
	name := strconv.Itoa(s.count)
	s.count++
	if dir {
		s.b.MkdirIn(s.top, name, 0o755)
	} else {
		s.b.MkfileIn(s.top, name, 0o644)
	}
	target, _ := s.b.OpenIn(s.top, name, kernel.OPath, kernel.NoLinks)
	at := s.dir + "/" + name
	s.b.AttachTo(mount, target, at)
	s.b.Close(target)
	return at
}

// specification is the one that a runtime gets: what only ours knows is replaced by what every runtime does.
func (s *stage) specification() (*specs.Spec, error) {
	out, linux, process := *s.spec, *s.spec.Linux, *s.spec.Process
	out.Linux, out.Process = &linux, &process
	out.Version = ociVersion
	root := specs.Root{}
	if s.spec.Root != nil {
		root = *s.spec.Root
	}
	root.Path = s.attach(s.fd(s.root), true)
	out.Root = &root
	if err := s.ownStreams(&process); err != nil {
		return nil, err
	}
	if err := s.completeProcess(&process); err != nil {
		return nil, err
	}
	var err error
	if out.Mounts, err = s.mounts(); err != nil {
		return nil, err
	}
	if s.ownDevices() {
		linux.Devices = nil
	}
	// A descriptor of the agent's is not the runtime's.
	linux.Namespaces = slices.Clone(linux.Namespaces)
	for i, ns := range linux.Namespaces {
		linux.Namespaces[i].Path = agentPath(ns.Path)
	}
	if linux.Seccomp, err = s.seccomp(&out); err != nil {
		return nil, err
	}
	out.Annotations = maps.Clone(out.Annotations)
	delete(out.Annotations, annotationSeccomp)
	if linux.Sysctl, err = s.sysctlValues(); err != nil {
		return nil, err
	}
	m := &mounter{launch: s.launch}
	linux.MaskedPaths = nil
	for _, p := range s.spec.Linux.MaskedPaths {
		names, err := m.expand(p)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			linux.MaskedPaths = append(linux.MaskedPaths, "/"+name)
		}
	}
	return &out, nil
}

// agentPath is a path below /proc/self as other processes see it.
func agentPath(path string) string {
	if rest, ok := strings.CutPrefix(path, "/proc/self/"); ok {
		return fmt.Sprintf("/proc/%d/%s", os.Getpid(), rest)
	}
	return path
}

// completeProcess makes of p what any runtime can do with the agent's rights.
func (l *launch) completeProcess(p *specs.Process) error {
	limits, warnings, err := sortLimits(p.Rlimits, l.r.mayRaiseLimits)
	if err != nil {
		return err
	}
	p.Rlimits = nil
	for _, x := range limits {
		p.Rlimits = append(p.Rlimits, specs.POSIXRlimit{Type: x.name, Soft: x.soft, Hard: x.hard})
	}
	l.warnings = append(l.warnings, warnings...)
	if p.OOMScoreAdj != nil && !l.r.mayRaiseLimits {
		b, err := os.ReadFile("/proc/self/oom_score_adj")
		if err != nil {
			return fmt.Errorf("oom_score_adj: %w", err)
		}
		own, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			return fmt.Errorf("oom_score_adj: %w", err)
		}
		if *p.OOMScoreAdj < own {
			l.warnings = append(l.warnings, fmt.Sprintf("oom_score_adj is %d instead of %d: the agent has no CAP_SYS_RESOURCE", own, *p.OOMScoreAdj))
			p.OOMScoreAdj = &own
		}
	}
	c, err := l.credentials(p)
	if err != nil {
		return err
	}
	p.User.AdditionalGids = c.Groups
	if p.Terminal && (l.width != 0 || l.height != 0) {
		p.ConsoleSize = &specs.Box{Width: uint(l.width), Height: uint(l.height)}
	}
	return nil
}

// mounts are the specification's, the bind mounts among them attached to the stage.
func (s *stage) mounts() ([]specs.Mount, error) {
	m := &mounter{launch: s.launch}
	var out []specs.Mount
	for _, mount := range s.spec.Mounts {
		o, err := parseMount(mount)
		if err != nil {
			return nil, err
		}
		staged := specs.Mount{Destination: mount.Destination, Type: "bind", Options: []string{"rbind"}}
		for _, option := range mount.Options {
			if _, ok := propagations[strings.TrimPrefix(option, "r")]; ok {
				staged.Options = append(staged.Options, option)
			}
		}
		switch {
		case mount.Type == MountDetached:
			f, err := kernel.OpenPath(mount.Source)
			if err != nil {
				return nil, fmt.Errorf("mount %s: %v: %w", mount.Destination, err, errdefs.ErrInvalid)
			}
			staged.Source = s.attach(s.fd(f), true)
		case o.bind:
			f, dir, err := m.cloneSource(mount, mount.Destination, o)
			if err != nil {
				return nil, err
			}
			staged.Source = s.attach(s.fd(f), dir)
		case s.ownDevices() && mount.Type == "tmpfs" && path.Clean(mount.Destination) == "/dev":
			f, err := m.devTmpfs(o)
			if err != nil {
				return nil, err
			}
			staged.Source = s.attach(s.fd(f), true)
		case mount.Type == "sysfs" && !m.mayMountSysfs():
			ref, err := m.hostSysfs(o)
			if err != nil {
				return nil, err
			}
			staged.Source = s.attach(ref, true)
		default:
			staged = mount
		}
		out = append(out, staged)
	}
	return out, nil
}

// ownDevices tells whether /dev is to be a mount of the agent's: a runtime would show the host's nodes in a user namespace,
// whose root does not own them.
func (s *stage) ownDevices() bool { return s.ns.user != nil && len(s.spec.Linux.Devices) > 0 }

// seccomp is the filter's profile, the default one written out.
func (s *stage) seccomp(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	if spec.Annotations[annotationSeccomp] != seccompDefault || spec.Linux.Seccomp != nil {
		return spec.Linux.Seccomp, nil
	}
	p, err := profiles.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	return p, nil
}

// ownStreams makes the process's user the owner of its standard streams: it may reopen its /dev/stdout.
func (l *launch) ownStreams(p *specs.Process) error {
	if l.stdio[0] == nil {
		return nil
	}
	uid, gid := p.User.UID, p.User.GID
	if l.ns.user != nil || l.ns.has[specs.UserNamespace] {
		var ok, gok bool
		uid, ok = hostID(l.spec.Linux.UIDMappings, uid)
		gid, gok = hostID(l.spec.Linux.GIDMappings, gid)
		if !ok || !gok {
			return fmt.Errorf("user %d:%d is not mapped in the user namespace: %w", p.User.UID, p.User.GID, errdefs.ErrInvalid)
		}
	}
	for i, f := range l.stdio {
		if i == 0 && !l.stdinPipe { // the host's /dev/null
			continue
		}
		if err := f.Chown(int(uid), int(gid)); err != nil {
			return fmt.Errorf("standard streams: %w", err)
		}
	}
	return nil
}
