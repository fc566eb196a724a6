package engine

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"novaagent/engine/network"
)

// etcFiles are mounted over /etc/NAME of the container.
var etcFiles = []string{"hosts", "hostname", "resolv.conf"}

const etcMode = 0o644

// writeEtc writes the files of etcFiles into dir.
func (e *Engine) writeEtc(rec *Container, dir string) error {
	for _, name := range etcFiles {
		var content []byte
		switch name {
		case "hosts":
			content = append(hostsFile(rec), e.linkHosts(rec)...)
		case "hostname":
			content = []byte(rec.Spec.hostname(rec.ID) + "\n")
		case "resolv.conf":
			content = resolvConf(rec)
		}
		if err := writeFile(filepath.Join(dir, name), content, etcMode, rec.IDs); err != nil {
			return err
		}
	}
	return nil
}

func hostsFile(rec *Container) []byte {
	if rec.Spec.NetworkMode == NetworkHost {
		if host, err := os.ReadFile("/etc/hosts"); err == nil {
			return append(host, extraHosts(rec)...)
		}
	}
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n" +
		"::1\tlocalhost ip6-localhost ip6-loopback\n" +
		"fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	b.Write(extraHosts(rec))
	names := rec.Spec.hostname(rec.ID)
	if d := rec.Spec.Domainname; d != "" {
		names = names + "." + d + " " + names
	}
	for _, ep := range rec.Spec.Endpoints {
		for _, a := range ep.Addresses {
			fmt.Fprintf(&b, "%s\t%s\n", a.Addr(), names)
		}
	}
	return b.Bytes()
}

// hostGateway stands for the host's address in the container's network.
const hostGateway = "host-gateway"

func extraHosts(rec *Container) []byte {
	var b bytes.Buffer
	for _, h := range rec.Spec.DNS.Hosts {
		name, addr, _ := strings.Cut(h, ":")
		if addr == hostGateway {
			// Docker has its default bridge's address here; ours goes with its last container.
			ep, _, ok := rec.router(func(ep network.Endpoint) bool { return ep.Kind == network.KindBridge && ep.Gateway4.IsValid() })
			if !ok {
				continue
			}
			addr = ep.Gateway4.String()
		}
		fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
	}
	return b.Bytes()
}

// resolvConf is what the spec says, and for the rest, in a container without
// endpoints of its own, what the host's file says.
func resolvConf(rec *Container) []byte {
	dns := rec.Spec.DNS
	if rec.Spec.NetworkMode != NetworkEndpoints {
		host := hostDNS()
		if rec.named() {
			// The container's own name service asks the others.
			dns.Nameservers = []string{network.ResolverAddress.String()}
		}
		if rec.Spec.NetworkMode == NetworkBridge {
			host.Nameservers = reachableDNS(host.Nameservers)
		}
		if len(dns.Nameservers) == 0 {
			dns.Nameservers = host.Nameservers
		}
		if len(dns.Search) == 0 {
			dns.Search = host.Search
		}
		if len(dns.Options) == 0 {
			dns.Options = host.Options
		}
	}
	if rec.named() && !slices.ContainsFunc(dns.Options, func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		dns.Options = append(slices.Clone(dns.Options), "ndots:0") // names without a dot are containers', not to be searched for
	}
	var b bytes.Buffer
	for _, server := range dns.Nameservers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	// "." is Docker's way to say: no search list.
	if len(dns.Search) > 0 && !slices.Equal(dns.Search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(dns.Search, " "))
	}
	if len(dns.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(dns.Options, " "))
	}
	return b.Bytes()
}

// reachableDNS leaves out the servers that only the host itself reaches. If none is left they are
// Docker's (daemon/libnetwork/internal/resolvconf, default name servers).
func reachableDNS(servers []string) []string {
	servers = slices.DeleteFunc(servers, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err != nil || a.IsLoopback() || a.Is6() // the bridge has no IPv6
	})
	if len(servers) == 0 {
		return []string{"8.8.8.8", "8.8.4.4"}
	}
	return servers
}

func hostDNS() DNS {
	var dns DNS
	file, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return dns
	}
	for line := range strings.Lines(string(file)) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "nameserver":
			dns.Nameservers = append(dns.Nameservers, words[1])
		case "search", "domain":
			dns.Search = words[1:]
		case "options":
			dns.Options = words[1:]
		}
	}
	return dns
}
