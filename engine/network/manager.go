package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// Options say how a Manager reaches the host's network.
type Options struct {
	Logger *slog.Logger
	// OVSDB is the Unix socket of ovsdb-server. Empty means
	// /var/run/openvswitch/db.sock. It is opened when the first Open vSwitch
	// endpoint comes.
	OVSDB string
	// Owner is in the aliases of the devices: whose they are.
	Owner string
}

// Manager plugs endpoints. Its methods may be called side by side.
type Manager struct {
	log     *slog.Logger
	alias   string // of devices that were made here
	ovs     *ovsdb
	bridges keyedMutex
}

// New returns a Manager of the network namespace that the process is in.
func New(opts Options) *Manager {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{log: opts.Logger, alias: strings.TrimSpace(mark + " " + opts.Owner), ovs: newOVSDB(cmp.Or(opts.OVSDB, "/var/run/openvswitch/db.sock"))}
}

// Close ends the connection to Open vSwitch. What is plugged stays.
func (m *Manager) Close() error { return m.ovs.Close() }

// NewNamespace makes a network namespace of the host's user namespace, pinned at path.
func (m *Manager) NewNamespace(path string) (created bool, err error) { return kernel.NewNetNS(path) }

// RemoveNamespace unpins what NewNamespace made. Nil means that it is gone.
func (m *Manager) RemoveNamespace(path string) error { return kernel.RemoveNetNS(path) }

// guestParams are set in a container's namespace before its first device comes,
// so that each device begins with them. Neutron's ports have the addresses Neutron
// gave them and no others: no router advertisements, and no duplicate address
// detection, which would make an address useless for its first second.
var guestParams = [...]kernel.Sysctl{
	{Path: "net/ipv6/conf/all/accept_ra", Value: "0", Optional: true},
	{Path: "net/ipv6/conf/default/accept_ra", Value: "0", Optional: true},
	{Path: "net/ipv6/conf/default/autoconf", Value: "0", Optional: true},
	{Path: "net/ipv6/conf/default/accept_dad", Value: "0", Optional: true},
	{Path: "net/ipv6/conf/default/dad_transmits", Value: "0", Optional: true},
	// Tell the neighbours when a device comes up: an address may have been
	// another port's a moment ago.
	{Path: "net/ipv4/conf/default/arp_notify", Value: "1"},
	{Path: "net/ipv6/conf/default/ndisc_notify", Value: "1", Optional: true},
	// As Docker: any user of a container may listen on port 80.
	{Path: "net/ipv4/ip_unprivileged_port_start", Value: "0", Optional: true},
}

// Plug makes the endpoints as described, in the network namespace pinned at nsPath:
// the loopback device is up, each endpoint's device has its addresses and routes, and its
// host end is joined to its bridge. Plug may be repeated: what is right already
// is left alone without an interruption, half-made pairs are made again, and an
// endpoint that has changed is brought up to date. On an error, what this call made is
// removed again.
//
// ErrInvalid: an endpoint cannot be. ErrNotFound: no namespace at nsPath, or a bridge
// that Plug may not create. ErrConflict: a device's name is taken by
// something that is not ours. ErrUnavailable: the kernel or Open vSwitch failed.
func (m *Manager) Plug(ctx context.Context, nsPath string, endpoints []Endpoint) error {
	if err := validateAll(endpoints); err != nil {
		return err
	}
	s, err := m.open(nsPath)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.loopback(); err != nil {
		return err
	}
	for i, e := range endpoints {
		err := s.plug(ctx, i, e, metricsOf(endpoints, i))
		if err == nil {
			continue
		}
		err = fmt.Errorf("endpoint %s: plug: %w", e.ID, err)
		undo := context.WithoutCancel(ctx)
		for _, e := range slices.Backward(s.made) {
			err = errors.Join(err, s.unplug(undo, e))
		}
		return err
	}
	return nil
}

// Unplug removes the endpoints from the host, and bridges that Plug made for them once
// they are empty. The inner end goes with the outer one; the namespace at nsPath, which may be gone, is
// looked into for endpoints that have no outer one. Nil means that nothing of the endpoints is there.
func (m *Manager) Unplug(ctx context.Context, nsPath string, endpoints []Endpoint) error {
	host, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("netlink: %w: %w", err, errdefs.ErrUnavailable)
	}
	s := &session{m: m, host: host}
	defer s.close()
	if err := s.openGuest(nsPath, endpoints); err != nil {
		return err
	}
	var errs []error
	for _, e := range endpoints {
		if !e.named() {
			continue // Plug refused it, so it isn't there
		}
		if err := s.unplug(ctx, e); err != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: unplug: %w", e.ID, err))
		}
	}
	return errors.Join(errs...)
}

// SetSysctls sets parameters of the namespace at nsPath. Only those of net/ are a
// namespace's; others are ErrInvalid.
func (m *Manager) SetSysctls(nsPath string, list ...kernel.Sysctl) error {
	for _, p := range list {
		if err := validParam(p.Path); err != nil {
			return err
		}
	}
	ns, err := kernel.OpenNetNS(nsPath)
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error { return kernel.SetSysctls(list...) })
}

func validateAll(endpoints []Endpoint) error {
	hosts, guests := map[string]bool{}, map[string]bool{}
	for _, e := range endpoints {
		if err := e.Validate(); err != nil {
			return err
		}
		if hosts[e.HostName()] || (e.GuestDevice != "" && guests[e.GuestDevice]) {
			return fmt.Errorf("endpoint %s: another one has the same device: %w", e.ID, errdefs.ErrInvalid)
		}
		hosts[e.HostName()], guests[e.GuestDevice] = true, true
	}
	return nil
}

// session is one call's view of the host and of a container's namespace.
type session struct {
	m     *Manager
	host  *netlink.Handle
	ns    *kernel.NetNS
	guest *netlink.Handle
	made  []Endpoint // whose devices this call made, for undoing
}

func (m *Manager) open(nsPath string) (*session, error) {
	ns, err := kernel.OpenNetNS(nsPath)
	if err != nil {
		return nil, err
	}
	s := &session{m: m, ns: ns}
	err = ns.Do(func() error {
		if err := kernel.SetSysctls(guestParams[:]...); err != nil {
			return err
		}
		s.guest, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
		return unavailable(err)
	})
	if err == nil {
		s.host, err = netlink.NewHandle(syscall.NETLINK_ROUTE)
		err = unavailable(err)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("namespace %s: %w", nsPath, err)
	}
	return s, nil
}

func (s *session) close() {
	if s.host != nil {
		s.host.Close()
	}
	if s.guest != nil {
		s.guest.Close()
	}
	if s.ns != nil {
		s.ns.Close()
	}
}

func (s *session) loopback() error {
	// The loopback device is the first of every namespace.
	lo, err := s.guest.LinkByIndex(1)
	if err == nil && lo.Attrs().Flags&netUp == 0 {
		err = s.guest.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("loopback device: %w: %w", err, errdefs.ErrUnavailable)
	}
	return nil
}

// unavailable gives an error of the kernel its kind; nil stays nil.
func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrUnavailable)
}

// keyedMutex is a set of mutexes by name. Bridges are few, so none is ever dropped.
type keyedMutex struct {
	mu    sync.Mutex
	locks map[string]*sync.Mutex
}

// lock takes the mutex of key and returns its release.
func (k *keyedMutex) lock(key string) (unlock func()) {
	k.mu.Lock()
	if k.locks == nil {
		k.locks = map[string]*sync.Mutex{}
	}
	l := k.locks[key]
	if l == nil {
		l = &sync.Mutex{}
		k.locks[key] = l
	}
	k.mu.Unlock()
	l.Lock()
	return l.Unlock
}
