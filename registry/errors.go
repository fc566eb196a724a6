package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	cerrdefs "github.com/containerd/errdefs"

	"novaagent/engine/errdefs"
)

// kindOf gives an error of containerd's client the kind that says what to do about it.
func kindOf(ctx context.Context, err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	if err != nil {
		err = &plainError{err}
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &status):
		return statusError(status.StatusCode, status.Body)
	case errors.Is(err, docker.ErrInvalidAuthorization):
		text := err.Error()
		if strings.Contains(text, "no basic auth credentials") {
			text = "no basic auth credentials" // Docker's words
		}
		return fmt.Errorf("%s: %w", text, errdefs.ErrDenied)
	case errdefs.HasKind(err):
		return err
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("%v: %w", err, errdefs.ErrNotFound)
	case cerrdefs.IsInvalidArgument(err), cerrdefs.IsFailedPrecondition(err):
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	case cerrdefs.IsNotImplemented(err):
		return fmt.Errorf("%v: %w", err, errdefs.ErrUnsupported)
	}
	return fmt.Errorf("%v: %w", err, errdefs.ErrUnavailable)
}

// plainError leaves out what containerd's client says of its own insides.
type plainError struct{ error }

var insides = strings.NewReplacer("httpReadSeeker: ", "", "failed open: ", "", "failed to do request: ", "", "failed to copy: ", "",
	": failed precondition", "", "server message: ", "")

// Error implements error.
func (e *plainError) Error() string { return insides.Replace(e.error.Error()) }

// Unwrap is for errors.Is.
func (e *plainError) Unwrap() error { return e.error }

// statusError is what a registry answered, in its own words.
func statusError(code int, body []byte) error {
	kind := errdefs.ErrUnavailable
	switch {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		kind = errdefs.ErrDenied
	case code == http.StatusNotFound:
		kind = errdefs.ErrNotFound
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		kind = errdefs.ErrInvalid
	}
	// https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
	var answer struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &answer) == nil && len(answer.Errors) > 0 {
		e := answer.Errors[0]
		code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
		return fmt.Errorf("%.100s: %.500s: %w", code, e.Message, kind)
	}
	return fmt.Errorf("registry answered %d %s: %w", code, http.StatusText(code), kind)
}
