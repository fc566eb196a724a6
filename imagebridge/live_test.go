package imagebridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"novaagent/nova-agent/keystone"
	"novaagent/tests/cloud"
)

// realGlance is the Glance of a real OpenStack.
type realGlance struct {
	*keystone.Session
	url string
}

func newRealGlance(t *testing.T) *realGlance {
	t.Helper()
	l := cloud.Admin(t)
	s, err := keystone.New(keystone.Options{Region: l.Region, Credentials: keystone.Credentials{
		AuthURL: l.AuthURL, Username: l.Username, Password: l.Password, ProjectName: l.Project,
		UserDomainName: l.UserDomain, ProjectDomainName: l.ProjectDomain}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	url, err := s.Endpoint(t.Context(), "image")
	if err != nil {
		t.Fatal(err)
	}
	return &realGlance{s, url}
}

// call sends a request to Glance and decodes its answer.
func (c *realGlance) call(t *testing.T, method, path, contentType string, body io.Reader, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(c.url, "/")+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %s, %v", method, path, resp.Status, raw, err)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
}

// upload makes an image in Glance, which goes with the test.
func (c *realGlance) upload(t *testing.T, container string, data []byte) (id string) {
	t.Helper()
	var made struct{ ID string }
	c.call(t, http.MethodPost, "/v2/images", "application/json", strings.NewReader(fmt.Sprintf(
		`{"name":"imagebridge-test","container_format":%q,"disk_format":"raw","visibility":"private"}`, container)), &made)
	t.Cleanup(func() { c.call(t, http.MethodDelete, "/v2/images/"+made.ID, "", nil, nil) })
	if data != nil {
		c.call(t, http.MethodPut, "/v2/images/"+made.ID+"/file", "application/octet-stream", bytes.NewReader(data), nil)
	}
	return made.ID
}

// TestRealGlance takes images from a real Glance.
func TestRealGlance(t *testing.T) {
	c := newRealGlance(t)
	b, _ := newBridge(t, nil)
	data := dockerArchive(t, 5<<20)
	for container, data := range map[string][]byte{"docker": data, "bare": mktar(t, "bin/sh", "#!")} {
		id := c.upload(t, container, data)
		img, err := b.Ensure(t.Context(), Request{ID: id, Session: c})
		if err != nil {
			t.Fatal(err)
		}
		if len(img.Layers) != 1 {
			t.Errorf("%s: %d layers", container, len(img.Layers))
		}
	}
	// Does it resume? A download is begun in the middle.
	id := c.upload(t, "docker", data)
	rec, err := b.show(t.Context(), c, id)
	if err != nil {
		t.Fatal(err)
	}
	d, err := b.newDownload(t.Context(), c, rec)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	d.offset = 1000
	d.digest.hash.Write(data[:1000])
	if rest, err := io.ReadAll(d); err != nil || !bytes.Equal(rest, data[1000:]) {
		t.Errorf("the rest: %d bytes, %v", len(rest), err)
	}
	var e *Error
	if _, err := b.Ensure(t.Context(), Request{ID: c.upload(t, "docker", nil), Session: c}); !asReason(err, &e, NotActive) {
		t.Errorf("without data: %v", err)
	}
	if _, err := b.Ensure(t.Context(), Request{ID: id1, Session: c}); !asReason(err, &e, NotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := b.Ensure(t.Context(), Request{ID: id, Session: c.ForUser("no-token")}); !asReason(err, &e, Forbidden) {
		t.Errorf("stranger: %v", err)
	}
}

func asReason(err error, e **Error, r Reason) bool { return errors.As(err, e) && (*e).Reason == r }
