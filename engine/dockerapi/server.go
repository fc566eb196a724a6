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
	"reflect"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"novaagent/engine"
	"novaagent/engine/errdefs"
	"novaagent/registry"
)

const (
	// maxBody bounds a request's JSON.
	maxBody = 4 << 20
	// maxRest is how much more is taken, and thrown away, so that the client hears why.
	maxRest = 64 << 20
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
	// Authorization are the names of the authorization plug-ins, in the order in which they are asked.
	Authorization []string
	// Registry talks to registries; nil is one with the default settings.
	Registry *registry.Client
	// Observe, if set, is told of each request that was answered: its route's pattern,
	// status and duration. Streams are told of when they end.
	Observe func(method, pattern string, status int, took time.Duration)
}

// server answers requests.
type server struct {
	engine   *engine.Engine
	registry *registry.Client
	opts     Options
	log      *slog.Logger
	table    []compiled
	// imageConfigs are of images that containers were made of, by digest.
	imageConfigs sync.Map
	// documents are those of GET /openapi.json, made when they are asked for.
	documents [maxVersion + 1]func() ([]byte, error)
}

// New returns the API of e as an HTTP handler. Serve it with a server from NewServer, which has the
// limits that a handler can't set.
func New(e *engine.Engine, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry, _ = registry.New(registry.Options{Version: o.Version, Logger: o.Logger}) // the defaults are right
	}
	s := &server{engine: e, registry: o.Registry, opts: o, log: o.Logger}
	all, described := allRoutes()
	for _, r := range all {
		s.table = append(s.table, compile(r, described[r.key()]))
	}
	for v := range s.documents {
		s.documents[v] = sync.OnceValues(func() ([]byte, error) { return json.Marshal(document(s.table, v)) })
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
	asked   string // {id} as the client has it
	pattern string
}

// compiled is a route with its pattern as an expression.
type compiled struct {
	route
	operation
	expr *regexp.Regexp
}

var variable = regexp.MustCompile(`\{(id|name)\}`)

func compile(r route, o operation) compiled {
	expr := variable.ReplaceAllStringFunc(r.pattern, func(v string) string {
		if v == "{id}" {
			return `(?P<id>[^/]+)`
		}
		return `(?P<name>.+)`
	})
	return compiled{r, o, regexp.MustCompile("^" + expr + "$")}
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
	if r.ProtoMajor != 1 {
		return fmt.Errorf("%s: streams need HTTP/1.1: %w", r.Proto, errProtocol)
	}
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
	for _, route := range s.table {
		match := route.expr.FindStringSubmatch(path)
		if match == nil || route.method != r.Method {
			continue
		}
		r.pattern, r.vars = route.pattern, map[string]string{}
		for i, name := range route.expr.SubexpNames() {
			if name != "" {
				r.vars[name] = match[i]
			}
		}
		if r.version < route.since {
			return fmt.Errorf("%s requires minimum API version %s: %w", route.key(), versionText(route.since), errdefs.ErrInvalid)
		}
		r.asked = r.vars["id"]
		return s.authorize(r, func() error { return s.handle(r, &route) })
	}
	return fmt.Errorf("page not found: %w", errdefs.ErrNotFound)
}

// handle has route answer.
func (s *server) handle(r *request, route *compiled) error {
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

// checkBrowser refuses what a web page makes a browser send: no client of this API
// has an origin, and on a TCP port only loopback names are ours (DNS rebinding).
func checkBrowser(r *http.Request) error {
	if r.Header.Get("Origin") != "" && !sameOrigin(r) {
		return fmt.Errorf("requests of web pages are refused: %w", errdefs.ErrForbidden)
	}
	if r.TLS != nil {
		return nil // it has a certificate of ours, whatever name it reached us by
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

// readBody reads a body of at most so many bytes. A client that stalls or sends more is answered and then
// cut off.
func (r *request) readBody(most int64) ([]byte, error) {
	timeout := headerTimeout
	if server, ok := r.Context().Value(http.ServerContextKey).(*http.Server); ok && server.ReadHeaderTimeout > 0 {
		timeout = server.ReadHeaderTimeout
	}
	control := http.NewResponseController(r.w)
	bounded := control.SetReadDeadline(time.Now().Add(timeout)) == nil // a writer of a test has none
	body, err := io.ReadAll(io.LimitReader(r.Body, most+1))
	if err == nil && int64(len(body)) > most {
		// The client reads the answer when it has sent all. What goes wrong here only cuts it off sooner.
		_, _ = io.CopyN(io.Discard, r.Body, maxRest)
		err = fmt.Errorf("it is too large: at most %d bytes are read", most)
	}
	if err != nil {
		// The deadline stays, or the rest of the body would be waited for.
		r.w.Header().Set("Connection", "close")
		return nil, err
	}
	if bounded {
		_ = control.SetReadDeadline(time.Time{}) // it could be set above, so it can be taken back
	}
	return body, nil
}

// decode reads the request's JSON into v. Unknown fields are let through, as Docker does: clients of newer
// versions send them.
func (r *request) decode(v any) error {
	if ct := r.Header.Get("Content-Type"); ct != "" || r.ContentLength != 0 {
		if media, _, err := mime.ParseMediaType(ct); err != nil || media != "application/json" {
			return fmt.Errorf("unsupported Content-Type header (%s): must be 'application/json': %w", ct, errdefs.ErrInvalid)
		}
	}
	if r.ContentLength == 0 {
		return nil // all fields have their defaults, as in Docker
	}
	body, err := r.readBody(maxBody)
	if err != nil {
		return fmt.Errorf("request body: %v: %w", err, errdefs.ErrInvalid)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return fmt.Errorf("invalid JSON: got EOF while reading request body: %w", errdefs.ErrInvalid)
	}
	first := json.NewDecoder(bytes.NewReader(body))
	var document json.RawMessage
	if err := first.Decode(&document); err != nil {
		return fmt.Errorf("invalid JSON: %v: %w", err, errdefs.ErrInvalid)
	}
	if first.More() {
		return fmt.Errorf("unexpected content after JSON: %w", errdefs.ErrInvalid)
	}
	if s := shapeOf(reflect.TypeOf(v), r.version); s != nil {
		var compact bytes.Buffer
		if err := json.Compact(&compact, document); err != nil {
			return fmt.Errorf("invalid JSON: %v: %w", err, errdefs.ErrInvalid)
		}
		document = s.prune(compact.Bytes())
	}
	if err := json.Unmarshal(document, v); err != nil {
		return fmt.Errorf("invalid JSON: %v: %w", err, errdefs.ErrInvalid)
	}
	return nil
}

// reply answers with v as JSON.
func (r *request) reply(status int, v any) error {
	r.w.Header().Set("Content-Type", "application/json")
	data, err := encodeFor(v, r.version)
	if err != nil {
		return err
	}
	r.w.WriteHeader(status)
	_, _ = r.w.Write(data) // the client is gone
	return nil
}

// line answers one of a stream of JSON documents.
func (r *request) line(v any) error {
	data, err := encodeFor(v, r.version)
	if err != nil {
		return err
	}
	_, err = r.w.Write(data)
	return err
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
