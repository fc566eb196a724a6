package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// mounter appends the steps that build the container's tree of mounts.
//
// Every target is resolved by the kernel with the container's root as root
// (openat2, RESOLVE_IN_ROOT), at the moment when it is needed, and is used
// by descriptor: an image's symbolic link, or another container that exchanges
// directories of a shared volume, cannot lead a mount, or a directory made for one, outside.
type mounter struct {
	*launch
	rootRef  kernel.Ref
	proc     kernel.Ref      // the container's proc, if it has one
	fresh    map[string]bool // of "proc" and "sys", those that show what the host's do
	hostDev  bool            // /dev is a bind mount: its nodes are left alone
	dev      kernel.Ref      // the mount from standardDev, if there is one
	devNull  kernel.Ref
	terminal *kernel.Ref
}

func (m *mounter) compile(cg *cgroup) error {
	for _, mount := range m.spec.Mounts {
		if err := m.mount(mount, cg); err != nil {
			return err
		}
	}
	if !m.hostDev {
		if err := m.devices(); err != nil {
			return err
		}
	}
	if m.spec.Process.Terminal {
		m.allocateTerminal()
	}
	// Before /proc/sys becomes read-only.
	if err := m.sysctls(m.proc); err != nil {
		return err
	}
	if err := m.readonly(); err != nil {
		return err
	}
	return m.mask()
}

// mount appends one mount.
func (m *mounter) mount(mount specs.Mount, cg *cgroup) error {
	dest := path.Clean("/" + mount.Destination)
	if strings.ContainsRune(mount.Destination, 0) || dest == "/" {
		return fmt.Errorf("mount destination %q: %w", mount.Destination, errdefs.ErrInvalid)
	}
	o, err := parseMount(mount)
	if err != nil {
		return err
	}
	if o.bind {
		return m.bind(mount, dest, o)
	}
	var ref kernel.Ref
	resolve := kernel.InRoot
	switch mount.Type {
	case "proc", "sysfs":
		// As in runc: on a symbolic link the masks below would not be where they are looked for.
		resolve = kernel.NoLinks
		m.fresh[strings.TrimPrefix(dest, "/")] = true
		if mount.Type == "sysfs" && !m.mayMountSysfs() {
			if ref, err = m.hostSysfs(o); err != nil {
				return err
			}
			break
		}
		ref = m.b.NewMount(mount.Type, o.data, o.set)
		if mount.Type == "proc" && dest == "/proc" {
			m.proc = ref
		}
	case "cgroup", "cgroup2":
		return m.cgroupMount(dest, o, cg)
	case MountDetached:
		f, err := kernel.OpenPath(mount.Source)
		if err != nil {
			return fmt.Errorf("mount %s: %v: %w", dest, err, errdefs.ErrInvalid)
		}
		ref = m.fd(f)
	case "tmpfs", "mqueue", "devpts", "ramfs":
		if dest == "/dev" && mount.Type == "tmpfs" && len(m.spec.Linux.Devices) > 0 {
			f, err := m.devTmpfs(o)
			if err != nil {
				return err
			}
			ref = m.fd(f)
			m.dev = ref
			break
		}
		if dest == "/dev" && slices.Equal(mount.Options, devOptions) {
			if ref, err = m.standardDev(); err == nil {
				break
			}
		}
		data := o.data
		if mount.Type == "tmpfs" && mount.Source != "" {
			data = append(slices.Clone(data), kernel.MountOption{Key: "source", Value: mount.Source})
		}
		ref = m.b.NewMount(mount.Type, data, o.set)
	default:
		// A block device's or network file system is mounted with the agent's rights.
		data := append([]kernel.MountOption{{Key: "source", Value: mount.Source}}, o.data...)
		f, err := kernel.MountFS(mount.Type, data, o.set|kernel.AttrNoSuid|kernel.AttrNoDev)
		if err != nil {
			return fmt.Errorf("mount %s: %v: %w", dest, err, errdefs.ErrInvalid)
		}
		ref = m.fd(f)
	}
	m.attach(ref, dest, true, resolve)
	if o.propagation != 0 {
		m.b.SetMountAttr(ref, 0, 0, o.propagation, false, dest)
	}
	return nil
}

// attach mounts ref at dest, which is made if absent.
func (m *mounter) attach(ref kernel.Ref, dest string, dir bool, r kernel.Resolution) {
	target := m.target(dest, dir, r)
	m.b.AttachTo(ref, target, dest)
	m.b.Close(target)
}

// target opens a mount point, making it and its parents where they are absent.
func (m *mounter) target(dest string, dir bool, r kernel.Resolution) kernel.Ref {
	b := m.b
	name := strings.TrimPrefix(dest, "/")
	flags := kernel.OPath
	if dir {
		flags |= syscall.O_DIRECTORY
	}
	ref, first := b.OpenIn(m.rootRef, name, flags, r)
	first.Tolerate(syscall.ENOENT)
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parent, _ := b.OpenIn(m.rootRef, strings.Join(parts[:i], "/"), kernel.OPath|syscall.O_DIRECTORY, r)
		if i < len(parts)-1 || dir {
			b.MkdirIn(parent, part, 0o755).Tolerate(syscall.EEXIST)
		} else {
			b.MkfileIn(parent, part, 0o644).Tolerate(syscall.EEXIST)
		}
		b.Close(parent)
	}
	_, again := b.OpenIn(m.rootRef, name, flags, r)
	again.StoreIn(ref)
	first.SkipRestOnSuccess()
	return ref
}

// bind clones a host path with the agent's rights and attaches the clone.
func (m *mounter) bind(mount specs.Mount, dest string, o mountOptions) error {
	f, dir, err := m.cloneSource(mount, dest, o)
	if err != nil {
		return err
	}
	if dest == "/dev" {
		m.hostDev = true
	}
	m.attach(m.fd(f), dest, dir, kernel.InRoot)
	return nil
}

// cloneSource makes the detached mount of a bind mount; dir says that it is a directory.
func (m *mounter) cloneSource(mount specs.Mount, dest string, o mountOptions) (f *os.File, dir bool, err error) {
	if !filepath.IsAbs(mount.Source) {
		return nil, false, fmt.Errorf("bind mount %s: source %q is not absolute: %w", dest, mount.Source, errdefs.ErrInvalid)
	}
	src, err := kernel.OpenPath(mount.Source)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("bind mount %s: source %s does not exist: %w", dest, mount.Source, errdefs.ErrInvalid)
	}
	if err != nil {
		return nil, false, fmt.Errorf("bind mount %s: %v: %w", dest, err, errdefs.ErrInvalid)
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return nil, false, fmt.Errorf("bind mount %s: %w", dest, err)
	}
	bo := kernel.BindOptions{
		Recursive: o.recursive, Set: o.set, Clear: o.clear & o.set, SetAll: o.setAll, IDMap: -1, IDMapAll: o.idmapAll,
		// A clone of a shared mount is its peer; what is mounted in the container must not show outside.
		Propagation: kernel.PropagatePrivate,
	}
	if o.propagation != 0 {
		bo.Propagation = o.propagation
	}
	if o.set&kernel.AttrNoAtime != 0 || o.set&kernel.AttrStrictAtime != 0 {
		bo.Clear |= kernel.AttrAtimeMask
	}
	if o.idmap {
		user, err := m.idmap(mount)
		if err != nil {
			return nil, false, fmt.Errorf("bind mount %s: %w", dest, err)
		}
		bo.IDMap = int(user.Fd())
	}
	f, err = kernel.Bind(int(src.Fd()), "", bo)
	if err != nil {
		if o.idmap && (errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM)) {
			return nil, false, fmt.Errorf("bind mount %s: the file system of %s cannot be idmapped: %v: %w", dest, mount.Source, err, errdefs.ErrUnsupported)
		}
		return nil, false, fmt.Errorf("bind mount %s: %v: %w", dest, err, errdefs.ErrInvalid)
	}
	return f, info.IsDir(), nil
}

// idmap is a user namespace with the mount's map: the container's if the mount has the same or none.
func (m *mounter) idmap(mount specs.Mount) (*os.File, error) {
	same := (len(mount.UIDMappings) == 0 || slices.Equal(mount.UIDMappings, m.spec.Linux.UIDMappings)) &&
		(len(mount.GIDMappings) == 0 || slices.Equal(mount.GIDMappings, m.spec.Linux.GIDMappings))
	if same && m.ns.user != nil {
		return m.ns.user, nil
	}
	if len(mount.UIDMappings) == 0 || len(mount.GIDMappings) == 0 {
		return nil, fmt.Errorf("idmap without a user namespace needs both mappings: %w", errdefs.ErrInvalid)
	}
	user, _, err := kernel.NewNamespaces(kernel.IDMap{UIDs: idRanges(mount.UIDMappings), GIDs: idRanges(mount.GIDMappings)}, false)
	if err != nil {
		return nil, err
	}
	m.files = append(m.files, user)
	return user, nil
}

// mayMountSysfs: only the owner of the network namespace can mount a new sysfs.
func (m *mounter) mayMountSysfs() bool { return m.ns.user == nil || m.ns.netOwned }

// hostSysfs is the host's /sys, read-only: with the host's network there is no other.
func (m *mounter) hostSysfs(o mountOptions) (kernel.Ref, error) {
	f, err := kernel.Bind(kernel.AtCwd, "/sys", kernel.BindOptions{Set: o.set | kernel.AttrReadOnly, Propagation: kernel.PropagatePrivate, IDMap: -1})
	if err != nil {
		return kernel.Ref{}, err
	}
	return m.fd(f), nil
}

// cgroupMount shows the container its own cgroup, as a bind mount of each hierarchy's directory.
func (m *mounter) cgroupMount(dest string, o mountOptions, cg *cgroup) error {
	if cg == nil {
		return nil
	}
	clone := func(dir string) (kernel.Ref, error) {
		f, err := kernel.Bind(kernel.AtCwd, dir, kernel.BindOptions{Set: o.set, Propagation: kernel.PropagatePrivate, IDMap: -1})
		if err != nil {
			return kernel.Ref{}, err
		}
		return m.fd(f), nil
	}
	if cg.h.pure() {
		dir := cg.Unified
		if !m.ns.has[specs.CgroupNamespace] {
			dir = cg.h.unified // as runc: its processes see their place in it
		}
		ref, err := clone(dir)
		if err != nil {
			return err
		}
		m.attach(ref, dest, true, kernel.InRoot)
		return nil
	}
	// v1 and hybrid: a tmpfs with a directory for each hierarchy, named like the host's.
	tmp := m.b.NewMount("tmpfs", []kernel.MountOption{{Key: "mode", Value: "755"}}, o.set&^kernel.AttrReadOnly)
	names := make([]string, 0, len(cg.V1))
	for name := range cg.V1 {
		names = append(names, name)
	}
	slices.Sort(names)
	made := map[string]bool{}
	dirs := make([]string, 0, len(names))
	for _, name := range names {
		dir := filepath.Base(cg.h.v1[name])
		if !made[dir] {
			made[dir] = true
			dirs = append(dirs, dir)
			m.b.MkdirIn(tmp, dir, 0o755)
		}
		if dir != name && !made[name] {
			made[name] = true
			m.b.SymlinkIn(dir, tmp, name)
		}
	}
	m.attach(tmp, dest, true, kernel.InRoot)
	for _, name := range names {
		dir := filepath.Base(cg.h.v1[name])
		i := slices.Index(dirs, dir)
		if i < 0 {
			continue
		}
		dirs = slices.Delete(dirs, i, i+1)
		ref, err := clone(cg.V1[name])
		if err != nil {
			return err
		}
		t, _ := m.b.OpenIn(tmp, dir, kernel.OPath|syscall.O_DIRECTORY, kernel.NoLinks)
		m.b.AttachTo(ref, t, dest+"/"+dir)
		m.b.Close(t)
	}
	if o.set&kernel.AttrReadOnly != 0 {
		m.b.SetMountAttr(tmp, kernel.AttrReadOnly, 0, 0, false, dest)
	}
	return nil
}

// standardDevices are those of every container.
var standardDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}, {Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7}, {Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9}, {Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// devTmpfs is a /dev with the devices that the specification names.
func (m *mounter) devTmpfs(o mountOptions) (*os.File, error) {
	var nodes []kernel.DeviceNode
	for _, d := range m.spec.Linux.Devices {
		name, below := strings.CutPrefix(path.Clean(d.Path), "/dev/")
		if !below || d.Type != "c" && d.Type != "b" && d.Type != "u" || d.Major < 0 || d.Minor < 0 {
			return nil, fmt.Errorf("device %s of type %q, %d:%d: %w", d.Path, d.Type, d.Major, d.Minor, errdefs.ErrInvalid)
		}
		n := kernel.DeviceNode{Path: name, Kind: 'c', Major: uint32(d.Major), Minor: uint32(d.Minor), Mode: 0o666}
		if d.Type == "b" {
			n.Kind = 'b'
		}
		if d.FileMode != nil {
			n.Mode = *d.FileMode
		}
		n.UID, n.GID = m.owner(m.spec.Linux.UIDMappings, d.UID), m.owner(m.spec.Linux.GIDMappings, d.GID)
		nodes = append(nodes, n)
	}
	return kernel.MountDevices(o.data, o.set, m.owner(m.spec.Linux.UIDMappings, nil), nodes)
}

// owner is the host's number of an id of the container; an id that it has not is root.
func (m *mounter) owner(maps []specs.LinuxIDMapping, id *uint32) uint32 {
	var number uint32
	if id != nil {
		number = *id
	}
	if m.ns.user == nil {
		return number
	}
	host, ok := hostID(maps, number)
	if !ok {
		host, _ = hostID(maps, 0)
	}
	return host
}

// devices fills /dev: bind mounts of the host's nodes, since a user namespace can make none, and links.
func (m *mounter) devices() error {
	list := standardDevices
	if m.dev != (kernel.Ref{}) {
		m.devNull, _ = m.b.OpenIn(m.dev, "null", kernel.OPath, kernel.NoLinks)
		list = nil
	}
	for _, d := range list {
		f, err := openDevice(d)
		if err != nil {
			return err
		}
		clone, err := kernel.Bind(int(f.Fd()), "", kernel.BindOptions{
			Set: kernel.AttrNoSuid | kernel.AttrNoExec, Propagation: kernel.PropagatePrivate, IDMap: -1,
		})
		f.Close()
		if err != nil {
			return fmt.Errorf("device %s: %w", d.Path, err)
		}
		ref := m.fd(clone)
		m.attach(ref, path.Clean("/"+d.Path), false, kernel.InRoot)
		if d.Path == "/dev/null" {
			m.devNull = ref
		}
	}
	if m.dev != (kernel.Ref{}) {
		return nil
	}
	dev, _ := m.b.OpenIn(m.rootRef, "dev", kernel.OPath|syscall.O_DIRECTORY, kernel.InRoot)
	for _, link := range [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"},
	} {
		m.b.SymlinkIn(link[0], dev, link[1]).Tolerate(syscall.EEXIST)
	}
	m.b.Close(dev)
	return nil
}

// openDevice opens a host's node as a reference, after a look at what it really is (CVE-2025-31133).
func openDevice(d specs.LinuxDevice) (*os.File, error) {
	kind := map[string]string{"c": "char", "u": "char", "b": "block"}[d.Type]
	if kind == "" || d.Major < 0 || d.Minor < 0 {
		return nil, fmt.Errorf("device %s of type %q, %d:%d: %w", d.Path, d.Type, d.Major, d.Minor, errdefs.ErrInvalid)
	}
	for _, p := range []string{d.Path, fmt.Sprintf("/dev/%s/%d:%d", kind, d.Major, d.Minor)} {
		f, err := kernel.OpenPath(p)
		if err != nil {
			continue
		}
		k, major, minor := kernel.DeviceOf(f)
		if k == rune(kind[0]) && int64(major) == d.Major && int64(minor) == d.Minor {
			return f, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("device %s (%s %d:%d): the host has no such node: %w", d.Path, kind, d.Major, d.Minor, errdefs.ErrInvalid)
}

// allocateTerminal takes a terminal from the container's own devpts and shows it as /dev/console.
func (m *mounter) allocateTerminal() {
	ptmx, _ := m.b.OpenIn(m.rootRef, "dev/pts/ptmx", os.O_RDWR|syscall.O_NOCTTY, kernel.InRoot)
	u := m.spec.Process.User
	slave := m.b.Terminal(ptmx, m.b.FD(int(m.console.Fd())), u.UID, u.GID, m.width, m.height)
	m.terminal = &slave
	m.attach(m.b.CloneTree(slave, false, "terminal"), "/dev/console", false, kernel.InRoot)
}

// readonly makes paths read-only by mounting them on themselves.
func (m *mounter) readonly() error {
	for _, p := range m.spec.Linux.ReadonlyPaths {
		name, ok := cleanPath(p)
		if !ok {
			return fmt.Errorf("read-only path %q: %w", p, errdefs.ErrInvalid)
		}
		if m.absentOnHost(name) {
			continue
		}
		t, open := m.b.OpenIn(m.rootRef, name, kernel.OPath, kernel.InRoot)
		open.Tolerate(syscall.ENOENT)
		clone := m.b.CloneTree(t, true, p)
		m.b.SetMountAttr(clone, kernel.AttrReadOnly, 0, kernel.PropagatePrivate, false, p)
		m.b.AttachTo(clone, t, p)
		open.SkipRestOnError()
	}
	return nil
}

// mask hides paths: a directory under an empty read-only tmpfs, a file under /dev/null.
func (m *mounter) mask() error {
	var empty kernel.Ref // what further directories are masked with clones of
	for _, p := range m.spec.Linux.MaskedPaths {
		names, err := m.expand(p)
		if err != nil {
			return err
		}
		for _, name := range names {
			kind := m.typeOf(name)
			var isFile, done kernel.Step
			if kind == directory || kind == unknown {
				t, open := m.b.OpenIn(m.rootRef, name, kernel.OPath|syscall.O_DIRECTORY, kernel.InRoot)
				open.Tolerate(syscall.ENOENT, syscall.ENOTDIR)
				isFile = open
				if kind == directory && empty != (kernel.Ref{}) {
					m.b.AttachTo(m.b.CloneTree(empty, false, p), t, p)
				} else {
					ref := m.b.NewMount("tmpfs", []kernel.MountOption{{Key: "size", Value: "4k"}, {Key: "nr_inodes", Value: "2"}, {Key: "mode", Value: "755"}},
						kernel.AttrReadOnly|kernel.AttrNoSuid|kernel.AttrNoDev|kernel.AttrNoExec)
					m.b.AttachTo(ref, t, p)
					if kind == directory {
						empty = ref
					}
				}
				if kind == unknown {
					done = m.b.Nothing()
				}
				isFile.SkipRestOnError()
			}
			if kind == file || kind == unknown {
				t, open := m.b.OpenIn(m.rootRef, name, kernel.OPath, kernel.InRoot)
				open.Tolerate(syscall.ENOENT)
				null, err := m.null(p)
				if err != nil {
					return err
				}
				m.b.AttachTo(null, t, p)
				open.SkipRestOnError()
				if kind == unknown {
					done.SkipRestOnSuccess()
				}
			}
		}
	}
	return nil
}

// null is a detached mount of /dev/null.
func (m *mounter) null(what string) (kernel.Ref, error) {
	if m.devNull != (kernel.Ref{}) {
		return m.b.CloneTree(m.devNull, false, what), nil
	}
	f, err := openDevice(specs.LinuxDevice{Path: "/dev/null", Type: "c", Major: 1, Minor: 3})
	if err != nil {
		return kernel.Ref{}, err
	}
	defer f.Close()
	clone, err := kernel.Bind(int(f.Fd()), "", kernel.BindOptions{Propagation: kernel.PropagatePrivate, IDMap: -1})
	if err != nil {
		return kernel.Ref{}, err
	}
	return m.fd(clone), nil
}

type pathType int

const (
	unknown pathType = iota
	absent
	file
	directory
)

// typeOf tells what name will be: a new /proc or /sys is the same as the host's.
func (m *mounter) typeOf(name string) pathType {
	if top, _, _ := strings.Cut(name, "/"); !m.fresh[top] {
		return unknown
	}
	info, err := os.Lstat("/" + name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return absent
	case err != nil:
		return unknown
	case info.IsDir():
		return directory
	}
	return file
}

func (m *mounter) absentOnHost(name string) bool { return m.typeOf(name) == absent }

// expand resolves a pattern below /sys or /proc on the host; anything else stands for itself.
func (m *mounter) expand(p string) ([]string, error) {
	name, ok := cleanPath(p)
	if !ok {
		return nil, fmt.Errorf("masked path %q: %w", p, errdefs.ErrInvalid)
	}
	if !strings.ContainsAny(name, "*?[") {
		return []string{name}, nil
	}
	if !strings.HasPrefix(name, "sys/") && !strings.HasPrefix(name, "proc/") {
		return nil, fmt.Errorf("masked path %q: a pattern outside of /proc and /sys: %w", p, errdefs.ErrInvalid)
	}
	// What a pattern is good for, one entry for each CPU, does not change while the host runs.
	if found, ok := m.r.masked.Load(name); ok {
		return found.([]string), nil
	}
	found, err := filepath.Glob("/" + name)
	if err != nil {
		return nil, fmt.Errorf("masked path %q: %v: %w", p, err, errdefs.ErrInvalid)
	}
	for i := range found {
		found[i] = strings.TrimPrefix(found[i], "/")
	}
	m.r.masked.Store(name, found)
	return found, nil
}

func cleanPath(p string) (string, bool) {
	if !strings.HasPrefix(p, "/") || strings.ContainsRune(p, 0) {
		return "", false
	}
	name := strings.TrimPrefix(path.Clean(p), "/")
	return name, name != ""
}
