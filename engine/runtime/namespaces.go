package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// namespaces are a container's, as far as they exist before its process.
type namespaces struct {
	// user is nil for the host's.
	user *os.File
	// net is nil for the host's.
	net *os.File
	// netOwned: the network namespace belongs to the user namespace (or is
	// simply not the host's, without one), so that its settings are the container's.
	netOwned bool
	// joined are further namespaces to join, each with its CLONE_NEW* flag.
	joined []joinedNamespace
	// unshare are the CLONE_NEW* flags of those to be made.
	unshare uintptr
	// pid: the process must fork once more to enter its PID namespace.
	pid bool
	// has tells which namespaces are not the host's.
	has map[specs.LinuxNamespaceType]bool
}

type joinedNamespace struct {
	file *os.File
	flag uintptr
	kind specs.LinuxNamespaceType
}

var namespaceFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.MountNamespace: kernel.NewMount, specs.PIDNamespace: kernel.NewPID, specs.IPCNamespace: kernel.NewIPC,
	specs.UTSNamespace: kernel.NewUTS, specs.CgroupNamespace: kernel.NewCgroup, specs.NetworkNamespace: kernel.NewNet,
	specs.UserNamespace: kernel.NewUser, specs.TimeNamespace: kernel.NewTime,
}

// openNamespaces opens those that s names and makes user and network namespaces that it doesn't name.
func openNamespaces(s *specs.Spec) (n *namespaces, err error) {
	n = &namespaces{has: map[specs.LinuxNamespaceType]bool{}}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	newNet := false
	for _, ns := range s.Linux.Namespaces {
		flag, ok := namespaceFlags[ns.Type]
		if !ok || ns.Type == specs.TimeNamespace {
			return n, fmt.Errorf("namespace %q: %w", ns.Type, errdefs.ErrUnsupported)
		}
		if n.has[ns.Type] {
			return n, fmt.Errorf("namespace %q is given twice: %w", ns.Type, errdefs.ErrInvalid)
		}
		n.has[ns.Type] = true
		if ns.Type == specs.PIDNamespace {
			n.pid = true
		}
		if ns.Path == "" {
			switch ns.Type {
			case specs.UserNamespace:
			case specs.NetworkNamespace:
				newNet = true
			default:
				n.unshare |= flag
			}
			continue
		}
		f, err := kernel.Open(ns.Path, os.O_RDONLY)
		if err != nil {
			return n, fmt.Errorf("%s namespace: %v: %w", ns.Type, err, errdefs.ErrInvalid)
		}
		switch ns.Type {
		case specs.UserNamespace:
			n.user = f
		case specs.NetworkNamespace:
			n.net = f
		case specs.MountNamespace:
			f.Close()
			return n, fmt.Errorf("joining a mount namespace: %w", errdefs.ErrUnsupported)
		default:
			n.joined = append(n.joined, joinedNamespace{f, flag, ns.Type})
		}
	}
	if !n.has[specs.MountNamespace] {
		return n, fmt.Errorf("a container without a mount namespace: %w", errdefs.ErrUnsupported)
	}
	if n.has[specs.UserNamespace] && n.user == nil {
		m := kernel.IDMap{UIDs: idRanges(s.Linux.UIDMappings), GIDs: idRanges(s.Linux.GIDMappings)}
		if len(m.UIDs) == 0 || len(m.GIDs) == 0 {
			return n, fmt.Errorf("a new user namespace needs id mappings: %w", errdefs.ErrInvalid)
		}
		user, net, err := kernel.NewNamespaces(m, newNet)
		if err != nil {
			return n, err
		}
		n.user = user
		if newNet {
			n.net, newNet = net, false
		}
	}
	if newNet {
		n.unshare |= kernel.NewNet
		n.netOwned = true
	}
	if n.net != nil {
		if n.user != nil {
			n.netOwned, err = kernel.OwnerOf(n.net, n.user)
		} else {
			n.netOwned, err = kernel.IsForeignNamespace(n.net, "net")
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func idRanges(m []specs.LinuxIDMapping) []kernel.IDRange {
	var out []kernel.IDRange
	for _, r := range m {
		out = append(out, kernel.IDRange{Container: r.ContainerID, Host: r.HostID, Size: r.Size})
	}
	return out
}

// hostID translates an id of the container to the host's; ok is false if it is not mapped.
func hostID(m []specs.LinuxIDMapping, id uint32) (host uint32, ok bool) {
	for _, r := range m {
		if id >= r.ContainerID && id-r.ContainerID < r.Size {
			return r.HostID + id - r.ContainerID, true
		}
	}
	return 0, false
}

func (n *namespaces) close() {
	for _, f := range []*os.File{n.user, n.net} {
		if f != nil {
			f.Close()
		}
	}
	for _, j := range n.joined {
		j.file.Close()
	}
}

// userFD is the user namespace's descriptor, or -1.
func (n *namespaces) userFD() int {
	if n.user == nil {
		return -1
	}
	return int(n.user.Fd())
}
