package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"novaagent/engine/errdefs"
)

// SearchResult is a repository that was found.
type SearchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
	Automated   bool   `json:"is_automated"`
}

// Search asks the registry that term begins with, or Docker Hub, for repositories, at most limit.
// Only registries with the search of version 1 of the protocol can tell. ErrUnsupported: this one cannot.
func (c *Client) Search(ctx context.Context, term string, limit int, a Auth) ([]SearchResult, error) {
	ctx = quiet(ctx)
	s := c.session(a)
	defer s.close()
	server, words := Hub, term
	if first, rest, ok := strings.Cut(term, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		server, words = serverOf(first), rest
	}
	host := server
	if server == Hub {
		host = hubIndex
		words = strings.TrimPrefix(words, "library/")
	}
	h, err := s.host(host, Auth{}, c.insecure(ctx, host))
	if err != nil {
		return nil, err
	}
	h.Authorizer = searchLogin{host, a}
	resp, err := s.get(ctx, h, "/v1/search?"+url.Values{"q": {words}, "n": {strconv.Itoa(limit)}}.Encode(), "")
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, fmt.Errorf("registry %s cannot be searched: it has no /v1/search: %w", host, errdefs.ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("search at %s: %w", host, err)
	}
	defer resp.Body.Close()
	var answer struct{ Results []SearchResult }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("search at %s: the answer is none: %v: %w", host, err, errdefs.ErrUnavailable)
	}
	if len(answer.Results) > limit {
		answer.Results = answer.Results[:limit]
	}
	if server != Hub {
		for i := range answer.Results {
			answer.Results[i].Name = server + "/" + answer.Results[i].Name
		}
	}
	return answer.Results, nil
}

// searchLogin is the basic authorization of that protocol.
type searchLogin struct {
	host string
	auth Auth
}

// Authorize implements docker.Authorizer.
func (l searchLogin) Authorize(_ context.Context, r *http.Request) error {
	if l.auth.Username != "" && r.URL.Host == l.host {
		r.SetBasicAuth(l.auth.Username, l.auth.Password)
	}
	return nil
}

// AddResponses implements docker.Authorizer: there are no challenges.
func (searchLogin) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}
