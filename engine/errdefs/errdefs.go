// Package errdefs holds the kinds of error that a caller of this code base can
// tell apart, chosen by what the caller can do next.
//
// An error has exactly one kind. Wrap with the deed and its object:
//
//	fmt.Errorf("container %s: attach %s: %w", id, vol, err)
//
// A layer that changes the meaning of an error formats the cause with %v and
// wraps a kind of its own: a layer gone from the registry is not the
// caller's ErrNotFound.
package errdefs

import "errors"

var (
	// ErrInvalid: the request itself is wrong; no retry will help.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotFound: the object that was named does not exist.
	ErrNotFound = errors.New("not found")
	// ErrDenied: whoever was asked wants other credentials.
	ErrDenied = errors.New("denied")
	// ErrConflict: the object's state forbids it now.
	ErrConflict = errors.New("conflict")
	// ErrForbidden: it is not for this caller to do, or not as long as others need the object.
	ErrForbidden = errors.New("forbidden")
	// ErrExhausted: this host has no room; another host may.
	ErrExhausted = errors.New("exhausted")
	// ErrUnavailable: something that is needed does not answer; a later retry may help.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnsupported: this build, kernel or driver cannot do it.
	ErrUnsupported = errors.New("not supported")
)

// HasKind tells whether err has a kind already.
func HasKind(err error) bool {
	for _, k := range []error{ErrInvalid, ErrNotFound, ErrDenied, ErrConflict, ErrExhausted, ErrUnavailable, ErrUnsupported} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}
