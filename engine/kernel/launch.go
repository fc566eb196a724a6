package kernel

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"novaagent/engine/kernel/fork"
)

// A Ref stands for an argument of a step: a descriptor, or the result of an
// earlier step.
type Ref = fork.Arg

// cwdFD is converted at run time: a negative constant has no unsigned form.
var cwdFD = int64(unix.AT_FDCWD)

// Cwd is the process's working directory, for steps that take a directory.
func Cwd() Ref { return Ref{Kind: fork.Value, V: uint64(cwdFD)} }

// Builder assembles a launch program: the steps that a new process takes between
// fork and execve. Its methods append one system call each, or a few where they say so.
//
// Each step has a label, which Explain turns into an error message.
type Builder struct {
	p       fork.Program
	fds     []int
	labels  []label
	strings map[string]uint64
	howOf   map[unix.OpenHow]uint64
}

// label is a step's deed and object. They are only put together if it fails.
type label struct{ deed, object string }

// NewBuilder returns an empty program.
func NewBuilder() *Builder {
	return &Builder{
		p: fork.Program{
			Cgroup: fork.NoCgroup,
			Steps:  make([]fork.Step, 0, 512),
			Data:   make([]byte, 8, 16<<10), // offset 0 stays zero: the empty string
		},
		labels:  make([]label, 0, 512),
		strings: make(map[string]uint64, 128),
		howOf:   make(map[unix.OpenHow]uint64, 8),
	}
}

// Program returns the encoded program and the descriptors it needs, in order.
func (b *Builder) Program() ([]byte, []int) {
	b.p.Descriptors = len(b.fds)
	return b.p.Encode(), b.fds
}

// Explain says what step was doing.
func (b *Builder) Explain(step int) string {
	switch {
	case step == fork.FirstFork:
		return "fork"
	case step < 0 || step >= len(b.labels):
		return fmt.Sprintf("step %d", step)
	case b.labels[step].object == "":
		return b.labels[step].deed
	}
	return b.labels[step].deed + " " + b.labels[step].object
}

// Len is the number of steps so far: the index of the next one.
func (b *Builder) Len() int { return len(b.p.Steps) }

// Step gives access to an appended step, to say which errors it tolerates.
type Step struct {
	b *Builder
	i int
}

// Tolerate lets the program go on if the step fails with one of errnos; at most three.
func (s Step) Tolerate(errnos ...unix.Errno) Step {
	for i, e := range errnos {
		s.b.p.Steps[s.i].Tolerate[i] = uint16(e)
	}
	return s
}

// TolerateAll lets the program go on whatever happens.
func (s Step) TolerateAll() Step {
	s.b.p.Steps[s.i].Tolerate[0] = fork.AnyErrno
	return s
}

// Note reports a tolerated error as a warning.
func (s Step) Note() Step {
	s.b.p.Steps[s.i].Note = true
	return s
}

// Index is the step's index.
func (s Step) Index() int { return s.i }

// SkipRestOnError makes the program go on at the step that is appended next if s has
// failed with a tolerated error.
func (s Step) SkipRestOnError() { s.b.p.Steps[s.i].Skip = uint16(s.b.Len() - s.i - 1) }

// SkipRestOnSuccess makes the program go on at the step that is appended next if s has succeeded.
func (s Step) SkipRestOnSuccess() { s.b.p.Steps[s.i].SkipOK = uint16(s.b.Len() - s.i - 1) }

// Nothing appends a step that always succeeds, to skip others from.
func (b *Builder) Nothing() Step { return b.add("nothing", "", unix.SYS_GETPID) }

// FD makes a descriptor of the agent's available to the process.
func (b *Builder) FD(fd int) Ref {
	b.fds = append(b.fds, fd)
	return Ref{Kind: fork.Descriptor, V: uint64(len(b.fds) - 1)}
}

// InCgroup2 lets the process start in the cgroup v2 whose directory is open as ref.
func (b *Builder) InCgroup2(ref Ref) { b.p.Cgroup = int(ref.V) }

func (b *Builder) add(deed, object string, nr uintptr, args ...fork.Arg) Step {
	s := fork.Step{Nr: uint32(nr), Out: fork.NoCell}
	copy(s.Args[:], args)
	b.p.Steps = append(b.p.Steps, s)
	b.labels = append(b.labels, label{deed, object})
	return Step{b, len(b.p.Steps) - 1}
}

// out stores the step's result in a new cell and returns it.
func (s Step) out() Ref {
	c := s.b.alloc(8, 8)
	s.b.p.Steps[s.i].Out = int32(c)
	return Ref{Kind: fork.Cell, V: c}
}

// alloc reserves n bytes of data.
func (b *Builder) alloc(n, align int) uint64 {
	for len(b.p.Data)%align != 0 {
		b.p.Data = append(b.p.Data, 0)
	}
	at := len(b.p.Data)
	for range n {
		b.p.Data = append(b.p.Data, 0)
	}
	return uint64(at)
}

func addr(at uint64) fork.Arg { return fork.Arg{Kind: fork.Address, V: at} }

func num[T ~int | ~uint32 | ~uint64 | ~int64 | ~uintptr](v T) fork.Arg { return fork.Arg{V: uint64(v)} }

// str is the address of s with a final NUL; equal strings are stored once.
func (b *Builder) str(s string) fork.Arg {
	if s == "" {
		return addr(0)
	}
	at, ok := b.strings[s]
	if !ok {
		at = uint64(len(b.p.Data))
		b.p.Data = append(append(b.p.Data, s...), 0)
		b.strings[s] = at
	}
	return addr(at)
}

// bytes is the address of a copy of v, aligned for any structure.
func (b *Builder) bytes(v []byte) fork.Arg {
	at := b.alloc(0, 8)
	b.p.Data = append(b.p.Data, v...)
	return addr(at)
}

func (b *Builder) how(h unix.OpenHow) fork.Arg {
	at, ok := b.howOf[h]
	if !ok {
		at = b.alloc(int(unsafe.Sizeof(h)), 8)
		le := binary.NativeEndian
		le.PutUint64(b.p.Data[at:], h.Flags)
		le.PutUint64(b.p.Data[at+8:], h.Mode)
		le.PutUint64(b.p.Data[at+16:], h.Resolve)
		b.howOf[h] = at
	}
	return addr(at)
}

// vector is the address of a NULL-terminated array of strings.
func (b *Builder) vector(words []string) fork.Arg {
	to := make([]uint64, len(words))
	for i, w := range words {
		to[i] = b.str(w).V
	}
	at := b.alloc(8*(len(words)+1), 8)
	for i := range to {
		b.p.Relocs = append(b.p.Relocs, fork.Reloc{At: uint32(at) + uint32(8*i), To: uint32(to[i])})
	}
	return addr(at)
}

// Fork continues in a second child, which enters the PID namespace that the
// process has unshared or joined.
func (b *Builder) Fork() { b.add("fork", "into the namespaces", fork.OpFork, num(0)) }

// Unshare makes new namespaces.
func (b *Builder) Unshare(flags uintptr) {
	b.add("unshare", "namespaces", unix.SYS_UNSHARE, num(flags))
}

// Setns joins the namespace open as ref, or with a pidfd those of a process. what is for the error message.
func (b *Builder) Setns(ref Ref, flags uintptr, what string) Step {
	return b.add("join", what, unix.SYS_SETNS, ref, num(flags))
}

// Write writes data to ref.
func (b *Builder) Write(ref Ref, data, what string) Step {
	at := b.bytes([]byte(data))
	if len(data) == 0 {
		at = addr(0)
	}
	return b.add("write", what, unix.SYS_WRITE, ref, at, num(len(data)))
}

// Open opens a path of the process's own view, following symbolic links, but no magic ones.
func (b *Builder) Open(path string, flags int) (Ref, Step) {
	s := b.add("open", path, unix.SYS_OPENAT2, Cwd(), b.str(path),
		b.how(unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_NO_MAGICLINKS}), num(unsafe.Sizeof(unix.OpenHow{})))
	return s.out(), s
}

// Resolution is how OpenIn treats symbolic links.
type Resolution uint64

const (
	// InRoot takes symbolic links, absolute ones and "..", as if dir were the root.
	InRoot Resolution = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	// NoLinks refuses every symbolic link and to leave dir.
	NoLinks Resolution = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
	// OneMount is NoLinks, and refuses to cross into another mount.
	OneMount = NoLinks | unix.RESOLVE_NO_XDEV
)

// OpenIn opens path, which is relative to dir or is taken as such.
func (b *Builder) OpenIn(dir Ref, path string, flags int, r Resolution) (Ref, Step) {
	if path == "" {
		path = "."
	}
	s := b.add("open", path, unix.SYS_OPENAT2, dir, b.str(path),
		b.how(unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: uint64(r)}), num(unsafe.Sizeof(unix.OpenHow{})))
	return s.out(), s
}

// MkdirIn makes one directory.
func (b *Builder) MkdirIn(dir Ref, name string, mode uint32) Step {
	return b.add("make directory", name, unix.SYS_MKDIRAT, dir, b.str(name), num(mode))
}

// MkfileIn makes one empty regular file.
func (b *Builder) MkfileIn(dir Ref, name string, mode uint32) Step {
	return b.add("make file", name, unix.SYS_MKNODAT, dir, b.str(name), num(unix.S_IFREG|mode), num(0))
}

// SymlinkIn makes a symbolic link.
func (b *Builder) SymlinkIn(target string, dir Ref, name string) Step {
	return b.add("make link", name, unix.SYS_SYMLINKAT, b.str(target), dir, b.str(name))
}

// Close closes ref.
func (b *Builder) Close(ref Ref) { b.add("close", "", unix.SYS_CLOSE, ref) }

// Fchown gives ref to an owner.
func (b *Builder) Fchown(ref Ref, uid, gid uint32) Step {
	return b.add("change owner of", "stdio", unix.SYS_FCHOWN, ref, num(uid), num(gid))
}

// Umask sets the file mode creation mask.
func (b *Builder) Umask(mask uint32) { b.add("set umask", "", unix.SYS_UMASK, num(mask)) }

// Fchdir changes the working directory.
func (b *Builder) Fchdir(ref Ref, what string) Step {
	return b.add("change directory to", what, unix.SYS_FCHDIR, ref)
}

// Hostname sets the UTS namespace's host name.
func (b *Builder) Hostname(name string) Step {
	return b.add("set hostname", name, unix.SYS_SETHOSTNAME, b.str(name), num(len(name)))
}

// Domainname sets the UTS namespace's domain name.
func (b *Builder) Domainname(name string) Step {
	return b.add("set domainname", name, unix.SYS_SETDOMAINNAME, b.str(name), num(len(name)))
}

// JoinSessionKeyring gives the process a session keyring of its own.
func (b *Builder) JoinSessionKeyring(name string) Step {
	return b.add("join session keyring", name, unix.SYS_KEYCTL, num(unix.KEYCTL_JOIN_SESSION_KEYRING), b.str(name))
}

// Setrlimit sets a resource limit by number.
func (b *Builder) Setrlimit(resource int, soft, hard uint64, name string) Step {
	v := make([]byte, 16)
	binary.NativeEndian.PutUint64(v, soft)
	binary.NativeEndian.PutUint64(v[8:], hard)
	return b.add("set limit", name, unix.SYS_PRLIMIT64, num(0), num(resource), b.bytes(v), num(0))
}

// Setsid starts a session.
func (b *Builder) Setsid() { b.add("start a session", "", unix.SYS_SETSID) }

// Dup makes to a duplicate of ref that stays open across execve.
func (b *Builder) Dup(ref Ref, to int) {
	b.add("set up descriptor", "", unix.SYS_DUP3, ref, num(to), num(0))
}

// CloseFrom closes all descriptors from first on.
func (b *Builder) CloseFrom(first int) {
	b.add("close descriptors", "", unix.SYS_CLOSE_RANGE, num(first), num(uint32(1<<32-1)), num(0))
}

// Exec executes path.
func (b *Builder) Exec(path string, args, env fork.Arg) Step {
	return b.add("execute", path, unix.SYS_EXECVE, b.str(path), args, env)
}

// Vector stores strings for Exec.
func (b *Builder) Vector(words []string) Ref { return b.vector(words) }

// StoreIn makes the step's result replace that of the earlier step whose result is ref.
func (s Step) StoreIn(ref Ref) { s.b.p.Steps[s.i].Out = int32(ref.V) }
