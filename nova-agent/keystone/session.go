package keystone

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"novaagent/engine/errdefs"
)

const (
	// renewBefore is how long before its end a token is replaced, so that none ends
	// while a request travels (keystoneauth: MIN_TOKEN_LIFE_SECONDS).
	renewBefore = 2 * time.Minute
	// attempts and firstPause bound the repetition of a token request that found
	// nobody listening.
	attempts   = 4
	firstPause = 250 * time.Millisecond
)

// Credentials say who logs in: a user with a password, or an application
// credential. Names are used where the IDs are empty.
type Credentials struct {
	AuthURL string // with or without /v3

	Username, UserID             string
	Password                     string
	UserDomainName, UserDomainID string

	ProjectName, ProjectID             string
	ProjectDomainName, ProjectDomainID string
	SystemScope                        bool // instead of a project

	ApplicationCredentialID     string
	ApplicationCredentialName   string
	ApplicationCredentialSecret string
}

// TLS is how a service's certificate is checked, and the client's own.
type TLS struct {
	CAFile   string // PEM; "" means the system's
	CertFile string
	KeyFile  string
	Insecure bool // no check at all
}

// Options configure a Session.
type Options struct {
	Credentials
	TLS
	// Region picks the endpoints; "" takes any.
	Region string
	// Interfaces are tried in order; none means internal, then public.
	Interfaces []string
	// Endpoints override the catalogue: service type to base URL.
	Endpoints map[string]string
	// Timeout bounds one request; 0 means a minute.
	Timeout time.Duration
	// Service is the session whose token goes along as X-Service-Token with the
	// requests of ForUser; nil means none.
	Service *Session
	Logger  *slog.Logger
}

// Session is the identity of a service user. It is safe for concurrent use.
type Session struct {
	opts   Options
	client *http.Client
	log    *slog.Logger

	mu        sync.Mutex // guards the following, and is held over a login
	token     string
	expires   time.Time
	project   string // ID
	catalogue []tokens.CatalogEntry
}

// New makes a session; it logs in when first used. ErrInvalid for credentials
// that cannot be complete and for unreadable certificates.
func New(opts Options) (*Session, error) {
	if opts.AuthURL == "" {
		return nil, fmt.Errorf("keystone: auth_url is missing: %w", errdefs.ErrInvalid)
	}
	if opts.ApplicationCredentialSecret == "" && (opts.Password == "" || opts.Username == "" && opts.UserID == "") {
		return nil, fmt.Errorf("keystone: neither a user with a password nor an application credential: %w", errdefs.ErrInvalid)
	}
	if opts.Timeout == 0 {
		opts.Timeout = time.Minute
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if len(opts.Interfaces) == 0 {
		opts.Interfaces = []string{"internal", "public"}
	}
	transport, err := transportFor(opts.TLS)
	if err != nil {
		return nil, err
	}
	return &Session{
		opts: opts, log: opts.Logger,
		client: &http.Client{Transport: transport, CheckRedirect: refuseOtherHosts},
	}, nil
}

func transportFor(t TLS) (http.RoundTripper, error) {
	conf := &tls.Config{InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("keystone: cafile: %v: %w", err, errdefs.ErrInvalid)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("keystone: cafile %s holds no certificate: %w", t.CAFile, errdefs.ErrInvalid)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("keystone: certfile: %v: %w", err, errdefs.ErrInvalid)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return &http.Transport{
		TLSClientConfig:       conf,
		Proxy:                 http.ProxyFromEnvironment,
		MaxIdleConnsPerHost:   16,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: time.Minute,
		ForceAttemptHTTP2:     true,
	}, nil
}

// refuseOtherHosts keeps a token from following a redirect to somebody else.
func refuseOtherHosts(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 || req.URL.Host != via[0].URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Token returns a token that is good for two minutes at least. ErrUnavailable if
// Keystone does not answer, ErrInvalid if it refuses the credentials.
func (s *Session) Token(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loginLocked(ctx); err != nil {
		return "", err
	}
	return s.token, nil
}

// ProjectID returns the ID of the project that the session's tokens are for.
func (s *Session) ProjectID(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.loginLocked(ctx); err != nil {
		return "", err
	}
	return s.project, nil
}

// forget drops a token that was refused, unless another one has replaced it.
func (s *Session) forget(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token == token {
		s.token = ""
	}
}

func (s *Session) loginLocked(ctx context.Context) error {
	if s.token != "" && time.Until(s.expires) > renewBefore {
		return nil
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := s.fetchLocked(ctx)
		if err == nil || attempt == attempts || !errors.Is(err, errdefs.ErrUnavailable) {
			return err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
		pause *= 2
	}
}

func (s *Session) fetchLocked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	endpoint := strings.TrimSuffix(strings.TrimSuffix(s.opts.AuthURL, "/"), "/v3") + "/v3/"
	client := &gophercloud.ServiceClient{
		ProviderClient: &gophercloud.ProviderClient{HTTPClient: *s.client},
		Endpoint:       endpoint,
	}
	created := tokens.Create(ctx, client, s.authOptions())
	token, err := created.ExtractToken()
	if err != nil {
		return fmt.Errorf("keystone %s: login of %s: %w", s.opts.AuthURL, s.who(), kindOf(err))
	}
	catalogue, err := created.ExtractServiceCatalog()
	if err != nil {
		return fmt.Errorf("keystone %s: catalogue: %v: %w", s.opts.AuthURL, err, errdefs.ErrUnavailable)
	}
	s.project = ""
	if project, err := created.ExtractProject(); err == nil && project != nil {
		s.project = project.ID
	}
	s.token, s.expires, s.catalogue = token.ID, token.ExpiresAt, catalogue.Entries
	return nil
}

func (s *Session) authOptions() *tokens.AuthOptions {
	c := s.opts.Credentials
	auth := &tokens.AuthOptions{
		Username: c.Username, UserID: c.UserID, Password: c.Password,
		DomainID: c.UserDomainID, DomainName: c.UserDomainName,
	}
	if c.UserID != "" || c.UserDomainID != "" {
		auth.DomainName = ""
	}
	if c.UserID != "" {
		auth.Username, auth.DomainID = "", ""
	}
	if c.ApplicationCredentialSecret != "" {
		auth.ApplicationCredentialID = c.ApplicationCredentialID
		auth.ApplicationCredentialName = c.ApplicationCredentialName
		auth.ApplicationCredentialSecret = c.ApplicationCredentialSecret
		auth.Password = ""
		return auth // it has its project built in
	}
	switch {
	case c.SystemScope:
		auth.Scope.System = true
	case c.ProjectID != "":
		auth.Scope.ProjectID = c.ProjectID
	case c.ProjectName != "":
		auth.Scope.ProjectName = c.ProjectName
		auth.Scope.DomainID = c.ProjectDomainID
		if c.ProjectDomainID == "" {
			auth.Scope.DomainName = c.ProjectDomainName
		}
	}
	return auth
}

func (s *Session) who() string {
	for _, name := range []string{s.opts.Username, s.opts.UserID, s.opts.ApplicationCredentialName, s.opts.ApplicationCredentialID} {
		if name != "" {
			return name
		}
	}
	return "nobody"
}

// kindOf gives a login's failure its kind. What Keystone wrote is kept, since it
// says what is wrong; it never repeats a password.
func kindOf(err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) {
		kind := errdefs.ErrUnavailable
		if status.Actual >= 400 && status.Actual < 500 && status.Actual != http.StatusTooManyRequests {
			kind = errdefs.ErrInvalid
		}
		return fmt.Errorf("status %d: %.200s: %w", status.Actual, status.Body, kind)
	}
	return fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
}
