package faultproxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestFaults: each fault is what a client would meet, and the service hears of the
// request only where it should.
func TestFaults(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("proxy", func(t *testing.T) {
		var heard atomic.Int32
		real := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			heard.Add(1)
			_, _ = io.WriteString(w, "an answer")
		}))
		defer real.Close()
		p := New(t, real.URL)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		get := func(path string) (int, string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, "GET", p.URL()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				return 0, "", err
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			return resp.StatusCode, string(text), err
		}
		for _, tt := range []struct {
			name  string
			do    Action
			heard int32
			text  string
			is    error
		}{
			{"forward", Forward(), 1, "an answer", nil},
			{"status", Status(503, "busy", "Retry-After", "1"), 0, "busy", nil},
			{"reset", Reset(), 0, "", syscall.ECONNRESET},
			{"lose", Lose(), 1, "", syscall.ECONNRESET},
			{"truncate", Truncate(2), 1, "", nil},
			{"rewrite", Rewrite(func([]byte) []byte { return []byte("other") }), 1, "other", nil},
			{"flood", Flood(200, 100_000), 0, strings.Repeat("\x00", 100_000), nil},
			{"hang", Hang(), 0, "", context.DeadlineExceeded},
		} {
			p.Heal()
			heard.Store(0)
			p.Fail(Fault{Method: "GET", Path: "/broken", Skip: 1, Times: 1, Do: tt.do})
			for n, broken := range []bool{false, true, false} {
				_, text, err := get("/broken")
				if !broken {
					if err != nil || text != "an answer" {
						t.Errorf("%s: request %d: %q, %v", tt.name, n, text, err)
					}
					heard.Store(0)
					continue
				}
				if tt.name == "truncate" {
					if err == nil {
						t.Error("an answer that was cut off looks whole")
					}
				} else if tt.is != nil && !errors.Is(err, tt.is) || tt.is == nil && (err != nil || text != tt.text) {
					t.Errorf("%s: %q, %v", tt.name, text, err)
				}
				if n := heard.Load(); n != tt.heard {
					t.Errorf("%s: the service heard %d requests", tt.name, n)
				}
			}
			if seen := p.Seen(); len(seen) != 3 || seen[0].Broken || !seen[1].Broken {
				t.Errorf("%s: seen %+v", tt.name, seen)
			}
		}
		p.Heal()
		p.Down()
		if _, _, err := get("/"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("down: %v", err)
		}
		p.Up(t)
		if _, text, err := get("/"); err != nil || text != "an answer" {
			t.Errorf("up again: %q, %v", text, err)
		}
	})
}
