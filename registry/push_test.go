package registry

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"novaagent/engine/errdefs"
	"novaagent/tests/dockerregistry"
)

func nameAt(t testing.TB, f *front, text string) reference.NamedTagged {
	return name(t, f.Addr+"/"+text)
}

// TestPushFaults pushes to registries that fail, at first or always.
func TestPushFaults(t *testing.T) {
	r := dockerregistry.Start(t, dockerregistry.Options{})
	r.Put(t, "app", "v1", twoLayers(t))
	s, _ := newStore(t)
	pulled, err := newClient(t, Options{}).Pull(t.Context(), s, name(t, r.Addr+"/app:v1"), PullRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		name   string
		handle func(w http.ResponseWriter, req *http.Request, n int, next http.Handler)
		kind   error
		says   string
	}{
		{"busy", func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if n == 1 || n == 2 && req.Method != http.MethodPut { // each upload has a path of its own
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			next.ServeHTTP(w, req)
		}, nil, ""},
		{"broken uploads", func(w http.ResponseWriter, req *http.Request, n int, next http.Handler) {
			if req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/blobs/") && n == 1 {
				io.CopyN(io.Discard, req.Body, 1000)
				panic(http.ErrAbortHandler)
			}
			next.ServeHTTP(w, req)
		}, nil, ""},
		{"always failing", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if req.Method == http.MethodPut {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrUnavailable, "500"},
		{"refusing", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if req.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
				w.Write([]byte(`{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`))
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrDenied, "denied: requested access to the resource is denied"},
		{"silent", func(w http.ResponseWriter, req *http.Request, _ int, next http.Handler) {
			if req.Method == http.MethodPut {
				io.Copy(io.Discard, req.Body)
				<-req.Context().Done()
				return
			}
			next.ServeHTTP(w, req)
		}, errdefs.ErrUnavailable, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFront(t, r, tt.handle)
			repo := "pushed" + string(rune('a'+i))
			desc, err := newClient(t, Options{Timeout: timeout}).Push(t.Context(), s, pulled.Image.Digest, nameAt(t, f, repo+":v1"), Auth{}, func(PushProgress) {})
			if tt.kind != nil {
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v; want %v and %q", err, tt.kind, tt.says)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			there, err := newClient(t, Options{}).Inspect(t.Context(), name(t, r.Addr+"/"+repo+":v1"), Auth{})
			if err != nil || there.Descriptor.Digest != desc.Digest || desc.Digest != pulled.Image.Digest {
				t.Errorf("pushed %s, there is %s, %v", desc.Digest, there.Descriptor.Digest, err)
			}
		})
	}
}
