package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/auth"

	"novaagent/engine/errdefs"
)

// Login tries credentials at a registry, whose address may have a scheme and a path. It returns the
// identity token to use in their place, if the registry's token server gives one. ErrDenied: they are wrong.
// ErrUnavailable: it does not answer, or is no registry.
func (c *Client) Login(ctx context.Context, address string, a Auth) (identity string, err error) {
	ctx = quiet(ctx)
	s := c.session(Auth{})
	defer s.close()
	h, err := s.own(serverOf(address))
	if err != nil {
		return "", err
	}
	target := h.Scheme + "://" + h.Host + h.Path + "/"
	resp, err := login(ctx, h, target, "")
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusOK {
		return "", nil
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("login attempt to %s failed with status: %s: %w", target, resp.Status, errdefs.ErrUnavailable)
	}
	header, err := "", fmt.Errorf("registry %s asks for no kind of login that is known (basic, bearer): %w", h.Host, errdefs.ErrUnsupported)
	for _, challenge := range auth.ParseAuthHeader(resp.Header) {
		switch challenge.Scheme {
		case auth.BasicAuth:
			req := http.Request{Header: http.Header{}}
			req.SetBasicAuth(a.Username, a.Password)
			header, err = req.Header.Get("Authorization"), nil
		case auth.BearerAuth:
			var token string
			if token, identity, err = s.token(ctx, h, challenge, a); err != nil {
				return "", err
			}
			header = "Bearer " + token
		default:
			continue
		}
		break
	}
	if err != nil {
		return "", err
	}
	if resp, err = login(ctx, h, target, header); err != nil {
		return "", err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return identity, nil
	case http.StatusUnauthorized, http.StatusForbidden:
		return "", fmt.Errorf("login attempt to %s failed with status: %s: %w", target, resp.Status, errdefs.ErrDenied)
	}
	return "", fmt.Errorf("login attempt to %s failed with status: %s: %w", target, resp.Status, errdefs.ErrUnavailable)
}

// login asks a registry for nothing but whether the caller may come in. The body is closed.
func login(ctx context.Context, h docker.RegistryHost, target, authorization string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, fmt.Errorf("registry address %.200q: %v: %w", h.Host, err, errdefs.ErrInvalid)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := h.Client.Do(req)
	if err != nil {
		return nil, kindOf(ctx, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, kindOf(ctx, err)
	}
	return resp, nil
}

// token asks a token server for a token without a scope, and for an identity token.
func (s *session) token(ctx context.Context, h docker.RegistryHost, c auth.Challenge, a Auth) (token, identity string, err error) {
	user, secret := a.Username, a.Password
	if a.IdentityToken != "" {
		user, secret = "", a.IdentityToken
	}
	opts, err := auth.GenerateTokenOptions(ctx, h.Host, user, secret, c)
	if err != nil {
		return "", "", fmt.Errorf("registry %s: %v: %w", h.Host, err, errdefs.ErrUnavailable)
	}
	opts.FetchRefreshToken = true
	if a.IdentityToken != "" {
		answer, err := auth.FetchTokenWithOAuth(ctx, h.Client, s.header(), "nova-agent", opts)
		if err != nil {
			return "", "", tokenError(ctx, err)
		}
		return answer.AccessToken, a.IdentityToken, nil
	}
	answer, err := auth.FetchToken(ctx, h.Client, s.header(), opts)
	if err != nil {
		return "", "", tokenError(ctx, err)
	}
	return answer.Token, answer.RefreshToken, nil
}

func tokenError(ctx context.Context, err error) error {
	if err = kindOf(ctx, err); errors.Is(err, errdefs.ErrDenied) {
		return fmt.Errorf("unauthorized: incorrect username or password: %w", errdefs.ErrDenied) // Docker's words
	}
	return err
}
