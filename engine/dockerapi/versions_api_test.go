package dockerapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestVersions asks every version for what differs between them. That nothing else comes is checked by
// do, which holds each answer against the version's OpenAPI document.
func TestVersions(t *testing.T) {
	a := newAPI(t)
	begin := time.Now().Unix() - 1
	id := a.create(t, `,"Cmd":["true"]`)
	for _, tt := range []struct {
		path string
		// field is a path of JSON: names and, for the first element of an array, 0.
		field        string
		since, until int
	}{
		{"/containers/ID/json", "GraphDriver.Name", 0, 51},
		{"/containers/ID/json", "Storage.RootFS.Snapshot.Name", 52, 0},
		{"/containers/ID/json", "Config.OnBuild", 0, 51},
		{"/containers/ID/json", "HostConfig.KernelMemory", 0, 41},
		{"/containers/ID/json", "HostConfig.KernelMemoryTCP", 40, 41},
		{"/containers/ID/json", "NetworkSettings.IPAddress", 0, 51},
		{"/containers/ID/json", "NetworkSettings.Bridge", 0, 51},
		{"/containers/ID/json", "NetworkSettings.Networks.none.DNSNames", 44, 0},
		{"/containers/ID/json", "NetworkSettings.Networks.none.GwPriority", 48, 0},
		{"/containers/json?all=1", "0.NetworkSettings.Networks.none.GwPriority", 48, 0},
		{"/images/json", "0.VirtualSize", 0, 43},
		{"/images/busybox/json", "VirtualSize", 0, 43},
		{"/images/busybox/json", "Container", 0, 44},
		{"/images/busybox/json", "ContainerConfig.Image", 0, 44},
		{"/images/busybox/json", "Parent", 0, 51},
		{"/images/busybox/json", "Author", 0, 51},
		{"/images/busybox/json", "GraphDriver.Name", 0, 51},
		{"/images/busybox/json", "Config.Hostname", 0, 49},
		{"/images/busybox/json", "Config.Volumes", 0, 51},
		{"/images/busybox/json", "Config.Cmd", 0, 0},
		{"/networks", "0.EnableIPv4", 48, 0},
		{"/networks", "0.Containers", 0, 27},
		{"/networks/none", "Containers", 0, 0},
		{"/info", "BridgeNfIptables", 0, 49},
		{"/info", "RegistryConfig.AllowNondistributableArtifactsCIDRs", 0, 48},
		{"/info", "RuncCommit.Expected", 0, 48},
		{"/info", "FirewallBackend.Driver", 49, 0},
		{"/info", "CDISpecDirs", 44, 0},
		{"/system/df", "Images.0.VirtualSize", 0, 43},
		{"/system/df", "LayersSize", 0, 52},
		{"/system/df", "Containers.0.Id", 0, 52},
		{"/system/df", "ImageUsage.TotalCount", 52, 0},
		{"/system/df", "ContainerUsage.Items", 99, 0},
		{"/system/df?verbose=1", "ContainerUsage.Items.0.Id", 52, 0},
		{"/system/df?verbose=1", "Containers", 0, 51},
		{fmt.Sprintf("/events?since=%d&until=%d", begin, begin+2), "status", 0, 51},
	} {
		// Around its bounds, and at the ends.
		versions := []int{24, 25, tt.since - 1, tt.since, tt.until, tt.until + 1, newestMinor}
		slices.Sort(versions)
		for _, v := range slices.Compact(versions) {
			if v < 24 || v > newestMinor || v == 24 && strings.HasPrefix(tt.path, "/system") {
				continue
			}
			path := fmt.Sprintf("/v1.%d%s", v, strings.Replace(tt.path, "ID", id, 1))
			status, body := a.do(t, "GET", path, "")
			var answer any
			if err := json.NewDecoder(strings.NewReader(body)).Decode(&answer); err != nil || status != http.StatusOK {
				t.Fatalf("%s: %d %v: %.300s", path, status, err, body)
			}
			want := v >= tt.since && (tt.until == 0 || v <= tt.until)
			if has(answer, tt.field) != want {
				t.Errorf("%s: %s is there: %v", path, tt.field, !want)
			}
		}
	}
}

// has tells whether a JSON document has the field at a path.
func has(v any, path string) bool {
	name, rest, more := strings.Cut(path, ".")
	switch x := v.(type) {
	case []any:
		if len(x) == 0 {
			return false
		}
		v = x[0]
	case map[string]any:
		inner, ok := x[name]
		if !ok {
			return false
		}
		v = inner
	default:
		return false
	}
	return !more || has(v, rest)
}

// TestVersionsOfRequests: fields and parameters that a version does not have are not heeded.
func TestVersionsOfRequests(t *testing.T) {
	a := newAPI(t)
	create := func(version int, fields string) (int, string) {
		return a.do(t, "POST", fmt.Sprintf("/v1.%d/containers/create", version), `{"Image":"busybox","HostConfig":{"NetworkMode":"none"`+fields+`}}`)
	}
	for _, tt := range []struct {
		version int
		fields  string
		status  int
	}{
		{44, `,"Mounts":[{"Type":"volume","Target":"/x","Source":"v","VolumeOptions":{"Subpath":"a"}}]`, 400},
		{41, `,"Mounts":[{"Type":"tmpfs","Target":"/x","VolumeOptions":{}}]`, 201},
		{42, `,"Mounts":[{"Type":"tmpfs","Target":"/x","VolumeOptions":{}}]`, 400},
		{41, `,"KernelMemory":4194304`, 201},
		{42, `,"KernelMemory":4194304`, 201},
	} {
		if status, body := create(tt.version, tt.fields); status != tt.status {
			t.Errorf("1.%d %s: %d %s", tt.version, tt.fields, status, body)
		}
	}
	// Annotations are 1.43's: before, nobody sees them.
	_, body := create(42, `,"Annotations":{"a":"b"}`)
	if !strings.Contains(body, `"Id"`) {
		t.Errorf("1.42 with annotations: %s", body)
	}
	if status, body := a.do(t, "GET", "/v1.24/system/df", ""); status != 400 || !strings.Contains(body, "requires minimum API version 1.25") {
		t.Errorf("df in 1.24: %d %s", status, body)
	}
	id := a.create(t, `,"Cmd":["true"]`)
	if status, _ := a.do(t, "POST", "/v1.29/containers/"+id+"/wait?condition=never", ""); status != 200 {
		t.Errorf("condition before 1.30: %d", status)
	}
	if status, _ := a.do(t, "POST", "/v1.30/containers/"+id+"/wait?condition=never", ""); status != 400 {
		t.Errorf("condition in 1.30: %d", status)
	}
	if status, _ := a.do(t, "POST", "/v1.40/containers/create?platform=linux/none", `{"Image":"busybox","HostConfig":{"NetworkMode":"none"}}`); status != 201 {
		t.Errorf("platform before 1.41: %d", status)
	}
	if status, _ := a.do(t, "GET", "/v1.41/system/df?type=nonsense", ""); status != 200 {
		t.Errorf("type before 1.42: %d", status)
	}
	if status, _ := a.do(t, "GET", "/v1.42/system/df?type=nonsense", ""); status != 400 {
		t.Errorf("type in 1.42: %d", status)
	}
	if status, _ := a.do(t, "POST", "/containers/"+id+"/start", `{"Binds":["/:/host"]}`); status != 400 {
		t.Errorf("a start with a body: %d", status)
	}
	_, list := a.do(t, "GET", "/v1.24/images/json?filter=nothing", "")
	if strings.TrimSpace(list) != "[]" {
		t.Errorf("filter in 1.24: %s", list)
	}
	if _, list = a.do(t, "GET", "/v1.25/images/json?filter=nothing", ""); strings.TrimSpace(list) == "[]" {
		t.Error("filter is heeded in 1.25")
	}
}

// TestEventMedia: the stream of events comes as the client accepts it, since the versions that know the types.
func TestEventMedia(t *testing.T) {
	a := newAPI(t)
	a.create(t, `,"Cmd":["true"]`)
	for _, tt := range []struct {
		version int
		accept  string
		media   string
	}{
		{51, "application/x-ndjson", "application/json"},
		{52, "application/x-ndjson", "application/x-ndjson"},
		{52, "application/jsonl", "application/json"},
		{53, "application/jsonl", "application/jsonl"},
		{57, "text/html, application/json-seq;q=0.5", "application/json-seq"},
		{57, "*/*", "application/json"},
	} {
		_, r := a.dial(t, fmt.Sprintf("GET /v1.%d/events?since=1&until=2000 HTTP/1.1\r\nHost: docker\r\nAccept: %s\r\nConnection: close\r\n\r\n", tt.version, tt.accept))
		if head := readHead(t, r); !strings.Contains(head, "Content-Type: "+tt.media+"\r\n") {
			t.Errorf("1.%d %s: %s", tt.version, tt.accept, head)
		}
	}
	_, r := a.dial(t, fmt.Sprintf("GET /events?since=1&until=%d HTTP/1.0\r\nHost: docker\r\nAccept: application/json-seq\r\n\r\n", time.Now().Unix()+1))
	readHead(t, r)
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "\x1e{") || !json.Valid([]byte(line[1:])) {
		t.Errorf("a sequence begins %q, %v", line, err)
	}
}

// TestPing: the headers that clients choose a version by.
func TestPing(t *testing.T) {
	a := newAPI(t)
	for _, method := range []string{"GET", "HEAD"} {
		_, r := a.dial(t, method+" /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
		head := readHead(t, r)
		for _, want := range []string{"HTTP/1.1 200", "Api-Version: 1.57", "Docker-Experimental: false", "Ostype: linux", "Server: nova-agent/", "Swarm: inactive",
			"Builder-Version: 1", "Cache-Control: no-cache, no-store, must-revalidate", "Pragma: no-cache", "Content-Type: text/plain; charset=utf-8"} {
			if !strings.Contains(head, want) {
				t.Errorf("%s: no %s in %s", method, want, head)
			}
		}
	}
	for path, want := range map[string]string{
		"/v1.20/version": "client version 1.20 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"/v1.99/version": "client version 1.99 is too new. Maximum supported API version is 1.57",
	} {
		if status, body := a.do(t, "GET", path, ""); status != 400 || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
}

// TestComposeVersion: docker-compose 1.x, which asks for whatever /version tells, is told of a version that it can speak.
func TestComposeVersion(t *testing.T) {
	a := newAPI(t)
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", a.socket) }, DisableKeepAlives: true,
	}}
	for agent, want := range map[string]string{"docker-compose/1.29.2 docker-py/5.0.3": "1.43", "docker-py/5.0.3": "1.57", "docker-compose/2.40.3": "1.57"} {
		req, err := http.NewRequest(http.MethodGet, "http://docker/version", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("User-Agent", agent)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var v struct{ ApiVersion string }
		err = json.NewDecoder(resp.Body).Decode(&v)
		resp.Body.Close()
		if err != nil || v.ApiVersion != want {
			t.Errorf("%s: %s, %v", agent, v.ApiVersion, err)
		}
	}
}
