//go:build peer

package dockerapi_test

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// exchange is a request that TestDiffer makes of both servers.
type exchange struct {
	// request is the method and the path, which begins with the API version or gets the one of dockerd.
	request string
	// body is sent as JSON if there is any; "tar:" is an archive of one file of that name.
	body string
	// differs says why the answers may differ. If they don't the line has to go.
	differs string
}

// apart are parts of answers that differ on purpose, whatever the request: the difference as TestDiffer words it.
type apart struct {
	what   *regexp.Regexp
	reason string
}

// TestDiffer makes the same requests, good and bad, of the engine's API and of the newest dockerd there is, in the
// same order, and compares statuses, types of content, messages of errors, and JSON by keys, types and values. A
// difference is a defect of ours unless the tables name its reason.
func TestDiffer(t *testing.T) {
	need.Root(t)
	release := peer.Releases[len(peer.Releases)-1]
	theirs := peer.Dockerd(t, release)
	dir := t.TempDir()
	a := serve(t, filepath.Join(dir, "engine"), filepath.Join(dir, "sock"))
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	if err := theirs.Call("POST", "/images/load", archive(t), nil); err != nil {
		t.Fatal(err)
	}
	for i, e := range exchanges {
		t.Run(fmt.Sprintf("%03d %s", i, e.request), func(t *testing.T) {
			want, got := answerOf(t, theirs.Socket, e), answerOf(t, a.socket, e)
			var differences []string
			for _, d := range got.differ(want) {
				if !slices.ContainsFunc(aparts, func(p apart) bool { return p.what.MatchString(d) }) {
					differences = append(differences, d)
				}
			}
			switch {
			case e.differs != "" && len(differences) == 0:
				t.Errorf("nothing differs any more, but the table says: %s", e.differs)
			case e.differs == "" && len(differences) > 0:
				t.Errorf("%s\n%s", e.body, strings.Join(differences, "\n"))
			}
		})
	}
}

// answer is what a server said.
type answer struct {
	status  int
	content string // the type of content
	body    []byte
	stat    any // X-Docker-Container-Path-Stat
}

func answerOf(t *testing.T, socket string, e exchange) answer {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	method, path, _ := strings.Cut(e.request, " ")
	if !regexp.MustCompile(`^/v\d`).MatchString(path) {
		path = "/v1.45" + path
	}
	content, body := "application/json", []byte(e.body)
	if name, ok := strings.CutPrefix(e.body, "tar:"); ok {
		content, body = "application/x-tar", oneFile(t, name)
	}
	header := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n", method, path)
	if len(body) > 0 {
		header += fmt.Sprintf("Content-Type: %s\r\nContent-Length: %d\r\n", content, len(body))
	} else if method == "POST" || method == "PUT" {
		header += "Content-Length: 0\r\n"
	}
	if _, err := conn.Write(append([]byte(header+"\r\n"), body...)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", socket, err)
	}
	defer resp.Body.Close()
	got := answer{status: resp.StatusCode}
	got.content, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode != http.StatusSwitchingProtocols {
		if got.body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatalf("%s: %v", socket, err)
		}
	}
	if stat := resp.Header.Get("X-Docker-Container-Path-Stat"); stat != "" {
		data, err := base64.StdEncoding.DecodeString(stat)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(data, &got.stat); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// differ lists what differs from want.
func (a answer) differ(want answer) []string {
	var d []string
	if a.status != want.status {
		d = append(d, fmt.Sprintf("status: %d, not %d: %.200s, not %.200s", a.status, want.status, a.body, want.body))
		return d
	}
	if a.content != want.content {
		d = append(d, fmt.Sprintf("content: %q, not %q", a.content, want.content))
	}
	d = append(d, differences("stat", a.stat, want.stat)...)
	if a.content == "application/x-tar" {
		return d // its bytes tell times and inodes
	}
	mine, err := decodeAll(a.body)
	other, err2 := decodeAll(want.body)
	if err != nil || err2 != nil {
		if x, y := normal(string(a.body)), normal(string(want.body)); x != y {
			d = append(d, fmt.Sprintf("body: %q, not %q", x, y))
		}
		return d
	}
	return append(d, differences("$", mine, other)...)
}

// decodeAll is the values of a JSON document, or of a stream of them.
func decodeAll(data []byte) (any, error) {
	var all []any
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var v any
		switch err := dec.Decode(&v); {
		case err == io.EOF && len(all) == 1:
			return all[0], nil
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, v)
	}
}

func differences(path string, got, want any) []string {
	var d []string
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{fmt.Sprintf("%s: %s, not %s", path, short(got), short(want))}
		}
		w, g = normalKeys(w), normalKeys(g)
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if v, ok := g[k]; ok {
				d = append(d, differences(path+"."+k, v, w[k])...)
			} else {
				d = append(d, fmt.Sprintf("%s.%s: missing, not %s", path, k, short(w[k])))
			}
		}
		for _, k := range slices.Sorted(maps.Keys(g)) {
			if _, ok := w[k]; !ok {
				d = append(d, fmt.Sprintf("%s.%s: %s, not missing", path, k, short(g[k])))
			}
		}
		return d
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			return []string{fmt.Sprintf("%s: %s, not %s", path, short(got), short(want))}
		}
		inOrder(w)
		inOrder(g)
		for i := range w {
			d = append(d, differences(fmt.Sprintf("%s[%d]", path, i), g[i], w[i])...)
		}
		return d
	case string:
		if g, ok := got.(string); ok && normal(g) == normal(w) {
			return nil
		}
	default:
		if got == want {
			return nil
		}
	}
	return []string{fmt.Sprintf("%s: %s, not %s", path, short(got), short(want))}
}

// inOrder sorts what has no order of its own in an answer, which is all but containers.
func inOrder(list []any) {
	key := func(v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return short(v)
		}
		if m["Names"] != nil {
			return ""
		}
		for _, k := range []string{"Name", "Destination", "PrivatePort"} {
			if m[k] != nil {
				return short(m[k])
			}
		}
		return short(v)
	}
	slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(key(a), key(b)) })
}

func normalKeys(m map[string]any) map[string]any {
	n := make(map[string]any, len(m))
	for k, v := range m {
		n[normal(k)] = v
	}
	return n
}

func short(v any) string {
	data, _ := json.Marshal(v)
	return fmt.Sprintf("%.300s", normal(string(data)))
}

// normals are what no two servers have alike.
var normals = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`[0-9a-f]{64}`), "ID"},
	{regexp.MustCompile(`\b[0-9a-f]{12}\b`), "ID"},
	{regexp.MustCompile(`(0001-01-01T00:00:00Z)`), "NEVER"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`), "MAC"},
	{regexp.MustCompile(`\b1(72|92)\.\d+\.\d+\.\d+\b`), "IP"},
}

func normal(s string) string {
	for _, n := range normals {
		s = n.what.ReplaceAllString(s, n.with)
	}
	return s
}

func oneFile(t *testing.T, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	text := "text\n"
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
