package neutron

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"novaagent/engine/errdefs"
)

// exchange is one recorded request to Neutron with its answer.
type exchange struct {
	Method   string          `json:"method"`
	Path     string          `json:"path"`
	Request  json.RawMessage `json:"request"`
	Status   int             `json:"status"`
	Response json.RawMessage `json:"response"`
}

func lines(t testing.TB, name string) [][]byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "zed", name))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		out = append(out, bytes.Clone(s.Bytes()))
	}
	return out
}

// recording is what was recorded of one operation of nova-compute.
func recording(t testing.TB, op string) []exchange {
	t.Helper()
	var out []exchange
	for _, line := range lines(t, op+".rest.jsonl") {
		var e exchange
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}

// savedCaches are the network infos that nova-compute saved in the operation.
func savedCaches(t testing.TB, op string) []string {
	t.Helper()
	var out []string
	for _, line := range lines(t, op+".infocache.jsonl") {
		var m struct {
			Body struct {
				Args struct {
					Objinst struct {
						Data struct {
							NetworkInfo string `json:"network_info"`
						} `json:"nova_object.data"`
					} `json:"objinst"`
				} `json:"args"`
			} `json:"body"`
		}
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m.Body.Args.Objinst.Data.NetworkInfo)
	}
	return out
}

type object = map[string]any

// replay is a Neutron made of a recording: it has the resources that the recording shows and
// answers any question about them; what is created or changed becomes what it became in the
// recording. Everything asked of it is kept.
type replay struct {
	t     testing.TB
	mu    sync.Mutex
	store map[string]map[string]object // by collection and ID
	after map[string]object            // ports as they were at the end, by ID
	posts []object                     // ports to come

	asked []exchange
	// interfere may answer the n-th request (from 0) itself; it returns whether it did.
	interfere func(n int, w http.ResponseWriter, r *http.Request) bool
}

func newReplay(t testing.TB, ops ...string) *replay {
	f := &replay{t: t, store: map[string]map[string]object{}, after: map[string]object{}}
	for _, op := range ops {
		f.load(op)
	}
	return f
}

func (f *replay) load(op string) {
	created := map[string]bool{}
	for _, e := range recording(f.t, op) {
		var answer map[string]any
		if json.Unmarshal(e.Response, &answer) != nil {
			continue
		}
		for name, value := range answer {
			list, many := value.([]any)
			if !many {
				list = []any{value}
				name += "s"
			}
			for _, v := range list {
				o, ok := v.(object)
				if !ok {
					continue
				}
				id, _ := o["id"].(string)
				if name == "extensions" {
					id, _ = o["alias"].(string)
				}
				if id == "" {
					// A question for single fields names the object in its path.
					p, _, _ := strings.Cut(e.Path, "?")
					id = p[strings.LastIndexByte(p, '/')+1:]
				}
				switch {
				case e.Method == "POST":
					f.posts = append(f.posts, o)
					created[id] = true
				case name == "ports" && (created[id] || e.Method == "PUT" || f.after[id] != nil):
					f.after[id] = merged(f.after[id], o)
				default:
					if f.store[name] == nil {
						f.store[name] = map[string]object{}
					}
					f.store[name][id] = merged(f.store[name][id], o)
				}
			}
		}
	}
}

func merged(a, b object) object {
	out := object{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// ServeHTTP implements http.Handler.
func (f *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n := len(f.asked)
	f.asked = append(f.asked, exchange{Method: r.Method, Path: r.URL.RequestURI(), Request: body})
	if f.interfere != nil && f.interfere(n, w, r) {
		return
	}
	f.answer(w, r, body)
}

func (f *replay) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/v2.0/"), "/")
	collection := parts[0]
	objects := f.store[collection]
	reply := func(status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	var sent map[string]object
	json.Unmarshal(body, &sent)
	switch {
	case r.Method == "GET" && len(parts) == 1:
		list := []object{}
		for _, id := range slices.Sorted(maps.Keys(objects)) {
			if matches(objects[id], r.URL.Query()) {
				list = append(list, objects[id])
			}
		}
		reply(200, map[string]any{strings.ReplaceAll(collection, "-", "_"): list})
	case r.Method == "POST":
		if len(f.posts) == 0 {
			reply(409, neutronError("OverQuota", "Quota exceeded for resources: ['port']."))
			return
		}
		p := merged(f.posts[0], nil)
		f.posts = f.posts[1:]
		maps.Copy(p, sent["port"])
		end := f.after[p["id"].(string)]
		p["fixed_ips"] = end["fixed_ips"]
		if p["binding:host_id"] != nil { // by one who may: it is bound at once
			p = merged(p, end)
		}
		f.put("ports", p["id"].(string), p)
		reply(201, object{"port": p})
	case len(parts) == 2 && objects[parts[1]] == nil:
		reply(404, neutronError("PortNotFound", "Port "+parts[1]+" could not be found."))
	case r.Method == "GET":
		name := strings.ReplaceAll(strings.TrimSuffix(collection, "s"), "-", "_")
		reply(200, object{name: objects[parts[1]]})
	case r.Method == "PUT":
		p := merged(objects[parts[1]], sent["port"])
		if p["device_id"] != "" {
			p = merged(p, f.after[parts[1]])
		}
		f.put("ports", parts[1], p)
		reply(200, object{"port": p})
	case r.Method == "DELETE":
		delete(objects, parts[1])
		w.WriteHeader(204)
	}
}

func (f *replay) put(collection, id string, o object) {
	if f.store[collection] == nil {
		f.store[collection] = map[string]object{}
	}
	f.store[collection][id] = o
}

// shareNetwork makes a network another project's that all may use.
func (f *replay) shareNetwork(id string) {
	f.put("networks", id, merged(f.store["networks"][id], object{"tenant_id": "another", "shared": true}))
}

func matches(o object, q url.Values) bool {
	for key, values := range q {
		same := func(v string) bool { return strings.EqualFold(v, fmt.Sprint(o[key])) } // True is true
		if key != "fields" && !slices.ContainsFunc(values, same) {
			return false
		}
	}
	return true
}

func neutronError(kind, message string) object {
	return object{"NeutronError": object{"type": kind, "message": message, "detail": ""}}
}

// writes are the requests that changed something, as "METHOD PATH BODY".
func (f *replay) writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return writesOf(f.asked)
}

func writesOf(list []exchange) []string {
	var out []string
	for _, e := range list {
		if e.Method == "GET" {
			continue
		}
		var body any
		json.Unmarshal(e.Request, &body)
		b, _ := json.Marshal(body) // sorted
		out = append(out, fmt.Sprintf("%s %s %s", e.Method, e.Path, b))
	}
	return out
}

// portsOf counts the ports that carry the instance's UUID.
func (f *replay) portsOf(instance string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, p := range f.store["ports"] {
		if p["device_id"] == instance {
			n++
		}
	}
	return n
}

// session is an identity without tokens.
type session struct{ base string }

func (s session) Endpoint(context.Context, string) (string, error) { return s.base, nil }

func (s session) Do(r *http.Request) (*http.Response, error) { return http.DefaultClient.Do(r) }

// rows stands for Nova's database.
type rows struct {
	mu    sync.Mutex
	vifs  []VIFRecord
	cache map[string]string
	saves []string
	fail  map[string]error // by method
}

func newRows() *rows { return &rows{cache: map[string]string{}, fail: map[string]error{}} }

func (r *rows) CreateVIF(_ context.Context, v VIFRecord) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["CreateVIF"]; err != nil {
		return err
	}
	r.vifs = append(r.vifs, v)
	return nil
}

func (r *rows) DestroyVIF(_ context.Context, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vifs = slices.DeleteFunc(r.vifs, func(v VIFRecord) bool { return v.UUID == id })
	return nil
}

func (r *rows) DestroyVIFs(_ context.Context, instance string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.vifs = slices.DeleteFunc(r.vifs, func(v VIFRecord) bool { return v.InstanceUUID == instance })
	return nil
}

func (r *rows) VIFOrder(_ context.Context, instance string) ([]string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ids []string
	for _, v := range r.vifs {
		if v.InstanceUUID == instance {
			ids = append(ids, v.UUID)
		}
	}
	return ids, nil
}

func (r *rows) LoadInfoCache(_ context.Context, instance string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cache[instance], nil
}

func (r *rows) SaveInfoCache(_ context.Context, instance, info string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail["SaveInfoCache"]; err != nil && info != "[]" {
		return err
	}
	r.cache[instance] = info
	r.saves = append(r.saves, info)
	return nil
}

var errBroken = fmt.Errorf("broken: %w", errdefs.ErrUnavailable)

// serve returns a Client of f whose records are r.
func serve(t testing.TB, f http.Handler, r *rows, change func(*Options)) *Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		server.Close()
	})
	opts := Options{Service: session{server.URL}, Records: r, Retries: -1, RetryDelay: time.Millisecond}
	if change != nil {
		change(&opts)
	}
	c, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func isNot(err error, kinds ...error) bool {
	return !slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) })
}
