package fork

import (
	"syscall"
	"unsafe"
)

// vfork does clone(2) by the given raw arguments and survives that the child runs on the caller's stack.
// park does the same, and the child sleeps for ever, as long as it is parent's, without touching memory. Both
// are in asm_*.s.
//
//go:noescape
func vfork(trap, a1, a2, a3, a4, a5 uintptr) (pid, errno uintptr)

//go:noescape
func park(trap, a1, a2, a3, a4, parent uintptr) (pid, errno uintptr)

// The runtime's side of a fork. Blocking all signals from before the fork on keeps
// a handler from running in the child; gVisor links to the same three, so
// that the Go project keeps them (go.dev/issue/67401).
//
//go:linkname runtime_BeforeFork syscall.runtime_BeforeFork
func runtime_BeforeFork()

//go:linkname runtime_AfterFork syscall.runtime_AfterFork
func runtime_AfterFork()

//go:linkname runtime_AfterForkInChild syscall.runtime_AfterForkInChild
func runtime_AfterForkInChild()

// A goroutine between these two counts as one in a system call: the runtime neither waits for it nor
// watches it. gVisor links to them, too.
//
//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

const maxNotes = 32

// call is a step with its arguments resolved. It holds addresses as integers, never
// as pointers: the child must not run a write barrier.
type call struct {
	nr       uintptr
	args     [6]uintptr
	out      int32 // offset of an int32 in the data, or NoCell
	cells    uint8 // bit k: args[k] is the offset of an int32
	note     bool
	skip     uint16
	skipOK   uint16
	tolerate [3]uint16
}

// result is what the child writes and its parent reads.
type result struct {
	pid    int32 // of the second fork's child
	failed int32
	errno  uint32
	notes  uint32
	note   [maxNotes]struct{ step, errno int32 }
}

// Loaded is a program that is ready to run once.
type Loaded struct {
	trap, a1, a2 uintptr // of the first fork
	region       []byte  // the mapping that holds calls and data
	calls        []call
	data         []byte
	res          *result
	clone3       *cloneArgs
}

// Load resolves the arguments of an encoded program. The descriptors must stay open until Run
// has returned. The program's memory is a mapping of its own, until Free.
func Load(b []byte, descriptors []int) (*Loaded, error) { return LoadInto(nil, b, descriptors) }

// LoadInto is Load with the memory of an earlier program, from Reclaim, which is used again if it is large enough:
// to unmap one takes longer than to run it.
func LoadInto(memory []byte, b []byte, descriptors []int) (*Loaded, error) {
	p, err := parse(b)
	if err != nil {
		return nil, err
	}
	if len(descriptors) != p.descriptors {
		return nil, errFormat
	}
	n := len(p.steps) / stepSize
	callsSize := n * int(unsafe.Sizeof(call{}))
	region := memory
	if size := callsSize + len(p.data) + 8; len(region) < size {
		if region, err = syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE); err != nil {
			return nil, err
		}
		if memory != nil {
			_ = syscall.Munmap(memory)
		}
	}
	calls := unsafe.Slice((*call)(unsafe.Pointer(&region[0])), n)
	data := region[callsSize : callsSize+len(p.data)+8]
	clear(data[copy(data, p.data):])
	base := uintptr(unsafe.Pointer(&data[0]))
	for i := range len(p.relocs) / 8 {
		r := p.reloc(i)
		*(*uint64)(unsafe.Pointer(&data[r.At])) = uint64(base + uintptr(r.To))
	}
	l := &Loaded{
		trap:   syscall.SYS_CLONE,
		region: region,
		calls:  calls,
		data:   data,
		res:    new(result),
	}
	if p.cgroup == NoCgroup {
		l.a1, l.a2 = cloneOrder(uintptr(p.flags) | vforkFlags | uintptr(syscall.SIGCHLD))
	} else {
		l.clone3 = &cloneArgs{
			flags:      p.flags | vforkFlags | cloneIntoCgroup,
			exitSignal: uint64(syscall.SIGCHLD),
			cgroup:     uint64(descriptors[p.cgroup]),
		}
		l.trap, l.a1, l.a2 = sysClone3, uintptr(unsafe.Pointer(l.clone3)), unsafe.Sizeof(*l.clone3)
	}
	for i := range l.calls {
		s, c := p.step(i), &l.calls[i]
		c.cells = 0
		c.nr, c.out, c.skip, c.skipOK, c.note, c.tolerate = uintptr(s.Nr), s.Out, s.Skip, s.SkipOK, s.Note, s.Tolerate
		for k, a := range s.Args {
			switch a.Kind {
			case Value:
				c.args[k] = uintptr(a.V)
			case Address:
				c.args[k] = base + uintptr(a.V)
			case Descriptor:
				c.args[k] = uintptr(descriptors[a.V])
			case Cell:
				c.args[k] = uintptr(a.V)
				c.cells |= 1 << k
			}
		}
		if s.Nr == OpFork {
			c.args[0], c.args[1] = cloneOrder(c.args[0] | vforkFlags | cloneParent | uintptr(syscall.SIGCHLD))
		}
	}
	return l, nil
}

// Run forks and lets the child execute the program. It returns when that has
// executed its last step, which must be execve, or has ended. The new process, if
// Result.PID is set, is the caller's child, to be waited for; a child that ended has
// been waited for already.
//
// The calling thread's signals are blocked meanwhile.
func (l *Loaded) Run() Result {
	syscall.ForkLock.Lock()
	l.res.failed = None
	pid, errno := run(l)
	syscall.ForkLock.Unlock()

	r := Result{Failed: int(l.res.failed), Errno: syscall.Errno(l.res.errno)}
	if errno != 0 {
		r.Failed, r.Errno = FirstFork, syscall.Errno(errno)
		return r
	}
	for i := range min(l.res.notes, maxNotes) {
		n := l.res.note[i]
		r.Notes = append(r.Notes, Note{Step: int(n.step), Errno: syscall.Errno(n.errno)})
	}
	second := int(l.res.pid)
	if r.Failed != None {
		reap(int(pid))
		if second != 0 {
			reap(second)
		}
		return r
	}
	r.PID = int(pid)
	if second != 0 {
		reap(int(pid))
		r.PID = second
	}
	return r
}

// Data returns the program's memory, where a finished run has left its cells.
func (l *Loaded) Data() []byte { return l.data }

// Free gives the program's memory back. Nothing of l may be used any more.
func (l *Loaded) Free() { syscall.Munmap(l.region) }

// Reclaim takes the program's memory for LoadInto. Nothing of l may be used any more.
func (l *Loaded) Reclaim() []byte { return l.region }

// reap waits for a child that has ended or is about to.
func reap(pid int) {
	for {
		_, err := syscall.Wait4(pid, nil, syscall.WALL, nil)
		if err != syscall.EINTR {
			return
		}
	}
}

// run forks; the parent returns at once, so that nothing of this frame is used
// after the child has run on it.
//
// To the runtime all of it is one system call: else its monitor would wake up every 20 us for as long as the
// child takes, on the processor that the child may need, and other goroutines would lack one. Nothing
// between entersyscall and exitsyscall may split the stack.
//
//go:noinline
//go:norace
func run(l *Loaded) (pid, errno uintptr) {
	calls, n := unsafe.SliceData(l.calls), len(l.calls)
	data, res := unsafe.Pointer(unsafe.SliceData(l.data)), l.res
	trap, a1, a2 := l.trap, l.a1, l.a2
	entersyscall()
	runtime_BeforeFork()
	pid, errno = forkAndExecute(trap, a1, a2, calls, n, data, res)
	runtime_AfterFork()
	exitsyscall()
	return pid, errno
}

// forkAndExecute calls vfork itself, as execute does: had the child returned from
// any Go function in between, it would have overwritten the frame that its
// parent still needs.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func forkAndExecute(trap, a1, a2 uintptr, calls *call, n int, data unsafe.Pointer, r *result) (pid, errno uintptr) {
	pid, errno = vfork(trap, a1, a2, 0, 0, 0)
	if pid != 0 || errno != 0 {
		return pid, errno
	}
	runtime_AfterForkInChild()
	execute(calls, n, data, r)
	return 0, 0 // not reached
}

// execute runs in the child. It never returns.
//
//go:noinline
//go:nosplit
//go:norace
//go:nocheckptr
func execute(calls *call, n int, data unsafe.Pointer, r *result) {
	for i := 0; i < n; i++ {
		c := (*call)(unsafe.Add(unsafe.Pointer(calls), i*int(unsafe.Sizeof(call{}))))
		var v uintptr
		var errno syscall.Errno
		if c.nr == OpFork {
			pid, e := vfork(syscall.SYS_CLONE, c.args[0], c.args[1], 0, 0, 0)
			if e == 0 && pid != 0 {
				r.pid = int32(pid)
				exit()
			}
			errno = syscall.Errno(e)
		} else if c.cells == 0 {
			v, _, errno = syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		} else {
			v, _, errno = syscall.RawSyscall6(c.nr, arg(c, 0, data), arg(c, 1, data), arg(c, 2, data),
				arg(c, 3, data), arg(c, 4, data), arg(c, 5, data))
		}
		if errno == 0 {
			if c.out != NoCell {
				*(*int32)(unsafe.Add(data, c.out)) = int32(v)
			}
			i += int(c.skipOK)
			continue
		}
		if c.out != NoCell {
			*(*int32)(unsafe.Add(data, c.out)) = -int32(errno)
		}
		e := uint16(errno)
		if c.tolerate[0] != e && c.tolerate[1] != e && c.tolerate[2] != e && c.tolerate[0] != AnyErrno {
			r.failed, r.errno = int32(i), uint32(errno)
			exit()
		}
		if c.note && r.notes < maxNotes {
			note := &r.note[r.notes&(maxNotes-1)]
			note.step, note.errno = int32(i), int32(errno)
			r.notes++
		}
		i += int(c.skip)
	}
	// The last step did not execute anything: that is the program's fault.
	r.failed, r.errno = int32(n), uint32(syscall.ENOEXEC)
	exit()
}

//go:nosplit
//go:norace
//go:nocheckptr
func arg(c *call, k uint, data unsafe.Pointer) uintptr {
	if c.cells&(1<<k) == 0 {
		return c.args[k]
	}
	return uintptr(*(*int32)(unsafe.Add(data, c.args[k])))
}

//go:nosplit
//go:norace
func exit() {
	for {
		syscall.RawSyscall6(syscall.SYS_EXIT_GROUP, 127, 0, 0, 0, 0, 0)
	}
}

// From linux/sched.h; the standard library has no names for the latter three.
const (
	vforkFlags      = syscall.CLONE_VM | syscall.CLONE_VFORK
	cloneParent     = 0x8000
	cloneIntoCgroup = 0x200000000
	sysClone3       = 435 // on every architecture
)

// cloneArgs is struct clone_args of linux/sched.h, second version and up.
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
	setTID, setTIDSize, cgroup                                           uint64
}

// Parked is a process that does nothing, a holder of namespaces.
type Parked struct{ PID int }

// Park clones a process into new namespaces given by flags. It ends by Kill, or when the thread
// that called Park does: the caller locks the goroutine to its thread until Kill. So a
// process that is killed meanwhile, at whatever moment, leaves no holder behind. The flags must not
// ask for a PID namespace: the holder could not tell its parent there.
func Park(flags uintptr) (Parked, error) {
	syscall.ForkLock.Lock()
	pid, errno := parkChild(flags | syscall.CLONE_VM | uintptr(syscall.SIGCHLD))
	syscall.ForkLock.Unlock()
	if errno != 0 {
		return Parked{}, syscall.Errno(errno)
	}
	return Parked{PID: int(pid)}, nil
}

//go:noinline
//go:norace
func parkChild(flags uintptr) (pid, errno uintptr) {
	a1, a2 := cloneOrder(flags)
	parent := uintptr(syscall.Getpid())
	runtime_BeforeFork()
	pid, errno = park(syscall.SYS_CLONE, a1, a2, 0, 0, parent)
	runtime_AfterFork()
	return pid, errno
}

// Kill ends the process and waits for it.
func (p Parked) Kill() {
	syscall.Kill(p.PID, syscall.SIGKILL)
	reap(p.PID)
}
