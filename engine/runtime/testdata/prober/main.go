// Prober runs in a container and tells what it can do there: one line a probe,
// "name: result", where the result is "ok" or an errno's name.
package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unsafe"
)

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "probe":
			runProbes(os.Args[2:])
		case "oom":
			oom()
		case "traceme":
			traceme()
		case "hold": // keeps the files it was started with
			syscall.Pause()
		}
		return
	}
	runProbes(nil)
}

// runProbes runs those that are named, or all.
func runProbes(names []string) {
	for _, p := range probes {
		if len(names) > 0 && !slices.Contains(names, p.name) {
			continue
		}
		fmt.Printf("%s: %s\n", p.name, p.run())
	}
}

// traceme makes the parent the tracer of a thread that is not the first, and ends.
func traceme() {
	traced := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread()
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, 0, 0, 0, 0, 0, 0)
		traced <- errno
		select {}
	}()
	fmt.Println("traceme:", name(<-traced))
	if len(os.Args) > 2 { // stopped as a tracee, until somebody kills it
		syscall.RawSyscall(syscall.SYS_PTRACE, 0, 0, 0)
		syscall.Kill(syscall.Getpid(), syscall.SIGUSR1)
	}
}

// oom uses memory until it is killed.
func oom() {
	var keep [][]byte
	for {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
}

type probe struct {
	name string
	run  func() string
}

func call(nr uintptr, args ...uintptr) func() string {
	return func() string {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		return name(errno)
	}
}

func name(errno syscall.Errno) string {
	switch errno {
	case 0:
		return "ok"
	case syscall.EPERM:
		return "EPERM"
	case syscall.EACCES:
		return "EACCES"
	case syscall.ENOSYS:
		return "ENOSYS"
	case syscall.EINVAL:
		return "EINVAL"
	case syscall.ENOENT:
		return "ENOENT"
	case syscall.EROFS:
		return "EROFS"
	}
	return strings.ReplaceAll(errno.Error(), " ", "-")
}

func str(s string) uintptr {
	p, _ := syscall.BytePtrFromString(s)
	keep = append(keep, p)
	return uintptr(unsafe.Pointer(p))
}

var keep []*byte

func open(path string, flags int) func() string {
	return func() string {
		fd, err := syscall.Open(path, flags, 0)
		if err != nil {
			return name(err.(syscall.Errno))
		}
		var b [64]byte
		n, err := syscall.Read(fd, b[:])
		syscall.Close(fd)
		if flags&3 == syscall.O_RDONLY && err == nil && n == 0 {
			return "empty"
		}
		if err == syscall.EISDIR {
			entries, _ := os.ReadDir(path)
			if len(entries) == 0 {
				return "empty"
			}
		}
		return "ok"
	}
}

const (
	afALG, afVsock = 38, 40
	// The generic numbers, the same everywhere.
	ioUringSetup, openTree, fsopen, cloneThree = 425, 428, 430, 435
)

var probes = []probe{
	{"getpid", call(syscall.SYS_GETPID)},
	{"unshare user", call(syscall.SYS_UNSHARE, 0x10000000)},
	{"unshare mount", call(syscall.SYS_UNSHARE, 0x00020000)},
	{"clone user", call(syscall.SYS_CLONE, 0x10000000|17)},
	{"clone3", call(cloneThree, 0, 0)},
	{"io_uring_setup", call(ioUringSetup, 1, str(strings.Repeat("\x00", 200)))},
	{"AF_ALG", call(syscall.SYS_SOCKET, afALG, syscall.SOCK_SEQPACKET, 0)},
	{"AF_VSOCK", call(syscall.SYS_SOCKET, afVsock, syscall.SOCK_STREAM, 0)},
	{"AF_INET", call(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_STREAM, 0)},
	{"bpf", call(sysBPF, 0, 0, 0)},
	{"keyctl", call(syscall.SYS_KEYCTL, 0, 0)},
	{"add_key", call(syscall.SYS_ADD_KEY, 0, 0, 0, 0, 0)},
	{"userfaultfd", call(sysUserfaultfd, 0)},
	{"perf_event_open", call(syscall.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)},
	{"open_by_handle_at", call(sysOpenByHandleAt, 0, 0, 0)},
	{"kexec_load", call(syscall.SYS_KEXEC_LOAD, 0, 0, 0, 0)},
	{"mount", call(syscall.SYS_MOUNT, str("none"), str("/tmp"), str("tmpfs"), 0, 0)},
	{"umount2", call(syscall.SYS_UMOUNT2, str("/proc/kcore"), 0)},
	{"fsopen", call(fsopen, str("tmpfs"), 0)},
	{"open_tree", call(openTree, ^uintptr(99), str("/"), 1)},
	{"pivot_root", call(syscall.SYS_PIVOT_ROOT, str("/"), str("/"))},
	{"setns", call(sysSetns, 0, 0)},
	{"swapon", call(syscall.SYS_SWAPON, str("/tmp"), 0)},
	{"settimeofday", call(syscall.SYS_SETTIMEOFDAY, 0, 0)},
	{"mknod block", call(syscall.SYS_MKNODAT, ^uintptr(99), str("/tmp/b"), syscall.S_IFBLK|0o600, 0x0800)},
	{"mknod mem", call(syscall.SYS_MKNODAT, ^uintptr(99), str("/tmp/m"), syscall.S_IFCHR|0o600, 0x0101)},
	{"chroot", call(syscall.SYS_CHROOT, str("/"))},
	{"unknown number", call(4000)},
	{"read /proc/kcore", open("/proc/kcore", syscall.O_RDONLY)},
	{"read /proc/keys", open("/proc/keys", syscall.O_RDONLY)},
	{"read /proc/timer_list", open("/proc/timer_list", syscall.O_RDONLY)},
	{"read /proc/interrupts", open("/proc/interrupts", syscall.O_RDONLY)},
	{"read /sys/firmware", open("/sys/firmware", syscall.O_RDONLY|syscall.O_DIRECTORY)},
	{"read /proc/version", open("/proc/version", syscall.O_RDONLY)},
	{"write /proc/sysrq-trigger", open("/proc/sysrq-trigger", syscall.O_WRONLY)},
	{"write core_pattern", open("/proc/sys/kernel/core_pattern", syscall.O_WRONLY)},
	{"write ip_forward", open("/proc/sys/net/ipv4/ip_forward", syscall.O_WRONLY)},
	{"write uevent_helper", open("/sys/kernel/uevent_helper", syscall.O_WRONLY)},
	{"create /sys/fs/cgroup", open("/sys/fs/cgroup/x", syscall.O_WRONLY|syscall.O_CREAT)},
	{"write /dev/null", open("/dev/null", syscall.O_WRONLY)},
	{"read /dev/zero", open("/dev/zero", syscall.O_RDONLY)},
	{"open /dev/mem", open("/dev/mem", syscall.O_RDONLY)},
	{"open /dev/kmsg", open("/dev/kmsg", syscall.O_RDONLY)},
	{"syslog", call(syscall.SYS_SYSLOG, 3, 0, 0)},
	{"create /tmp/file", open("/tmp/file", syscall.O_WRONLY|syscall.O_CREAT)},
}
