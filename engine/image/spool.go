package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// maxArchiveEntries bounds the files of an archive (not of the layers in it).
// The oldest layout has three for each layer.
const maxArchiveEntries = 20_000

// spool is an archive on disk, its files under numbers. The names of the
// archive are keys only and never paths here.
type spool struct {
	dir   string
	files map[string]*blob
	links map[string]string
	blobs map[digest.Digest]*blob // those in an OCI layout's blobs/ directory
}

// blob is one file of an archive.
type blob struct {
	path   string // here
	size   int64
	digest digest.Digest
}

// readSpool reads the whole archive from src into a new directory under
// parent and verifies the blobs whose names tell their digest. The caller
// closes the spool, also on error.
func readSpool(ctx context.Context, parent string, src *source, limits Limits) (_ *spool, err error) {
	dir, err := os.MkdirTemp(parent, "import-")
	if err != nil {
		return nil, err
	}
	sp := &spool{dir: dir, files: map[string]*blob{}, links: map[string]string{}, blobs: map[digest.Digest]*blob{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, sp.close())
		}
	}()
	plain, _, err := decompress(src)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	in := &source{r: plain, max: limits.MaxArchiveBytes}
	tr := tar.NewReader(in)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if n >= maxArchiveEntries {
			return nil, fmt.Errorf("archive has more than %d files: %w", maxArchiveEntries, errdefs.ErrInvalid)
		}
		if err := sp.add(h, tr); err != nil {
			return nil, err
		}
	}
	// The reader may hold its verdict on the bytes back until their end.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return nil, err
	}
	if _, err := io.Copy(io.Discard, src); err != nil {
		return nil, err
	}
	return sp, nil
}

// add stores one entry of the archive.
func (sp *spool) add(h *tar.Header, r io.Reader) error {
	name := inArchive(h.Name)
	if len(name) > maxNameBytes {
		return fmt.Errorf("archive: name %.60q... is too long: %w", name, errdefs.ErrInvalid)
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		sp.links[name] = inArchive(path.Join(path.Dir(name), h.Linkname))
		return nil
	case tar.TypeLink:
		sp.links[name] = inArchive(h.Linkname)
		return nil
	default:
		return nil
	}
	b := &blob{path: filepath.Join(sp.dir, strconv.Itoa(len(sp.files)))}
	if _, ok := sp.files[name]; ok {
		return fmt.Errorf("archive has %.200q twice: %w", name, errdefs.ErrInvalid)
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	b.size, err = io.Copy(io.MultiWriter(f, sum), r)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	b.digest = digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil)))
	sp.files[name] = b
	if want, ok := strings.CutPrefix(name, ocispec.ImageBlobsDir+"/sha256/"); ok {
		if want != b.digest.Encoded() {
			return fmt.Errorf("blob sha256:%.64s has the digest %s: %w", want, b.digest, errdefs.ErrInvalid)
		}
		sp.blobs[b.digest] = b
	}
	return nil
}

// inArchive is the one form of a name within an archive.
func inArchive(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// file finds a file of the archive, following links.
func (sp *spool) file(name string) (*blob, bool) {
	name = inArchive(name)
	for range 16 {
		if b, ok := sp.files[name]; ok {
			return b, true
		}
		target, ok := sp.links[name]
		if !ok {
			break
		}
		name = target
	}
	return nil, false
}

// open reads the blob.
func (b *blob) open(context.Context) (io.ReadCloser, error) { return os.Open(b.path) }

// bytes reads a document of at most limit bytes, which errors call what.
func (b *blob) bytes(what string, limit int64) ([]byte, error) {
	if b.size > limit {
		return nil, fmt.Errorf("%s of %d bytes, the limit is %d: %w", what, b.size, limit, errdefs.ErrInvalid)
	}
	return os.ReadFile(b.path)
}

// json decodes b, of at most limit bytes, into v and returns the bytes. what
// names it in errors.
func (b *blob) json(what string, limit int64, v any) ([]byte, error) {
	raw, err := b.bytes(what, limit)
	if err != nil {
		return nil, err
	}
	if err := decodeJSON(what, raw, v); err != nil {
		return nil, err
	}
	return raw, nil
}

func decodeJSON(what string, raw []byte, v any) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s: %v: %w", what, err, errdefs.ErrInvalid)
	}
	return nil
}

// close removes the spool.
func (sp *spool) close() error { return os.RemoveAll(sp.dir) }
