package bench

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/tests/dockerregistry"
	"novaagent/tests/need"
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
func (d *daemon) pull(name string) error {
	resp, err := d.client.Post("http://docker/v1.41/images/create?fromImage="+name+"&tag=v1", "application/json", nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", d.name, resp.Status)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var line struct{ Error string }
		switch err := lines.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case line.Error != "":
			return fmt.Errorf("%s: %s", d.name, line.Error)
		}
	}
}

// BenchmarkPull has nova-agent and Debian's dockerd pull the same image of 200 MB in turns, from a registry that is
// in one network namespace with both.
func BenchmarkPull(b *testing.B) {
	need.Root(b)
	need.Command(b, "nsenter", "ip")
	filled := dockerregistry.Start(b, dockerregistry.Options{})
	image := dockerregistry.Image{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, Format: "gzip"}
	for n := range uint64(pullLayers) {
		image.Tars = append(image.Tars, fullLayer(b, n))
	}
	filled.Put(b, "app", "v1", image)

	// Another one with the same files, where the daemons are.
	dir := b.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %s}\n", filled.Root, filled.Addr)
	if err := os.WriteFile(path("registry.yml"), []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	server := exec.Command("sh", "-c", `ip link set lo up && exec docker-registry serve "$0"`, path("registry.yml"))
	server.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		server.Process.Kill()
		_ = server.Wait() // it was killed
	})
	there := []string{"nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", server.Process.Pid)}
	b.Cleanup(func() { // dockerd leaves its own, empty
		for _, dir := range []string{"/sys/fs/cgroup/docker", "/sys/fs/cgroup/*/docker"} {
			found, _ := filepath.Glob(dir)
			for _, d := range found {
				os.Remove(d)
			}
		}
	})
	peers := []*daemon{
		startDaemon(b, "nova-agent", path("n.sock"), append(there, "../../bin/nova-agent", "standalone", "--root", path("n"), "--host", "unix://"+path("n.sock"))...),
		startDaemon(b, "dockerd", path("d.sock"), append(there, "dockerd", "--bridge", "none", "--iptables=false", "--data-root", path("d"), "--exec-root", path("dx"), "--pidfile", path("d.pid"), "-H", "unix://"+path("d.sock"))...),
	}
	took := map[*daemon][]time.Duration{}
	for b.Loop() {
		for _, d := range peers {
			begin := time.Now()
			if err := d.pull(filled.Addr + "/app"); err != nil {
				b.Fatal(err)
			}
			took[d] = append(took[d], time.Since(begin))
			if err := d.call("DELETE", "/images/"+filled.Addr+"/app:v1", nil, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	var line []string
	for _, d := range peers {
		line = append(line, fmt.Sprintf("%s %s (%s)", d.name, quantile(took[d], 0.5), quantile(took[d], 0.9)))
		b.ReportMetric(quantile(took[d], 0.5).Seconds(), d.name+"-s")
	}
	fmt.Fprintln(b.Output(), "median (90 %) of a pull:", strings.Join(line, ", "))
}
