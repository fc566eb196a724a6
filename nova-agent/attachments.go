package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/nova-agent/keystone"
)

// cinderTimeout bounds a request to Cinder, which asks the storage before it answers.
const cinderTimeout = 2 * time.Minute

// attachments gives up volume attachments in Cinder.
type attachments struct{ session *keystone.Session }

// DeleteAttachment asks as the request's user, with the service's token beside the
// user's: a fixed Cinder refuses the one without the other (CVE-2023-2088).
func (a attachments) DeleteAttachment(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, cinderTimeout)
	defer cancel()
	user := userOf(ctx, a.session)
	base, err := user.Endpoint(ctx, "volumev3")
	if err != nil {
		return fmt.Errorf("cinder: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, base+"/attachments/"+id, nil)
	if err != nil {
		return fmt.Errorf("cinder: attachment %s: %v: %w", id, err, errdefs.ErrInvalid)
	}
	req.Header.Set("OpenStack-API-Version", "volume 3.44")
	req.Header.Set("Accept", "application/json")
	resp, err := user.Do(req)
	if err != nil {
		return fmt.Errorf("cinder: delete attachment %s: %w", id, err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode < 300, resp.StatusCode == http.StatusNotFound:
		return nil
	case resp.StatusCode == http.StatusConflict:
		return fmt.Errorf("cinder: delete attachment %s: %s: %w", id, resp.Status, errdefs.ErrConflict)
	case resp.StatusCode >= 500:
		return fmt.Errorf("cinder: delete attachment %s: %s: %w", id, resp.Status, errdefs.ErrUnavailable)
	}
	return fmt.Errorf("cinder: delete attachment %s: %s: %w", id, resp.Status, errdefs.ErrInvalid)
}
