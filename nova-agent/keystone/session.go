package keystone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"novaagent/engine/errdefs"
)

const (
	// renewBefore is how long before its end a token is replaced, so that none ends
	// while a request travels (keystoneauth: MIN_TOKEN_LIFE_SECONDS).
	renewBefore = 2 * time.Minute
	// usableFor is how long a token must be good for when Keystone is away and no
	// new one can be had.
	usableFor = 10 * time.Second
	// attempts and firstPause bound the repetition of a login that got no answer, and
	// of a request that found nobody listening.
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

// String tells who logs in, and no secret, wherever the credentials may be printed.
func (c Credentials) String() string {
	for _, name := range []string{c.Username, c.UserID, c.ApplicationCredentialName, c.ApplicationCredentialID} {
		if name != "" {
			return name
		}
	}
	return "nobody"
}

// GoString is String, for %#v.
func (c Credentials) GoString() string { return c.String() }

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
	// Timeout bounds a login, the wait for the head of an answer, and each wait for
	// more of its body; 0 means a minute. The whole of a long download is bounded
	// by its context only.
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

	// turn is a lock that is taken with a context: it guards the following, and is
	// held over a login.
	turn      chan struct{}
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
	transport, err := transportFor(opts.TLS, opts.Timeout)
	if err != nil {
		return nil, err
	}
	return &Session{
		opts: opts, log: opts.Logger, turn: make(chan struct{}, 1),
		client: &http.Client{Transport: transport, CheckRedirect: refuseOtherHosts},
	}, nil
}

// Close gives up the connections that nobody uses.
func (s *Session) Close() { s.client.CloseIdleConnections() }

// Token returns a token that is good for two minutes at least, or for as long as the
// last one is while Keystone is away. ErrUnavailable if Keystone does not answer,
// ErrInvalid if it refuses the credentials.
func (s *Session) Token(ctx context.Context) (string, error) {
	if err := s.login(ctx); err != nil {
		return "", err
	}
	defer s.unlock()
	return s.token, nil
}

// ProjectID returns the ID of the project that the session's tokens are for.
func (s *Session) ProjectID(ctx context.Context) (string, error) {
	if err := s.login(ctx); err != nil {
		return "", err
	}
	defer s.unlock()
	return s.project, nil
}

// lock waits for its turn no longer than ctx allows: another request's login may
// take minutes.
func (s *Session) lock(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("keystone %s: login of %s: %w: %w", s.opts.AuthURL, s.who(), ctx.Err(), errdefs.ErrUnavailable)
	}
}

func (s *Session) unlock() { <-s.turn }

// replace returns a token in place of one that was refused.
func (s *Session) replace(ctx context.Context, refused string) (string, error) {
	if err := s.lock(ctx); err != nil {
		return "", err
	}
	if s.token == refused { // else another request has replaced it
		s.token = ""
	}
	s.unlock()
	return s.Token(ctx)
}

// login takes the lock and sees to it that there is a good token. The caller unlocks,
// unless there was an error.
func (s *Session) login(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	err := s.renewLocked(ctx)
	if err != nil {
		s.unlock()
	}
	return err
}

func (s *Session) renewLocked(ctx context.Context) error {
	if s.token != "" && time.Until(s.expires) > renewBefore {
		return nil
	}
	err := repeat(ctx, func() (bool, error) {
		err := s.fetchLocked(ctx)
		// The old token serves while it can; the next request asks again.
		again := s.token == "" || time.Until(s.expires) <= usableFor
		return again && errors.Is(err, errdefs.ErrUnavailable), err
	})
	if err != nil && errors.Is(err, errdefs.ErrUnavailable) && s.token != "" && time.Until(s.expires) > usableFor {
		s.log.WarnContext(ctx, "the token could not be renewed yet", "error", err, "expires", s.expires)
		return nil
	}
	return err
}

// repeat calls do until it is content or has failed often enough, with growing pauses.
func repeat(ctx context.Context, do func() (again bool, err error)) error {
	pause := firstPause
	for attempt := 1; ; attempt++ {
		again, err := do()
		if err == nil || !again || attempt == attempts {
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
	provider := &gophercloud.ProviderClient{HTTPClient: *s.client}
	provider.HTTPClient.Transport = limited{s.client.Transport}
	provider.UserAgent.Prepend("nova-agent")
	client := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: endpoint}
	created := tokens.Create(ctx, client, s.authOptions())
	token, err := created.ExtractToken()
	if err != nil {
		return fmt.Errorf("keystone %s: login of %s: %w", s.opts.AuthURL, s.who(), kindOf(err))
	}
	catalogue, err := created.ExtractServiceCatalog()
	if err != nil {
		return fmt.Errorf("keystone %s: catalogue: %v: %w", s.opts.AuthURL, err, errdefs.ErrUnavailable)
	}
	if token.ID == "" || !token.ExpiresAt.After(time.Now()) {
		return fmt.Errorf("keystone %s: login of %s: the answer has no token, or one that has ended (%s); are the clocks right?: %w",
			s.opts.AuthURL, s.who(), token.ExpiresAt, errdefs.ErrUnavailable)
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

func (s *Session) who() string { return s.opts.Credentials.String() }

// kindOf gives a login's failure its kind. What Keystone wrote is kept, since it
// says what is wrong; it never repeats a password.
func kindOf(err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &status) {
		kind := errdefs.ErrUnavailable
		if status.Actual >= 400 && status.Actual < 500 && status.Actual != http.StatusTooManyRequests {
			kind = errdefs.ErrInvalid
		}
		return fmt.Errorf("status %d: %s: %w", status.Actual, reason(status.Body), kind)
	}
	return fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
}

// reason is what Keystone says, or the beginning of whatever else answered.
func reason(body []byte) string {
	var answer struct{ Error struct{ Message string } }
	if json.Unmarshal(body, &answer) == nil && answer.Error.Message != "" {
		return answer.Error.Message
	}
	return strings.TrimSpace(fmt.Sprintf("%.200s", body))
}
