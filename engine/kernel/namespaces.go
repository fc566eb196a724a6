package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel/fork"
)

// IDRange maps Size ids from Container on, inside a user namespace, to those from Host
// on, outside.
type IDRange struct{ Container, Host, Size uint32 }

// IDMap is a user namespace's two maps.
type IDMap struct{ UIDs, GIDs []IDRange }

// CreateNamespaces makes a user namespace with the map m and a network namespace
// that it owns, and pins them as bind mounts dir/user and dir/net. The directory is
// made if absent. Namespaces that are pinned already stay as they are.
//
// A pin outlives every process; only RemoveNamespaces or a reboot ends it.
func CreateNamespaces(dir string, m IDMap) error {
	if pinned(dir+"/user") && pinned(dir+"/net") {
		return nil
	}
	if err := RemoveNamespaces(dir); err != nil {
		return err
	}
	user, net, err := NewNamespaces(m, true)
	if err != nil {
		return fmt.Errorf("namespaces %s: %w", dir, err)
	}
	defer user.Close()
	defer net.Close()
	return PinNamespaces(dir, user, net)
}

// PinNamespaces pins namespaces as CreateNamespaces does. Nothing must be pinned in dir.
func PinNamespaces(dir string, user, net *os.File) error {
	err := os.MkdirAll(dir, 0o700)
	if err == nil {
		err = errors.Join(pin(user, dir+"/user"), pin(net, dir+"/net"))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("namespaces %s: %w", dir, err), RemoveNamespaces(dir))
	}
	return nil
}

// RemoveNamespaces removes the pins and dir. Nil means that they aren't there.
func RemoveNamespaces(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range []string{"net", "user"} {
		path := filepath.Join(dir, name)
		if err := Unmount(path); err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove pin: %w", err)
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove namespace directory: %w", err)
	}
	return nil
}

// NewNamespaces makes a user namespace with the map m and, if asked for, a network
// namespace that it owns. They live as long as the descriptors or whoever joins them.
func NewNamespaces(m IDMap, network bool) (user, net *os.File, err error) {
	flags := uintptr(unix.CLONE_NEWUSER)
	if network {
		flags |= unix.CLONE_NEWNET
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	holder, err := fork.Park(flags)
	if err != nil {
		kind := errdefs.ErrUnavailable
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EPERM) {
			kind = errdefs.ErrExhausted // user.max_*_namespaces
		}
		return nil, nil, fmt.Errorf("new namespaces: %v: %w", err, kind)
	}
	defer holder.Kill()
	proc := "/proc/" + strconv.Itoa(holder.PID)
	for _, f := range []struct {
		name string
		m    []IDRange
	}{{"/uid_map", m.UIDs}, {"/gid_map", m.GIDs}} {
		if err := writeMap(proc+f.name, f.m); err != nil {
			return nil, nil, err
		}
	}
	if user, err = os.Open(proc + "/ns/user"); err != nil {
		return nil, nil, fmt.Errorf("user namespace: %w", err)
	}
	if network {
		if net, err = os.Open(proc + "/ns/net"); err != nil {
			user.Close()
			return nil, nil, fmt.Errorf("network namespace: %w", err)
		}
	}
	return user, net, nil
}

func writeMap(path string, ranges []IDRange) error {
	var b strings.Builder
	for _, r := range ranges {
		fmt.Fprintf(&b, "%d %d %d\n", r.Container, r.Host, r.Size)
	}
	// One write only is accepted (user_namespaces(7)).
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	_, err = f.WriteString(b.String())
	f.Close()
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("id map %q: %v: %w", b.String(), err, errdefs.ErrInvalid)
	}
	if err != nil {
		return fmt.Errorf("id map: %w", err)
	}
	return nil
}

// pin mounts a namespace on a file.
func pin(ns *os.File, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return fmt.Errorf("pin: %w", err)
	}
	f.Close()
	if err := unix.Mount(fdPath(int(ns.Fd())), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("pin %s: %w", path, err)
	}
	return nil
}

// pinned tells whether a namespace is mounted on path.
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// OwnerOf tells whether the namespace ns belongs to the user namespace user.
func OwnerOf(ns, user *os.File) (bool, error) {
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err == unix.EPERM { // an owner that the caller may not see
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("owner of namespace: %w", err)
	}
	owner := os.NewFile(uintptr(fd), "userns")
	defer owner.Close()
	a, err := owner.Stat()
	if err != nil {
		return false, fmt.Errorf("owner of namespace: %w", err)
	}
	b, err := user.Stat()
	if err != nil {
		return false, fmt.Errorf("owner of namespace: %w", err)
	}
	return os.SameFile(a, b), nil
}

// Flags of clone(2) and setns(2).
const (
	NewMount  = unix.CLONE_NEWNS
	NewPID    = unix.CLONE_NEWPID
	NewIPC    = unix.CLONE_NEWIPC
	NewUTS    = unix.CLONE_NEWUTS
	NewCgroup = unix.CLONE_NEWCGROUP
	NewNet    = unix.CLONE_NEWNET
	NewUser   = unix.CLONE_NEWUSER
	NewTime   = unix.CLONE_NEWTIME
)

// IsForeignNamespace tells whether ns is another one than the agent's own of that kind, e.g. "net".
func IsForeignNamespace(ns *os.File, kind string) (bool, error) {
	own, err := os.Stat("/proc/self/ns/" + kind)
	if err != nil {
		return false, fmt.Errorf("own namespace: %w", err)
	}
	other, err := ns.Stat()
	if err != nil {
		return false, fmt.Errorf("namespace: %w", err)
	}
	return !os.SameFile(own, other), nil
}
