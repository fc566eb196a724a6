package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

// Links of the default bridge network, which has no names: lines in /etc/hosts and variables, as they are when
// the container starts (moby, daemon/links).

// linked is a container that another one knows by an alias.
type linked struct {
	alias   string
	address netip.Addr
	target  *Container
}

// planLinks names the containers that a spec links to in the default bridge network by their IDs.
func (e *Engine) planLinks(j *Join) error {
	j.Links = slices.Clone(j.Links)
	for i, l := range j.Links {
		target, err := e.Inspect(l.Container)
		if err != nil {
			// Not ErrNotFound: docker takes that for the image.
			return fmt.Errorf("could not get container for %s: %v: %w", printable(l.Container), err, errdefs.ErrInvalid)
		}
		if !slices.ContainsFunc(target.Spec.Networks, func(o Join) bool { return o.Network == BridgeNetworkID }) {
			return fmt.Errorf("cannot link to %s, as it does not belong to the default network: %w", target.Spec.Name, errdefs.ErrInvalid)
		}
		j.Links[i].Container = target.ID
	}
	return nil
}

// links are rec's in the default bridge network. A container that does not run is missing.
func (e *Engine) links(rec *Container) (list []linked) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, j := range rec.Spec.Networks {
		if j.Network != BridgeNetworkID {
			continue
		}
		for _, l := range j.Links {
			if t := e.containers[l.Container]; t != nil {
				if addresses := t.addressesLocked(BridgeNetworkID); len(addresses) > 0 {
					list = append(list, linked{l.Alias, addresses[0], t.rec})
				}
			}
		}
	}
	return list
}

// checkLinks refuses the start of a container that links to one that does not run.
func (e *Engine) checkLinks(rec *Container) error {
	running := e.links(rec)
	for _, j := range rec.Spec.Networks {
		if j.Network != BridgeNetworkID {
			continue
		}
		for _, l := range j.Links {
			if !slices.ContainsFunc(running, func(r linked) bool { return r.alias == l.Alias }) {
				name := short(l.Container)
				if c, err := e.Inspect(l.Container); err == nil {
					name = c.Spec.Name
				}
				return fmt.Errorf("cannot link to a non running container: /%s AS /%s/%s: %w", name, rec.Spec.Name, l.Alias, errdefs.ErrConflict)
			}
		}
	}
	return nil
}

// linkHosts are the lines of /etc/hosts.
func (e *Engine) linkHosts(rec *Container) []byte {
	var b bytes.Buffer
	for _, l := range e.links(rec) {
		names := l.alias + " " + l.target.Spec.hostname(l.target.ID)
		if l.alias != l.target.Spec.Name {
			names += " " + l.target.Spec.Name
		}
		fmt.Fprintf(&b, "%s\t%s\n", l.address, names)
	}
	return b.Bytes()
}

// linkEnv are the variables.
func (e *Engine) linkEnv(rec *Container) (env []string) {
	for _, l := range e.links(rec) {
		prefix := strings.ReplaceAll(strings.ToUpper(l.alias), "-", "_")
		set := func(name, format string, args ...any) {
			env = append(env, prefix+"_"+name+"="+fmt.Sprintf(format, args...))
		}
		for i, text := range slices.SortedFunc(slices.Values(l.target.Spec.Exposed), comparePorts) {
			port, proto, _ := strings.Cut(text, "/")
			if i == 0 {
				set("PORT", "%s://%s:%s", proto, l.address, port)
			}
			name := "PORT_" + port + "_" + strings.ToUpper(proto)
			set(name, "%s://%s:%s", proto, l.address, port)
			set(name+"_ADDR", "%s", l.address)
			set(name+"_PORT", "%s", port)
			set(name+"_PROTO", "%s", proto)
		}
		set("NAME", "/%s/%s", rec.Spec.Name, l.alias)
		for _, v := range l.target.Process.Env {
			if key, value, ok := strings.Cut(v, "="); ok && key != "HOME" && key != "PATH" {
				set("ENV_"+key, "%s", value)
			}
		}
	}
	return env
}

// refreshLinks writes /etc/hosts of the running containers that link to t anew: its address may be another one
// now. It takes no other container's lock, since what it writes is true at the moment that it does.
func (e *Engine) refreshLinks(t *tracked) {
	e.mu.RLock()
	var users []*Container
	for _, o := range e.containers {
		if o.rec.State.Live() && slices.ContainsFunc(o.rec.Spec.Networks, func(j Join) bool {
			return j.Network == BridgeNetworkID && slices.ContainsFunc(j.Links, func(l Link) bool { return l.Container == t.id })
		}) {
			users = append(users, o.rec)
		}
	}
	e.mu.RUnlock()
	for _, rec := range users {
		if err := e.writeEtc(rec, e.containerDir(rec.ID)); err != nil {
			e.log.Warn("the link of a container is not up to date", "container_id", rec.ID, "error", err)
		}
	}
}

// comparePorts orders ports such as "80/tcp" by number, then protocol.
func comparePorts(a, b string) int {
	na, pa, _ := strings.Cut(a, "/")
	nb, pb, _ := strings.Cut(b, "/")
	x, _ := strconv.Atoi(na)
	y, _ := strconv.Atoi(nb)
	if x != y {
		return x - y
	}
	return strings.Compare(pa, pb)
}
