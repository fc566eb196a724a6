package image

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"novaagent/engine/errdefs"
)

// zstdMaxWindow is the window of `zstd --ultra -22`, the most a common
// compressor asks for. It bounds the memory that a frame header can claim.
const zstdMaxWindow = 128 << 20

// unreadable are the compressions that are recognised only to be named in
// the error.
var unreadable = []struct {
	magic []byte
	name  string
}{
	{[]byte{0xFD, '7', 'z', 'X', 'Z', 0}, "xz"},
	{[]byte("BZh"), "bzip2"},
	{[]byte{0x04, 0x22, 0x4D, 0x18}, "lz4"},
	{[]byte("PK\x03\x04"), "zip"},
	{[]byte("QFI\xfb"), "qcow2"},
}

// decompress returns the stream behind r: r itself, or what its gzip or
// zstd compression holds, told apart by their first bytes as every container
// engine does. It decompresses in this process. containerd's own
// compression.DecompressStream would run igzip or unpigz from PATH if it found
// one, so only its detection is used.
func decompress(r io.Reader) (io.ReadCloser, compression.Compression, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	head, err := br.Peek(10)
	if err != nil && err != io.EOF {
		return nil, compression.Unknown, err
	}
	switch c := compression.DetectCompression(head); c {
	case compression.Gzip:
		zr, err := gzip.NewReader(br)
		if err != nil {
			return nil, c, compressedError("gzip", err)
		}
		return &decoder{zr, "gzip"}, c, nil
	case compression.Zstd:
		zr, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return nil, c, compressedError("zstd", err)
		}
		return &decoder{zr.IOReadCloser(), "zstd"}, c, nil
	default:
		for _, u := range unreadable {
			if bytes.HasPrefix(head, u.magic) {
				return nil, compression.Unknown, fmt.Errorf(
					"the data is in %s format, accepted are plain tar, gzip and zstd: %w", u.name, errdefs.ErrInvalid)
			}
		}
		return io.NopCloser(br), compression.Uncompressed, nil
	}
}

// decoder is a decompressor whose errors tell that the data are to blame.
type decoder struct {
	io.ReadCloser
	format string
}

func (d *decoder) Read(p []byte) (int, error) {
	n, err := d.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = compressedError(d.format, err)
	}
	return n, err
}

// compressedError is an error of a decompressor. Where the stream below it
// failed, importError knows.
func compressedError(format string, err error) error {
	if errdefs.HasKind(err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("%s data are damaged: %v: %w", format, err, errdefs.ErrInvalid)
}

// source is the stream an import reads. It counts and bounds the bytes and
// remembers the error of the stream itself, to tell it from errors in what the
// stream says.
type source struct {
	r       io.Reader
	read    int64
	max     int64
	err     error
	onBytes func(int64)
}

func (s *source) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.r.Read(p)
	s.read += int64(n)
	if s.onBytes != nil {
		s.onBytes(s.read)
	}
	if s.max > 0 && s.read > s.max {
		return n, tooLarge("archive", s.max)
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// bounded fails once more than its budget is read; the budget is shared by
// the layers of an image.
type bounded struct {
	r      io.Reader
	budget *int64
	max    int64
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if *b.budget -= int64(n); *b.budget < 0 {
		return n, tooLarge("unpacked image", b.max)
	}
	return n, err
}

func tooLarge(what string, limit int64) error {
	return fmt.Errorf("%s is larger than the limit of %d bytes: %w", what, limit, errdefs.ErrInvalid)
}
