package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
)

// Feature is something that this kernel has or has not.
type Feature struct {
	Name string
	// Without is what does not work when it is missing; Needed: no container starts.
	Without string
	Needed  bool
	// Detail is a version, where there is one.
	Detail string
	// Err is nil if the kernel has it.
	Err error
}

// Features tries the system calls that a launch is made of, and those that have a
// substitute. Nothing is left behind.
func Features() []Feature {
	probes := []struct {
		Feature
		look func() (string, error)
	}{
		{Feature{Name: "openat2", Needed: true, Without: "no container starts: paths of images could not be resolved safely"}, lookOpenat2},
		{Feature{Name: "close_range", Needed: true, Without: "no container starts"}, lookCloseRange},
		{Feature{Name: "mounts by descriptor", Needed: true, Without: "no container starts"}, lookMountSetattr},
		{Feature{Name: "setns by pidfd", Needed: true, Without: "no exec in containers"}, lookSetns},
		{Feature{Name: "pidfd exit status", Without: "the exit code of a container whose shim was killed is always lost"}, lookExitStatus},
		{Feature{Name: "overlay layers by descriptor", Without: "layers are given by path, which takes a little longer"}, lookOverlayByFD},
		{Feature{Name: "clone into a cgroup", Without: "containers on cgroup version 2 do not start"}, lookCloneIntoCgroup},
		{Feature{Name: "cgroup.kill", Without: "containers are killed process by process"}, lookCgroupKill},
		{Feature{Name: "Landlock", Without: "nothing yet"}, lookLandlock},
	}
	out := make([]Feature, 0, len(probes))
	for _, p := range probes {
		p.Feature.Detail, p.Feature.Err = p.look()
		out = append(out, p.Feature)
	}
	return out
}

func lookOpenat2() (string, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: uint64(InRoot)})
	if err == nil {
		unix.Close(fd)
	}
	return "", err
}

func lookCloseRange() (string, error) {
	// There are no descriptors so high.
	return "", unix.CloseRange(1<<31-2, 1<<31-1, 0)
}

func lookMountSetattr() (string, error) {
	m, err := MountFS("tmpfs", nil, AttrNoDev)
	if err != nil {
		return "", err
	}
	defer m.Close()
	return "", unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: AttrReadOnly})
}

func lookSetns() (string, error) {
	pidfd, err := OpenProcess(os.Getpid())
	if err != nil {
		return "", err
	}
	defer pidfd.Close()
	done := make(chan error)
	go onDoomedThread(done, func() error { return unix.Setns(int(pidfd.Fd()), unix.CLONE_NEWUTS) })
	return "", <-done
}

// lookExitStatus asks for an exit that there is not.
func lookExitStatus() (string, error) {
	pidfd, err := OpenProcess(os.Getpid())
	if err != nil {
		return "", err
	}
	defer pidfd.Close()
	// A living process has none; an old kernel does not know the question.
	if _, err := ExitStatus(pidfd); !errors.Is(err, errdefs.ErrNotFound) {
		return "", err
	}
	return "", nil
}

func lookOverlayByFD() (string, error) {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", err
	}
	defer unix.Close(fs)
	root, err := openPath("/")
	if err != nil {
		return "", err
	}
	defer root.Close()
	return "", unix.FsconfigSetFd(fs, "lowerdir+", int(root.Fd()))
}

// unifiedRoot is where cgroup version 2 is mounted.
func unifiedRoot() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		before, after, _ := strings.Cut(line, " - ")
		if f := strings.Fields(before); strings.HasPrefix(after, "cgroup2 ") && len(f) > 4 && f[3] == "/" {
			return f[4], nil
		}
	}
	return "", fmt.Errorf("cgroup version 2 is not mounted: %w", errdefs.ErrUnsupported)
}

func lookCloneIntoCgroup() (string, error) {
	if _, err := unifiedRoot(); err != nil {
		return "", err
	}
	// Without arguments of the right size nothing is cloned: E2BIG or EINVAL from kernels that know the flag's structure.
	var args [11]uint64
	args[0] = 1 << 33 // CLONE_INTO_CGROUP
	args[10] = 1<<64 - 1
	_, _, errno := unix.Syscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args), 0)
	if errno == unix.EINVAL || errno == unix.EBADF {
		return "", nil
	}
	return "", errno
}

func lookCgroupKill() (string, error) {
	root, err := unifiedRoot()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(root + "/*/cgroup.kill")
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no cgroup has it: %w", errdefs.ErrUnsupported)
	}
	return "", err
}

func lookLandlock() (string, error) {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	if errno != 0 {
		return "", errno
	}
	return fmt.Sprintf("version %d", abi), nil
}
