package engine

import (
	"strings"
	"syscall"
	"time"

	"novaagent/engine/network"
)

// Owner says which door made a container. The other door may look at it, not
// change it.
type Owner string

// The two doors.
const (
	OwnerNova   Owner = "nova"
	OwnerDocker Owner = "docker"
)

// Spec is what a front wants run. The engine keeps it as it was given; what it
// decides itself (command, user, directories) is in Container.
type Spec struct {
	// ID is 64 lower-case hex digits; Create makes one up if it is empty.
	ID string
	// Name is unique among the containers: [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most
	// 128 bytes. Create makes one of the ID if it is empty.
	Name  string
	Owner Owner

	// Image is the digest of a manifest or a name known to the image store. If
	// it is empty, Rootfs is the host directory to use as the read-only lower layer.
	Image string `json:",omitempty"`
	// ImageName is what the image is called in logs; Image if empty.
	ImageName string `json:",omitempty"`
	Rootfs    string `json:",omitempty"`

	// Entrypoint and Args make the command, in this order. Nil takes the
	// image's; setting Entrypoint alone drops the image's arguments, as Docker
	// does. An empty, non-nil Entrypoint means none.
	Entrypoint []string `json:",omitempty"`
	Args       []string `json:",omitempty"`
	// NoEntrypoint drops the image's entrypoint (docker run --entrypoint "").
	NoEntrypoint bool `json:",omitempty"`
	// Env is KEY=value, added to the image's and replacing equal keys. A bare
	// KEY removes the image's.
	Env []string `json:",omitempty"`
	// WorkDir replaces the image's; it is made if missing. "/" if both are empty.
	WorkDir string `json:",omitempty"`
	// User is user[:group], names or numbers; names are looked up in the root
	// file system's /etc/passwd and /etc/group. Empty takes the image's.
	User string `json:",omitempty"`
	// Groups are supplementary groups besides those that User has, as numbers.
	Groups     []string `json:",omitempty"`
	Hostname   string   `json:",omitempty"` // the ID's first 12 digits if empty
	Domainname string   `json:",omitempty"`
	// TTY gives the first process a pseudo-terminal as its three streams.
	TTY bool `json:",omitempty"`
	// OpenStdin keeps standard input open while nobody is attached; StdinOnce
	// closes it when the first client that attached goes.
	OpenStdin bool              `json:",omitempty"`
	StdinOnce bool              `json:",omitempty"`
	Labels    map[string]string `json:",omitempty"`
	// StopSignal replaces the image's, SIGTERM if neither has one.
	StopSignal syscall.Signal `json:",omitempty"`
	// StopGrace is how long Stop and Restart wait before SIGKILL if their
	// caller names no time; DefaultStopGrace if zero, for ever if negative.
	StopGrace time.Duration `json:",omitempty"`
	// Init runs a minimal init as process 1, which passes signals on and reaps orphans, unless the PID namespace
	// is another's.
	Init bool `json:",omitempty"`
	// CDIDevices are devices of the Container Device Interface, as vendor.com/class=name. For OwnerDocker only.
	CDIDevices []string `json:",omitempty"`
	// Umask is the first process's and the execs'; nil for 022.
	Umask *uint32 `json:",omitempty"`
	// Annotations go to the OCI runtime.
	Annotations map[string]string `json:",omitempty"`

	// Runtime is one of Options.Runtimes, or the engine's own if empty.
	Runtime string `json:",omitempty"`

	Namespaces Namespaces `json:",omitzero"`
	// CgroupParent is the cgroup below which the container's is made, in every hierarchy; the
	// engine's if empty. It is made if absent, and never removed.
	CgroupParent string `json:",omitempty"`

	Resources Resources         `json:",omitzero"`
	Mounts    []Mount           `json:",omitempty"`
	Sysctls   map[string]string `json:",omitempty"`
	Security  Security          `json:",omitzero"`

	// VolumesFrom are containers whose volumes and binds are mounted too, each as
	// ID[:ro] or NAME[:ro], where Mounts has nothing at their targets.
	VolumesFrom []string `json:",omitempty"`
	// VolumeDriver is the plug-in that makes the anonymous volumes; empty is "local".
	VolumeDriver string `json:",omitempty"`
	// Volumes are targets for an anonymous volume each, unless something is mounted there
	// already; ImageVolumes adds those that the image declares.
	Volumes      []string `json:",omitempty"`
	ImageVolumes bool     `json:",omitempty"`

	NetworkMode NetworkMode `json:",omitempty"` // NetworkNone if empty
	// Networks come with NetworkBridge: the default bridge network if there are none. The first
	// one's device is eth0.
	Networks []Join `json:",omitempty"`
	// Endpoints come with NetworkEndpoints. With NetworkBridge they are the engine's, those of the latest start.
	Endpoints []network.Endpoint `json:",omitempty"`
	Ports     []Port             `json:",omitempty"` // with NetworkBridge only
	// Exposed are ports such as "80/tcp" that containers with a link to this one are told of.
	Exposed []string `json:",omitempty"`
	DNS     DNS      `json:",omitzero"`

	// Health is how to find out whether the container works; nil for not at all.
	Health *Healthcheck `json:",omitempty"`

	Log        LogConfig     `json:",omitzero"`
	AutoRemove bool          `json:",omitempty"`
	Restart    RestartPolicy `json:",omitzero"`

	// Front is opaque to the engine: what the owner's door wants to find again,
	// such as the request that it made this Spec of.
	Front []byte `json:",omitempty"`
}

// NetworkMode is one of the constants below, or "container:" and the ID of the
// container whose network to share.
type NetworkMode string

const (
	// NetworkNone: a namespace of its own with loopback only.
	NetworkNone NetworkMode = "none"
	// NetworkEndpoints: a namespace of its own with the Spec's endpoints.
	NetworkEndpoints NetworkMode = "endpoints"
	// NetworkBridge: a namespace of its own with an address in each of the Spec's Networks, while it
	// runs. For OwnerDocker only.
	NetworkBridge NetworkMode = "bridge"
	// NetworkHost: the host's. For containers of OwnerDocker only.
	NetworkHost NetworkMode = "host"
)

// NamespaceMode is empty for a namespace of the container's own, NamespaceHost, or "container:" and the ID or
// name of the container whose namespace to share. Create replaces the name by the ID.
type NamespaceMode string

const (
	NamespaceHost NamespaceMode = "host"
	// NamespaceNone, for IPC: a namespace of its own without /dev/shm.
	NamespaceNone NamespaceMode = "none"
	// NamespaceShareable, for IPC: another container may share it.
	NamespaceShareable NamespaceMode = "shareable"

	containerMode = "container:"
)

// Container is the container whose namespace m shares; ok is false if there is none.
func (m NamespaceMode) Container() (ref string, ok bool) {
	return strings.CutPrefix(string(m), containerMode)
}

// Namespaces are those that can be another's, besides Spec.NetworkMode. For OwnerDocker only.
//
// Who shares another container's PID or IPC namespace has its user namespace, too, without which that would be
// of no use; who has the host's has no user namespace of its own.
type Namespaces struct {
	PID    NamespaceMode `json:",omitempty"` // the host's or a container's
	IPC    NamespaceMode `json:",omitempty"` // any
	UTS    NamespaceMode `json:",omitempty"` // the host's
	Cgroup NamespaceMode `json:",omitempty"` // the host's
}

// Resources are limits, not wishes. Zero is no limit unless said otherwise.
type Resources struct {
	MemoryBytes int64 `json:",omitempty"`
	// MemoryReservationBytes is the soft limit.
	MemoryReservationBytes int64 `json:",omitempty"`
	// SwapBytes is swap besides memory: 0 for none, negative for no limit. It
	// means nothing without MemoryBytes.
	SwapBytes int64 `json:",omitempty"`
	// CPUMilli is the quota in thousandths of a processor.
	CPUMilli int64 `json:",omitempty"`
	// CPUPeriod replaces the quota's period of 100 ms.
	CPUPeriod time.Duration `json:",omitempty"`
	// CPUShares is the weight as cgroup v1 counts it, 2 to 262144; 1024 is
	// the default. It is converted for cgroup v2.
	CPUShares uint64 `json:",omitempty"`
	// CPUs and Mems are lists such as "0-3,7".
	CPUs string `json:",omitempty"`
	Mems string `json:",omitempty"`
	// PidsLimit bounds processes and threads: DefaultPidsLimit if zero,
	// none if negative.
	PidsLimit int64 `json:",omitempty"`
	// DiskBytes is the quota of what the container may write into its root file
	// system.
	DiskBytes   int64  `json:",omitempty"`
	BlkioWeight uint16 `json:",omitempty"` // 10 to 1000
	// BlkioDevices are limits of single block devices.
	BlkioDevices []BlkioDevice `json:",omitempty"`
	// MemorySwappiness is 0 to 100, nil for the host's; OOMKillDisable lets processes wait at the memory
	// limit. Both work with cgroup v1 only: see Engine.Supports.
	MemorySwappiness *uint64 `json:",omitempty"`
	OOMKillDisable   bool    `json:",omitempty"`
	// CPURealtimePeriod and CPURealtimeRuntime bound real-time processes, on kernels that can (cgroup v1).
	CPURealtimePeriod  time.Duration `json:",omitempty"`
	CPURealtimeRuntime time.Duration `json:",omitempty"`
	// Devices are device nodes of the host's, DeviceRules further rules of the devices cgroup, in
	// the kernel's words: "c 10:229 rwm".
	Devices     []Device `json:",omitempty"`
	DeviceRules []string `json:",omitempty"`
	// OOMScoreAdj is -1000 to 1000; a host that refuses it is warned about once.
	OOMScoreAdj int `json:",omitempty"`
	// ShmBytes is the size of /dev/shm, 64 MiB if zero.
	ShmBytes int64    `json:",omitempty"`
	Ulimits  []Ulimit `json:",omitempty"`
}

// Device is a device node that the container gets, or a directory of them.
type Device struct {
	Host string // path on the host
	// Container is the path in the container, below /dev; Host if empty.
	Container string `json:",omitempty"`
	// Access is of r, w and m; all if empty.
	Access string `json:",omitempty"`
}

// BlkioDevice is a limit of one block device.
type BlkioDevice struct {
	Kind  BlkioKind
	Path  string // the device's, on the host
	Value uint64
}

// BlkioKind says what a BlkioDevice limits.
type BlkioKind string

const (
	BlkioDeviceWeight    BlkioKind = "weight" // 10 to 1000
	BlkioDeviceReadBps   BlkioKind = "read-bps"
	BlkioDeviceWriteBps  BlkioKind = "write-bps"
	BlkioDeviceReadIOps  BlkioKind = "read-iops"
	BlkioDeviceWriteIOps BlkioKind = "write-iops"
)

// Ulimit is one resource limit of the processes; Name is as setrlimit's
// constant without RLIMIT_, in lower case: "nofile".
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// MountType says where a mount's files come from.
type MountType string

const (
	MountBind  MountType = "bind"  // Source is a host directory or file
	MountTmpfs MountType = "tmpfs" // in memory, SizeBytes long
	// MountVolume: Source is a volume's name, or empty for an anonymous one.
	// It is made if there is none.
	MountVolume MountType = "volume"
)

// Mount is a file system or directory the container sees at Target.
type Mount struct {
	Type     MountType
	Source   string `json:",omitempty"`
	Target   string // absolute, inside the container
	ReadOnly bool   `json:",omitempty"`
	// NoSuid, NoDev and NoExec add the mount flag of that name.
	NoSuid bool `json:",omitempty"`
	NoDev  bool `json:",omitempty"`
	NoExec bool `json:",omitempty"`
	// Recursive takes along what is mounted below Source.
	Recursive bool `json:",omitempty"`
	// Propagation is "private" (if empty), "rprivate", "slave" or "rslave".
	Propagation string `json:",omitempty"`
	// CreateSource makes Source a directory if nothing is there (docker run -v).
	CreateSource bool `json:",omitempty"`
	// SizeBytes (0: half of the memory) and Mode (0: 1777) are for tmpfs.
	SizeBytes int64  `json:",omitempty"`
	Mode      uint32 `json:",omitempty"`
	// UID and GID own a tmpfs's root, as numbers inside the container.
	UID uint32 `json:",omitempty"`
	GID uint32 `json:",omitempty"`
	// Volume is for MountVolume only.
	Volume VolumeMount `json:",omitzero"`
}

// VolumeMount says how a volume is mounted, and made if it isn't there.
type VolumeMount struct {
	// NoCopy leaves an empty volume empty; otherwise it gets what the image has at the target.
	NoCopy bool `json:",omitempty"`
	// Subpath is what to mount of the volume, relative to its top.
	Subpath string `json:",omitempty"`
	// Driver is the plug-in of the volume, empty for "local"; Labels and Options are the volume's. They count
	// if this mount makes it.
	Driver  string            `json:",omitempty"`
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
	// Anonymous: RemoveOptions.Volumes takes the volume along. Set by the engine.
	Anonymous bool `json:",omitempty"`
}

// Security widens or narrows the default profile: a user namespace with an id
// range of its own, Docker's 14 capabilities, seccomp, masked paths.
type Security struct {
	// Privileged gives every capability and device this host can give, without
	// seccomp and masks, and no user namespace. For OwnerDocker only.
	Privileged bool `json:",omitempty"`
	// HostUserns does without the user namespace (docker run --userns host).
	// For OwnerDocker only.
	HostUserns bool     `json:",omitempty"`
	CapAdd     []string `json:",omitempty"` // "NET_ADMIN", "CAP_NET_ADMIN" or "ALL"
	CapDrop    []string `json:",omitempty"`
	// System is the profile for images that run systemd: more capabilities
	// inside the user namespace, a delegated cgroup.
	System          bool `json:",omitempty"`
	NoNewPrivileges bool `json:",omitempty"`
	ReadonlyRootfs  bool `json:",omitempty"`
	// Seccomp is empty for the default profile, "unconfined", or a profile in
	// Docker's JSON.
	Seccomp string `json:",omitempty"`
	// Unmasked leaves /proc and /sys unmasked (--security-opt systempaths=unconfined).
	Unmasked bool `json:",omitempty"`
	// MaskedPaths and ReadonlyPaths replace the defaults unless nil.
	MaskedPaths   []string
	ReadonlyPaths []string
	// WritableCgroups mounts the container's cgroup writable.
	WritableCgroups bool `json:",omitempty"`
}

// DNS makes /etc/resolv.conf and /etc/hosts.
type DNS struct {
	Nameservers []string `json:",omitempty"`
	Search      []string `json:",omitempty"`
	Options     []string `json:",omitempty"`
	// Hosts are lines "name:address" besides localhost and the container's own. The address host-gateway is the
	// host's, in the network that has the container's default route; without one there is no such line.
	Hosts []string `json:",omitempty"`
}

// LogConfig says what becomes of the output of the first process.
type LogConfig struct {
	// Driver is one of LogDrivers, json-file if empty.
	Driver string `json:",omitempty"`
	// MaxBytes rotates a file when it is that long (DefaultLogBytes if zero),
	// MaxFiles bounds how many are kept (DefaultLogFiles if zero).
	MaxBytes int64 `json:",omitempty"`
	MaxFiles int   `json:",omitempty"`
	// Compress compresses rotated files; MaxFiles must not be 1.
	Compress bool `json:",omitempty"`
	// NoCache refuses to show the log of a driver that sends it elsewhere.
	NoCache bool `json:",omitempty"`
	// Options are the driver's other ones, with Docker's names.
	Options map[string]string `json:",omitempty"`
}

// RestartMode says when the engine starts a container again by itself.
type RestartMode string

const (
	RestartNo            RestartMode = "no"
	RestartOnFailure     RestartMode = "on-failure"
	RestartAlways        RestartMode = "always"
	RestartUnlessStopped RestartMode = "unless-stopped"
)

// RestartPolicy is Docker's. The wait before a restart doubles from 100 ms to a
// minute, and begins again after ten seconds of running.
type RestartPolicy struct {
	Mode RestartMode `json:",omitempty"` // RestartNo if empty
	// MaxRetries bounds RestartOnFailure; 0 is no bound.
	MaxRetries int `json:",omitempty"`
}

// Defaults of Spec's fields.
const (
	DefaultStopGrace = 10 * time.Second
	DefaultPidsLimit = 4096
	DefaultLogBytes  = 16 << 20
	DefaultLogFiles  = 3
)
