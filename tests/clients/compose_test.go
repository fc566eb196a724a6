package clients

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/engine/enginetest"
	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// services is an archive of the image services:latest, which has redis, nginx and Python of Debian.
func services(t *testing.T) []byte {
	t.Helper()
	root := filepath.Join(peer.Dir(), "services")
	if _, err := os.Stat(filepath.Join(root, "usr/bin/redis-server")); err != nil {
		need.Unmet(t, "the packages of the image (tests/peer/fetch services)")
	}
	return enginetest.ArchiveOf(t, root, "services:latest", ocispec.ImageConfig{Env: []string{"PATH=/usr/sbin:/usr/bin:/bin"}})
}

// TestCompose plays testdata/compose with several docker-composes, all at once on one server: each has projects of its own.
func TestCompose(t *testing.T) {
	image := services(t)
	forServers(t, func(t *testing.T, d *peer.Daemon) {
		if err := d.Call("POST", "/images/load", image, nil); err != nil {
			t.Fatal(err)
		}
		t.Run("projects", func(t *testing.T) { // ends when all of them have
			for i, c := range composes {
				t.Run(c.Compose, func(t *testing.T) {
					t.Parallel()
					testscript.Run(t, composeScripts(d, c, i))
				})
			}
		})
	})
}

// composeScripts are the parameters of the scripts with the programs of c; n tells projects apart that are there at once.
func composeScripts(d *peer.Daemon, c peer.Clients, n int) testscript.Params {
	return testscript.Params{
		Dir: "testdata/compose",
		Condition: func(cond string) (bool, error) {
			if version, ok := strings.CutPrefix(cond, "compose:"); ok {
				return strings.HasPrefix(c.Compose+".", version+"."), nil
			}
			if cond == "peer" {
				return d.Name != "nova-agent", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, ".bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				return err
			}
			c.Install(env.T().(testing.TB), d, bin)
			// page URL: fetches it, once its server answers.
			page := fmt.Sprintf("#!/bin/sh\nfor i in $(seq ${TRIES:-600}); do nsenter -n -t %d busybox wget -q -O - \"$1\" 2>/dev/null && exit; sleep 0.1; done; exit 1\n", d.PID)
			if err := os.WriteFile(filepath.Join(bin, "page"), []byte(page), 0o755); err != nil {
				return err
			}
			separator, version := "-", "" // in the names of containers
			if strings.HasPrefix(c.Compose, "1.") {
				separator = "_"
				if d.Name != "nova-agent" {
					version = "1.41" // recreates nothing with API 1.45 and later
				}
			}
			for name, value := range map[string]string{
				"PATH":                bin + ":" + cmp.Or(os.Getenv("PATH"), "/usr/sbin:/usr/bin:/sbin:/bin"),
				"DOCKER_HOST":         "unix://" + d.Socket,
				"DOCKER_CONFIG":       filepath.Join(env.WorkDir, ".docker"),
				"NUMBER":              strconv.Itoa(n),
				"SEP":                 separator,
				"COMPOSE_API_VERSION": version,
				"LC_ALL":              "C.UTF-8", "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1",
			} {
				env.Setenv(name, value)
			}
			return nil
		},
	}
}
