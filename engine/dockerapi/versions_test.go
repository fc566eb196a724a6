package dockerapi

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
)

// TestFieldsExist: each line of the table names a field that there is, once, and some version that differs.
func TestFieldsExist(t *testing.T) {
	if len(fieldIndex) != len(fields) {
		t.Errorf("%d fields, %d of them different", len(fields), len(fieldIndex))
	}
	for _, f := range fields {
		found := false
		eachField(reflect.TypeOf(f.of), func(owner reflect.Type, name string, _ reflect.StructField) {
			found = found || owner == reflect.TypeOf(f.of) && name == f.name
		})
		if !found {
			t.Errorf("%T declares no %s", f.of, f.name)
		}
		if f.since <= minVersion && f.until == 0 && f.lacking == 0 || f.since > maxVersion || f.until >= maxVersion || f.until != 0 && f.until < f.since {
			t.Errorf("%T.%s: since %d, until %d", f.of, f.name, f.since, f.until)
		}
	}
}

// TestPrune: what is taken away, whatever is around it.
func TestPrune(t *testing.T) {
	s := &shape{fields: map[string]*shape{
		"gone": {gone: true}, "empty": {goneIfEmpty: true},
		"in":   {fields: map[string]*shape{"gone": {gone: true}}},
		"list": {each: &shape{fields: map[string]*shape{"gone": {gone: true}}}},
	}}
	for in, want := range map[string]string{
		`{}`:                                  `{}`,
		`{"gone":1}`:                          `{}`,
		`{"GONE":1,"a":2}`:                    `{"a":2}`,
		`{"a":2,"gone":{"x":["}","\""]}}`:     `{"a":2}`,
		`{"g\u006fne":1,"b":[],"c":"\\"}`:     `{"b":[],"c":"\\"}`,
		`{"empty":"","x":1}`:                  `{"x":1}`,
		`{"empty":[],"x":1,"empty":"no"}`:     `{"x":1,"empty":"no"}`,
		`{"in":{"gone":true,"stays":"gone"}}`: `{"in":{"stays":"gone"}}`,
		`{"in":null,"list":null}`:             `{"in":null,"list":null}`,
		`{"in":[1,{"gone":2}]}`:               `{"in":[1,{"gone":2}]}`,
		`{"list":[{"gone":1},{"x":-1.5e3}]}`:  `{"list":[{},{"x":-1.5e3}]}`,
		`{"list":{"one":{"gone":1}}}`:         `{"list":{"one":{}}}`,
		`"gone"`:                              `"gone"`,
		`null`:                                `null`,
	} {
		if got := string(s.prune([]byte(in))); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// FuzzPrune: whatever a client sends, what is left is JSON.
func FuzzPrune(f *testing.F) {
	f.Add([]byte(`{"Image":"x","HostConfig":{"Annotations":{"a":"b"},"Umask":18},"NetworkingConfig":{"EndpointsConfig":{"n":{"GwPriority":1}}}}`))
	f.Add([]byte(`[{"HostConfig":5},"\"",{"":{}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &request{Request: &http.Request{Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(data)), ContentLength: int64(len(data))}, w: httptest.NewRecorder(), version: minVersion}
		var body createRequest
		if err := r.decode(&body); err != nil {
			return
		}
		if body.HostConfig != nil && (body.HostConfig.Annotations != nil || body.HostConfig.Umask != nil) {
			t.Errorf("a field that the version does not have: %s", data)
		}
		out, err := encodeFor(body, minVersion)
		if err != nil || !json.Valid(out) {
			t.Errorf("%v: %q", err, out)
		}
	})
}

// TestAdapt: what a create request means in each version.
func TestAdapt(t *testing.T) {
	ep := func(names ...string) *networkingConfig {
		n := &networkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
		for _, name := range names {
			n.EndpointsConfig[name] = &network.EndpointSettings{MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1}}
		}
		return n
	}
	port := network.MustParsePort("80/tcp")
	for name, tt := range map[string]struct {
		make          func() *createRequest
		bad           [2]int // the first and last version that refuses it
		warns         [2]int
		check         func(*createRequest) bool // what holds in the versions of holds
		holds, others [2]int
	}{
		"auto-remove": {
			make:  func() *createRequest { return &createRequest{HostConfig: &container.HostConfig{AutoRemove: true}} },
			check: func(c *createRequest) bool { return c.HostConfig.AutoRemove }, holds: [2]int{25, 57}, others: [2]int{24, 24},
		},
		"several networks": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{}, NetworkingConfig: ep("a", "b")}
			}, bad: [2]int{24, 43},
		},
		"an endpoint's MAC": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{}, NetworkingConfig: ep("bridge")}
			},
			check: func(c *createRequest) bool { return len(c.NetworkingConfig.EndpointsConfig["bridge"].MacAddress) > 0 }, holds: [2]int{44, 57}, others: [2]int{24, 43},
		},
		"the container's MAC": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{}, MacAddress: "02:00:00:00:00:01"}
			},
			check: func(c *createRequest) bool {
				return c.NetworkingConfig.EndpointsConfig["bridge"].MacAddress.String() == "02:00:00:00:00:01"
			}, holds: [2]int{24, 51}, warns: [2]int{44, 57},
		},
		"a MAC without a network": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{NetworkMode: "host"}, MacAddress: "02:00:00:00:00:01"}
			}, bad: [2]int{24, 43}, warns: [2]int{44, 57},
		},
		"two MACs": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{}, NetworkingConfig: ep("bridge"), MacAddress: "02:00:00:00:00:02"}
			}, bad: [2]int{44, 57},
		},
		"options of another type": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeBind, TmpfsOptions: &mount.TmpfsOptions{}}}}}
			},
			bad: [2]int{42, 57}, check: func(c *createRequest) bool { return c.HostConfig.Mounts[0].TmpfsOptions == nil }, holds: [2]int{24, 41},
		},
		"subpath": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeVolume, VolumeOptions: &mount.VolumeOptions{Subpath: "x"}}}}}
			}, bad: [2]int{24, 44},
		},
		"an image as a mount": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeImage}}}}
			}, bad: [2]int{24, 47},
		},
		"no bindings of a port": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{PortBindings: network.PortMap{port: nil}}}
			},
			check: func(c *createRequest) bool { return len(c.HostConfig.PortBindings) == 1 }, holds: [2]int{24, 52}, others: [2]int{53, 57}, warns: [2]int{52, 52},
		},
		"a driver for mounts": {
			make: func() *createRequest {
				return &createRequest{HostConfig: &container.HostConfig{VolumeDriver: "local", Mounts: []mount.Mount{{Type: mount.TypeVolume}}}}
			}, warns: [2]int{48, 57},
		},
	} {
		in := func(v int, span [2]int) bool { return v >= span[0] && v <= span[1] }
		for v := minVersion; v <= maxVersion; v++ {
			c := tt.make()
			warnings, err := c.adapt(v)
			if (err != nil) != in(v, tt.bad) {
				t.Errorf("%s in %s: %v", name, versionText(v), err)
			}
			if err != nil {
				continue
			}
			if (len(warnings) > 0) != in(v, tt.warns) {
				t.Errorf("%s in %s: warnings %q", name, versionText(v), warnings)
			}
			if tt.check == nil {
				continue
			}
			if ok := tt.check(c); in(v, tt.holds) && !ok || in(v, tt.others) && ok {
				t.Errorf("%s in %s: %v", name, versionText(v), ok)
			}
		}
	}
}
