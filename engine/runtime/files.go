package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Root opens the root directory of the container's first process, as a reference, with all
// that is mounted there. errdefs.ErrConflict: the container has ended.
func (t *Task) Root() (*os.File, error) {
	pid, target, err := t.first()
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", t.rec.ID, err)
	}
	defer target.Close()
	return openRoot(pid, target)
}

// first is the container's first process, with a pidfd of the caller's own. ErrConflict: it has ended.
func (t *Task) first() (pid int, pidfd *os.File, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended || t.pidfd == nil {
		return 0, nil, fmt.Errorf("the container has ended: %w", errdefs.ErrConflict)
	}
	pidfd, err = kernel.Duplicate(t.pidfd, firstFD)
	return t.pid, pidfd, err
}

// LookupUser is the number of a user and its group in the file system at root; spec is Docker's
// user[:group]. errdefs.ErrInvalid: there is no such user or group.
func LookupUser(root *os.File, spec string) (uid, gid uint32, err error) {
	a, err := lookupUser(root, spec)
	return a.uid, a.gid, err
}

// Tree describes the file system of a container as it is without a process.
type Tree struct {
	Rootfs Rootfs
	// Path is the root file system if Rootfs has no layers.
	Path string
	// Mounts are the bind mounts.
	Mounts []specs.Mount
	// IDs are the container's in the host's user namespace; a Size of 0 means that it has no other.
	IDs kernel.IDRange
	// ReadOnly makes the root file system read-only.
	ReadOnly bool
}

// Open mounts the tree where only the result leads to it. errdefs.ErrInvalid: a bind mount's source is wrong.
func (t Tree) Open() (*kernel.Tree, error) {
	l := &launch{spec: &specs.Spec{Root: &specs.Root{Path: t.Path}, Linux: &specs.Linux{}}, ns: &namespaces{}}
	var opened []*os.File
	defer func() {
		for _, f := range append(opened, l.files...) {
			f.Close()
		}
	}()
	if t.IDs.Size > 0 {
		user, _, err := kernel.NewNamespaces(kernel.IDMap{UIDs: []kernel.IDRange{t.IDs}, GIDs: []kernel.IDRange{t.IDs}}, false)
		if err != nil {
			return nil, err
		}
		l.ns.user = user
		opened = append(opened, user)
	}
	root, err := openRootfs(Bundle{Rootfs: t.Rootfs}, l.spec, l.ns, nil)
	if err != nil {
		return nil, err
	}
	opened = append(opened, root)
	m := &mounter{launch: l}
	var mounts []kernel.TreeMount
	for _, mount := range t.Mounts {
		o, err := parseMount(mount)
		if err != nil {
			return nil, err
		}
		f, _, err := m.cloneSource(mount, mount.Destination, o)
		if err != nil {
			return nil, err
		}
		opened = append(opened, f)
		mounts = append(mounts, kernel.TreeMount{Mount: f, Target: mount.Destination})
	}
	return kernel.NewTree(root, t.IDs.Host, mounts, t.ReadOnly)
}
