package runtime

import (
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// devPool keeps one /dev ready: to make its devices takes fifty system calls.
type devPool struct {
	ready chan *os.File
	// idmapped: a /dev that the host's root owns can be any container's.
	idmapped bool
	options  mountOptions
}

func newDevPool() (*devPool, error) {
	o, err := parseMount(specs.Mount{Destination: "/dev", Type: "tmpfs", Options: devOptions})
	if err != nil {
		return nil, err
	}
	p := &devPool{ready: make(chan *os.File, 1), options: o}
	first, err := p.make(0)
	if err != nil {
		return p, nil // the agent may make no devices: there is never one ready
	}
	defer first.Close()
	// A tmpfs can be idmapped since Linux 6.3.
	user, _, err := kernel.NewNamespaces(kernel.IDMap{
		UIDs: []kernel.IDRange{{Host: 1, Size: 1}}, GIDs: []kernel.IDRange{{Host: 1, Size: 1}},
	}, false)
	if err != nil {
		return p, nil
	}
	defer user.Close()
	p.idmapped = kernel.MapIDs(first, user) == nil
	return p, nil
}

func (p *devPool) make(owner uint32) (*os.File, error) {
	return kernel.MountDev(p.options.data, p.options.set, owner)
}

// fill makes what is missing.
func (p *devPool) fill() {
	if !p.idmapped || len(p.ready) > 0 {
		return
	}
	f, err := p.make(0)
	if err != nil {
		return
	}
	select {
	case p.ready <- f:
	default:
		f.Close()
	}
}

// take returns the /dev that is ready, mapped for user if that is not nil, or nil.
func (p *devPool) take(user *os.File) *os.File {
	select {
	case f := <-p.ready:
		if user == nil || kernel.MapIDs(f, user) == nil {
			return f
		}
		f.Close()
	default:
	}
	return nil
}

func (p *devPool) close() {
	if f := p.take(nil); f != nil {
		f.Close()
	}
}

// standardDev is /dev with the standard devices, made with the agent's rights: with a tenth of the
// system calls that devices takes. It fails if the agent may make no devices.
func (m *mounter) standardDev() (kernel.Ref, error) {
	owner := uint32(0)
	if m.ns.user != nil {
		uid, isUID := hostID(m.spec.Linux.UIDMappings, 0)
		gid, isGID := hostID(m.spec.Linux.GIDMappings, 0)
		if owner = uid; !isUID || !isGID || uid != gid {
			return kernel.Ref{}, errdefs.ErrUnsupported
		}
	}
	f := m.r.devs.take(m.ns.user)
	if f == nil {
		var err error
		if f, err = m.r.devs.make(owner); err != nil {
			return kernel.Ref{}, err
		}
	}
	m.dev = m.fd(f)
	return m.dev, nil
}
