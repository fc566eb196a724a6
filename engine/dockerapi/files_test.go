package dockerapi_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"novaagent/engine"
)

// tarOf makes an archive.
func tarOf(t testing.TB, entries ...tar.Header) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "content of " + h.Name
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func (a *api) put(t testing.TB, id, path, more, archive string) (int, string) {
	t.Helper()
	status, body, err := a.request("PUT", "/containers/"+id+"/archive?path="+url.QueryEscape(path)+more, strings.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	return status, body
}

// request sends a request with a body of no JSON.
func (a *api) request(method, path string, body io.Reader) (int, string, error) {
	req, err := http.NewRequest(method, "http://docker"+path, body)
	if err != nil {
		return 0, "", err
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", a.socket) },
		DisableKeepAlives: true,
	}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// exec runs a shell command in a container and returns its output.
func (a *api) shell(t testing.TB, id, command string) string {
	t.Helper()
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := a.engine.Exec(ctx, id, engine.ExecSpec{Args: []string{"sh", "-c", command}}, engine.Streams{Stdout: &out, Stderr: &out}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestHostileArchives puts what must not leave the container, or break it, into one
// that runs and one that doesn't.
func TestHostileArchives(t *testing.T) {
	a := newAPI(t)
	running := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, running)
	idle := a.create(t, `,"Cmd":["sleep","1000"]`)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	reg := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeReg, Name: name} }
	dir := func(name string) tar.Header { return tar.Header{Typeflag: tar.TypeDir, Name: name} }
	link := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: to}
	}
	hard := func(name, to string) tar.Header {
		return tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: to}
	}
	zipped := func(s string) string {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		if _, err := io.WriteString(w, s); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	whole := tarOf(t, reg("whole"))
	// The same path inside: there the links may lead.
	for _, id := range []string{running, idle} {
		if status, body := a.put(t, id, "/", "", tarOf(t, dir(outside), reg(victim))); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	for _, tt := range []struct {
		name, archive, more string
		status              int
		says                string
	}{
		{"dotdot", tarOf(t, reg("../../escape")), "", 400, "is outside of"},
		{"dotdot inside", tarOf(t, reg("a/../../escape")), "", 400, "is outside of"},
		{"absolute", tarOf(t, reg("/etc/absolute")), "", 200, ""},
		{"through a link", tarOf(t, link("out", outside), reg("out/victim")), "", 200, ""},
		{"over a link", tarOf(t, link("victim", victim), reg("victim")), "", 200, ""},
		{"through a relative link", tarOf(t, link("up", strings.Repeat("../", 40)+strings.TrimPrefix(outside, "/")), reg("up/victim")), "", 200, ""},
		{"hard link out", tarOf(t, hard("h", victim)), "", 400, "no such file"},
		{"hard link up", tarOf(t, hard("h", "../../../../"+victim)), "", 400, "invalid hardlink"},
		{"hard link through a link", tarOf(t, link("hl", outside), hard("h", "hl/victim"), reg("h")), "", 200, ""},
		{"magic link", tarOf(t, link("magic", "/proc/1/root"), reg("magic/x")), "", 400, ""},
		{"device", tarOf(t, tar.Header{Typeflag: tar.TypeBlock, Name: "disk", Devmajor: 8}, tar.Header{Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1, Devminor: 1}), "", 200, ""},
		{"owner out of range", tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "who", Uid: 70000}), "", 400, "no user or group 70000"},
		{"no name", tarOf(t, reg(".")), "", 400, "is no name"},
		{"garbage", strings.Repeat("garbage", 1000), "", 400, "damaged"},
		{"truncated", whole[:520], "", 400, "damaged"},
		{"gzip", zipped(tarOf(t, reg("zipped"))), "", 200, ""},
		{"gzip cut short", zipped(whole)[:40], "", 400, ""},
		{"xz", "\xfd7zXZ\x00" + strings.Repeat("x", 100), "", 501, "xz"},
		{"empty", "", "", 200, ""},
		{"file over directory", tarOf(t, dir("d"), reg("d/below"), reg("d")), "", 200, ""},
		{"directory over file refused", tarOf(t, reg("f"), dir("f")), "&noOverwriteDirNonDir=1", 400, "cannot overwrite non-directory"},
		{"file over directory refused", tarOf(t, dir("g"), reg("g")), "&noOverwriteDirNonDir=1", 400, "cannot overwrite directory"},
		{"mount point", tarOf(t, reg("proc")), "", 409, "busy"},
	} {
		for which, id := range map[string]string{"running": running, "idle": idle} {
			path := "/tmp"
			if tt.name == "mount point" {
				if which == "idle" {
					continue // nothing is mounted there
				}
				path = "/"
			}
			status, body := a.put(t, id, path, tt.more, tt.archive)
			if status != tt.status || !strings.Contains(body, tt.says) {
				t.Errorf("%s, %s: %d %s", tt.name, which, status, body)
			}
			if strings.Contains(body, "/proc/self/fd") || strings.Contains(body, "containers/"+id) {
				t.Errorf("%s, %s: the answer shows the host's paths: %s", tt.name, which, body)
			}
		}
		if data, err := os.ReadFile(victim); err != nil || string(data) != "untouched" {
			t.Fatalf("%s: the host's file is %q %v", tt.name, data, err)
		}
		if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
			t.Fatalf("%s: the host's directory holds %v %v", tt.name, list, err)
		}
	}
	got := a.shell(t, running, "cat /tmp/etc/absolute; echo; cat "+victim+"; echo; stat -c '%F %u %a' /tmp/zipped /tmp/d; ls /tmp/disk /tmp/mem 2>&1")
	for _, want := range []string{"content of /etc/absolute", "content of up/victim", "regular file 0 755\nregular file 0 755", "/tmp/disk: No such file", "/tmp/mem: No such file"} {
		if !strings.Contains(got, want) {
			t.Errorf("the container has %q, want %q", got, want)
		}
	}
	if _, err := os.Stat("/escape"); err == nil {
		t.Error("an archive wrote to the host's root")
	}
}

// TestPathsOfArchives looks at paths in all the ways that lead astray.
func TestPathsOfArchives(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sh","-c","ln -s /etc/shadow a; ln -s ../../../../../../etc/hostname b; ln -s loop loop; mkfifo pipe; mknod null c 1 3; ln -s /proc/1/root proc-root; exec sleep 1000"]`)
	a.start(t, id)
	a.shell(t, id, "while [ ! -L /proc-root ]; do :; done")
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"HEAD", "/etc/passwd", 200},
		{"HEAD", "etc/passwd", 200},
		{"HEAD", "/../../etc/passwd", 200},
		{"HEAD", "/loop", 200},
		{"HEAD", "/loop/", 400},
		{"HEAD", "/absent", 404},
		{"HEAD", "/etc/passwd/", 400},
		{"HEAD", "/etc/passwd/x", 400},
		{"HEAD", "", 400},
		{"HEAD", "/a\x00b", 400},
		{"HEAD", strings.Repeat("/a", 3000), 400},
		{"GET", "/a", 200}, // the link itself
		{"GET", "/a/", 404},
		{"GET", "/pipe", 200},
		{"GET", "/proc-root/etc/passwd", 400},
		{"GET", "/proc", 400},
		{"GET", "/proc/1/status", 400},
		{"GET", "/absent", 404},
		{"GET", "", 400},
		{"PUT", "/absent", 404},
		{"PUT", "/etc/passwd", 400},
		{"PUT", "/proc", 400},
		{"PUT", "/sys/fs/cgroup", 400},
		{"PUT", "/proc-root/tmp", 400},
		{"PUT", "", 400},
	} {
		body := ""
		if tt.method == "PUT" {
			body = tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"})
		}
		status, answer, err := a.request(tt.method, "/containers/"+id+"/archive?path="+url.QueryEscape(tt.path), strings.NewReader(body))
		if err != nil || status != tt.status {
			t.Errorf("%s %.40q: %d %.200s %v, want %d", tt.method, tt.path, status, answer, err, tt.status)
		}
	}
	// The name that a link leads to in the end never leaves the container.
	stat, err := a.engine.StatPath(context.Background(), id, "/b")
	if err != nil || stat.LinkTarget != "/etc/hostname" || stat.Name != "b" {
		t.Errorf("link b: %+v %v", stat, err)
	}
	if status, _, err := a.request("HEAD", "/containers/absent/archive?path=/", nil); err != nil || status != 404 {
		t.Errorf("absent container: %d %v", status, err)
	}
}

// TestCopyRace copies in and out while a directory of the container is exchanged, all the time, for a link
// to a directory that is there on the host as well.
func TestCopyRace(t *testing.T) {
	a := newAPI(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Mkdir(outside, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("the host's"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, id)
	a.shell(t, id, fmt.Sprintf("mkdir -p /place/dir %[1]s; echo linked > %[1]s/secret; echo direct > /place/dir/secret; ln -s %[1]s /place/evil", outside))
	c, err := a.engine.Inspect(id)
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.Open(fmt.Sprintf("/proc/%d/root/place", c.PID))
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := unix.Renameat2(int(work.Fd()), "dir", int(work.Fd()), "evil", unix.RENAME_EXCHANGE); err != nil {
				stopped <- err
				return
			}
		}
	}()
	archive := tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "dir/planted"}, tar.Header{Typeflag: tar.TypeReg, Name: "dir/deep/planted"})
	seen := map[string]int{}
	for range 150 {
		status, body := a.put(t, id, "/place", "", archive)
		seen[fmt.Sprint("PUT ", status)]++
		if status != 200 && status != 400 && status != 409 {
			t.Fatalf("put: %d %s", status, body)
		}
		for _, path := range []string{"/place/dir/secret", "/place/dir/", "/place"} {
			_, body, err := a.request("GET", "/containers/"+id+"/archive?path="+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(body, "the host's") {
				t.Fatalf("%s: the archive has the host's file", path)
			}
			for _, which := range []string{"linked", "direct"} {
				if path == "/place/dir/secret" && strings.Contains(body, which) {
					seen[which]++
				}
			}
		}
		if list, err := os.ReadDir(outside); err != nil || len(list) != 1 {
			t.Fatalf("the host's directory holds %v %v", list, err)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if seen["PUT 200"] == 0 || seen["linked"] == 0 || seen["direct"] == 0 {
		t.Errorf("it was no race: %v", seen)
	}
}

// TestCopyEnds: clients that go in mid-stream, or say nothing, hold up neither a start nor a removal, and leave nothing.
func TestCopyEnds(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, id)
	a.shell(t, id, "dd if=/dev/zero of=/big bs=1M count=8")
	for range 5 {
		conn, r := a.dial(t, "GET /containers/"+id+"/archive?path=/ HTTP/1.1\r\nHost: docker\r\n\r\n")
		readHead(t, r)
		conn.Close()
		conn, _ = a.dial(t, "PUT /containers/"+id+"/archive?path=/tmp HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000000\r\n\r\n"+tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "x"})[:700])
		conn.Close()
	}
	// These stay, and are silent.
	_, reading := a.dial(t, "GET /containers/"+id+"/archive?path=/ HTTP/1.1\r\nHost: docker\r\n\r\n")
	readHead(t, reading)
	writing, answer := a.dial(t, "PUT /containers/"+id+"/archive?path=/tmp HTTP/1.1\r\nHost: docker\r\nContent-Length: 1000000\r\n\r\n"+tarOf(t, tar.Header{Typeflag: tar.TypeReg, Name: "y"})[:700])
	a.shell(t, id, "while [ ! -e /tmp/y ]; do :; done")
	if status, body := a.do(t, "DELETE", "/containers/"+id+"?force=1", ""); status != 204 {
		t.Fatalf("remove: %d %s", status, body)
	}
	// The client that writes learns of it as soon as it writes.
	for {
		if _, err := writing.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if head, err := answer.ReadString('\n'); err == nil && !strings.Contains(head, "503") {
		t.Errorf("the copy into a container that is gone: %q", head)
	}
	if _, err := io.Copy(io.Discard, reading); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Logf("the copy out of a container that is gone: %v", err)
	}
}

// TestStartEndsCopies: a start doesn't wait for ever for a client that reads nothing.
func TestStartEndsCopies(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	_, reading := a.dial(t, "GET /containers/"+id+"/archive?path=/ HTTP/1.1\r\nHost: docker\r\n\r\n")
	readHead(t, reading)
	a.start(t, id)
	resp := httputil.NewChunkedReader(reading)
	if n, err := io.Copy(io.Discard, resp); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the copy ended after %d bytes with %v", n, err)
	}
}

// TestImageAndDiskStatuses sends what is wrong to the routes that look at everything at once.
func TestImageAndDiskStatuses(t *testing.T) {
	a := newAPI(t)
	a.create(t, `,"Cmd":["sleep","1000"]`)
	for _, tt := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/v1.51/system/df?type=x", 400, "unknown object type: x"},
		{"GET", "/v1.51/system/df?type=volume", 200, `"Images":null,"Containers":null,"Volumes":[],"BuildCache":null`},
		{"GET", "/v1.51/system/df?type=container&type=build-cache", 200, `"Volumes":null,"BuildCache":[]`},
		{"GET", "/images/get", 400, "names"},
		{"GET", "/images/get?names=absent", 404, "No such image: absent"},
		{"GET", "/images/absent/get", 404, "No such image: absent"},
		{"GET", "/images/busybox/get", 200, "blobs/"},
		{"GET", "/images/busybox/get?platform={", 400, "platform"},
		{"GET", "/images/busybox/get?platform=" + url.QueryEscape(`{"os":"linux","architecture":"vax"}`), 404, "vax"},
		{"POST", "/containers/prune?filters=" + url.QueryEscape(`{"until":{"x":true}}`), 400, "failed to parse value as time or duration"},
		{"POST", "/containers/prune?filters=" + url.QueryEscape(`{"until":["1h","2h"]}`), 400, "more than one"},
		{"POST", "/containers/prune?filters=" + url.QueryEscape(`{"until":["2000-01-01T00:00:00"]}`), 200, `"ContainersDeleted":null,"SpaceReclaimed":0`},
		{"POST", "/containers/prune?filters=" + url.QueryEscape(`{"until":["4102444800"]}`), 200, `"ContainersDeleted":["`},
		{"POST", "/images/prune?filters=" + url.QueryEscape(`{"dangling":["maybe"]}`), 400, "dangling"},
		{"POST", "/images/prune", 200, `"ImagesDeleted":null`},
	} {
		if status, body := a.do(t, tt.method, tt.path, ""); status != tt.status || !strings.Contains(body, tt.says) {
			t.Errorf("%s %s: %d %s, want %d with %s", tt.method, tt.path, status, body, tt.status, tt.says)
		}
	}
}

// TestCopyWithoutUserns: with the host's user namespace ids are the host's, and devices stay out all the same.
func TestCopyWithoutUserns(t *testing.T) {
	a := newAPI(t)
	status, body := a.do(t, "POST", "/containers/create", `{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"NetworkMode":"none","Privileged":true}}`)
	var answer struct{ ID string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 201 {
		t.Fatalf("create: %d %s", status, body)
	}
	a.start(t, answer.ID)
	archive := tarOf(t, tar.Header{Typeflag: tar.TypeChar, Name: "mem", Devmajor: 1, Devminor: 1}, tar.Header{Typeflag: tar.TypeReg, Name: "who", Uid: 70000, Gid: 5, Mode: 0o4755})
	if status, body := a.put(t, answer.ID, "/tmp", "", archive); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if got := a.shell(t, answer.ID, "ls /tmp; stat -c '%u %g %a' /tmp/who"); got != "who\n70000 5 4755\n" {
		t.Errorf("the container has %q", got)
	}
	// In the place of /dev's nodes and the kernel's files there is nothing.
	status, body, err := a.request("GET", "/containers/"+answer.ID+"/archive?path=/", nil)
	if err != nil || status != 200 {
		t.Fatalf("%d %v", status, err)
	}
	for r := tar.NewReader(strings.NewReader(body)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock || strings.HasPrefix(h.Name, "/proc/1") || strings.HasPrefix(h.Name, "/sys/k") {
			t.Errorf("the archive has %s", h.Name)
		}
	}
}
