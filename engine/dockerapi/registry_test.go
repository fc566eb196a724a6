package dockerapi_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestPullHangup: the pull ends with its client.
func TestPullHangup(t *testing.T) {
	a := newAPI(t)
	asked, ended := make(chan struct{}), make(chan struct{})
	registry := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(ended)
	}))
	defer registry.Close()
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	transport := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", a.socket) },
		DisableKeepAlives: true,
	}
	url := "http://docker/images/create?tag=v1&fromImage=" + strings.TrimPrefix(registry.URL, "http://") + "/app"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := transport.RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	deadline := time.After(patience)
	for _, step := range []<-chan struct{}{asked, ended} {
		select {
		case <-step:
		case <-deadline:
			t.Fatal("the pull does not begin, or goes on without its client")
		}
		hangUp()
	}
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
