package keystone

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// aliases are names that catalogues use for the same service
// (https://service-types.openstack.org).
var aliases = map[string][]string{
	"block-storage": {"block-storage", "volumev3", "block-store"},
	"volumev3":      {"volumev3", "block-storage", "block-store"},
}

// Endpoint returns the base URL of a service, without a slash at its end, from the
// overrides or the catalogue: first interface first, then the order of the
// catalogue. ErrNotFound if there is none for the session's region.
func (s *Session) Endpoint(ctx context.Context, serviceType string) (string, error) {
	names := aliases[serviceType]
	if names == nil {
		names = []string{serviceType}
	}
	for _, name := range names {
		if url := s.opts.Endpoints[name]; url != "" {
			return strings.TrimSuffix(url, "/"), nil
		}
	}
	if err := s.login(ctx); err != nil {
		return "", err
	}
	defer s.unlock()
	for _, iface := range s.opts.Interfaces {
		for _, entry := range s.catalogue {
			if !slices.Contains(names, entry.Type) {
				continue
			}
			for _, e := range entry.Endpoints {
				inRegion := s.opts.Region == "" || e.RegionID == s.opts.Region || e.Region == s.opts.Region
				if e.Interface == iface && inRegion {
					return strings.TrimSuffix(e.URL, "/"), nil
				}
			}
		}
	}
	where := ""
	if s.opts.Region != "" {
		where = " in region " + s.opts.Region
	}
	return "", fmt.Errorf("keystone %s: the catalogue has no %s endpoint for service type %s%s: %w",
		s.opts.AuthURL, strings.Join(s.opts.Interfaces, " or "), serviceType, where, errdefs.ErrNotFound)
}
