package dockerapi_test

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"novaagent/engine"
)

// dialWS attaches by websocket.
func (a *api) dialWS(t *testing.T, path string, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("unix", a.socket) }}
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return websocket.Dial(ctx, "ws://docker"+path, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}, HTTPHeader: header})
}

// read reads messages until text has come.
func read(t *testing.T, c *websocket.Conn, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got strings.Builder
	for !strings.Contains(got.String(), text) {
		_, message, err := c.Read(ctx)
		if err != nil {
			t.Fatalf("after %q: %v", got.String(), err)
		}
		got.Write(message)
	}
}

func TestAttachByWebsocket(t *testing.T) {
	a := newAPI(t)
	c, err := a.engine.Run(t.Context(), engine.Spec{
		Owner: engine.OwnerDocker, Name: "cat", Image: "busybox", Args: []string{"sh", "-c", "echo begun; cat; echo ended >&2"}, OpenStdin: true, StdinOnce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := a.dialWS(t, "/v1.43/containers/cat/attach/ws?logs=1&stream=1&stdin=1&stdout=1&stderr=1", http.Header{"Origin": {"http://docker"}})
	if err != nil {
		t.Fatal(err)
	}
	read(t, conn, "begun\n")
	for _, kind := range []websocket.MessageType{websocket.MessageText, websocket.MessageBinary} {
		if err := conn.Write(t.Context(), kind, []byte("over the wire\n")); err != nil {
			t.Fatal(err)
		}
		read(t, conn, "over the wire\n")
	}
	// Another one, which only listens, sees the end.
	listener, _, err := a.dialWS(t, "/v1.43/containers/cat/attach/ws?stream=1&stderr=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseNow(); err != nil {
		t.Fatal(err)
	}
	read(t, listener, "ended\n")
	if _, err := a.engine.Wait(t.Context(), c.ID, engine.WaitNotRunning); err != nil {
		t.Fatal(err)
	}
	if _, _, err := listener.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("at the end: %v", err)
	}
	if _, answer, err := a.dialWS(t, "/containers/cat/attach/ws", http.Header{"Origin": {"http://elsewhere"}}); err == nil || answer.StatusCode != http.StatusForbidden {
		t.Errorf("a web page's: %v", err)
	}
	if _, answer, err := a.dialWS(t, "/containers/absent/attach/ws", nil); err == nil || answer.StatusCode != http.StatusNotFound {
		t.Errorf("no such container: %v", err)
	}
}
