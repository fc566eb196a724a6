package runtime

import (
	"log/slog"
)

// Options configure a Runtime.
type Options struct {
	// RunDir holds sockets, exit records and what is needed to adopt running
	// containers. It is made with mode 0700; it may be on a tmpfs, since nothing in
	// it is of use after a reboot.
	RunDir string
	// CgroupParent is the cgroup, in every hierarchy, under which the containers'
	// and the shims' cgroups are made, e.g. "/nova-agent".
	CgroupParent string
	// WarmShims is how many idle shims are kept ready; 0 means 2.
	WarmShims int
	// Logger is told what no caller waits for: a shim that died, a limit that could not
	// be set. Nil discards.
	Logger *slog.Logger
}
