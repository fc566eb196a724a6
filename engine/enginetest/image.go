package enginetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/tests/need"
)

// Rootfs makes a root file system of the host's busybox, which must be static, in dir.
func Rootfs(t testing.TB, dir string) {
	t.Helper()
	need.Command(t, "busybox")
	program, err := exec.LookPath("busybox")
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command(program, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "dev", "etc", "home/user", "proc", "root", "sys", "usr/bin", "var"} {
		check(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	check(os.MkdirAll(filepath.Join(dir, "tmp"), 0o755))
	check(os.Chmod(filepath.Join(dir, "tmp"), 0o1777))
	check(os.WriteFile(filepath.Join(dir, "bin/busybox"), binary, 0o755))
	for name := range strings.FieldsSeq(string(list)) {
		if name != "busybox" {
			check(os.Symlink("busybox", filepath.Join(dir, "bin", name)))
		}
	}
	check(os.WriteFile(filepath.Join(dir, "etc/passwd"),
		[]byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n"), 0o644))
	check(os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"), 0o644))
	check(os.Chown(filepath.Join(dir, "home/user"), 1000, 1000))
}

// Archive is a `docker save` archive of Rootfs with that name, if any, and configuration.
func Archive(t testing.TB, name string, config ocispec.ImageConfig) []byte {
	t.Helper()
	dir := t.TempDir()
	Rootfs(t, dir)
	return ArchiveOf(t, dir, name, config)
}

// ArchiveOf is Archive of another root file system.
func ArchiveOf(t testing.TB, dir, name string, config ocispec.ImageConfig) []byte {
	t.Helper()
	layer := Tar(t, dir)
	sum := sha256.Sum256(layer)
	created := time.Date(2024, time.February, 29, 12, 0, 0, 0, time.UTC)
	image := ocispec.Image{
		Created:  &created,
		Platform: ocispec.Platform{Architecture: goarch, OS: "linux"},
		Config:   config,
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: digests(sum)},
		History:  []ocispec.History{{CreatedBy: "a test"}},
	}
	configJSON, err := json.Marshal(image)
	if err != nil {
		t.Fatal(err)
	}
	configSum := sha256.Sum256(configJSON)
	configName := hex.EncodeToString(configSum[:]) + ".json"
	names := []string{name}
	if name == "" {
		names = nil
	}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": names, "Layers": []string{"layer/layer.tar"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range []struct {
		name string
		data []byte
	}{{configName, configJSON}, {"layer/layer.tar", layer}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Tar is dir as a tar stream.
func Tar(t testing.TB, dir string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&os.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name, _ = filepath.Rel(dir, path)
		h.Uname, h.Gname = "", ""
		if err := w.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
