package placement

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// Inventory is how much of a resource class a provider has
// (https://docs.openstack.org/api-ref/placement, "Update resource provider inventories").
type Inventory struct {
	Total           int     `json:"total"`
	Reserved        int     `json:"reserved"`
	MinUnit         int     `json:"min_unit"`
	MaxUnit         int     `json:"max_unit"`
	StepSize        int     `json:"step_size"`
	AllocationRatio float64 `json:"allocation_ratio"`
}

// Ratio is how an allocation ratio is chosen: what the operator configured, else
// what Placement has, else the initial value.
type Ratio struct {
	Configured float64 // 0 means not configured
	Initial    float64
}

// Node is a compute node as it should be in Placement.
type Node struct {
	UUID string // the ComputeNode's
	Name string // hypervisor_hostname
	// Inventories by resource class. An AllocationRatio of 0 is filled in from Ratios.
	Inventories map[string]Inventory
	Ratios      map[string]Ratio
	// Traits are those that this node has of Managed. Traits outside Managed, set
	// by operators or other services, stay as they are.
	Traits  []string
	Managed []string
}

type provider struct {
	UUID       string `json:"uuid"`
	Name       string `json:"name"`
	Generation int    `json:"generation"`
}

// Sync makes Placement hold n, changing only what differs, and returns the
// allocation ratios in force, by resource class. It starts again when somebody
// changes the provider meanwhile. ErrConflict if another provider has n's name, or
// if a resource class that is in use would go.
func (c *Client) Sync(ctx context.Context, n Node) (ratios map[string]float64, err error) {
	for attempt := 1; ; attempt++ {
		ratios, err = c.syncOnce(ctx, n)
		if err == nil || !concurrent(err) || errors.Is(err, errNameTaken) || attempt == conflicts {
			return ratios, err
		}
		c.log.DebugContext(ctx, "the resource provider changed meanwhile", "provider", n.UUID, "attempt", attempt)
	}
}

func (c *Client) syncOnce(ctx context.Context, n Node) (map[string]float64, error) {
	p, err := c.ensure(ctx, n.UUID, n.Name)
	if err != nil {
		return nil, err
	}
	ratios, err := c.syncInventories(ctx, p, n)
	if err != nil {
		return nil, err
	}
	return ratios, c.syncTraits(ctx, p, n)
}

var errNameTaken = errors.New("the name is taken")

// ensure finds the provider or creates it.
func (c *Client) ensure(ctx context.Context, uuid, name string) (*provider, error) {
	p := &provider{}
	err := c.call(ctx, http.MethodGet, "/resource_providers/"+uuid, "1.14", nil, p)
	if err == nil || !isStatus(err, http.StatusNotFound) {
		return p, err
	}
	body := map[string]string{"uuid": uuid, "name": name}
	err = c.call(ctx, http.MethodPost, "/resource_providers", "1.20", body, p)
	if !isStatus(err, http.StatusConflict) {
		return p, err
	}
	// Either it was created meanwhile, or another one has the name.
	if c.call(ctx, http.MethodGet, "/resource_providers/"+uuid, "1.14", nil, p) == nil {
		return p, nil
	}
	return nil, fmt.Errorf("placement: another resource provider is named %s; delete it (openstack resource provider list --name %s) if its host is gone: %w: %w",
		name, name, errNameTaken, errdefs.ErrConflict)
}

func (c *Client) syncInventories(ctx context.Context, p *provider, n Node) (map[string]float64, error) {
	type inventories struct {
		Generation  int                  `json:"resource_provider_generation"`
		Inventories map[string]Inventory `json:"inventories"`
	}
	path := "/resource_providers/" + p.UUID + "/inventories"
	var have inventories
	if err := c.call(ctx, http.MethodGet, path, "1.26", nil, &have); err != nil {
		return nil, err
	}
	p.Generation = have.Generation
	want := inventories{Generation: have.Generation, Inventories: map[string]Inventory{}}
	ratios := map[string]float64{}
	changed := len(have.Inventories) != len(n.Inventories)
	for class, inv := range n.Inventories {
		old, present := have.Inventories[class]
		if inv.AllocationRatio == 0 {
			inv.AllocationRatio = n.Ratios[class].choose(old.AllocationRatio)
		}
		want.Inventories[class] = inv
		ratios[class] = inv.AllocationRatio
		changed = changed || !present || !old.same(inv)
	}
	if !changed {
		return ratios, nil
	}
	if err := c.call(ctx, http.MethodPut, path, "1.26", want, &have); err != nil {
		return nil, err
	}
	p.Generation = have.Generation
	return ratios, nil
}

// same tells whether Placement holds i already. It keeps ratios in single precision,
// of which MySQL shows six digits.
func (i Inventory) same(other Inventory) bool {
	near := math.Abs(i.AllocationRatio-other.AllocationRatio) <= 1e-5*math.Abs(other.AllocationRatio)
	i.AllocationRatio = other.AllocationRatio
	return near && i == other
}

func (r Ratio) choose(present float64) float64 {
	for _, v := range []float64{r.Configured, present, r.Initial} {
		if v > 0 {
			return v
		}
	}
	return 1
}

func (c *Client) syncTraits(ctx context.Context, p *provider, n Node) error {
	type traits struct {
		Generation int      `json:"resource_provider_generation"`
		Traits     []string `json:"traits"`
	}
	path := "/resource_providers/" + p.UUID + "/traits"
	var have traits
	if err := c.call(ctx, http.MethodGet, path, "1.6", nil, &have); err != nil {
		return err
	}
	want := traits{Generation: have.Generation, Traits: []string{}}
	for _, t := range have.Traits {
		if !slices.Contains(n.Managed, t) {
			want.Traits = append(want.Traits, t)
		}
	}
	for _, t := range n.Traits {
		if !slices.Contains(want.Traits, t) {
			want.Traits = append(want.Traits, t)
		}
	}
	slices.Sort(want.Traits)
	slices.Sort(have.Traits)
	if slices.Equal(want.Traits, have.Traits) {
		return nil
	}
	usable, err := c.usableTraits(ctx, want.Traits)
	if err != nil {
		return err
	}
	if want.Traits = usable; slices.Equal(want.Traits, have.Traits) {
		return nil
	}
	err = c.call(ctx, http.MethodPut, path, "1.6", want, nil)
	if isStatus(err, http.StatusBadRequest) {
		// An operator may have deleted a trait that was there: look again next time.
		c.mu.Lock()
		clear(c.known)
		c.mu.Unlock()
	}
	return err
}

// usableTraits leaves out standard traits that this Placement does not know yet
// (its os-traits is older) and creates missing custom ones.
func (c *Client) usableTraits(ctx context.Context, names []string) ([]string, error) {
	var unknown []string
	c.mu.Lock()
	for _, t := range names {
		if !c.known[t] {
			unknown = append(unknown, t)
		}
	}
	c.mu.Unlock()
	if len(unknown) > 0 {
		var have struct{ Traits []string }
		if err := c.call(ctx, http.MethodGet, "/traits?name=in:"+url.QueryEscape(strings.Join(unknown, ",")), "1.6", nil, &have); err != nil {
			return nil, err
		}
		for _, t := range unknown {
			if !slices.Contains(have.Traits, t) && strings.HasPrefix(t, "CUSTOM_") {
				if err := c.call(ctx, http.MethodPut, "/traits/"+t, "1.6", nil, nil); err != nil {
					return nil, err
				}
				have.Traits = append(have.Traits, t)
			}
		}
		c.mu.Lock()
		for _, t := range have.Traits {
			c.known[t] = true
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	usable := []string{}
	for _, t := range names {
		if c.known[t] {
			usable = append(usable, t)
		}
	}
	return usable, nil
}

// SetTrait adds one trait to a provider, or takes it away, and leaves the others.
// ErrNotFound if there is no such provider.
func (c *Client) SetTrait(ctx context.Context, providerUUID, trait string, present bool) error {
	n := Node{UUID: providerUUID, Managed: []string{trait}}
	if present {
		n.Traits = []string{trait}
	}
	for attempt := 1; ; attempt++ {
		err := c.syncTraits(ctx, &provider{UUID: providerUUID}, n)
		if err == nil || !concurrent(err) || attempt == conflicts {
			return err
		}
	}
}

// DeleteProvider removes a provider that has no allocations; nil if there is none.
func (c *Client) DeleteProvider(ctx context.Context, uuid string) error {
	err := c.call(ctx, http.MethodDelete, "/resource_providers/"+uuid, "1.0", nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}
