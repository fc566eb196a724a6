package main

import (
	"syscall"
	"unsafe"
)

// The program is also the init of containers that ask for one (docker run --init): called as docker-init by process 1
// it runs a command, passes signals on to it, reaps orphans and ends as the command does.

// initName is the last part of the path by which a container has it.
const initName = "docker-init"

// What os and os/signal get from the runtime. These packages are too large for a shim.

//go:linkname runtimeArgs os.runtime_args
func runtimeArgs() []string

//go:linkname signalEnable os/signal.signal_enable
func signalEnable(sig uint32)

//go:linkname signalReceive os/signal.signal_recv
func signalReceive() uint32

// runInit runs the command behind "--" and does not return. The exit codes are those of a shell.
func runInit(args []string) {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		complain("no command", 1)
	}
	// All but those that the kernel does not let through or that the runtime needs for itself.
	for sig := uint32(1); sig < 65; sig++ {
		switch syscall.Signal(sig) {
		case syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGURG, syscall.SIGPROF, syscall.SIGSEGV, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGILL,
			syscall.SIGTRAP, syscall.SIGABRT, syscall.SIGSYS:
		default:
			signalEnable(sig)
		}
	}
	attr := &syscall.ProcAttr{Env: syscall.Environ(), Files: []uintptr{0, 1, 2}, Sys: &syscall.SysProcAttr{Setpgid: true}}
	if isTerminal(0) {
		attr.Sys.Foreground, attr.Sys.Ctty = true, 0
	}
	pid, err := start(args, attr)
	if err != nil {
		code := 126
		if err == syscall.ENOENT {
			code = 127
		}
		complain("exec "+args[0]+" failed: "+err.Error(), code)
	}
	for {
		if sig := syscall.Signal(signalReceive()); sig != syscall.SIGCHLD {
			syscall.Kill(pid, sig)
			continue
		}
		reapAll(pid)
	}
}

// start executes a command, which is looked for in $PATH.
func start(args []string, attr *syscall.ProcAttr) (pid int, err error) {
	for i := 0; i < len(args[0]); i++ {
		if args[0][i] == '/' {
			return syscall.ForkExec(args[0], args, attr)
		}
	}
	path, ok := syscall.Getenv("PATH")
	if !ok {
		path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	err = syscall.ENOENT
	for len(path) > 0 {
		n := 0
		for n < len(path) && path[n] != ':' {
			n++
		}
		dir := path[:n]
		path = path[min(n+1, len(path)):]
		if dir == "" {
			dir = "."
		}
		pid, one := syscall.ForkExec(dir+"/"+args[0], args, attr)
		switch one {
		case nil:
			return pid, nil
		case syscall.ENOENT, syscall.ENOTDIR:
		case syscall.EACCES:
			err = one
		default:
			return 0, one
		}
	}
	return 0, err
}

// reapAll waits for whatever has ended, and ends as the command does.
func reapAll(command int) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil || pid <= 0:
			return
		case pid == command && ws.Signaled():
			syscall.Exit(128 + int(ws.Signal()))
		case pid == command && ws.Exited():
			syscall.Exit(ws.ExitStatus())
		}
	}
}

func isTerminal(fd int) bool {
	var termios [256]byte
	return ioctl(fd, syscall.TCGETS, termios[:]) == 0
}

func complain(text string, code int) {
	syscall.Write(2, []byte(initName+": "+text+"\n"))
	syscall.Exit(code)
}

func hasSuffix(s, suffix string) bool {
	return len(s) >= len(suffix) && s[len(s)-len(suffix):] == suffix
}

func ioctl(fd int, request uintptr, buf []byte) syscall.Errno {
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&buf[0])))
	return errno
}
