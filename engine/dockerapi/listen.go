package dockerapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

// Endpoint is an address to serve the API at, as docker's --host names it:
//
//	unix:///PATH.sock        a socket, made with Mode and Group
//	tcp://ADDRESS:PORT       with TLS and client certificates; without TLS on loopback, if Plain
//	fd://, fd://N            what systemd opened (sd_listen_fds(3)): all, or the Nth, from 3 on
type Endpoint struct {
	Host string
	// Mode is a Unix socket's; 0 is 0660. Group is the name or number of its group; empty is the process's.
	Mode  fs.FileMode
	Group string
	// TLS has the files of a TCP socket's certificates.
	TLS *TLSFiles
	// Plain lets a TCP socket on a loopback address do without TLS: every user of the host is root then.
	Plain bool
	// Logger is told of certificates that cannot be read again; nil is nobody.
	Logger *slog.Logger
}

// Listen opens the Unix socket or the TCP socket with TLS that host names, see Endpoint.
func Listen(host string) (net.Listener, error) {
	list, err := Endpoint{Host: host}.Listen()
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Listen opens the endpoint. Only fd:// has several sockets.
//
// ErrInvalid: the address or one of the options is not allowed; ErrConflict: another process listens there.
func (e Endpoint) Listen() ([]net.Listener, error) {
	scheme, address, ok := strings.Cut(e.Host, "://")
	if !ok || address == "" && scheme != "fd" {
		return nil, fmt.Errorf("host %q is none of unix:///PATH, tcp://ADDRESS:PORT and fd://: %w", e.Host, errdefs.ErrInvalid)
	}
	var list []net.Listener
	switch scheme {
	case "unix":
		l, err := e.listenUnix(address)
		if err != nil {
			return nil, err
		}
		return []net.Listener{l}, nil
	case "tcp":
		if _, _, err := net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("host %q: %v: %w", e.Host, err, errdefs.ErrInvalid)
		}
		if err := e.checkTCP(address); err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("host %q: %w", e.Host, err)
		}
		list = []net.Listener{l}
	case "fd":
		var err error
		if list, err = inherited(address); err != nil {
			return nil, fmt.Errorf("host %q: %w", e.Host, err)
		}
	default:
		return nil, fmt.Errorf("host %q: scheme %s is none of unix, tcp and fd: %w", e.Host, scheme, errdefs.ErrInvalid)
	}
	for i, l := range list {
		if _, tcp := l.Addr().(*net.TCPAddr); !tcp {
			continue
		}
		secure, err := e.secure(l)
		if err != nil {
			return nil, errors.Join(err, closeAll(list))
		}
		list[i] = secure
	}
	return list, nil
}

func closeAll(list []net.Listener) error {
	var errs []error
	for _, l := range list {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// secure is l with TLS, or as it is where plain TCP is allowed.
func (e Endpoint) secure(l net.Listener) (net.Listener, error) {
	if err := e.checkTCP(l.Addr().String()); err != nil {
		return nil, err
	}
	if e.TLS == nil {
		return l, nil
	}
	config, err := e.TLS.config(e.Logger)
	if err != nil {
		return nil, fmt.Errorf("host %q: %w", e.Host, err)
	}
	return tls.NewListener(l, config), nil
}

// checkTCP refuses plain TCP, but where it was asked for and nobody outside reaches it.
func (e Endpoint) checkTCP(address string) error {
	if e.TLS != nil {
		return nil
	}
	name, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("host %q: %v: %w", e.Host, err, errdefs.ErrInvalid)
	}
	ip := net.ParseIP(name)
	switch {
	case ip == nil || !ip.IsLoopback():
		return fmt.Errorf("host %q: TCP needs TLS with client certificates, since whoever reaches it is root; only a loopback address may do without: %w",
			e.Host, errdefs.ErrInvalid)
	case !e.Plain:
		return fmt.Errorf("host %q: TCP without TLS makes every user of this host root: allow it explicitly, or give certificates: %w",
			e.Host, errdefs.ErrInvalid)
	}
	return nil
}

// maxSocketPath is sun_path less its NUL.
const maxSocketPath = 107

// listenUnix takes the place of a socket that nobody listens at any more.
func (e Endpoint) listenUnix(path string) (net.Listener, error) {
	gid, err := groupID(e.Group)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	mode := e.Mode
	if mode == 0 {
		mode = 0o660
	}
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
	// The group first: nobody gets more than both say, at no moment.
	err = os.Chmod(path, 0o600)
	if err == nil && gid >= 0 {
		err = os.Lchown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
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

// groupID is the number of a group, -1 for none.
func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return -1, fmt.Errorf("group %q: there is none: %w", group, errdefs.ErrInvalid)
	}
	return strconv.Atoi(g.Gid)
}
