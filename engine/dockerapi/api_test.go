package dockerapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"novaagent/engine"
	"novaagent/engine/dockerapi"
	"novaagent/engine/errdefs"
)

const patience = 60 * time.Second

// newAPI serves an engine, and checks at the end that no goroutine is left.
func newAPI(t *testing.T) *api {
	t.Helper()
	before := goleak.IgnoreCurrent()
	dir, err := os.MkdirTemp("", "api-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	a := serve(t, filepath.Join(dir, "root"), filepath.Join(dir, "sock"))
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
		// The server of net/http waits half a second for the last bytes of a client that it has refused.
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
	})
	return a
}

// do sends a request and returns status and body.
func (a *api) do(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("unix", a.socket) },
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequest(method, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	checkAnswer(t, method, path, resp.StatusCode, string(data))
	return resp.StatusCode, string(data)
}

func (a *api) create(t *testing.T, fields string) string {
	t.Helper()
	status, body := a.do(t, "POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none"}`+fields+`}`)
	var answer struct{ ID string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 201 {
		t.Fatalf("create: %d %s %v", status, body, err)
	}
	return answer.ID
}

func (a *api) start(t *testing.T, id string) {
	t.Helper()
	if status, body := a.do(t, "POST", "/containers/"+id+"/start", ""); status != 204 {
		t.Fatalf("start: %d %s", status, body)
	}
}

// TestStatuses sends what is wrong in various ways; each answer has Docker's shape.
func TestStatuses(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	stopped := a.create(t, `,"Cmd":["true"]`)
	a.start(t, id)
	for _, tt := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/_ping", "", 200},
		{"HEAD", "/_ping", "", 200},
		{"GET", "/v1.24/_ping", "", 200},
		{"GET", "/v1.51/version", "", 200},
		{"GET", "/v1.23/version", "", 400},
		{"GET", "/v1.57/version", "", 200},
		{"GET", "/v1.58/version", "", 400},
		{"GET", "/v2.0/version", "", 400},
		{"GET", "//v1.43/version", "", 404},
		{"GET", "/v1.43/v1.43/version", "", 404},
		{"GET", "/V1.43/version", "", 404},
		{"GET", "/nothing", "", 404},
		{"PUT", "/version", "", 404},
		{"GET", "/containers/absent/json", "", 404},
		{"GET", "/containers/..%2f..%2fetc/json", "", 404},
		{"GET", "/containers/%00/json", "", 404},
		{"GET", "/containers/json?filters={", "", 400},
		{"GET", "/containers/json?filters={\"x\":{\"y\":true}}", "", 400},
		{"GET", "/containers/json?limit=x", "", 400},
		{"POST", "/containers/create", "", 400},
		{"POST", "/containers/create", "null", 400},
		{"POST", "/containers/create", "{", 400},
		{"POST", "/containers/create", "{} {}", 400},
		{"POST", "/containers/create", "[]", 400},
		{"POST", "/containers/create", `{"Image":5}`, 400},
		{"POST", "/containers/create", `{"Image":"absent","HostConfig":{"NetworkMode":"none"}}`, 404},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{}}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{"DriverOpts":{"x":"y"}}}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"bridge"},"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"01:00:00:00:00:01"}}}}`, 400},
		{"POST", "/networks/create", `{"Name":""}`, 400},
		{"POST", "/networks/create", `{"Name":"x","ConfigOnly":true,"Internal":true}`, 403},
		{"POST", "/networks/create", `{"Name":"x","EnableIPv4":false}`, 400},
		{"POST", "/networks/create", `{"Name":"x","IPAM":{"Config":[{"Gateway":"10.0.0.1"}]}}`, 400},
		{"POST", "/networks/create", `{"Name":"x","IPAM":{"Config":[{"Subnet":"10.9.0.0/24"},{"Subnet":"10.8.0.0/24"}]}}`, 403},
		{"POST", "/networks/create", `{"Name":"x","IPAM":{"Options":{"a":"b"}}}`, 400},
		{"POST", "/networks/create", `{"Name":"x","Driver":"absent"}`, 404},
		{"POST", "/networks/create", `{"Name":"host"}`, 403},
		{"POST", "/networks/bridge/connect", `{"Container":"absent"}`, 404},
		{"POST", "/networks/absent/disconnect", `{"Container":"absent"}`, 404},
		{"DELETE", "/networks/none", "", 403},
		{"DELETE", "/networks/absent", "", 404},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"PortBindings":{"80/sctp":[{}]}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"90-80"}]}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"nonsense"}]}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"PortBindings":{"80":5}}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Memory":-1}}`, 400},
		{"POST", "/containers/create?name=a%0ab", `{"Image":"busybox","HostConfig":{"NetworkMode":"none"}}`, 400},
		{"POST", "/containers/create", strings.Repeat("[", 100_000), 400},
		{"POST", "/containers/" + id + "/start", "", 304},
		{"POST", "/containers/" + stopped + "/stop", "", 304},
		{"POST", "/containers/" + stopped + "/kill", "", 409},
		{"POST", "/containers/" + id + "/kill?signal=NONE", "", 400},
		{"POST", "/containers/" + id + "/stop?t=x", "", 400},
		{"POST", "/containers/" + stopped + "/pause", "", 409},
		{"POST", "/containers/" + id + "/unpause", "", 409},
		{"POST", "/containers/" + id + "/resize?h=x&w=1", "", 400},
		{"POST", "/containers/" + id + "/resize?h=99999&w=1", "", 400},
		{"POST", "/containers/" + id + "/wait?condition=never", "", 400},
		{"POST", "/containers/" + id + "/rename?name=", "", 400},
		{"DELETE", "/containers/" + id, "", 409},
		{"GET", "/containers/" + id + "/logs", "", 400},
		{"GET", "/containers/" + id + "/logs?stdout=1&since=x", "", 400},
		{"GET", "/containers/" + id + "/top?ps_args=--help", "", 400},
		{"GET", "/containers/" + stopped + "/top", "", 409},
		{"GET", "/containers/" + id + "/stats?stream=0&one-shot=1", "", 200},
		{"POST", "/containers/" + id + "/exec", `{}`, 400},
		{"POST", "/containers/" + stopped + "/exec", `{"Cmd":["true"]}`, 409},
		{"POST", "/exec/absent/start", `{}`, 404},
		{"GET", "/exec/absent/json", "", 404},
		{"GET", "/images/absent/json", "", 404},
		{"POST", "/images/busybox/tag?repo=%20", "", 400},
		{"DELETE", "/images/busybox", "", 409},
		{"POST", "/build", "", 501},
		{"POST", "/images/create", "", 400},
		{"POST", "/images/create?fromImage=x&fromSrc=-", "", 400},
		{"POST", "/images/create?fromImage=X", "", 400},
		{"POST", "/images/create?fromImage=x&tag=a%20b", "", 400},
		{"POST", "/images/create?fromImage=x&tag=sha512:00", "", 400},
		{"POST", "/images/create?fromImage=x&platform=a/b/c/d/e", "", 400},
		{"POST", "/images/create?fromImage=127.0.0.1:1/x&tag=y", "", 503},
		{"POST", "/images/create?fromImage=127.0.0.1:1/x", "", 503},
		{"POST", "/images/create?fromSrc=ftp://127.0.0.1/x", "", 400},
		{"POST", "/images/create?fromSrc=http://127.0.0.1:1/x", "", 503},
		{"POST", "/images/create?fromSrc=-&repo=X", "", 400},
		{"POST", "/images/create?fromSrc=-&changes=RUN%20x", "", 400},
		{"POST", "/images/create?fromSrc=-", "no tar", 400},
		{"POST", "/images/absent/push?tag=x", "", 404},
		{"POST", "/images/busybox/push?tag=absent", "", 404},
		{"POST", "/images/busybox/push?tag=latest&platform=x", "", 400},
		{"POST", "/images/busybox@sha256:" + strings.Repeat("0", 64) + "/push", "", 400},
		{"POST", "/auth", "", 400},
		{"POST", "/auth", `{"username":"a","password":"b","serveraddress":"127.0.0.1:1"}`, 503},
		{"POST", "/auth", `{"serveraddress":"127.0.0.1:1"}`, 400},
		{"POST", "/auth", `{"auth":"x","serveraddress":"127.0.0.1:1"}`, 400},
		{"GET", "/distribution/127.0.0.1:1/x/json", "", 503},
		{"GET", "/distribution/X/json", "", 400},
		{"GET", "/images/search?term=127.0.0.1:1/x", "", 503},
		{"GET", "/images/search?term=127.0.0.1:1/x&limit=101", "", 400},
		{"GET", "/images/search?term=127.0.0.1:1/x&filters={\"stars\":[\"x\"]}", "", 400},
		{"GET", "/images/search", "", 400},
		{"GET", "/images/busybox/json?platform=x", "", 400},
		{"GET", "/images/busybox/json?platform={\"os\":\"linux\",\"architecture\":\"s390x\"}", "", 404},
		{"GET", "/images/busybox/get?platform={\"os\":\"linux\",\"architecture\":\"s390x\"}", "", 404},
		{"GET", "/networks/absent", "", 404},
		{"GET", "/volumes/absent", "", 404},
		{"GET", "/volumes/..%2f..%2fimages", "", 404},
		{"GET", "/volumes?filters={\"x\":{\"y\":true}}", "", 400},
		{"GET", "/volumes?filters={\"dangling\":{\"x\":true}}", "", 400},
		{"POST", "/volumes/create", "[]", 400},
		{"POST", "/volumes/create", `{"Name":"../x"}`, 400},
		{"POST", "/volumes/create", `{"Name":"x"}`, 400},
		{"POST", "/volumes/create", `{"Driver":"nfs"}`, 404},
		{"POST", "/volumes/create", `{"DriverOpts":{"size":"1m"}}`, 400},
		{"POST", "/volumes/create", `{"DriverOpts":{"type":"nfs","device":":/x"}}`, 400},
		{"POST", "/volumes/create", `{"ClusterVolumeSpec":{}}`, 503},
		{"POST", "/volumes/prune?filters={\"all\":{\"x\":true}}", "", 400},
		{"DELETE", "/volumes/absent", "", 404},
		{"DELETE", "/volumes/absent?force=1", "", 204},
		{"DELETE", "/volumes/..%2f..%2fimages", "", 404},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Binds":["../x:/data"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Binds":["name:/data:rslave"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Binds":["name:/"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Binds":["one:/data","two:/data"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","Volumes":{"/":{}},"HostConfig":{"NetworkMode":"none"}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","VolumesFrom":["absent"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","VolumesFrom":["` + id + `:x"]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"volume","Target":"/data","ReadOnly":true}]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"volume","Target":"/data","BindOptions":{}}]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"volume","Source":"name","Target":"/data","VolumeOptions":{"Subpath":"../x"}}]}}`, 400},
		{"POST", "/containers/create", `{"Image":"busybox","HostConfig":{"NetworkMode":"none","Mounts":[{"Type":"volume","Source":"name","Target":"/data","VolumeOptions":{"DriverConfig":{"Name":"nfs"}}}]}}`, 404},
		{"GET", "/swarm", "", 503},
	} {
		status, body := a.do(t, tt.method, tt.path, tt.body)
		if status != tt.status {
			t.Errorf("%s %s: %d %.200s, want %d", tt.method, tt.path, status, body, tt.status)
		}
		var answer struct{ Message string }
		if status >= 400 && (json.Unmarshal([]byte(body), &answer) != nil || answer.Message == "") {
			t.Errorf("%s %s: the error is %.200q", tt.method, tt.path, body)
		}
	}
}

// dial connects and sends a request by hand.
func (a *api) dial(t *testing.T, head string) (*net.UnixConn, *bufio.Reader) {
	t.Helper()
	conn, err := net.Dial("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.UnixConn), bufio.NewReader(conn)
}

const upgrade = " HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"

// readHead reads a response's header.
func readHead(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("%v after %q", err, head.String())
		}
		head.WriteString(line)
		if line == "\r\n" {
			return head.String()
		}
	}
}

// readFrames reads a multiplexed stream to its end.
func readFrames(t *testing.T, r io.Reader) (stdout, stderr string) {
	t.Helper()
	var out [3]bytes.Buffer
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); errors.Is(err, io.EOF) {
			return out[1].String(), out[2].String()
		} else if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(&out[head[0]], r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttachStream(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"OpenStdin":true,"StdinOnce":true,"Cmd":["sh","-c","cat; echo err >&2"]`)
	conn, r := a.dial(t, "POST /v1.47/containers/"+id+"/attach?stream=1&stdin=1&stdout=1&stderr=1"+upgrade+"early input\n")
	head := readHead(t, r)
	if !strings.HasPrefix(head, "HTTP/1.1 101 UPGRADED\r\n") || !strings.Contains(head, "application/vnd.docker.multiplexed-stream") {
		t.Errorf("the answer is %q", head)
	}
	a.start(t, id)
	fmt.Fprint(conn, "late input\n")
	// The client has no more to say, and goes on listening.
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if stdout, stderr := readFrames(t, r); stdout != "early input\nlate input\n" || stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout, stderr)
	}
}

func TestAttachRefused(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, id)
	if status, _ := a.do(t, "POST", "/containers/"+id+"/pause", ""); status != 204 {
		t.Fatal(status)
	}
	for _, path := range []string{"/containers/absent/attach?stream=1", "/containers/" + id + "/attach?stream=1", "/containers/" + id + "/attach?stream=1&detachKeys=nonsense"} {
		_, r := a.dial(t, "POST "+path+upgrade)
		if head := readHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 4") || !strings.Contains(head, "application/json") {
			t.Errorf("%s: %q", path, head)
		}
	}
}

// TestClientsThatGo opens many streams and drops them, in several ways; goleak sees that nothing waits for them.
func TestClientsThatGo(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"OpenStdin":true,"Cmd":["sleep","1000"]`)
	idle := a.create(t, `,"Cmd":["true"]`)
	a.start(t, id)
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			path := []string{
				"/containers/" + id + "/attach?stream=1&stdin=1&stdout=1&stderr=1",
				"/containers/" + id + "/attach?stream=1&stdout=1",
				"/containers/" + idle + "/attach?stream=1&stdout=1",
			}[i%3]
			conn, r := a.dial(t, "POST "+path+upgrade)
			if i%2 == 0 {
				readHead(t, r)
			}
			if i%5 == 0 {
				conn.CloseWrite()
			}
			conn.Close()
		})
	}
	for _, path := range []string{"/containers/" + id + "/logs?follow=1&stdout=1", "/events", "/containers/" + id + "/stats", "/containers/" + id + "/wait?condition=removed"} {
		method := "GET"
		if strings.Contains(path, "wait") {
			method = "POST"
		}
		wg.Go(func() {
			conn, r := a.dial(t, method+" "+path+" HTTP/1.1\r\nHost: docker\r\n\r\n")
			readHead(t, r)
			conn.Close()
		})
	}
	wg.Wait()
	// The container does not notice.
	if c, err := a.engine.Inspect(id); err != nil || c.State != engine.Running {
		t.Errorf("%s, %v", c.State, err)
	}
}

func TestExecStream(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, id)
	status, body := a.do(t, "POST", "/containers/"+id+"/exec", `{"Cmd":["sh","-c","cat; exit 5"],"AttachStdin":true,"AttachStdout":true,"AttachStderr":true}`)
	var exec struct{ ID string }
	if err := json.Unmarshal([]byte(body), &exec); err != nil || status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	start := `{"Detach":false,"Tty":false}`
	conn, r := a.dial(t, fmt.Sprintf("POST /v1.41/exec/%s/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: %d\r\n\r\n%s", exec.ID, len(start), start))
	if head := readHead(t, r); !strings.Contains(head, "application/vnd.docker.raw-stream") {
		t.Errorf("before 1.42 the type is %q", head)
	}
	fmt.Fprint(conn, "through cat")
	conn.CloseWrite()
	if stdout, _ := readFrames(t, r); stdout != "through cat" {
		t.Errorf("stdout %q", stdout)
	}
	if _, body := a.do(t, "GET", "/exec/"+exec.ID+"/json", ""); !strings.Contains(body, `"ExitCode":5`) || !strings.Contains(body, `"Running":false`) {
		t.Errorf("exec %s", body)
	}
	if status, _ := a.do(t, "POST", "/exec/"+exec.ID+"/start", `{}`); status != 409 {
		t.Errorf("started again: %d", status)
	}
}

// TestBrowsers: what a web page can make a browser send is refused.
func TestBrowsers(t *testing.T) {
	a := newAPI(t)
	_, r := a.dial(t, "POST /containers/create HTTP/1.1\r\nHost: docker\r\nOrigin: http://evil.example\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}")
	if head := readHead(t, r); !strings.HasPrefix(head, "HTTP/1.1 403 ") {
		t.Errorf("a request of a web page: %q", head)
	}
	list, err := dockerapi.Endpoint{Host: "tcp://127.0.0.1:0", Plain: true}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	l := list[0]
	server := dockerapi.NewServer(dockerapi.New(a.engine, dockerapi.Options{}))
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	for host, want := range map[string]int{"localhost": 200, l.Addr().String(): 200, "[::1]:80": 200, "evil.example": 403, "evil.example:80": 403, "10.0.0.1": 403} {
		req, err := http.NewRequest("GET", "http://"+l.Addr().String()+"/_ping", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Close = host, true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("host %s: %d, want %d", host, resp.StatusCode, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestListen(t *testing.T) {
	for _, host := range []string{"", "unix://", "/run/x.sock", "unix://relative", "tcp://0.0.0.0:0", "tcp://:2375", "tcp://192.0.2.1:1", "tcp://localhost", "http://127.0.0.1:0", "tcp://[::]:0"} {
		if l, err := dockerapi.Listen(host); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v, %v", host, l, err)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, strings.Repeat("long-", 30), "docker.sock")
	l, err := dockerapi.Listen("unix://" + path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	if _, err := dockerapi.Listen("unix://" + path); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a second listener: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
	// One that a killed process left.
	stale := filepath.Join(dir, "stale.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	l, err = dockerapi.Listen("unix://" + stale)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(stale, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dockerapi.Listen("unix://" + stale); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a file in the way: %v", err)
	}
}

// TestEventsOfClients checks the fields that old clients read.
func TestEventMessage(t *testing.T) {
	a := newAPI(t)
	begin := time.Now().Unix()
	id := a.create(t, `,"Cmd":["true"],"Labels":{"k":"v"}`)
	_, body := a.do(t, "GET", fmt.Sprintf("/v1.51/events?since=%d&until=%d", begin-1, time.Now().Unix()+1), "")
	var ev map[string]any
	if err := json.Unmarshal([]byte(strings.SplitN(body, "\n", 2)[0]), &ev); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	if ev["status"] != "create" || ev["id"] != id || ev["Type"] != "container" || ev["Action"] != "create" {
		t.Errorf("event %v", ev)
	}
	attributes := ev["Actor"].(map[string]any)["Attributes"].(map[string]any)
	if attributes["k"] != "v" || attributes["name"] == "" {
		t.Errorf("attributes %v", attributes)
	}
}
