package dockerapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"novaagent/engine/errdefs"
)

// Listen opens the address that host names, as docker's --host does:
// "unix:///PATH.sock", made with mode 0660, or "tcp://127.0.0.1:PORT". Without TLS
// whoever reaches the port is root, so other addresses than loopback are refused.
func Listen(host string) (net.Listener, error) {
	scheme, address, ok := strings.Cut(host, "://")
	switch {
	case !ok || address == "":
		return nil, fmt.Errorf("host %q is neither unix:///PATH nor tcp://ADDRESS:PORT: %w", host, errdefs.ErrInvalid)
	case scheme == "unix":
		return listenUnix(address)
	case scheme != "tcp":
		return nil, fmt.Errorf("host %q: scheme %s is neither unix nor tcp: %w", host, scheme, errdefs.ErrInvalid)
	}
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("host %q: %v: %w", host, err, errdefs.ErrInvalid)
	}
	if ip := net.ParseIP(name); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("host %q: plain TCP is served on a loopback address only, since whoever reaches it is root: %w",
			host, errdefs.ErrInvalid)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", host, err)
	}
	return l, nil
}

// maxSocketPath is sun_path less its NUL.
const maxSocketPath = 107

// listenUnix takes the place of a socket that nobody listens at any more.
func listenUnix(path string) (net.Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("socket %s is not an absolute path: %w", path, errdefs.ErrInvalid)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	// A long path is reached through its directory's descriptor.
	address := path
	if len(path) > maxSocketPath {
		dir, err := os.Open(filepath.Dir(path))
		if err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
		defer dir.Close()
		address = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("socket %s: there is something else: %w", path, errdefs.ErrConflict)
		}
		if conn, err := net.Dial("unix", address); err == nil {
			return nil, errors.Join(fmt.Errorf("socket %s: another process listens there: %w", path, errdefs.ErrConflict), conn.Close())
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("socket %s: %w", path, err)
		}
	}
	l, err := net.Listen("unix", address)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	// The listener would remove it by an address that means nothing later.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), l.Close(), os.Remove(path))
	}
	return &unixListener{Listener: l, path: path}, nil
}

// unixListener removes its socket when it is closed.
type unixListener struct {
	net.Listener
	path string
}

func (l *unixListener) Close() error {
	err := l.Listener.Close()
	if rm := os.Remove(l.path); rm != nil && !errors.Is(rm, os.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}
