package dockerapi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"novaagent/engine/dockerapi"
	"novaagent/tests/leak"
)

// described is what the tests read of the API's OpenAPI document.
type described struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name, In, Description string
			Schema                struct{ Type string }
			Content               map[string]any
		}
		RequestBody struct{ Content map[string]any }
		Responses   map[string]any
	}
}

// eachRoute calls visit for every route that does more than refuse, with real names in its path.
func eachRoute(t *testing.T, id string, visit func(method, path string, jsonBody bool, bad url.Values)) {
	t.Helper()
	data, err := json.Marshal(dockerapi.OpenAPI(newestMinor))
	if err != nil {
		t.Fatal(err)
	}
	var doc described
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	visited := 0
	for _, pattern := range slices.Sorted(maps.Keys(doc.Paths)) {
		for method, op := range doc.Paths[pattern] {
			succeeds := false
			for status := range op.Responses {
				succeeds = succeeds || status[0] == '2'
			}
			if !succeeds {
				continue
			}
			path := strings.NewReplacer("{id}", id, "{name}", "busybox").Replace(pattern)
			if strings.HasPrefix(pattern, "/networks/") {
				path = strings.Replace(pattern, "{id}", "none", 1)
			}
			bad := url.Values{}
			for _, p := range op.Parameters {
				switch {
				case p.In != "query" || strings.Contains(p.Description, "Of no effect"):
				case p.Content != nil: // filters
					bad.Add(p.Name, `{`)
					bad.Add(p.Name, `[1]`)
					bad.Add(p.Name, `{"nonsense":{"x":true}}`)
					bad.Add(p.Name, `{"label":5}`)
				case p.Schema.Type == "integer":
					bad.Add(p.Name, "x")
					bad.Add(p.Name, "1e9")
					bad.Add(p.Name, "99999999999999999999")
				}
			}
			_, jsonBody := op.RequestBody.Content["application/json"]
			visit(strings.ToUpper(method), path, jsonBody, bad)
			visited++
		}
	}
	if visited < 40 {
		t.Errorf("only %d routes", visited)
	}
}

// TestBadInput sends to every route what it cannot mean. Each answer is a 400 in Docker's shape.
func TestBadInput(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Cmd":["sleep","1000"]`)
	a.start(t, id)
	_, body := a.do(t, "POST", "/containers/"+id+"/exec", `{"Cmd":["true"]}`)
	var exec struct{ ID string }
	if err := json.Unmarshal([]byte(body), &exec); err != nil {
		t.Fatal(err)
	}
	refused := func(what, method, path, head, body string) {
		t.Helper()
		_, r := a.dial(t, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n%s\r\n%s", method, path, head, body))
		answer := readHead(t, r)
		text, _ := io.ReadAll(r)
		var message struct{ Message string }
		if method == "HEAD" && strings.HasPrefix(answer, "HTTP/1.1 400 ") {
			return // it has no body
		}
		if !strings.HasPrefix(answer, "HTTP/1.1 400 ") || json.Unmarshal(text, &message) != nil || message.Message == "" {
			t.Errorf("%s: %s %.150s: %.300s %.300s", what, method, path, answer, text)
		}
	}
	content := func(kind string, length int) string {
		return fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n", kind, length)
	}
	eachRoute(t, id, func(method, path string, jsonBody bool, bad url.Values) {
		path = strings.Replace(path, "/exec/"+id, "/exec/"+exec.ID, 1)
		for name, values := range bad {
			for _, v := range values {
				q := url.Values{name: {v}}
				if name == "w" {
					q.Set("h", "1")
				}
				refused("parameter", method, path+"?"+q.Encode(), "", "")
			}
		}
		refused("query", method, path+"?a=%zz", "", "")
		refused("version", method, "/v1.23"+path, "", "")
		if !jsonBody {
			return
		}
		for what, text := range map[string]string{
			"half": `{"a":`, "an array": `[]`, "a number": `5`, "two": `{} {}`, "rubbish behind": `{}x`, "deep": strings.Repeat(`{"a":`, 20_000),
			"no UTF-8 name": "{\"\xff\":", "a string": `"x"`,
		} {
			refused(what, method, path+"?container="+id, content("application/json", len(text)), text)
		}
		refused("content type", method, path+"?container="+id, content("text/plain", 2), "{}")
		refused("no content type", method, path+"?container="+id, "Content-Length: 2\r\n", "{}")
		refused("malformed content type", method, path+"?container="+id, content("application/json; x", 2), "{}")
		long := `{"a":"` + strings.Repeat("x", 5<<20) + `"}`
		if status, text := a.do(t, method, path+"?container="+id, long); status != http.StatusBadRequest || !strings.Contains(text, "too large") {
			t.Errorf("5 MiB: %s %s: %d %.200s", method, path, status, text)
		}
	})
	for _, name := range []string{"%00", "a%0ab", "%1b[31m", "%7f", "..", "%2f..%2f", strings.Repeat("x", 5000), "%ff"} {
		for path, body := range map[string]string{
			"/containers/" + id + "/rename?name=" + name: "", "/images/busybox/tag?repo=" + name: "", "/containers/create?name=" + name: `{"Image":"busybox"}`,
		} {
			if status, text := a.do(t, "POST", path, body); status != 400 || strings.ContainsAny(message(text), "\x1b\x00\x7f") {
				t.Errorf("%.100s: %d %.200q", path, status, text)
			}
		}
		for _, path := range []string{"/containers/" + name + "/json", "/images/" + name + "/json", "/networks/" + name, "/volumes/" + name} {
			if status, text := a.do(t, "GET", path, ""); status != 404 && status != 400 || strings.ContainsAny(message(text), "\x1b\x00\x7f") {
				t.Errorf("%.100s: %d %.200q", path, status, text)
			}
		}
	}
	for path, status := range map[string]int{"/": 404, "/nothing/there": 404, "/v1.40": 404, "/containers/": 404} {
		if got, text := a.do(t, "GET", path, ""); got != status || !strings.Contains(text, `"message"`) {
			t.Errorf("%s: %d %s", path, got, text)
		}
	}
	// All this disturbed nobody.
	if c, err := a.engine.Inspect(id); err != nil || c.PID == 0 {
		t.Errorf("the container: %+v, %v", c, err)
	}
}

// message is that of an answered error, as a client shows it.
func message(text string) string {
	var answer struct{ Message string }
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		return err.Error()
	}
	return answer.Message
}

// TestOddClients: old protocols, several requests at once, headers that are too long, and clients that are slow.
func TestOddClients(t *testing.T) {
	a := newAPI(t)
	for name, tt := range map[string]struct{ send, want string }{
		"HTTP/1.0":             {"GET /_ping HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"},
		"an upgrade to HTTP/2": {"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n", "HTTP/1.1 200 OK"},
		"HTTP/2":               {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1 505 "},
		"no host":              {"GET /_ping HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		"no HTTP":              {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", "HTTP/1.1 400 "},
		"a long header":        {"GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + strings.Repeat("x", 200<<10) + "\r\n\r\n", "HTTP/1.1 431 "},
		"a long path":          {"GET /" + strings.Repeat("x", 200<<10) + " HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 431 "},
		"two lengths":          {"POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "HTTP/1.1 400 "},
		"absolute form":        {"GET http://d/_ping HTTP/1.1\r\nHost: d\r\n\r\n", "HTTP/1.1 200 OK"},
	} {
		conn, err := net.Dial("unix", a.socket)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, tt.send) // the answer may come before the end of it
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, len(tt.want))
		if _, err := io.ReadFull(conn, line); err != nil || string(line) != tt.want {
			t.Errorf("%s: %q, %v", name, line, err)
		}
		conn.Close()
	}
	// Several requests at once are answered in their order.
	_, r := a.dial(t, "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nGET /nothing HTTP/1.1\r\nHost: d\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
	for _, want := range []string{"200", "404", "200"} {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || !strings.HasPrefix(resp.Status, want) {
			t.Errorf("%s, want %s, %v", resp.Status, want, err)
		}
	}
}

// TestSlowClients: who does not send a header or a body is cut off; a stream may be silent for longer.
func TestSlowClients(t *testing.T) {
	a := newAPI(t)
	socket := filepath.Join(t.TempDir(), "slow.sock")
	l, err := dockerapi.Listen("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	server := dockerapi.NewServer(dockerapi.New(a.engine, dockerapi.Options{}))
	server.ReadHeaderTimeout = 50 * time.Millisecond
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	slow := &api{engine: a.engine, socket: socket}
	id := a.create(t, `,"OpenStdin":true,"StdinOnce":true,"Cmd":["cat"]`)
	stream, streamed := slow.dial(t, "POST /containers/"+id+"/attach?stream=1&stdin=1&stdout=1"+upgrade)
	readHead(t, streamed)
	logs, lines := slow.dial(t, "GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
	readHead(t, lines)
	for name, head := range map[string]string{
		"header": "GET /_ping HTTP/1.1\r\nHos",
		"body":   "POST /volumes/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
	} {
		_, r := slow.dial(t, head)
		answer, err := io.ReadAll(r) // until the connection ends
		if err != nil || strings.Contains(string(answer), " 200 ") || strings.Contains(string(answer), " 201 ") {
			t.Errorf("%s: %q, %v", name, answer, err)
		}
	}
	// Longer than the timeout has passed: the streams are there.
	a.start(t, id)
	fmt.Fprint(stream, "still here")
	stream.CloseWrite()
	if stdout, _ := readFrames(t, streamed); stdout != "still here" {
		t.Errorf("the stream has %q", stdout)
	}
	if _, err := lines.ReadString('\n'); err != nil {
		t.Errorf("events: %v", err)
	}
	logs.Close()
}

// TestDisconnects: clients of every stream of bytes that go in the middle leave no goroutine (newAPI looks) and no descriptor
// behind.
func TestDisconnects(t *testing.T) {
	a := newAPI(t)
	id := a.create(t, `,"Tty":false,"OpenStdin":true,"Cmd":["sh","-c","head -c 20000000 /dev/zero > /big; echo ready; exec cat /dev/zero"]`)
	a.start(t, id)
	a.do(t, "POST", "/containers/"+id+"/pause", "") // the log does not grow meanwhile
	a.do(t, "POST", "/containers/"+id+"/unpause", "")
	// The first round is for what the engine opens once, or makes anew after a start while nobody waits.
	a.disconnects(t, id)
	before := leak.Take(descriptors)
	for range 3 {
		a.disconnects(t, id)
	}
	if left := leak.Await(before, descriptors); len(left) > 0 {
		t.Errorf("left behind:\n\t%s", strings.Join(left, "\n\t"))
	}
	if status, body := a.do(t, "GET", "/containers/"+id+"/json", ""); status != 200 || !strings.Contains(body, `"Running":true`) {
		t.Errorf("the container: %d %.300s", status, body)
	}
}

// descriptors leaves out everything else.
var descriptors = leak.Options{Dirs: []string{"/nonexistent"}, NoGoroutines: true, NoLinks: true, NoChildren: true}

// disconnects goes away in the middle of every stream of bytes of a container.
func (a *api) disconnects(t *testing.T, id string) {
	t.Helper()
	status, body := a.do(t, "POST", "/containers/"+id+"/exec", `{"Cmd":["cat","/dev/zero"],"AttachStdout":true}`)
	var exec struct{ ID string }
	if err := json.Unmarshal([]byte(body), &exec); err != nil || status != 201 {
		t.Fatal(status, body)
	}
	start := `{"Detach":false,"Tty":false}`
	for i, head := range []string{
		"GET /containers/" + id + "/export HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/" + id + "/archive?path=/ HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/" + id + "/logs?follow=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /containers/" + id + "/stats HTTP/1.1\r\nHost: d\r\n\r\n",
		"GET /events HTTP/1.1\r\nHost: d\r\n\r\n",
		"POST /containers/" + id + "/wait HTTP/1.1\r\nHost: d\r\n\r\n",
		"POST /containers/" + id + "/attach?stream=1&stdout=1&stderr=1" + upgrade,
		"POST /containers/" + id + "/attach?stream=1&logs=1&stdout=1 HTTP/1.0\r\n\r\n",
		fmt.Sprintf("POST /exec/%s/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", exec.ID, len(start), start),
		"PUT /containers/" + id + "/archive?path=/ HTTP/1.1\r\nHost: d\r\nContent-Length: 1000000\r\n\r\nhalf an archive",
		"POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1000000\r\n\r\nhalf an archive",
		"POST /containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
	} {
		conn, r := a.dial(t, head)
		if !strings.HasPrefix(head, "PUT") && !strings.Contains(head, "1000") {
			readHead(t, r)
		}
		if i%2 == 0 {
			// In the midst of bytes, if some come. Those of the exec do: until then it has not begun.
			patient := 100 * time.Millisecond
			if strings.HasPrefix(head, "POST /exec") {
				patient = patience
			}
			if err := conn.SetReadDeadline(time.Now().Add(patient)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, r, 10_000); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%.60s: %v", head, err)
			}
		}
		conn.Close()
	}
	// The exec's process goes on without its client, as in Docker, and with it the engine's connection to it and its pidfd.
	status, body = a.do(t, "GET", "/exec/"+exec.ID+"/json", "")
	var running struct {
		Running bool
		Pid     int
	}
	if err := json.Unmarshal([]byte(body), &running); err != nil || status != 200 || !running.Running {
		t.Fatal(status, body)
	}
	if err := syscall.Kill(running.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
