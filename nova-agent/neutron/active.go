package neutron

import (
	"context"
	"net/url"
)

// Active tells which of the ports are wired: ACTIVE, or switched off and so never to be. It is
// one small request, for callers who don't want to wait for Neutron's event, which
// Neutron holds back to send several at once (send_events_interval, 2 s).
func (c *Client) Active(ctx context.Context, portIDs []string) (map[string]bool, error) {
	var answer struct{ Ports []port }
	q := url.Values{"id": portIDs, "fields": {"id", "status", "admin_state_up"}}
	if err := c.admin().get(ctx, "/ports", q, &answer); err != nil {
		return nil, err
	}
	active := map[string]bool{}
	for _, p := range answer.Ports {
		active[p.ID] = p.active()
	}
	return active, nil
}
