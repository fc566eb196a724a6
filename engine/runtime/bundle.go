package runtime

import (
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Bundle is all that Start needs to know of a container.
type Bundle struct {
	// ID names the container: its cgroup, its directory in RunDir. Letters, digits,
	// '-', '_' and '.' only.
	ID string
	// Spec is an OCI runtime specification. A namespace with a Path is joined
	// (user and network usually are, see kernel.CreateNamespaces), one without is made
	// new. Spec.Root.Path is used if Rootfs.Lowers is empty. Hooks are not supported.
	Spec *specs.Spec
	// Runtime names one of Options.OCI, which then runs the container, hooks included; empty is ours.
	Runtime string
	// Rootfs is the overlay to run on.
	Rootfs Rootfs
	// User is Docker's USER: "", "name", "uid", "name:group", "uid:gid". Names are
	// looked up in /etc/passwd and /etc/group of the root file system. When it is not
	// empty it replaces Spec.Process.User, and the user's supplementary groups are added.
	User string
	// Log says where the output goes.
	Log Log
	// OpenStdin keeps a standard input that Attach can write to; without it the
	// process reads end of file.
	OpenStdin bool
	// StdinOnce closes standard input when the first client that wrote to it
	// leaves.
	StdinOnce bool
	// Attach are clients that see the output from the first byte on. They are
	// disconnected if Start fails.
	Attach []*Attachment
	// Width and Height are the terminal's first size in characters; 0 leaves it unset.
	// Spec.Process.ConsoleSize is used if they are 0.
	Width, Height uint16
	// LateUnmount lets the container's mounts go after its exit has been told, which is then told
	// several milliseconds earlier. A Start of the same ID waits for it. For a container without
	// mounts of the user's: whoever has waited for the exit may want to unmount the source of one.
	LateUnmount bool
	// IgnoreCgroups runs the container in the shims' cgroup (for tests and build steps
	// that do not want limits).
	IgnoreCgroups bool
}

// Rootfs is an overlay mount in the making.
//
// When the container has a user namespace the lower directories are mounted
// idmapped, so that their files appear with the container's ids, and Upper is
// used as it is: the caller gives it the container's root as owner (the host id of
// the container's uid 0) and the mode of the image's root directory.
type Rootfs struct {
	// Lowers are the read-only layers, top first.
	Lowers []string
	// Upper and Work are the writable layer and overlay's work directory, on the
	// same file system. Both empty gives a read-only root.
	Upper, Work string
	// Top, without Upper, is the upper directory of a container to be looked at: a read-only layer
	// above the others, with the container's ids already.
	Top string
}

// Log says what a shim does with a container's output.
type Log struct {
	// Path of the file, in Docker's json-file format; rotated ones get .1, .2
	// appended. Empty: nothing is written.
	Path string
	// MaxBytes is the size at which the file is rotated; 0 means never.
	MaxBytes int64
	// MaxFiles is how many files there are at most, the current one included; 0
	// means 1.
	MaxFiles int
}

// ExecSpec is a further process in a running container. What it doesn't say is
// taken from the container's own process: capabilities, seccomp, rlimits.
type ExecSpec struct {
	// ID names the exec; unique in the container.
	ID string
	// Args is the command. It is looked up in $PATH of Env.
	Args []string
	// Env is added to the container's environment, replacing variables of the same name.
	Env []string
	// WorkDir is the working directory; empty means the container's.
	WorkDir string
	// User as in Bundle.User; empty means the container's user.
	User string
	// TTY allocates a terminal.
	TTY bool
	// Width and Height are the terminal's size in characters; 0 leaves it unset.
	Width, Height uint16
	// OpenStdin connects standard input.
	OpenStdin bool
	// Privileged gives the process all capabilities of the container's user namespace
	// and no seccomp filter.
	Privileged bool
	// Bound ends the process, and its process group, when the Runtime that started it does, or lets go of it.
	Bound bool
}

// Exit tells how a process ended.
type Exit struct {
	// Code is the exit code: 128+Signal if a signal ended the process, 255 if Lost.
	Code int
	// Signal is the number of the signal that ended the process, or 0.
	Signal int
	// OOMKilled is set if the kernel killed a process of the container for want of
	// memory within its limit.
	OOMKilled bool
	// At is when the process ended; if Lost, when that was noticed.
	At time.Time
	// Lost is set if the shim died and nobody knows the true code. Reason says what
	// happened.
	Lost   bool
	Reason string
}

// Stats are a container's counters, read from its cgroups.
type Stats struct {
	At                  time.Time
	CPUNanos            uint64
	CPUUserNanos        uint64
	CPUSystemNanos      uint64
	CPUPeriods          uint64
	CPUThrottledPeriods uint64
	CPUThrottledNanos   uint64
	// MemoryBytes counts page cache; MemoryInactiveFileBytes is the part that is
	// cheaply reclaimed. Docker shows the difference.
	MemoryBytes             uint64
	MemoryInactiveFileBytes uint64
	MemoryLimitBytes        uint64
	MemoryMaxBytes          uint64
	MemoryFailures          uint64
	SwapBytes               uint64
	Pids                    uint64
	PidsLimit               uint64
	OOMKills                uint64
	// CPUNanosEach is CPUNanos by processor, with cgroup v1 only.
	CPUNanosEach []uint64
	// Memory has the values of the kernel's memory.stat.
	Memory map[string]uint64
	Block  []BlockStats
}

// BlockStats are the counters of one block device.
type BlockStats struct {
	Major, Minor          uint64
	ReadBytes, WriteBytes uint64
	ReadOps, WriteOps     uint64
}
