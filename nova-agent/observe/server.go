package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"novaagent/engine/errdefs"
)

// Probe is one condition of readiness. Test returns why it is not met.
type Probe struct {
	Name string
	Test func(ctx context.Context) error
}

// Options configure Serve.
type Options struct {
	// Listen is a TCP address for metrics and health; "" means none.
	Listen string
	// DebugSocket is the path of a Unix socket, mode 0600, for pprof and Debug; ""
	// or "none" means none.
	DebugSocket string
	Metrics     *Metrics
	// Live says that the process works; it is /healthz.
	Live []Probe
	// Ready says that it can take work; it is /readyz.
	Ready []Probe
	// Debug are values that the debug socket shows as JSON under /debug/NAME.
	Debug  map[string]func() any
	Logger *slog.Logger
}

// Server serves until Close.
type Server struct {
	servers []*http.Server
	done    chan struct{}
	log     *slog.Logger
}

// probeTimeout bounds all probes of one request.
const probeTimeout = 5 * time.Second

// Serve opens the listeners of opts and serves them. ErrInvalid if one cannot be
// opened.
func Serve(opts Options) (*Server, error) {
	s := &Server{log: opts.Logger, done: make(chan struct{}, 2)}
	if opts.Listen != "" {
		l, err := net.Listen("tcp", opts.Listen)
		if err != nil {
			return nil, fmt.Errorf("observe.listen: %v: %w", err, errdefs.ErrInvalid)
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(opts.Metrics.registry, promhttp.HandlerOpts{}))
		mux.Handle("GET /healthz", probes(opts.Live))
		mux.Handle("GET /readyz", probes(opts.Ready))
		s.serve(l, mux)
	}
	if opts.DebugSocket != "" && opts.DebugSocket != "none" {
		l, err := listenUnix(opts.DebugSocket)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("observe.debug_socket: %v: %w", err, errdefs.ErrInvalid), s.Close())
		}
		s.serve(l, debugMux(opts.Debug))
	}
	return s, nil
}

func listenUnix(path string) (net.Listener, error) {
	// A socket that a killed process left behind; a living one's lock was checked before.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (s *Server) serve(l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	s.servers = append(s.servers, server)
	go func() {
		defer func() { s.done <- struct{}{} }()
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("a metrics or debug listener ended", "address", l.Addr().String(), "error", err)
		}
	}()
}

// Close ends the listeners and waits for them.
func (s *Server) Close() error {
	var errs []error
	for _, server := range s.servers {
		errs = append(errs, server.Close())
	}
	for range s.servers {
		<-s.done
	}
	return errors.Join(errs...)
}

// Alive runs probes and returns why one fails, or that they do not end in time: then
// the process hangs, and they are left behind.
func Alive(ctx context.Context, all []Probe, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		var errs []error
		for _, p := range all {
			if err := p.Test(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", p.Name, err))
			}
		}
		done <- errors.Join(errs...)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no probe result in %s: %w", patience, errdefs.ErrUnavailable)
	}
}

// probes answers 200 if all are met, else 503, and says of each what it found.
func probes(all []Probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), probeTimeout)
		defer cancel()
		found, status := map[string]string{}, http.StatusOK
		for _, p := range all {
			found[p.Name] = "ok"
			if err := p.Test(ctx); err != nil {
				found[p.Name], status = err.Error(), http.StatusServiceUnavailable
			}
		}
		writeJSON(w, status, found)
	})
}

func debugMux(values map[string]func() any) http.Handler {
	mux := http.NewServeMux()
	for name, value := range values {
		mux.HandleFunc("GET /debug/"+name, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, value()) })
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The reader is gone if this fails, and nobody is left to tell.
	_, _ = w.Write(append(text, '\n'))
}
