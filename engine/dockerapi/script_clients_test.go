package dockerapi_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"novaagent/tests/certs"
	"novaagent/tests/need"
	"novaagent/tests/peer"
)

// playedByAll are the scripts of the areas in which docker's command line clients differ most in what they ask.
var playedByAll = []string{"contexts", "cp", "exec", "images", "lifecycle", "logs", "network", "ports", "run", "system"}

// TestDockerCLIs plays a selection of the scripts with other docker command line clients than the machine's: the oldest that is
// supported, and the newest. A line that an older client has no flag for has the condition [!cli:20.10].
func TestDockerCLIs(t *testing.T) {
	need.Root(t)
	for _, c := range []peer.Clients{peer.AllClients[0], peer.AllClients[len(peer.AllClients)-1]} {
		t.Run(c.Docker, func(t *testing.T) {
			p := scripts("", startEngine)
			p.Dir = ""
			for _, name := range playedByAll {
				p.Files = append(p.Files, filepath.Join("testdata", name+".txtar"))
			}
			condition, setup := p.Condition, p.Setup
			p.Condition = func(cond string) (bool, error) {
				if version, ok := strings.CutPrefix(cond, "cli:"); ok {
					return version == c.Docker, nil
				}
				return condition(cond)
			}
			p.Setup = func(env *testscript.Env) error {
				if err := setup(env); err != nil {
					return err
				}
				bin := filepath.Join(env.WorkDir, ".bin")
				if err := os.Mkdir(bin, 0o755); err != nil {
					return err
				}
				c.Install(env.T().(testing.TB), env.Values["daemon"].(*peer.Daemon), bin)
				env.Setenv("PATH", bin+":"+env.Getenv("PATH"))
				return nil
			}
			testscript.Run(t, p)
		})
	}
}

// tlsServer DIR NAME: serves the engine on TCP with certificates; $NAME is the address, DIR gets what a client needs, and
// DIR/expired what one has that may not in.
func tlsServer(ts *testscript.TestScript, neg bool, args []string) {
	made, dir := ts.MkAbs(".certs"), ts.MkAbs(args[0])
	ts.Check(certs.Make(made))
	for to, name := range map[string]string{dir: "client", filepath.Join(dir, "expired"): "expired"} {
		ts.Check(os.MkdirAll(to, 0o700))
		for link, target := range map[string]string{"ca.pem": "ca.pem", "cert.pem": name + ".pem", "key.pem": name + ".key"} {
			ts.Check(os.Symlink(filepath.Join(made, target), filepath.Join(to, link)))
		}
	}
	address, stop, err := ts.Value("api").(*api).startTLS(ts.Value("t").(testing.TB), made)
	ts.Check(err)
	ts.Defer(stop)
	ts.Setenv(args[1], "tcp://"+address)
}
