package runtime

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// defaultPath is Docker's PATH for a process that has none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// finish appends the last steps, which a container's first process and an exec share: its
// terminal or pipes, working directory, identity, filter and program.
func (l *launch) finish(p *specs.Process, terminal *kernel.Ref) error {
	if p.Scheduler != nil || p.IOPriority != nil || p.ExecCPUAffinity != nil {
		return fmt.Errorf("process scheduler, io priority and cpu affinity: %w", errdefs.ErrUnsupported)
	}
	b := l.b
	b.Setsid()
	if terminal != nil {
		b.ControllingTerminal(*terminal)
		for i := range 3 {
			b.Dup(*terminal, i)
		}
	} else {
		for i, f := range l.stdio {
			b.Dup(l.b.FD(int(f.Fd())), i)
		}
	}
	// Nothing of the host stays open, before any path that the image or user chose is followed.
	b.CloseFrom(3)
	l.setLimits(true)

	cwd := p.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if !strings.HasPrefix(cwd, "/") || strings.ContainsRune(cwd, 0) {
		return fmt.Errorf("working directory %q is not absolute: %w", cwd, errdefs.ErrInvalid)
	}
	if l.makeCwd {
		// As runc does. Here every path is the container's, and whatever fails shows in the next step.
		b.Umask(0o022)
		for i := 1; i <= len(cwd); i++ {
			if i == len(cwd) || cwd[i] == '/' {
				b.MkdirIn(kernel.Cwd(), cwd[:i], 0o755).TolerateAll()
			}
		}
	}
	// No magic link such as /proc/self/fd/7 may lead out of the root (CVE-2024-21626).
	dir, _ := b.Open(cwd, kernel.OPath|syscall.O_DIRECTORY)
	b.Fchdir(dir, cwd)
	b.Close(dir)

	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	b.Umask(umask)
	if err := l.identity(p); err != nil {
		return err
	}
	return l.execute(p)
}

// identity sets capabilities, ids and the filter. Without no_new_privs installing a filter needs
// CAP_SYS_ADMIN, so it comes before the capabilities go; with it, last of all.
func (l *launch) identity(p *specs.Process) error {
	c, err := l.credentials(p)
	if err != nil {
		return err
	}
	filter, err := l.r.filter(l.spec, c.Bounding)
	if err != nil {
		return err
	}
	l.b.LimitCapabilities(c.Bounding, l.r.lastCapability)
	if filter != nil && !p.NoNewPrivileges {
		l.b.Seccomp(filter.Program, filter.Flags)
	}
	l.b.Become(c)
	if p.NoNewPrivileges {
		l.b.NoNewPrivileges()
		if filter != nil {
			l.b.Seccomp(filter.Program, filter.Flags)
		}
	}
	return nil
}

func (l *launch) credentials(p *specs.Process) (kernel.Credentials, error) {
	c := kernel.Credentials{UID: p.User.UID, GID: p.User.GID, Groups: p.User.AdditionalGids}
	if l.ns.user != nil {
		for _, id := range []struct {
			m  []specs.LinuxIDMapping
			id uint32
		}{{l.spec.Linux.UIDMappings, c.UID}, {l.spec.Linux.GIDMappings, c.GID}} {
			if _, ok := hostID(id.m, id.id); !ok && len(id.m) > 0 {
				return c, fmt.Errorf("id %d is not mapped in the user namespace: %w", id.id, errdefs.ErrInvalid)
			}
		}
		c.Groups = slices.DeleteFunc(slices.Clone(c.Groups), func(g uint32) bool {
			_, ok := hostID(l.spec.Linux.GIDMappings, g)
			return !ok && len(l.spec.Linux.GIDMappings) > 0
		})
	}
	caps := p.Capabilities
	if caps == nil {
		caps = &specs.LinuxCapabilities{}
	}
	for _, set := range []struct {
		to    *uint64
		names []string
	}{
		{&c.Bounding, caps.Bounding}, {&c.Effective, caps.Effective}, {&c.Permitted, caps.Permitted},
		{&c.Inheritable, caps.Inheritable}, {&c.Ambient, caps.Ambient},
	} {
		mask, err := capabilityMask(set.names, l.r.lastCapability)
		if err != nil {
			return c, err
		}
		*set.to = mask
	}
	return c, nil
}

// execute appends the attempts to execute the command: one, or one for each directory of PATH.
func (l *launch) execute(p *specs.Process) error {
	if len(p.Args) == 0 || p.Args[0] == "" {
		return fmt.Errorf("no command specified: %w", errdefs.ErrInvalid)
	}
	for _, s := range slices.Concat(p.Args, p.Env) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("argument or variable %q holds a NUL: %w", s, errdefs.ErrInvalid)
		}
	}
	args, env := l.b.Vector(p.Args), l.b.Vector(p.Env)
	if strings.Contains(p.Args[0], "/") {
		l.execs = append(l.execs, l.b.Exec(p.Args[0], args, env).Index())
		return nil
	}
	path, ok := variable(p.Env, "PATH")
	if !ok {
		path = defaultPath
	}
	dirs := strings.Split(path, ":")
	for i, dir := range dirs {
		if dir == "" {
			dir = "."
		}
		s := l.b.Exec(dir+"/"+p.Args[0], args, env)
		l.execs = append(l.execs, s.Index())
		if i < len(dirs)-1 {
			s.Tolerate(syscall.ENOENT, syscall.EACCES, syscall.ENOTDIR).Note()
		}
	}
	return nil
}

// variable is the value of an environment variable; the last one counts.
func variable(env []string, name string) (string, bool) {
	for _, e := range slices.Backward(env) {
		if k, v, ok := strings.Cut(e, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// failure turns a failed step into an error of the container's making or ours.
func (l *launch) failure(p *specs.Process, step int, errno syscall.Errno, notes map[int]syscall.Errno) error {
	if l.oci != nil {
		return l.oci.failure(step, errno, notes, l.b.Explain)
	}
	if slices.Contains(l.execs, step) {
		return l.execFailure(p, errno, notes)
	}
	what := l.b.Explain(step)
	switch {
	case strings.HasSuffix(what, " "+p.Cwd) && p.Cwd != "/" && (strings.HasPrefix(what, "open ") || strings.HasPrefix(what, "change directory")):
		return fmt.Errorf("working directory %q: %w: %w", p.Cwd, errno, errdefs.ErrInvalid)
	case errno == syscall.ENOMEM || errno == syscall.EAGAIN || errno == syscall.ENOSPC || errno == syscall.EMFILE || errno == syscall.ENFILE:
		return fmt.Errorf("%s: %w: %w", what, errno, errdefs.ErrExhausted)
	}
	return fmt.Errorf("%s: %w: %w", what, errno, errdefs.ErrInvalid)
}

// execFailure tells why the command could not be executed, in the words that Docker's users know.
func (l *launch) execFailure(p *specs.Process, errno syscall.Errno, notes map[int]syscall.Errno) error {
	arg := p.Args[0]
	if !strings.Contains(arg, "/") {
		// One directory had it, but would not do: that says more than its absence elsewhere.
		for _, i := range l.execs {
			if notes[i] == syscall.EACCES {
				errno = syscall.EACCES
			}
		}
		if errno == syscall.ENOENT || errno == syscall.ENOTDIR {
			return fmt.Errorf("exec %q: executable file not found in $PATH: %w", arg, errdefs.ErrInvalid)
		}
	}
	switch errno {
	case syscall.ENOENT:
		return fmt.Errorf("exec %q: no such file or directory: %w", arg, errdefs.ErrInvalid)
	case syscall.EACCES:
		if f, err := kernel.OpenInRoot(l.root, arg, kernel.OPath); err == nil {
			defer f.Close()
			if info, err := f.Stat(); err == nil && info.IsDir() {
				return fmt.Errorf("exec %q: is a directory: %w", arg, errdefs.ErrInvalid)
			}
		}
		return fmt.Errorf("exec %q: permission denied: %w", arg, errdefs.ErrInvalid)
	case syscall.ENOEXEC:
		return fmt.Errorf("exec %q: exec format error: %w", arg, errdefs.ErrInvalid)
	case syscall.ENOTDIR:
		return fmt.Errorf("exec %q: not a directory: %w", arg, errdefs.ErrInvalid)
	case syscall.ENOMEM, syscall.EAGAIN:
		return fmt.Errorf("exec %q: %w: %w", arg, errno, errdefs.ErrExhausted)
	}
	return fmt.Errorf("exec %q: %w: %w", arg, errno, errdefs.ErrInvalid)
}

// resolveUser fills p.User from Docker's USER syntax and gives the environment a HOME.
func resolveUser(root *os.File, p *specs.Process, user string) error {
	home := ""
	if user != "" {
		a, err := lookupUser(root, user)
		if err != nil {
			return err
		}
		// The primary group is a supplementary one, too: a process must not shed a group that a file denies (CVE-2022-36109).
		groups := slices.Concat([]uint32{a.gid}, a.groups, p.User.AdditionalGids)
		slices.Sort(groups)
		p.User = specs.User{UID: a.uid, GID: a.gid, Umask: p.User.Umask, AdditionalGids: slices.Compact(groups)}
		home = a.home
	}
	if p.User.UID > maxID || p.User.GID > maxID {
		return fmt.Errorf("user %d:%d: uids and gids must be in range 0-%d: %w", p.User.UID, p.User.GID, maxID, errdefs.ErrInvalid)
	}
	if _, ok := variable(p.Env, "HOME"); !ok {
		if home == "" {
			home = homeOf(root, p.User.UID)
		}
		p.Env = append(slices.Clone(p.Env), "HOME="+home)
	}
	return nil
}
