package registry

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// Hub is the registry of names that have none, and hubHost where it is.
const (
	Hub      = "docker.io"
	hubHost  = "registry-1.docker.io"
	hubIndex = "index.docker.io"
)

// Options are an operator's settings. The zero value is Docker's defaults.
type Options struct {
	// Insecure are registries that may speak plain HTTP or have any certificate: hosts, with a port
	// if they have one, and networks in CIDR form. 127.0.0.0/8 and ::1 always may.
	Insecure []string
	// Mirrors are URLs that are asked before Docker Hub, for what is pulled from it.
	Mirrors []string
	// CertsDir has a directory for each registry, named HOST or HOST:PORT, with authorities in
	// *.crt and client certificates in *.cert, whose keys are beside them in *.key. "" is none.
	CertsDir string
	// Downloads and Uploads are how many layers come and go at the same time; 0 means 3 and 5.
	Downloads, Uploads int
	// Timeout ends a request to which nothing comes for as long; 0 means 1 minute.
	Timeout time.Duration
	// Version is told to registries.
	Version string
	Logger  *slog.Logger
}

// Client talks to registries. All methods may be called at the same time.
type Client struct {
	opts     Options
	mirrors  []*url.URL
	networks []netip.Prefix
	hosts    map[string]bool
	download chan struct{} // one for each that runs
	upload   chan struct{}
}

// New returns a client. ErrInvalid: one of the options is none.
func New(o Options) (*Client, error) {
	if o.Downloads == 0 {
		o.Downloads = 3
	}
	if o.Uploads == 0 {
		o.Uploads = 5
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{
		opts: o, hosts: map[string]bool{},
		networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		download: make(chan struct{}, o.Downloads), upload: make(chan struct{}, o.Uploads),
	}
	for _, text := range o.Insecure {
		network, err := netip.ParsePrefix(text)
		switch {
		case err == nil:
			c.networks = append(c.networks, network.Masked())
		case strings.Contains(text, "/"):
			return nil, fmt.Errorf("insecure registry %q is neither HOST[:PORT] nor a network such as 10.0.0.0/8: %w", text, errdefs.ErrInvalid)
		default:
			c.hosts[strings.ToLower(text)] = true
		}
	}
	for _, text := range o.Mirrors {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, fmt.Errorf("registry mirror %q is no URL such as https://mirror.example.org: %w", text, errdefs.ErrInvalid)
		}
		c.mirrors = append(c.mirrors, u)
	}
	return c, nil
}

// Insecure are the networks whose registries may be insecure, and the hosts.
func (c *Client) Insecure() (networks []netip.Prefix, hosts []string) {
	for h := range c.hosts {
		hosts = append(hosts, h)
	}
	return c.networks, hosts
}

// Mirrors are the mirrors of Docker Hub.
func (c *Client) Mirrors() []string { return append([]string{}, c.opts.Mirrors...) }

// insecure tells whether a registry may speak plain HTTP. A name may if one of its addresses is in one of
// the networks, as with Docker.
func (c *Client) insecure(ctx context.Context, host string) bool {
	if c.hosts[strings.ToLower(host)] {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if c.hosts[strings.ToLower(name)] {
		return true
	}
	var addrs []netip.Addr
	if a, err := netip.ParseAddr(name); err == nil {
		addrs = append(addrs, a)
	} else if name != hubHost {
		// What can't be looked up can't be reached, or only by a proxy: it is secure.
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		addrs, _ = net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	}
	for _, a := range addrs {
		for _, n := range c.networks {
			if n.Contains(a.Unmap()) {
				return true
			}
		}
	}
	return false
}
