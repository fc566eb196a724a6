package image

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"novaagent/tests/need"
)

// benchImage is an image of about 100 MB of this machine's own files: IMAGE_BENCH
// may name an archive to use instead, so that other engines can be timed on it.
func benchImage(b *testing.B, compress func(testing.TB, []byte) []byte) []byte {
	b.Helper()
	if name := os.Getenv("IMAGE_BENCH"); name != "" {
		data, err := os.ReadFile(name)
		if err != nil {
			b.Fatal(err)
		}
		return data
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	err := filepath.WalkDir("/usr/lib", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || layer.Len() > 100<<20 {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(fi, "")
		if err != nil {
			return err
		}
		h.Name = p
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = io.Copy(w, bytes.NewReader(data))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	i := newImage(layer.Bytes())
	if compress != nil {
		i.compressed(b, compress)
	}
	return dockerArchive(b, i)
}

// BenchmarkImport imports, verifies and unpacks an image that is not here yet.
func BenchmarkImport(b *testing.B) {
	need.Root(b)
	for name, compress := range map[string]func(testing.TB, []byte) []byte{"plain": nil, "gzip": gz, "zstd": zst} {
		b.Run(name, func(b *testing.B) {
			archive := benchImage(b, compress)
			s := newStore(b)
			b.SetBytes(int64(len(archive)))
			b.ResetTimer()
			for range b.N {
				img, err := s.Import(b.Context(), bytes.NewReader(archive), ImportOptions{})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := s.Remove(b.Context(), string(img.Digest)); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkLowers is what a container's start needs of the store.
func BenchmarkLowers(b *testing.B) {
	s := newStore(b)
	img := mustImport(b, s, dockerArchive(b, twoLayers(b)), ImportOptions{})
	for range b.N {
		if err := s.Use(img.Digest, "c"); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Lowers(b.Context(), img.Digest); err != nil {
			b.Fatal(err)
		}
		s.Release("c")
	}
}
