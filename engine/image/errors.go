package image

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	cerrdefs "github.com/containerd/errdefs"

	"novaagent/engine/errdefs"
)

// importError gives err, which ended an import that read from src, the kind
// that says what to do about it.
func importError(ctx context.Context, err error, src *source) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		// The caller knows its own reason; a cancelled import has no kind.
		return context.Cause(ctx)
	case src != nil && src.err != nil:
		// The stream failed, so whatever its reader made of that is noise.
		if errdefs.HasKind(src.err) {
			return fmt.Errorf("read archive: %w", src.err)
		}
		return fmt.Errorf("read archive: %w: %w", errdefs.ErrUnavailable, src.err)
	case errdefs.HasKind(err):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", errdefs.ErrExhausted, err)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("archive is truncated: %w", errdefs.ErrInvalid)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("not a tar archive, or a damaged one: %w", errdefs.ErrInvalid)
	}
	return err
}

// layerError marks an error of unpacking a layer as the layer's own fault
// unless the host is to blame.
func layerError(err error) error {
	for _, host := range []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, host) {
			return err
		}
	}
	switch {
	case errdefs.HasKind(err):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it is truncated: %w", errdefs.ErrInvalid)
	case errors.Is(err, tar.ErrHeader):
		return fmt.Errorf("it is no tar, or a damaged one: %w", errdefs.ErrInvalid)
	}
	return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
}

// storeError translates the kinds of containerd's libraries.
func storeError(err error) error {
	switch {
	case err == nil || errdefs.HasKind(err):
		return err
	case cerrdefs.IsNotFound(err):
		return fmt.Errorf("%w: %w", errdefs.ErrNotFound, err)
	case cerrdefs.IsInvalidArgument(err):
		return fmt.Errorf("%w: %w", errdefs.ErrInvalid, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", errdefs.ErrExhausted, err)
	}
	return err
}
