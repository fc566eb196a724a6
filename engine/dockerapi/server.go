package dockerapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

const (
	// maxVersion and minVersion are the API's minor versions that are served.
	maxVersion = 51
	minVersion = 24

	// maxBody bounds a request's JSON.
	maxBody = 4 << 20
	// headerTimeout (of a JSON body, too) and idleTimeout get rid of slow and forgotten clients.
	headerTimeout = 30 * time.Second
	idleTimeout   = 5 * time.Minute
	maxHeader     = 64 << 10
)

// Options say what the API tells of itself.
type Options struct {
	// Version is the program's, told by GET /version.
	Version string
	Logger  *slog.Logger
	// Observe, if set, is told of each request that was answered: its route's pattern,
	// status and duration. Streams are told of when they end.
	Observe func(method, pattern string, status int, took time.Duration)
}

// server answers requests.
type server struct {
	engine *engine.Engine
	opts   Options
	log    *slog.Logger
	table  []compiled
}

// New returns the API of e as an HTTP handler. Serve it with a server from NewServer, which has the
// limits that a handler can't set.
func New(e *engine.Engine, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &server{engine: e, opts: o, log: o.Logger}
	for _, r := range routes {
		s.table = append(s.table, compile(r))
	}
	return s
}

// NewServer returns a server for the handler of New.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
	}
}

// request is a request on its way to its handler.
type request struct {
	*http.Request
	w       http.ResponseWriter
	version int // minor
	query   url.Values
	vars    map[string]string
	pattern string
}

// compiled is a route with its pattern as an expression.
type compiled struct {
	route
	expr *regexp.Regexp
}

var variable = regexp.MustCompile(`\{(id|name)\}`)

func compile(r route) compiled {
	expr := variable.ReplaceAllStringFunc(r.pattern, func(v string) string {
		if v == "{id}" {
			return `(?P<id>[^/]+)`
		}
		return `(?P<name>.+)`
	})
	return compiled{r, regexp.MustCompile("^" + expr + "$")}
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rec := &recorder{ResponseWriter: w}
	req := &request{Request: r, w: rec}
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.ErrorContext(r.Context(), "panic in a handler", "method", r.Method, "path", r.URL.Path,
				"panic", p, "stack", string(debug.Stack()))
			rec.fail(errors.New("internal error"))
		}
		if s.opts.Observe != nil && req.pattern != "" {
			s.opts.Observe(r.Method, req.pattern, rec.status, time.Since(began))
		}
	}()
	if err := s.serve(req); err != nil {
		if statusOf(err) >= 500 && r.Context().Err() == nil {
			s.log.WarnContext(r.Context(), "a request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		}
		rec.fail(err)
	}
}

func (s *server) serve(r *request) error {
	header := r.w.Header()
	header.Set("Api-Version", versionText(maxVersion))
	header.Set("Docker-Experimental", "false")
	header.Set("Ostype", "linux")
	header.Set("Server", "nova-agent/"+s.opts.Version+" (linux)")
	if err := checkBrowser(r.Request); err != nil {
		return err
	}
	path, err := r.parseVersion()
	if err != nil {
		return err
	}
	if r.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return fmt.Errorf("query: %v: %w", err, errdefs.ErrInvalid)
	}
	otherMethod := false
	for _, route := range s.table {
		match := route.expr.FindStringSubmatch(path)
		if match == nil {
			continue
		}
		if route.method != r.Method {
			otherMethod = true
			continue
		}
		r.pattern, r.vars = route.pattern, map[string]string{}
		for i, name := range route.expr.SubexpNames() {
			if name != "" {
				r.vars[name] = match[i]
			}
		}
		if route.changes != none {
			c, err := s.engine.Inspect(r.vars["id"])
			if err != nil {
				return err
			}
			if err := checkOwner(c, route.changes); err != nil {
				return err
			}
			// From here on the same container, whatever is renamed meanwhile.
			r.vars["id"] = c.ID
		}
		return route.handle(s, r)
	}
	if otherMethod {
		r.w.Header().Set("Content-Type", "application/json")
		r.w.WriteHeader(http.StatusMethodNotAllowed)
		return json.NewEncoder(r.w).Encode(map[string]string{"message": "method not allowed"})
	}
	return fmt.Errorf("page not found: %w", errdefs.ErrNotFound)
}

var versioned = regexp.MustCompile(`^/v([0-9]{1,3})\.([0-9]{1,3})(/.*)$`)

// parseVersion sets the version that the path begins with, and returns the rest.
func (r *request) parseVersion() (string, error) {
	r.version = maxVersion
	m := versioned.FindStringSubmatch(r.URL.Path)
	if m == nil {
		return r.URL.Path, nil
	}
	major, _ := strconv.Atoi(m[1])
	minor, _ := strconv.Atoi(m[2])
	switch {
	case major < 1 || major == 1 && minor < minVersion:
		return "", fmt.Errorf("client version %d.%d is too old. Minimum supported API version is %s, please upgrade your client to a newer version: %w",
			major, minor, versionText(minVersion), errdefs.ErrInvalid)
	case major > 1 || minor > maxVersion:
		return "", fmt.Errorf("client version %d.%d is too new. Maximum supported API version is %s: %w",
			major, minor, versionText(maxVersion), errdefs.ErrInvalid)
	}
	r.version = minor
	return m[3], nil
}

func versionText(minor int) string { return "1." + strconv.Itoa(minor) }

// checkBrowser refuses what a web page makes a browser send: no client of this API
// has an origin, and on a TCP port only loopback names are ours (DNS rebinding).
func checkBrowser(r *http.Request) error {
	if r.Header.Get("Origin") != "" {
		return fmt.Errorf("requests of web pages are refused: %w", errdefs.ErrForbidden)
	}
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if _, tcp := addr.(*net.TCPAddr); !ok || !tcp {
		return nil
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	return fmt.Errorf("host %q is not this one: %w", host, errdefs.ErrForbidden)
}

// decode reads the request's JSON into v. Unknown fields are let through, as Docker
// does: clients of newer versions send them.
func (r *request) decode(v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" || r.ContentLength > 0 {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return fmt.Errorf("unsupported Content-Type header (%s): must be 'application/json': %w", ct, errdefs.ErrInvalid)
		}
	}
	control := http.NewResponseController(r.w)
	if err := control.SetReadDeadline(time.Now().Add(headerTimeout)); err == nil {
		defer func() { _ = control.SetReadDeadline(time.Time{}) }() // as above
	}
	body, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, maxBody))
	if err != nil {
		return fmt.Errorf("request body: %v: %w", err, errdefs.ErrInvalid)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fmt.Errorf("invalid JSON: got EOF while reading request body: %w", errdefs.ErrInvalid)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("invalid JSON: %v: %w", err, errdefs.ErrInvalid)
	}
	return nil
}

// reply answers with v as JSON.
func (r *request) reply(status int, v any) error {
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(status)
	_ = json.NewEncoder(r.w).Encode(v) // the client is gone
	return nil
}

// done answers without a body.
func (r *request) done(status int) error {
	r.w.WriteHeader(status)
	return nil
}

// recorder notes the status, and whether an error can still be answered.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
		w.ResponseWriter.WriteHeader(status)
	}
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) fail(err error) {
	if w.status == 0 {
		writeError(w, err)
	}
}

// later answers that a route of Docker's is not served yet.
func later(reason string) handler {
	return func(*server, *request) error { return fmt.Errorf("%s: %w", reason, errdefs.ErrUnsupported) }
}

// notASwarm answers as a dockerd outside a swarm does.
func notASwarm(*server, *request) error {
	return fmt.Errorf("This node is not a swarm manager: %w", errdefs.ErrUnavailable) //nolint:staticcheck // Docker's words
}
