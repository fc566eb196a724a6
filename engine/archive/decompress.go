package archive

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"novaagent/engine/errdefs"
)

// maxWindow bounds the memory that a zstd header can claim.
const maxWindow = 128 << 20

// decompress returns the stream behind in, which its first bytes tell. ErrUnsupported: it is xz.
func decompress(in io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(in, 64<<10)
	head, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	damaged := func(err error) error { return fmt.Errorf("the archive is damaged: %v: %w", err, errdefs.ErrInvalid) }
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, damaged(err)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(br)), nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, damaged(err)
		}
		return z.IOReadCloser(), nil
	case bytes.HasPrefix(head, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return nil, fmt.Errorf("the archive is compressed with xz; plain tar, gzip, bzip2 and zstd are accepted: %w", errdefs.ErrUnsupported)
	}
	return io.NopCloser(br), nil
}
