package neutron

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"novaagent/engine/errdefs"
)

// Session is one identity towards OpenStack's REST services.
type Session interface {
	// Endpoint is the base URL of a service of the catalogue, here "network".
	Endpoint(ctx context.Context, serviceType string) (string, error)
	// Do sends req with the identity's tokens, and once more with a new token when
	// the first is refused with 401. Any answer of the server is returned without error.
	// The request ID of req's context is sent along.
	Do(req *http.Request) (*http.Response, error)
}

// Records are the rows of Nova's database that go with ports. Nova's conductor
// keeps them.
type Records interface {
	// CreateVIF writes the row of virtual_interfaces for a port.
	CreateVIF(ctx context.Context, vif VIFRecord) error
	// DestroyVIF removes a port's row; nil if there is none.
	DestroyVIF(ctx context.Context, portID string) error
	// DestroyVIFs removes the rows of all ports of the instance.
	DestroyVIFs(ctx context.Context, instanceUUID string) error
	// VIFOrder is the ports' IDs in the order in which their rows were made.
	VIFOrder(ctx context.Context, instanceUUID string) ([]string, error)
	// LoadInfoCache and SaveInfoCache read and write network_info of the
	// instance's InstanceInfoCache. "" is no row.
	LoadInfoCache(ctx context.Context, instanceUUID string) (string, error)
	SaveInfoCache(ctx context.Context, instanceUUID, networkInfo string) error
}

// VIFRecord is a row of Nova's virtual_interfaces.
type VIFRecord struct {
	UUID         string // of the port
	InstanceUUID string
	Address      string // MAC "/" port ID
	Tag          string // of the device; empty is null
}

// Options say how a Client reaches Neutron.
type Options struct {
	// Service is the identity of the [neutron] section, an administrator's.
	Service Session
	// User gives the identity of the user whose request ctx carries, or nil if it
	// carries none (a periodic task): then Service stands in.
	User func(ctx context.Context) Session
	// Records are kept up to date with the ports.
	Records Records
	Logger  *slog.Logger
	// AttachExternal tells whether the policy network:attach_external_network
	// admits ctx's user. Nil admits nobody, Nova's default for users who are
	// not administrators.
	AttachExternal func(ctx context.Context) bool

	// OVSBridge is the integration bridge of ports that name none. Default "br-int".
	OVSBridge string
	// ExtensionInterval is how long the list of Neutron's extensions is
	// believed ([neutron]extension_sync_interval). Default 600 s.
	ExtensionInterval time.Duration
	// Timeout bounds each request, its retries apart. Default 60 s.
	Timeout time.Duration
	// Retries is how often a request is repeated when Neutron could not be reached
	// or was too busy ([neutron]http_retries). Default 3; negative is 0.
	Retries int
	// RetryDelay is the pause before the first repetition; each further
	// one is twice as long. Default 200 ms.
	RetryDelay time.Duration
}

// Client does for instances what Neutron is needed for. Its methods may be
// called side by side; those for one instance wait for each other.
type Client struct {
	opts Options
	log  *slog.Logger

	locks keyed // of instances: their ports and network info
	known knownNetworks

	extMu  sync.Mutex
	extAt  time.Time
	extSet map[string]bool
}

// New returns a Client. It talks to nobody yet.
func New(opts Options) (*Client, error) {
	if opts.Service == nil || opts.Records == nil {
		return nil, fmt.Errorf("neutron: a service session and Nova's records are needed: %w", errdefs.ErrInvalid)
	}
	opts.OVSBridge = cmp.Or(opts.OVSBridge, "br-int")
	opts.ExtensionInterval = cmp.Or(opts.ExtensionInterval, 600*time.Second)
	opts.Timeout = cmp.Or(opts.Timeout, 60*time.Second)
	opts.Retries = max(cmp.Or(opts.Retries, 3), 0)
	opts.RetryDelay = cmp.Or(opts.RetryDelay, 200*time.Millisecond)
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{opts: opts, log: opts.Logger, locks: keyed{held: map[string]*hold{}}}, nil
}

// admin is the view of the service identity.
func (c *Client) admin() rest { return rest{c: c, session: c.opts.Service, admin: true} }

// user is the view of the user whose request ctx carries.
func (c *Client) user(ctx context.Context) rest {
	if c.opts.User != nil {
		if s := c.opts.User(ctx); s != nil {
			return rest{c: c, session: s}
		}
	}
	return c.admin()
}

// Instance is what Neutron has to know of an instance.
type Instance struct {
	UUID             string
	ProjectID        string
	Hostname         string
	AvailabilityZone string // names the ports' owner, "compute:<zone>"
}

func (i Instance) deviceOwner() string { return "compute:" + i.AvailabilityZone }

// extension tells whether Neutron has an extension. The list is asked for once in
// ExtensionInterval; if that fails while an old one is there, the old one serves.
func (c *Client) extension(ctx context.Context, alias string) (bool, error) {
	c.extMu.Lock()
	defer c.extMu.Unlock()
	if c.extSet == nil || time.Since(c.extAt) >= c.opts.ExtensionInterval {
		var answer struct {
			Extensions []struct {
				Alias string `json:"alias"`
			} `json:"extensions"`
		}
		err := c.admin().get(ctx, "/extensions", nil, &answer)
		switch {
		case err == nil:
			c.extSet, c.extAt = map[string]bool{}, time.Now()
			for _, e := range answer.Extensions {
				c.extSet[e.Alias] = true
			}
		case c.extSet == nil:
			return false, fmt.Errorf("extensions: %w", err)
		default:
			c.log.WarnContext(ctx, "neutron's list of extensions could not be renewed", "error", err)
		}
	}
	return c.extSet[alias], nil
}

// keyed is a set of locks by name, made when needed and dropped when idle.
type keyed struct {
	mu   sync.Mutex
	held map[string]*hold
}

type hold struct {
	sem   chan struct{}
	users int
}

// lock waits for the lock of key and returns its release, or ctx's error.
func (k *keyed) lock(ctx context.Context, key string) (func(), error) {
	k.mu.Lock()
	h := k.held[key]
	if h == nil {
		h = &hold{sem: make(chan struct{}, 1)}
		k.held[key] = h
	}
	h.users++
	k.mu.Unlock()

	leave := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(k.held, key)
		}
	}
	select {
	case h.sem <- struct{}{}:
		return func() { <-h.sem; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("lock of %s: %w: %w", key, context.Cause(ctx), errdefs.ErrUnavailable)
	}
}
