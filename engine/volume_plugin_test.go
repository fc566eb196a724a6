package engine_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"novaagent/engine"
	"novaagent/engine/enginetest"
	"novaagent/engine/plugin"
	"novaagent/tests/need"
)

// pluginsOf are the plug-ins of the engine of a root: beside it.
func pluginsOf(root string) plugin.Finder {
	return plugin.Finder{Sockets: []string{root + "-plugins"}, Specs: []string{}}
}

// cupboard is a plug-in of volumes that remembers what it has mounted.
type cupboard struct {
	dir string

	mu     sync.Mutex
	mounts map[string]string // volumes by ID
}

func newCupboard(t *testing.T, root string) *cupboard {
	t.Helper()
	dir := pluginsOf(root).Sockets[0]
	check(t, os.MkdirAll(dir, 0o755))
	l, err := net.Listen("unix", filepath.Join(dir, "cupboard.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cupboard{dir: t.TempDir(), mounts: map[string]string{}}
	server := &http.Server{Handler: c}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done; os.RemoveAll(dir) })
	return c
}

func (c *cupboard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var in struct{ Name, ID string }
	_ = json.NewDecoder(r.Body).Decode(&in) // an activation has no body
	answer := map[string]any{}
	switch strings.TrimPrefix(r.URL.Path, "/") {
	case "Plugin.Activate":
		answer["Implements"] = []string{"VolumeDriver"}
	case "VolumeDriver.Mount":
		c.mounts[in.ID] = in.Name
		answer["Mountpoint"] = c.dir
	case "VolumeDriver.Unmount":
		delete(c.mounts, in.ID)
	}
	_ = json.NewEncoder(w).Encode(answer)
}

func (c *cupboard) mounted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mounts)
}

// TestPluginMountsAfterACrash kills the engine before and after a plug-in mounts: what is mounted then is
// what a running container has, and nothing once it is removed.
func TestPluginMountsAfterACrash(t *testing.T) {
	need.Root(t)
	for step, ops := range map[string]string{
		"volume.plugin": "create-plugin", "volume.mounted": "start", "create.volumes": "create-plugin", "start.prepared": "create-plugin,start",
		"start.process": "create-plugin,start", "start.done": "create-plugin,start", "remove.process": "create-plugin,start,remove",
	} {
		t.Run(step, func(t *testing.T) {
			root := tempRoot(t)
			enginetest.Leaks(t, root, testCgroup(root))
			c := newCupboard(t, root)
			if ops == "start" {
				crash(t, root, "create-plugin", "ready")
			}
			crash(t, root, ops, step)
			o := options(t, root)
			o.Plugins = pluginsOf(root)
			e := open(t, o)
			want := 0
			if rec, err := e.Inspect(crashName); err == nil && rec.State.Live() {
				want = 1
			}
			if n := c.mounted(); n != want {
				t.Errorf("%d mounts, want %d", n, want)
			}
			if list := e.List(); len(list) > 0 {
				check(t, e.Remove(testContext(t), crashName, engine.RemoveOptions{Force: true, Volumes: true}))
			}
			if n := c.mounted(); n != 0 {
				t.Errorf("%d mounts at the end", n)
			}
		})
	}
}
