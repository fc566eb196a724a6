package registry

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"novaagent/engine/errdefs"
)

// Auth is what a user has for a registry: a name and password, or an identity token that its
// token server gave out, or a token for the registry itself.
type Auth struct {
	Username, Password string
	IdentityToken      string
	RegistryToken      string
}

// session is one operation on one registry: its credentials and connections. The caller closes it.
type session struct {
	c        *Client
	auth     Auth
	resolver remotes.Resolver
	tracker  docker.StatusTracker

	mu    sync.Mutex
	hosts map[string][]docker.RegistryHost
	idle  []*http.Transport
}

func (c *Client) session(auth Auth) *session {
	s := &session{c: c, auth: auth, hosts: map[string][]docker.RegistryHost{}, tracker: docker.NewInMemoryTracker()}
	s.resolver = docker.NewResolver(docker.ResolverOptions{Hosts: s.hostsOf, Headers: s.header(), Tracker: s.tracker})
	return s
}

func (s *session) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.idle {
		t.CloseIdleConnections()
	}
}

func (s *session) header() http.Header {
	return http.Header{"User-Agent": {"nova-agent/" + s.c.opts.Version}}
}

// quiet keeps containerd's client from logging to its global logger; its errors say it all.
func quiet(ctx context.Context) context.Context {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.PanicLevel)
	return log.WithLogger(ctx, logrus.NewEntry(l))
}

// hostsOf are the places where a registry's images are, in the order to ask them.
func (s *session) hostsOf(name string) ([]docker.RegistryHost, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list, ok := s.hosts[name]; ok {
		return list, nil
	}
	var list []docker.RegistryHost
	if name == Hub {
		for _, m := range s.c.mirrors {
			h, err := s.host(m.Host, Auth{}, s.c.insecure(context.Background(), m.Host))
			if err != nil {
				return nil, err
			}
			h.Scheme, h.Path = m.Scheme, strings.TrimSuffix(m.Path, "/")+"/v2"
			h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
			list = append(list, h)
		}
	}
	host := name
	if name == Hub {
		host = hubHost
	}
	h, err := s.host(host, s.auth, s.c.insecure(context.Background(), host))
	if err != nil {
		return nil, err
	}
	s.hosts[name] = append(list, h)
	return s.hosts[name], nil
}

// host is one server. An insecure one is spoken to in TLS first, and in plain HTTP if it doesn't understand.
func (s *session) host(host string, auth Auth, insecure bool) (docker.RegistryHost, error) {
	config, err := s.c.tlsConfig(host, insecure)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	base := newTransport(config, s.c.opts.Timeout)
	s.idle = append(s.idle, base)
	var rt http.RoundTripper = base
	if insecure {
		rt = docker.NewHTTPFallback(rt)
	}
	client := &http.Client{Transport: &transport{rt, s.c.opts.Timeout}}
	return docker.RegistryHost{
		Client: client, Host: host, Scheme: "https", Path: "/v2",
		Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve | docker.HostCapabilityPush,
		Authorizer:   s.authorizer(client, host, auth),
	}, nil
}

// authorizer answers the challenges of one server.
func (s *session) authorizer(client *http.Client, host string, auth Auth) docker.Authorizer {
	if auth.RegistryToken != "" {
		return bearer{host, auth.RegistryToken}
	}
	return docker.NewDockerAuthorizer(docker.WithAuthClient(client), docker.WithAuthHeader(s.header()),
		docker.WithAuthCreds(func(asks string) (user, secret string, err error) {
			switch {
			case asks != host: // where a redirect led
				return "", "", nil
			case auth.IdentityToken != "":
				return "", auth.IdentityToken, nil
			}
			return auth.Username, auth.Password, nil
		}))
}

// bearer is a token that a client has got by itself.
type bearer struct{ host, token string }

// Authorize implements docker.Authorizer.
func (b bearer) Authorize(_ context.Context, r *http.Request) error {
	if r.URL.Host == b.host {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return nil
}

// AddResponses implements docker.Authorizer: there is no other token.
func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}

// get asks one server, with a token for the scope if it wants one. The caller closes the answer's body.
func (s *session) get(ctx context.Context, h docker.RegistryHost, path, scope string) (*http.Response, error) {
	if scope != "" {
		ctx = docker.WithScope(ctx, scope)
	}
	for try := 0; ; try++ {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.Scheme+"://"+h.Host+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header = s.header()
		if err := h.Authorizer.Authorize(ctx, req); err != nil {
			return nil, kindOf(ctx, err)
		}
		resp, err := h.Client.Do(req)
		if err != nil {
			return nil, kindOf(ctx, err)
		}
		if resp.StatusCode == http.StatusUnauthorized && try == 0 {
			err := h.Authorizer.AddResponses(ctx, []*http.Response{resp})
			if err == nil {
				resp.Body.Close()
				continue
			}
		}
		if resp.StatusCode >= 300 {
			text, _ := io.ReadAll(resp.Body) // an answer that ends early is none
			resp.Body.Close()
			return nil, statusError(resp.StatusCode, text)
		}
		return resp, nil
	}
}

// own is the server of a registry that isn't a mirror.
func (s *session) own(name string) (docker.RegistryHost, error) {
	list, err := s.hostsOf(name)
	if err != nil {
		return docker.RegistryHost{}, err
	}
	if len(list) == 0 {
		return docker.RegistryHost{}, errdefs.ErrNotFound
	}
	return list[len(list)-1], nil
}
