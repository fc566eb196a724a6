package imagebridge

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

// errStalled is why a download is given up of which nothing comes.
var errStalled = errors.New("nothing comes any more")

// download reads the data of an image. It resumes after a lost connection,
// and its end is an error unless size and checksum are those of the record.
// The context of its making bounds it as a whole.
type download struct {
	ctx     context.Context //nolint:containedctx // an io.Reader has no other place for it
	bridge  *Bridge
	session Session
	record  Record
	digest  digest
	onBytes func(int64)

	body   io.ReadCloser
	cancel context.CancelCauseFunc // of the request body belongs to
	reqCtx context.Context         //nolint:containedctx // as ctx
	stall  *time.Timer             // cancels it
	offset int64
	failed int // attempts since there was progress
	end    error
}

// newDownload begins at the record's first byte. The caller closes it.
func (b *Bridge) newDownload(ctx context.Context, s Session, rec Record) (*download, error) {
	d, err := rec.digest()
	if err != nil {
		return nil, err
	}
	return &download{ctx: ctx, bridge: b, session: s, record: rec, digest: d, onBytes: b.opts.OnBytes}, nil
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for d.end == nil {
		if d.body == nil {
			if d.end = d.open(); d.end != nil {
				break
			}
		}
		d.stall.Reset(d.bridge.opts.Timeout)
		n, err := d.body.Read(p)
		d.stall.Stop()
		if n > 0 {
			d.failed = 0
			d.offset += int64(n)
			d.digest.hash.Write(p[:n])
			if d.onBytes != nil {
				d.onBytes(int64(n))
			}
			if d.record.Size != nil && d.offset > *d.record.Size {
				d.end = faultf(Corrupt, "Glance sends more than the %d bytes of its record: %w", *d.record.Size, errdefs.ErrInvalid)
			}
		}
		switch {
		case d.end != nil:
		case err == io.EOF && d.record.Size != nil && d.offset < *d.record.Size:
			d.drop(faultf(Unavailable, "Glance ended the data after %d of %d bytes: %w", d.offset, *d.record.Size, errdefs.ErrUnavailable))
		case err == io.EOF:
			d.end = d.verify()
		case err != nil:
			if errors.Is(context.Cause(d.reqCtx), errStalled) {
				err = fmt.Errorf("%w for %s", errStalled, d.bridge.opts.Timeout)
			}
			d.drop(lost(err))
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, d.end
}

// verify is the verdict at the end of the data.
func (d *download) verify() error {
	if got := hex.EncodeToString(d.digest.hash.Sum(nil)); got != d.digest.want {
		return faultf(Corrupt, "the data from Glance have the %s %s, its record says %.128s: %w",
			d.digest.name, got, d.digest.want, errdefs.ErrInvalid)
	}
	return io.EOF
}

// drop gives the connection up because of err; the next Read makes another,
// unless there were too many without progress.
func (d *download) drop(err error) {
	d.closeBody()
	if d.ctx.Err() != nil {
		d.end = context.Cause(d.ctx)
		return
	}
	if d.failed++; d.failed > d.bridge.opts.Retries || !errors.Is(err, errdefs.ErrUnavailable) {
		d.end = err
		return
	}
	d.bridge.log.InfoContext(d.ctx, "download of an image broke, trying again",
		"image", d.record.ID, "bytes", d.offset, "attempt", d.failed, "error", err)
	if perr := pause(d.ctx, d.bridge.opts, d.failed-1, err); perr != nil {
		d.end = perr
	}
}

// open asks for the data from offset on.
func (d *download) open() error {
	for d.end == nil {
		err := d.request()
		if err == nil {
			return nil
		}
		d.drop(err)
	}
	return d.end
}

func (d *download) request() (err error) {
	d.reqCtx, d.cancel = context.WithCancelCause(d.ctx)
	cancel := d.cancel
	d.stall = time.AfterFunc(d.bridge.opts.Timeout, func() { cancel(errStalled) })
	resp, err := d.bridge.get(d.reqCtx, d.session, d.record.ID, "/file", d.offset)
	if err != nil {
		if errors.Is(context.Cause(d.reqCtx), errStalled) {
			return faultf(Unavailable, "Glance does not answer within %s: %w", d.bridge.opts.Timeout, errdefs.ErrUnavailable)
		}
		return err
	}
	d.body = resp.Body
	switch {
	case resp.StatusCode == http.StatusNoContent:
		return faultf(NoData, "Glance has no data of it: %w", errdefs.ErrInvalid)
	case resp.StatusCode == http.StatusOK && d.offset == 0:
		return nil
	case resp.StatusCode == http.StatusOK:
		// This server, or the store behind it, knows no ranges.
		return d.skip()
	case resp.StatusCode == http.StatusPartialContent && rangeStart(resp.Header.Get("Content-Range")) == d.offset:
		return nil
	case resp.StatusCode == http.StatusPartialContent:
		return faultf(Unavailable, "Glance sends the range %.80q in place of bytes from %d on: %w",
			resp.Header.Get("Content-Range"), d.offset, errdefs.ErrUnavailable)
	}
	if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable && d.record.Size != nil {
		return faultf(Corrupt, "Glance has no more than %d of the %d bytes of its record: %w", d.offset, *d.record.Size, errdefs.ErrInvalid)
	}
	return statusFault(resp)
}

// skip reads what is known already. It was verified neither then nor now, but
// the checksum covers the bytes that were passed on.
func (d *download) skip() error {
	for left := d.offset; left > 0; {
		d.stall.Reset(d.bridge.opts.Timeout)
		n, err := io.CopyN(io.Discard, d.body, min(left, 1<<20))
		if left -= n; err != nil {
			return lost(err)
		}
	}
	return nil
}

// rangeStart is the first byte's offset of a Content-Range, -1 if there is none.
// https://www.rfc-editor.org/rfc/rfc9110#field.content-range
func rangeStart(header string) int64 {
	rest, ok := strings.CutPrefix(header, "bytes ")
	if !ok {
		return -1
	}
	first, _, ok := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil {
		return -1
	}
	return n
}

func (d *download) closeBody() {
	if d.stall != nil {
		d.stall.Stop()
	}
	if d.body != nil {
		d.body.Close()
	}
	if d.cancel != nil {
		d.cancel(nil)
	}
	d.body = nil
}

// close ends the download.
func (d *download) close() { d.closeBody() }
