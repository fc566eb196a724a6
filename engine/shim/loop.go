package main

import (
	"sync"
	"syscall"

	"novaagent/engine/kernel/fork"
	"novaagent/engine/shim/wire"
)

// idleName is what a shim without a container is called.
const idleName = "shim-idle"

// controlFD is where the agent has put the first connection.
const controlFD = 3

// handler is whoever waits for a descriptor. ready is told what epoll reported.
type handler interface{ ready(events uint32) }

// shim is the whole state. Only the main goroutine touches it, but for results.
type shim struct {
	epoll    int
	handlers []handler // by descriptor
	conns    []*conn
	listener int
	stateDir int

	memory []byte // of the program that was run last

	init  *process
	execs []*process
	// starting are the ids of the execs that are being forked; forked tells
	// waitForChildren of their success.
	starting []string
	forked   chan struct{}
	waiting  bool // waitForChildren runs

	// buf takes a chunk of output behind room for its header.
	buf [wire.HeaderSize + wire.MaxData]byte

	wake    int // an eventfd: results has grown
	mu      sync.Mutex
	results []func() // guarded by mu: what forking goroutines want done

	quit bool
}

func main() {
	// Whoever else gets to run this program, as a container whose entry point is
	// /proc/self/exe does, has no such socket.
	if _, err := syscall.GetsockoptInt(controlFD, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil {
		if args := runtimeArgs(); len(args) > 0 && hasSuffix(args[0], "/"+initName) {
			runInit(args[1:])
		}
		syscall.Exit(2)
	}
	prctl(prSetDumpable, 0)
	prctl(prSetSubreaper, 1)
	// No session keyring of the agent's is inherited by a container.
	syscall.RawSyscall(syscall.SYS_KEYCTL, keyctlJoinSession, 0, 0)
	writeProc("/proc/self/oom_score_adj", "-999")
	writeProc("/proc/self/comm", idleName)

	s := &shim{listener: -1, stateDir: -1, forked: make(chan struct{}, 1)}
	var err error
	if s.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		syscall.Exit(1)
	}
	wake, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		syscall.Exit(1)
	}
	s.wake = int(wake)
	s.watch(s.wake, syscall.EPOLLIN, waker{s})
	syscall.CloseOnExec(controlFD)
	if !s.addConn(controlFD) {
		syscall.Exit(1)
	}
	warmUp()
	s.loop()
	syscall.Exit(0)
}

// warmUp forks once, in vain: the program's and the runtime's pages that a launch
// needs are in memory then, while nobody waits.
func warmUp() {
	execve := fork.Step{Nr: syscall.SYS_EXECVE, Out: fork.NoCell}
	execve.Args[0].Kind = fork.Address
	p := fork.Program{Cgroup: fork.NoCgroup, Steps: []fork.Step{execve}, Data: make([]byte, 8)}
	if l, err := fork.Load(p.Encode(), nil); err == nil {
		l.Run()
		l.Free()
	}
}

func writeProc(path, value string) {
	fd, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	write(fd, []byte(value))
	syscall.Close(fd)
}

func (s *shim) loop() {
	var events [16]syscall.EpollEvent
	for !s.quit {
		n, err := syscall.EpollWait(s.epoll, events[:], s.timeout())
		if err != nil && err != syscall.EINTR {
			syscall.Exit(1)
		}
		for i := 0; i < n; i++ {
			// An earlier event of this round may have closed the descriptor.
			if h := s.handlers[events[i].Fd]; h != nil {
				h.ready(events[i].Events)
			}
		}
		s.dropStalled()
	}
}

// watch makes h wait for events on fd.
func (s *shim) watch(fd int, events uint32, h handler) bool {
	for len(s.handlers) <= fd {
		s.handlers = append(s.handlers, nil)
	}
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd)}
	op := syscall.EPOLL_CTL_ADD
	if s.handlers[fd] != nil {
		op = syscall.EPOLL_CTL_MOD
	}
	if err := syscall.EpollCtl(s.epoll, op, fd, &ev); err != nil {
		return false
	}
	s.handlers[fd] = h
	return true
}

// drop closes fd, which may be watched or not.
func (s *shim) drop(fd int) {
	if fd < len(s.handlers) && s.handlers[fd] != nil {
		syscall.EpollCtl(s.epoll, syscall.EPOLL_CTL_DEL, fd, nil)
		s.handlers[fd] = nil
	}
	syscall.Close(fd)
}

// waker runs what other goroutines have left in results.
type waker struct{ s *shim }

func (w waker) ready(uint32) {
	var b [8]byte
	read(w.s.wake, b[:])
	w.s.mu.Lock()
	todo := w.s.results
	w.s.results = nil
	w.s.mu.Unlock()
	for _, f := range todo {
		f()
	}
}

// later has f called by the main goroutine. Any goroutine may call it.
func (s *shim) later(f func()) {
	s.mu.Lock()
	s.results = append(s.results, f)
	s.mu.Unlock()
	one := [8]byte{1}
	write(s.wake, one[:])
}

// acceptor takes connections to the container's socket.
type acceptor struct{ s *shim }

func (a acceptor) ready(uint32) { a.s.accept() }

// accept takes all connections that wait, and reads what they have sent.
func (s *shim) accept() {
	for {
		fd, _, err := syscall.Accept4(s.listener, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
		if err != nil {
			return
		}
		peer, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
		if err != nil || peer.Uid != uint32(syscall.Geteuid()) || !s.addConn(fd) {
			syscall.Close(fd)
			continue
		}
		s.handlers[fd].ready(syscall.EPOLLIN)
	}
}
