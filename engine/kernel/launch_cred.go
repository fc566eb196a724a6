package kernel

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"novaagent/engine/kernel/fork"
)

// BecomeRootOf takes uid and gid 0 of the user namespace that the process has just
// joined, without groups: three steps. It keeps its capabilities there.
func (b *Builder) BecomeRootOf() {
	b.add("set gid", "0", unix.SYS_SETRESGID, num(0), num(0), num(0))
	b.add("drop groups", "", unix.SYS_SETGROUPS, num(0), num(0))
	b.add("set uid", "0", unix.SYS_SETRESUID, num(0), num(0), num(0))
}

// Credentials are what a process runs with.
type Credentials struct {
	UID, GID uint32
	Groups   []uint32
	// The sets of capabilities, bit i for capability i.
	Bounding, Effective, Permitted, Inheritable, Ambient uint64
}

// LimitCapabilities removes from the bounding set what is not in set; last is the kernel's highest
// capability.
func (b *Builder) LimitCapabilities(set uint64, last int) {
	for c := 0; c <= last; c++ {
		if set&(1<<c) == 0 {
			b.add("drop capability", "", unix.SYS_PRCTL, num(unix.PR_CAPBSET_DROP), num(c), num(0), num(0), num(0))
		}
	}
}

// Become sets ids and capabilities.
func (b *Builder) Become(c Credentials) {
	b.prctl("keep capabilities", unix.PR_SET_KEEPCAPS, 1, 0)
	groups := addr(0)
	if len(c.Groups) > 0 {
		v := make([]byte, 4*len(c.Groups))
		for i, g := range c.Groups {
			binary.NativeEndian.PutUint32(v[4*i:], g)
		}
		groups = b.bytes(v)
	}
	b.add("set groups", "", unix.SYS_SETGROUPS, num(len(c.Groups)), groups)
	b.add("set gid", "", unix.SYS_SETRESGID, num(c.GID), num(c.GID), num(c.GID))
	b.add("set uid", "", unix.SYS_SETRESUID, num(c.UID), num(c.UID), num(c.UID))
	b.prctl("keep capabilities", unix.PR_SET_KEEPCAPS, 0, 0)

	header := make([]byte, 8)
	binary.NativeEndian.PutUint32(header, unix.LINUX_CAPABILITY_VERSION_3)
	data := make([]byte, 24)
	for i, set := range []uint64{c.Effective, c.Permitted, c.Inheritable} {
		binary.NativeEndian.PutUint32(data[4*i:], uint32(set))
		binary.NativeEndian.PutUint32(data[12+4*i:], uint32(set>>32))
	}
	b.add("set capabilities", "", unix.SYS_CAPSET, b.bytes(header), b.bytes(data))
	b.prctl("clear ambient capabilities", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	for i := range 64 {
		if c.Ambient&(1<<i) != 0 {
			b.prctl("raise ambient capability", unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uint64(i))
		}
	}
}

func (b *Builder) prctl(deed string, option, arg2 int, arg3 uint64) Step {
	return b.add(deed, "", unix.SYS_PRCTL, num(option), num(arg2), num(arg3), num(0), num(0))
}

// DieWithParent has the process killed when the thread that forked it ends.
func (b *Builder) DieWithParent() {
	b.prctl("set parent-death signal", unix.PR_SET_PDEATHSIG, int(unix.SIGKILL), 0)
}

// NoNewPrivileges keeps execve from granting privileges.
func (b *Builder) NoNewPrivileges() { b.prctl("set no_new_privs", unix.PR_SET_NO_NEW_PRIVS, 1, 0) }

// Seccomp installs a filter, struct sock_filter after struct sock_filter.
func (b *Builder) Seccomp(filter []byte, flags uint32) {
	insns := b.bytes(filter)
	prog := b.alloc(16, 8)
	binary.NativeEndian.PutUint16(b.p.Data[prog:], uint16(len(filter)/8))
	b.reloc(prog+8, insns.V)
	b.add("install seccomp filter", "", unix.SYS_SECCOMP, num(unix.SECCOMP_SET_MODE_FILTER), num(flags), addr(prog))
}

func (b *Builder) reloc(at, to uint64) {
	b.p.Relocs = append(b.p.Relocs, fork.Reloc{At: uint32(at), To: uint32(to)})
}
