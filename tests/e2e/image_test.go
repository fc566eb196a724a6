package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadImages: each gives the server a fault that names the image and says
// what is wrong with it.
func TestBadImages(t *testing.T) {
	c := openCluster(t)
	web := webArchive(t, c)
	for _, tt := range []struct {
		name  string
		bytes []byte
		want  string // a part of the fault, besides the image
	}{
		{"not-an-archive", []byte(strings.Repeat("this is no image. ", 100)), "not a tar archive"},
		{"empty", nil, "no image in the archive"},
		{"truncated", web[:len(web)/2], "truncated"},
		{"lying-layer", bytes.Replace(web, []byte("It works:"), []byte("It lies: "), 1), "diff"},
		{"no-command", dockerArchive(t, nil), "command"},
		{"missing-command", dockerArchive(t, []string{"/no/such/program"}), "/no/such/program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkLeaks(t, c)
			id := c.upload(t, "bad-"+tt.name, "docker", tt.bytes)
			s := c.create(t, bootOptions{Image: "bad-" + tt.name})
			s.wait("ERROR")
			fault := s.fault()
			t.Logf("fault: %s", fault)
			if !strings.Contains(fault, id) && !strings.Contains(fault, "bad-"+tt.name) {
				t.Errorf("the fault does not name the image: %s", fault)
			}
			if !strings.Contains(fault, tt.want) {
				t.Errorf("the fault does not speak of %q: %s", tt.want, fault)
			}
		})
	}
}

// TestRootfsImage: a bare root file system as a tar, with the command in a
// property of the image.
func TestRootfsImage(t *testing.T) {
	c := openCluster(t)
	checkLeaks(t, c)
	c.upload(t, "rootfs", "bare", rootfs(t), "os_command_line", "/bin/sh -c 'echo from a rootfs; exec sleep 1000000'")
	s := c.boot(t, bootOptions{Image: "rootfs", Networks: []object{}})
	eventually(t, settle, "the command's output in the console log", func() bool {
		return strings.Contains(s.console(), "from a rootfs")
	})
}

// upload makes an image in Glance, deleted when the test ends.
func (c *cluster) upload(t testing.TB, name, container string, data []byte, properties ...string) string {
	t.Helper()
	body := object{"name": name, "container_format": container, "disk_format": "raw"}
	for i := 0; i+1 < len(properties); i += 2 {
		body[properties[i]] = properties[i+1]
	}
	made := c.demo.must(t, http.MethodPost, glanceURL+"/images", body)
	id := made["id"].(string)
	t.Cleanup(func() {
		if _, err := c.demo.do(http.MethodDelete, glanceURL+"/images/"+id, nil); err != nil {
			t.Error(err)
		}
	})
	c.demo.must(t, http.MethodPut, glanceURL+"/images/"+id+"/file", io.Reader(bytes.NewReader(data)))
	return id
}

// webArchive is the archive that the cluster uploaded as image "web".
func webArchive(t testing.TB, c *cluster) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.state, "data/web.tar"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rootfs is a tar of a root file system with Debian's static busybox.
func rootfs(t testing.TB) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		writeEntry(t, w, tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	writeEntry(t, w, tar.Header{Name: "bin/busybox", Mode: 0o755}, busybox)
	for _, name := range []string{"sh", "sleep", "cat", "rm", "hostname"} {
		writeEntry(t, w, tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// dockerArchive is what `docker save` writes for an image of rootfs with command.
func dockerArchive(t testing.TB, command []string) []byte {
	t.Helper()
	layer := rootfs(t)
	config, err := json.Marshal(object{"architecture": "amd64", "os": "linux", "config": object{"Cmd": command},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer))}}})
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%x.json", sha256.Sum256(config))
	manifest, err := json.Marshal([]object{{"Config": name, "RepoTags": []string{"bad:latest"}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	writeEntry(t, w, tar.Header{Name: "layer.tar", Mode: 0o644}, layer)
	writeEntry(t, w, tar.Header{Name: name, Mode: 0o644}, config)
	writeEntry(t, w, tar.Header{Name: "manifest.json", Mode: 0o644}, manifest)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func writeEntry(t testing.TB, w *tar.Writer, h tar.Header, data []byte) {
	t.Helper()
	h.Size = int64(len(data))
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
}
