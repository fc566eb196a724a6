package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/engine/store"
)

// Networks are Docker's: a Linux bridge of the engine's own with subnets for its containers, or a device of the host that
// they share (macvlan, ipvlan). The three that are always there (bridge, host, none) have no record; bridge.go has the first.
//
// A record is written before the device is made and deleted after it is gone; Open makes what is missing, as all is
// after a reboot. netrecord.go makes and lists networks, netpool.go has their addresses, netoptions.go the
// drivers' options, netcopy.go the copies of records that a lost database is rebuilt from, join.go puts containers in.

const kindUserNetwork store.Kind = "docker-network"

// The drivers of networks.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
	driverHost    = "host"
	driverNull    = "null"
)

// ipamNull is the address management of networks whose containers get no addresses; the other one is "default", or empty.
const ipamNull = "null"

// optionSerial is the one option of address management.
const optionSerial = "com.docker.network.ipam.serial"

// IDs of the networks that are always there.
var (
	BridgeNetworkID = strings.Repeat("0", 63) + "3"
	hostNetworkID   = strings.Repeat("0", 63) + "2"
	noneNetworkID   = strings.Repeat("0", 63) + "1"
)

// Network is a network of containers.
type Network struct {
	ID      string // 64 hexadecimal digits
	Name    string // unique
	Created time.Time
	Driver  string
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"` // the driver's, as they were given
	// Internal lets nothing pass between the network and the outside.
	Internal bool `json:",omitempty"`
	// Attachable is kept for those who ask; it means nothing outside a swarm.
	Attachable bool `json:",omitempty"`
	IPv4       bool
	IPv6       bool `json:",omitempty"`
	// IPAM is "default" or "null", as it was given, and IPAMOptions are its options.
	IPAM        string            `json:",omitempty"`
	IPAMOptions map[string]string `json:",omitempty"`
	// Pools are the subnets, of a bridge network at most one of each family.
	Pools []Pool
	// Device is the Linux bridge, or the host's device that containers share.
	Device string `json:",omitempty"`
	// ConfigOnly: no container can be in it. It has options, subnets and labels for the networks whose ConfigFrom is its name.
	ConfigOnly bool   `json:",omitempty"`
	ConfigFrom string `json:",omitempty"`
}

// shares says that containers share a device of the host.
func (n *Network) shares() bool { return n.Driver == DriverMacvlan || n.Driver == DriverIPvlan }

// bridged says that n has a Linux bridge, and the host's packet filter rules for it.
func (n *Network) bridged() bool { return n.Driver == DriverBridge && !n.ConfigOnly }

// Predefined says that the network is always there.
func (n *Network) Predefined() bool {
	return n.ID == BridgeNetworkID || n.ID == hostNetworkID || n.ID == noneNetworkID
}

// Networks returns all networks by name.
func (e *Engine) Networks() ([]Network, error) {
	b, err := e.defaultNetwork()
	if err != nil {
		return nil, err
	}
	e.mu.RLock()
	list := slices.Collect(maps.Values(e.networks))
	e.mu.RUnlock()
	list = append(list, b,
		Network{ID: hostNetworkID, Name: "host", Driver: driverHost, IPv4: true},
		Network{ID: noneNetworkID, Name: "none", Driver: driverNull, IPv4: true})
	slices.SortFunc(list, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

// Network returns the network that ref means: an ID, a name, or the unique beginning of an ID.
// ErrNotFound; ErrInvalid if several IDs begin so.
func (e *Engine) Network(ref string) (Network, error) {
	list, err := e.Networks()
	if err != nil {
		return Network{}, err
	}
	for _, fits := range []func(n Network) bool{
		func(n Network) bool { return n.ID == ref },
		func(n Network) bool { return n.Name == ref },
		func(n Network) bool { return ref != "" && strings.HasPrefix(n.ID, ref) },
	} {
		found := slices.DeleteFunc(slices.Clone(list), func(n Network) bool { return !fits(n) })
		if len(found) > 1 {
			return Network{}, fmt.Errorf("network %s is ambiguous (%d matches found on ID prefix): %w", printable(ref), len(found), errdefs.ErrInvalid)
		}
		if len(found) == 1 {
			return found[0], nil
		}
	}
	return Network{}, fmt.Errorf("network %s not found: %w", printable(ref), errdefs.ErrNotFound)
}

// NetworkUser is a container that is in a network now.
type NetworkUser struct {
	Container Container
	Endpoint  network.Endpoint
}

// NetworkUsers are the containers that are in the network with that ID now.
func (e *Engine) NetworkUsers(id string) []NetworkUser {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var users []NetworkUser
	for _, t := range e.containers {
		for _, c := range t.claims {
			if c.network == id {
				users = append(users, NetworkUser{*t.rec, c.endpoint})
			}
		}
	}
	slices.SortFunc(users, func(a, b NetworkUser) int { return cmp.Compare(a.Container.ID, b.Container.ID) })
	return users
}

// CreateNetwork makes a network, durably; of n, ID, Created and Device are ignored, and subnets that
// are missing are chosen.
//
// ErrInvalid: a name, option or subnet is wrong. ErrConflict: the name is taken. ErrForbidden: a subnet
// or bridge is another network's. ErrExhausted: no subnet is left. ErrUnsupported: the kernel lacks the driver.
func (e *Engine) CreateNetwork(ctx context.Context, n Network) (Network, error) {
	leave, err := e.enter()
	if err != nil {
		return Network{}, err
	}
	defer leave()
	n.ID, n.Created = NewID(), time.Now().UTC()
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	list, err := e.networksLocked()
	if err != nil {
		return Network{}, err
	}
	if err := n.configure(list); err != nil {
		return Network{}, err
	}
	if err := n.validate(); err != nil {
		return Network{}, err
	}
	for _, other := range list {
		if other.Name == n.Name {
			return Network{}, fmt.Errorf("network with name %s already exists: %w", n.Name, errdefs.ErrConflict)
		}
	}
	if err := n.choosePools(e.opts.Subnets, e.opts.Root, list); err != nil {
		return Network{}, err
	}
	if err := n.chooseDevice(list); err != nil {
		return Network{}, err
	}
	if err := store.Put(e.db, kindUserNetwork, n.ID, n); err != nil {
		return Network{}, fmt.Errorf("network %s: %w", n.Name, err)
	}
	e.step("network.recorded", n.ID)
	e.mu.Lock()
	e.networks[n.ID] = n
	e.mu.Unlock()
	err = e.copyNetwork(n.ID, n)
	if err == nil {
		e.step("network.copied", n.ID)
		err = e.openNetworkLocked(ctx, &n)
	}
	if err != nil {
		err = fmt.Errorf("network %s: %w", n.Name, err)
		return Network{}, errors.Join(err, e.removeNetworkLocked(context.WithoutCancel(ctx), &n))
	}
	e.step("network.opened", n.ID)
	e.emitNetwork(ActionCreate, &n, "")
	return n, nil
}

// RemoveNetwork removes a network.
//
// ErrNotFound; ErrForbidden: it is always there, or a container that runs is in it.
func (e *Engine) RemoveNetwork(ctx context.Context, ref string) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	n, err := e.Network(ref)
	if err != nil {
		return err
	}
	if n.Predefined() {
		return fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", n.Name, errdefs.ErrForbidden)
	}
	e.gateways.mu.Lock()
	defer e.gateways.mu.Unlock()
	if n.ConfigOnly {
		if err := e.configUnusedLocked(&n); err != nil {
			return err
		}
	}
	// Under the same hold of e.mu in which a container claims its addresses or finds the network gone.
	e.mu.Lock()
	var users []string
	for _, t := range e.containers {
		for _, c := range t.claims {
			if c.network == n.ID {
				users = append(users, fmt.Sprintf("name:%q id:%q", t.rec.Spec.Name, short(c.endpoint.ID)))
			}
		}
	}
	_, there := e.networks[n.ID]
	if len(users) == 0 {
		delete(e.networks, n.ID)
	}
	e.mu.Unlock()
	if len(users) > 0 {
		slices.Sort(users)
		return fmt.Errorf("error while removing network: network %s has active endpoints (%s): %w", n.Name, strings.Join(users, ", "), errdefs.ErrForbidden)
	}
	if !there {
		return fmt.Errorf("network %s not found: %w", printable(ref), errdefs.ErrNotFound)
	}
	if err := e.removeNetworkLocked(context.WithoutCancel(ctx), &n); err != nil {
		e.mu.Lock()
		e.networks[n.ID] = n
		e.mu.Unlock()
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	e.emitNetwork(ActionDestroy, &n, "")
	return nil
}

// removeNetworkLocked makes sure that there is no such network. The record goes last: what it names is
// found again after a crash. The caller holds e.gateways.mu.
func (e *Engine) removeNetworkLocked(ctx context.Context, n *Network) error {
	e.mu.Lock()
	delete(e.networks, n.ID)
	shared := slices.ContainsFunc(slices.Collect(maps.Values(e.networks)), func(o Network) bool { return o.Device == n.Device })
	e.mu.Unlock()
	var err error
	switch {
	case n.bridged():
		if err = e.network.CloseGateway(ctx, n.Device); err == nil {
			err = e.writeRulesLocked(ctx)
		}
	case n.shares() && !shared:
		err = e.network.CloseParent(ctx, n.Device)
	}
	if err != nil {
		return err
	}
	e.step("network.closed", n.ID)
	if err := e.dropNetworkCopy(n.ID); err != nil {
		return err
	}
	return store.Delete(e.db, kindUserNetwork, n.ID)
}

// PruneNetworks removes the networks that no running container is in and keep does not want, and returns their names.
func (e *Engine) PruneNetworks(ctx context.Context, keep func(Network) bool) (names []string, err error) {
	list, err := e.Networks()
	if err != nil {
		return nil, err
	}
	for _, n := range list {
		if n.Predefined() || n.ConfigOnly || keep(n) || len(e.NetworkUsers(n.ID)) > 0 {
			continue
		}
		err := e.RemoveNetwork(ctx, n.ID)
		switch {
		case err == nil:
			names = append(names, n.Name)
		case errors.Is(err, errdefs.ErrNotFound), errors.Is(err, errdefs.ErrForbidden): // somebody was faster
		default:
			return names, err
		}
	}
	return names, nil
}

// networksLocked is Networks with e.gateways.mu held.
func (e *Engine) networksLocked() ([]Network, error) {
	b, err := e.defaultNetworkLocked()
	if err != nil {
		return nil, err
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	return append(slices.Collect(maps.Values(e.networks)), b), nil
}

// chooseDevice names n's bridge, or the device that its containers share, and refuses one that another network has.
func (n *Network) chooseDevice(list []Network) error {
	if n.ConfigOnly {
		return nil
	}
	o, err := n.options()
	if err != nil {
		return err
	}
	n.Device = firstOf(o.device, map[string]string{DriverBridge: "br-", DriverMacvlan: "dm-", DriverIPvlan: "di-"}[n.Driver]+n.ID[:12])
	for _, other := range list {
		if other.Device != n.Device || other.Driver != n.Driver {
			continue
		}
		theirs, err := other.options()
		if err != nil {
			return err
		}
		switch {
		case n.Driver == DriverIPvlan:
			return fmt.Errorf("network di-%s is already using parent interface %s: %w", short(other.ID), n.Device, errdefs.ErrForbidden)
		case o.mode == "passthru":
			return fmt.Errorf("cannot use mode passthru, macvlan network %s is already using parent interface %s: %w", other.ID, n.Device, errdefs.ErrForbidden)
		case theirs.mode == "passthru":
			return fmt.Errorf("macvlan network %s is already using parent interface %s in mode passthru: %w", other.ID, n.Device, errdefs.ErrForbidden)
		case n.Driver == DriverBridge:
			return fmt.Errorf("cannot create network %s (%s): conflicts with network %s (%s): networks have same bridge name: %w",
				n.ID, n.Device, other.ID, other.Device, errdefs.ErrForbidden)
		}
	}
	return nil
}

// emitNetwork tells of something that happened to a network, or to a container in it.
func (e *Engine) emitNetwork(action Action, n *Network, container string) {
	e.events.emit(Event{
		Time: time.Now(), Kind: KindNetwork, Action: action, Network: NetworkRef{ID: n.ID, Name: n.Name, Driver: n.Driver}, ID: container,
	})
}

// subnets are the networks' of pools.
func subnets(pools []Pool) []netip.Prefix {
	var list []netip.Prefix
	for _, p := range pools {
		list = append(list, p.Subnet)
	}
	return list
}
