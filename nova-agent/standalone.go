package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"novaagent/config"
	"novaagent/engine"
	"novaagent/engine/dockerapi"
	"novaagent/nova-agent/observe"
)

// closeTimeout is how long streams and requests of the Docker API may go on when the
// program ends.
const closeTimeout = 5 * time.Second

// runStandalone serves the engine alone, with all its state under one directory.
func runStandalone(ctx context.Context, args []string) error {
	f := newFlags("standalone")
	root := f.String("root", "", "keep everything under `dir`")
	host := f.String("host", "", "serve the Docker API at unix:///PATH or tcp://127.0.0.1:PORT")
	level := f.String("log-level", "info", "debug, info, warn or error")
	format := f.String("log-format", "text", "text or json")
	if err := parseAll(f, args); err != nil {
		return err
	}
	if *root == "" || *host == "" {
		return &usageError{"standalone: --root DIR and --host unix:///PATH.sock are needed"}
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, *level) {
		return &usageError{fmt.Sprintf("standalone: --log-level %s: want debug, info, warn or error", *level)}
	}
	if !slices.Contains([]string{"text", "json"}, *format) {
		return &usageError{fmt.Sprintf("standalone: --log-format %s: want text or json", *format)}
	}
	log, _ := newLogger(config.Log{Level: *level, Format: *format})
	tuneMemory()
	surviveBrokenLog()
	path, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	e, err := engine.Open(ctx, engine.Options{Root: path, Logger: log})
	if err != nil {
		return err
	}
	api, err := serveDocker(*host, e, log, nil)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	log.Info("serving", "host", *host, "root", path, "version", version)
	if err := observe.Notify("READY=1"); err != nil {
		log.Warn("systemd was not told", "error", err)
	}
	<-ctx.Done()
	return errors.Join(api.Close(), e.Close())
}

// dockerServer is the Docker API being served.
type dockerServer struct {
	server *http.Server
	done   chan error
}

// serveDocker serves e at host. seen, if not nil, is told of each request.
func serveDocker(host string, e *engine.Engine, log *slog.Logger, seen func(method, pattern string, status int, took time.Duration)) (*dockerServer, error) {
	l, err := dockerapi.Listen(host)
	if err != nil {
		return nil, err
	}
	s := &dockerServer{
		server: dockerapi.NewServer(dockerapi.New(e, dockerapi.Options{Version: strings.TrimPrefix(version, "v"), Logger: log, Observe: seen})),
		done:   make(chan error, 1),
	}
	go func(l net.Listener) { s.done <- s.server.Serve(l) }(l)
	return s, nil
}

// Close lets requests end for a moment, then ends them.
func (s *dockerServer) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.server.Close()
	}
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}
