package imagebridge

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"novaagent/engine/errdefs"
)

// Reason is what is wrong with an image, fine enough to choose a Nova
// exception by.
type Reason string

// The reasons, with the exception that fits in Nova.
const (
	// NotFound: Glance has no such image, or hides it from the user.
	// ErrNotFound; ImageNotFound.
	NotFound Reason = "not found"
	// Forbidden: the user may not read it. ErrInvalid; ImageNotAuthorized.
	Forbidden Reason = "forbidden"
	// NotActive: its status is not active. ErrConflict; ImageNotActive.
	NotActive Reason = "not active"
	// BadFormat: its declared formats are not taken.
	// ErrUnsupported; ImageUnacceptable.
	BadFormat Reason = "format"
	// BadContent: its bytes are not what the formats say, damaged,
	// hostile or beyond the limits. ErrInvalid or, for a foreign platform,
	// ErrUnsupported; ImageUnacceptable.
	BadContent Reason = "content"
	// NoData: Glance has a record but no bytes. ErrInvalid; ImageUnacceptable.
	NoData Reason = "no data"
	// Corrupt: the bytes differ from the record's size or checksum.
	// ErrInvalid; ImageUnacceptable.
	Corrupt Reason = "corrupt"
	// TooLarge: it does not fit Request.MaxBytes.
	// ErrInvalid; FlavorDiskSmallerThanImage.
	TooLarge Reason = "too large"
	// Unavailable: Glance does not answer, or not sensibly.
	// ErrUnavailable; GlanceConnectionFailed.
	Unavailable Reason = "unavailable"
	// NoSpace: the disk here is full. ErrExhausted; another host may fit.
	NoSpace Reason = "no space"
	// Failed: a fault of this host. The kind is the cause's, if it has one.
	Failed Reason = "failed"
)

// Error is why an image could not be had. It wraps one errdefs kind.
type Error struct {
	Reason  Reason
	ImageID string
	Name    string // as Glance has it; may be empty
	Err     error
}

// Error names the image.
func (e *Error) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("image %s: %v", e.ImageID, e.Err)
	}
	return fmt.Sprintf("image %s (%.100q): %v", e.ImageID, e.Name, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// fault is an error that knows its reason, but not yet its image.
type fault struct {
	reason Reason
	err    error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

func faultf(r Reason, format string, args ...any) error {
	return &fault{r, fmt.Errorf(format, args...)}
}

// describe makes an Error of what ended the handling of an image. A context
// that ended is passed on as it is: it is no matter of the image.
func describe(rec Record, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errdefs.ErrUnavailable) {
		return err
	}
	e := &Error{Reason: Failed, ImageID: rec.ID, Name: rec.Name, Err: err}
	var f *fault
	switch {
	case errors.As(err, &f):
		e.Reason = f.reason
	case errors.Is(err, errdefs.ErrInvalid), errors.Is(err, errdefs.ErrUnsupported):
		e.Reason = BadContent
	case errors.Is(err, errdefs.ErrExhausted):
		e.Reason = NoSpace
	case errors.Is(err, errdefs.ErrUnavailable):
		e.Reason = Unavailable
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Reason, e.Err = NoSpace, fmt.Errorf("%w: %w", errdefs.ErrExhausted, err)
	}
	return e
}
