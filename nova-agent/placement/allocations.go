package placement

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// Resources are amounts by resource class.
type Resources map[string]int

// Allocations are what one consumer uses, by resource provider.
type Allocations struct {
	Providers  map[string]Resources
	ProjectID  string
	UserID     string
	Generation *int // of the consumer; nil if it has no allocations
}

type allocationsJSON struct {
	Allocations map[string]struct {
		Resources Resources `json:"resources"`
	} `json:"allocations"`
	ProjectID  string `json:"project_id,omitempty"`
	UserID     string `json:"user_id,omitempty"`
	Generation *int   `json:"consumer_generation"`
}

// Allocations reads a consumer's; empty if it has none. An instance's consumer is
// its UUID, a migration's the migration's.
func (c *Client) Allocations(ctx context.Context, consumer string) (*Allocations, error) {
	var got allocationsJSON
	if err := c.call(ctx, http.MethodGet, "/allocations/"+consumer, "1.28", nil, &got); err != nil {
		return nil, err
	}
	a := &Allocations{Providers: map[string]Resources{}, ProjectID: got.ProjectID, UserID: got.UserID, Generation: got.Generation}
	for uuid, alloc := range got.Allocations {
		a.Providers[uuid] = alloc.Resources
	}
	return a, nil
}

// DeleteAllocations frees all that a consumer uses, whatever changed meanwhile;
// nil if it uses nothing.
func (c *Client) DeleteAllocations(ctx context.Context, consumer string) error {
	err := c.call(ctx, http.MethodDelete, "/allocations/"+consumer, "1.0", nil, nil)
	if isStatus(err, http.StatusNotFound) {
		return nil
	}
	return err
}

// RemoveProvider takes one provider's part out of a consumer's allocations, as an
// evacuation's source and a failed one's destination do.
func (c *Client) RemoveProvider(ctx context.Context, consumer, providerUUID string) error {
	return c.change(ctx, func() (map[string]*Allocations, error) {
		a, err := c.Allocations(ctx, consumer)
		if err != nil || a.Providers[providerUUID] == nil {
			return nil, err
		}
		delete(a.Providers, providerUUID)
		return map[string]*Allocations{consumer: a}, nil
	})
}

// Move gives what one consumer uses to another, in one step: a resize that is taken
// back moves the migration's allocations to the instance.
func (c *Client) Move(ctx context.Context, from, to string) error {
	return c.change(ctx, func() (map[string]*Allocations, error) {
		source, err := c.Allocations(ctx, from)
		if err != nil || len(source.Providers) == 0 {
			return nil, err
		}
		target, err := c.Allocations(ctx, to)
		if err != nil {
			return nil, err
		}
		target.Providers, target.ProjectID, target.UserID = maps.Clone(source.Providers), source.ProjectID, source.UserID
		source.Providers = nil
		return map[string]*Allocations{from: source, to: target}, nil
	})
}

// change writes what next computes, and computes it again when another writer
// came first. A conflict of the consumer's own generation is final: somebody else
// works on the same instance (report.py, retries and AllocationUpdateFailed).
func (c *Client) change(ctx context.Context, next func() (map[string]*Allocations, error)) error {
	for attempt := 1; ; attempt++ {
		changes, err := next()
		if err != nil || changes == nil {
			return err
		}
		body := map[string]allocationsJSON{}
		for consumer, a := range changes {
			j := allocationsJSON{ProjectID: a.ProjectID, UserID: a.UserID, Generation: a.Generation}
			j.Allocations = map[string]struct {
				Resources Resources `json:"resources"`
			}{}
			for uuid, r := range a.Providers {
				j.Allocations[uuid] = struct {
					Resources Resources `json:"resources"`
				}{r}
			}
			body[consumer] = j
		}
		err = c.call(ctx, http.MethodPost, "/allocations", "1.28", body, nil)
		if err == nil || !concurrent(err) || strings.Contains(err.Error(), "consumer generation conflict") || attempt == conflicts {
			return err
		}
		timer := time.NewTimer(rand.N(200 * time.Millisecond))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("placement: allocations: %w", ctx.Err())
		}
	}
}

// ProviderAllocations tells who uses a provider: resources by consumer.
func (c *Client) ProviderAllocations(ctx context.Context, providerUUID string) (map[string]Resources, error) {
	var got struct {
		Allocations map[string]struct {
			Resources Resources `json:"resources"`
		} `json:"allocations"`
	}
	if err := c.call(ctx, http.MethodGet, "/resource_providers/"+providerUUID+"/allocations", "1.0", nil, &got); err != nil {
		return nil, err
	}
	all := map[string]Resources{}
	for consumer, a := range got.Allocations {
		all[consumer] = a.Resources
	}
	return all, nil
}
