package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/tests/dockerregistry"
	"novaagent/tests/peer"
)

const (
	pullLayers = 8
	pullFiles  = 500
	pullBytes  = 50_000 // of each file
)

// fullLayer is a tar of files that compress to three quarters.
func fullLayer(b *testing.B, n uint64) []byte {
	r := rand.New(rand.NewPCG(n, n))
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	raw := make([]byte, pullBytes*3/4)
	for i := range pullFiles {
		for k := range raw {
			raw[k] = byte(r.Uint32())
		}
		data := base64.StdEncoding.EncodeToString(raw)
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("layer%d/%d", n, i), Mode: 0o644, Size: int64(len(data))}); err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(w, data); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// pull has an image pulled, and fails as docker pull would.
func pull(d *peer.Daemon, name string) error {
	resp, err := d.Do(context.Background(), "POST", "/images/create?fromImage="+name+"&tag=v1", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for lines := json.NewDecoder(resp.Body); ; {
		var line struct{ Error string }
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return fmt.Errorf("%s: %s", d.Name, line.Error)
		}
	}
}

// BenchmarkPull measures the pull of an image of 200 MB from a registry in the daemon's network namespace. Podman
// would ask it by TLS.
func BenchmarkPull(b *testing.B) {
	daemons := contestants(b)
	filled := dockerregistry.Start(b, dockerregistry.Options{})
	image := dockerregistry.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, Format: "gzip"}
	for n := range uint64(pullLayers) {
		image.Tars = append(image.Tars, fullLayer(b, n))
	}
	filled.Put(b, "app", "v1", image)

	// Others with the same files, where the daemons are.
	config := filepath.Join(b.TempDir(), "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %s}\n", filled.Root, filled.Addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, d := range daemons {
		server := d.Command(b, "", "docker-registry", "serve", config)
		if err := server.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			server.Process.Kill()
			_ = server.Wait() // it was killed
		})
	}
	contest(b, daemons,
		step{name: "pull", aim: 1, settle: true, without: "podman", do: func(d *peer.Daemon) error { return pull(d, filled.Addr+"/app") }},
		step{without: "podman", do: func(d *peer.Daemon) error {
			return d.Call("DELETE", "/images/"+filled.Addr+"/app:v1", nil, nil)
		}})
}
