package dockerapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func TestDetachReader(t *testing.T) {
	for _, tt := range []struct {
		in, keys, out string
		detached      bool
	}{
		{"plain", "\x10\x11", "plain", false},
		{"a\x10\x11b", "\x10\x11", "a", true},
		{"a\x10b", "\x10\x11", "a\x10b", false},
		{"\x10\x10\x11", "\x10\x11", "\x10", true},
		{"end\x10", "\x10\x11", "end\x10", false},
		{"q", "q", "", true},
		{"aaab", "aab", "aaab", false}, // as Docker's, it does not look back
		{"", "q", "", false},
	} {
		for _, slow := range []bool{false, true} {
			var in io.Reader = strings.NewReader(tt.in)
			if slow {
				in = iotest.OneByteReader(in)
			}
			gone, detached := make(chan struct{}), false
			d := &detachReader{in: in, keys: []byte(tt.keys), gone: gone, detach: func() { detached = true; close(gone) }}
			out, err := io.ReadAll(d)
			if err != nil || string(out) != tt.out || detached != tt.detached {
				t.Errorf("%q (slow %v): %q, %v, %v", tt.in, slow, out, detached, err)
			}
		}
	}
}

func TestParseDetachKeys(t *testing.T) {
	for text, want := range map[string]string{"": "\x10\x11", "ctrl-a": "\x01", "ctrl-p,q": "\x10q", "ctrl-@": "\x00", "ctrl-_": "\x1f"} {
		if got, err := parseDetachKeys(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"ctrl-", "ctrl-A", "long", ",", "ctrl-aa"} {
		if _, err := parseDetachKeys(text); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func query(t *testing.T, text string) *request {
	t.Helper()
	v, err := url.ParseQuery(text)
	if err != nil {
		t.Fatal(err)
	}
	return &request{query: v}
}

func TestMoment(t *testing.T) {
	for text, want := range map[string]time.Time{
		"": {}, "0": time.Unix(0, 0), "5": time.Unix(5, 0), "5.5": time.Unix(5, 500_000_000), "5.000000001": time.Unix(5, 1), "5.0000000019": time.Unix(5, 1),
		"2026-01-02T03:04:05Z": time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	} {
		got, err := query(t, "x="+url.QueryEscape(text)).moment("x")
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"x", "5.x", "5.-1", "--5"} {
		if _, err := query(t, "x="+text).moment("x"); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestFilters(t *testing.T) {
	for _, text := range []string{`{"label":{"a=b":true,"c":true,"d":false}}`, `{"label":["a=b","c"]}`} {
		f, err := query(t, "filters="+url.QueryEscape(text)).filters("label")
		if err != nil || !reflect.DeepEqual(f["label"], []string{"a=b", "c"}) {
			t.Errorf("%s: %v, %v", text, f, err)
		}
		if !f.labels(map[string]string{"a": "b", "c": ""}) || f.labels(map[string]string{"a": "x", "c": ""}) || f.labels(nil) {
			t.Errorf("%s fits wrongly", text)
		}
	}
}

func TestResourcesOf(t *testing.T) {
	var r container.Resources
	r.Memory, r.MemorySwap = 100<<20, 150<<20
	got, err := resourcesOf(&r)
	if err != nil || got.MemoryBytes != 100<<20 || got.SwapBytes != 50<<20 {
		t.Errorf("%+v, %v", got, err)
	}
	r.MemorySwap = 0
	if got, err = resourcesOf(&r); err != nil || got.SwapBytes != 100<<20 {
		t.Errorf("the default: %+v, %v", got, err)
	}
	r.MemorySwap = -1
	if got, err = resourcesOf(&r); err != nil || got.SwapBytes >= 0 {
		t.Errorf("no limit: %+v, %v", got, err)
	}
	r.MemorySwap = 50 << 20
	if _, err = resourcesOf(&r); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("less than the memory: %v", err)
	}
	r = container.Resources{NanoCPUs: 1_500_000_000}
	if got, err = resourcesOf(&r); err != nil || got.CPUMilli != 1500 {
		t.Errorf("%+v, %v", got, err)
	}
	r = container.Resources{CPUQuota: 25_000, CPUPeriod: 50_000}
	if got, err = resourcesOf(&r); err != nil || got.CPUMilli != 500 || got.CPUPeriod != 50*time.Millisecond {
		t.Errorf("%+v, %v", got, err)
	}
	r.NanoCPUs = 1
	if _, err = resourcesOf(&r); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("both: %v", err)
	}
}

func TestStringCommands(t *testing.T) {
	var c createRequest
	if err := json.Unmarshal([]byte(`{"Image":"x","Cmd":"one string","Entrypoint":null,"HostConfig":{"Memory":5}}`), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Cmd) != 1 || c.Cmd[0] != "one string" || c.Entrypoint != nil || c.HostConfig.Memory != 5 {
		t.Errorf("%+v", c)
	}
}

// TestEveryFieldIsDecided fails when a newer version of Docker's types has a field that is
// neither translated nor refused, so that it would be ignored in silence.
func TestEveryFieldIsDecided(t *testing.T) {
	translated, refused := sourceOf(t, "create.go")+sourceOf(t, "fields.go")+sourceOf(t, "ports.go"), sourceOf(t, "refuse.go")
	// Of Windows or of the client only, informative, or handled by the type as a whole.
	harmless := map[string]bool{
		"ArgsEscaped": true, "Shell": true, "OnBuild": true, "ContainerIDFile": true, "ConsoleSize": true,
		"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "ExposedPorts": true, "Resources": true,
	}
	for _, v := range []any{container.Config{}, container.HostConfig{}, container.Resources{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			name := typ.Field(i).Name
			if !harmless[name] && !strings.Contains(translated, "."+name) && !strings.Contains(refused, "."+name) {
				t.Errorf("%s.%s is ignored", typ.Name(), name)
			}
		}
	}
}

func sourceOf(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestRoutesAreDocumented compares the table with the page that describes it.
func TestRoutesAreDocumented(t *testing.T) {
	page := sourceOf(t, "../../docs/docker-api.md")
	for _, r := range routes {
		if !strings.Contains(page, "`"+r.method+" "+r.pattern+"`") {
			t.Errorf("%s %s is not in docs/docker-api.md", r.method, r.pattern)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for _, s := range statuses {
		err := errors.Join(errors.New("deed"), s.kind)
		if statusOf(err) != s.code {
			t.Errorf("%v: %d", s.kind, statusOf(err))
		}
	}
	if statusOf(io.EOF) != http.StatusInternalServerError {
		t.Error("an unknown error")
	}
	if got := messageOf(noImage("x", errdefs.ErrNotFound)); got != "No such image: x:latest" {
		t.Errorf("message %q", got)
	}
}

func TestWriteFrame(t *testing.T) {
	var b bytes.Buffer
	if n, err := writeFrame(&b, 2, []byte("abc")); n != 3 || err != nil || b.String() != "\x02\x00\x00\x00\x00\x00\x00\x03abc" {
		t.Errorf("%d, %v, %q", n, err, b.String())
	}
}

func TestParsePS(t *testing.T) {
	for args, want := range map[string]string{
		"":                   "UID PID PPID C STIME TTY TIME CMD",
		"-ef":                "UID PID PPID C STIME TTY TIME CMD",
		"aux":                "USER PID %CPU %MEM VSZ RSS TTY STAT STIME TIME COMMAND",
		"-o pid,user,comm":   "PID USER COMMAND",
		"-eo pid,args":       "PID COMMAND",
		"-o pid=NUMBER,args": "NUMBER COMMAND",
	} {
		_, titles, err := parsePS(args)
		if err != nil || strings.Join(titles, " ") != want {
			t.Errorf("%q: %v, %v", args, titles, err)
		}
	}
	for _, args := range []string{"-x", "-o", "-o nothing", "; rm -rf /"} {
		if _, _, err := parsePS(args); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// FuzzCreate decodes create requests: none may panic, and what is translated must be what the
// engine understands.
func FuzzCreate(f *testing.F) {
	f.Add([]byte(`{"Image":"busybox","Cmd":["sh"],"HostConfig":{"NetworkMode":"none","Binds":["/a:/b:ro"],"Tmpfs":{"/x":"size=1m,mode=755"},"Memory":67108864,"NanoCpus":500000000}}`))
	f.Add([]byte(`{"Image":"x","Entrypoint":"","HostConfig":{"Mounts":[{"Type":"tmpfs","Target":"/x","TmpfsOptions":{"SizeBytes":1,"Options":[["exec"]]}}],"SecurityOpt":["no-new-privileges","seccomp=unconfined"]}}`))
	f.Add([]byte(`{"NetworkingConfig":{"EndpointsConfig":{"none":null}},"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"1m"}},"Ulimits":[null,{"Name":"nofile","Soft":1,"Hard":2}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var body createRequest
		if json.Unmarshal(data, &body) != nil || body.Config == nil {
			return
		}
		if body.HostConfig == nil {
			body.HostConfig = &container.HostConfig{}
		}
		if refuse(&body) != nil {
			return
		}
		if _, err := networkOf(&body); err != nil {
			return
		}
		res, err := resourcesOf(&body.HostConfig.Resources)
		if err == nil && (res.CPUMilli < 0 || res.MemoryBytes < 0) {
			t.Errorf("resources %+v", res)
		}
		mounts, err := mountsOf(body.HostConfig)
		for _, m := range mounts {
			if err == nil && m.Type != engine.MountBind && m.Type != engine.MountTmpfs {
				t.Errorf("mount %+v", m)
			}
		}
		_, _ = securityOf(body.HostConfig)
		_, _ = logOf(body.HostConfig.LogConfig)
		if again, err := json.Marshal(&body); err != nil {
			t.Errorf("%v: %s", err, again)
		}
	})
}

// FuzzFilters decodes the parameter filters.
func FuzzFilters(f *testing.F) {
	f.Add(`{"label":{"a":true}}`)
	f.Add(`{"label":["a"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		r := &request{query: url.Values{"filters": {text}}}
		if got, err := r.filters("label"); err == nil {
			got.labels(map[string]string{"a": "b"})
		}
	})
}

// FuzzQuery reads parameters: none may panic, and what is read is within bounds.
func FuzzQuery(f *testing.F) {
	f.Add("x=5&w=80&h=25&t=-1&since=5.000000001")
	f.Add("x=99999999999999999999&x=1&w=70000&h=%zz&filters={}")
	f.Add("x=2026-01-02T03:04:05Z&w=&h=-1")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := url.ParseQuery(text)
		if err != nil {
			return
		}
		r := &request{Request: &http.Request{}, query: v, version: maxVersion}
		_ = r.boolean("x", true)
		if n, err := r.number("x", 7); err == nil && v.Get("x") == "" && n != 7 {
			t.Errorf("%q: %d", text, n)
		}
		_, _ = r.moment("x")
		_, _, _ = r.size()
		if _, grace, err := r.stopParams(); err == nil && grace < engine.NoGrace && grace != -time.Second {
			t.Errorf("%q: grace %v", text, grace)
		}
		_, _ = parseDetachKeys(v.Get("x"))
		_, _, _ = hostPorts(v.Get("x"))
		_, _, _ = parsePS(v.Get("x"))
		_, _ = filters{"until": v["x"]}.until(time.Now())
		_, _ = r.platforms(0)
		_ = r.streamMedia()
	})
}

// FuzzDetach: however the bytes of a client come, what is before the keys comes through, and nothing behind them.
func FuzzDetach(f *testing.F) {
	f.Add([]byte("a\x10\x11b"), []byte("\x10\x11"), 1)
	f.Add([]byte("aaab"), []byte("aab"), 2)
	f.Fuzz(func(t *testing.T, in, keys []byte, chunk int) {
		if len(keys) == 0 || chunk < 1 {
			return
		}
		gone := make(chan struct{})
		detached := false
		d := &detachReader{in: &chunkReader{in, chunk}, keys: keys, gone: gone, detach: func() {
			if !detached {
				close(gone)
			}
			detached = true
		}}
		out, err := io.ReadAll(d)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(in, out) {
			t.Errorf("%q, keys %q: %q", in, keys, out)
		}
		if !detached && len(out) != len(in) {
			t.Errorf("%q, keys %q: only %q", in, keys, out)
		}
	})
}

// chunkReader gives a few bytes at a time.
type chunkReader struct {
	rest  []byte
	chunk int
}

func (c *chunkReader) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.chunk)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// FuzzFrames: what writeFrame writes, Docker's own reader takes apart.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("out"), []byte("err"))
	f.Fuzz(func(t *testing.T, out, errs []byte) {
		var wire, gotOut, gotErr bytes.Buffer
		for _, w := range []struct {
			stream byte
			data   []byte
		}{{1, out}, {2, errs}, {1, out}} {
			if _, err := writeFrame(&wire, w.stream, w.data); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := stdcopy.StdCopy(&gotOut, &gotErr, &wire); err != nil {
			t.Fatal(err)
		}
		if gotOut.String() != string(out)+string(out) || gotErr.String() != string(errs) {
			t.Errorf("%q %q", gotOut.String(), gotErr.String())
		}
	})
}
