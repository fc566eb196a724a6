// Package rabbit starts private RabbitMQ brokers for tests: on free loopback
// ports, with an Erlang port mapper, a cookie, a database and logs of their own
// in a directory that is removed afterwards. A broker that runs on the machine
// already is not touched.
//
// A broker is started below a small shell that kills it when the test process
// ends in any way, so that nothing is left behind.
package rabbit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"novaagent/tests/certs"
	"novaagent/tests/need"
)

// bin is where Debian's rabbitmq-server package keeps the programs that run as
// the present user; those in /usr/sbin change to the user rabbitmq.
const bin = "/usr/lib/rabbitmq/bin/"

// Options of a broker.
type Options struct {
	// TLS adds a listener with TLS; see Broker.TLSPort and CertDir.
	TLS bool
	// Config has further lines of rabbitmq.conf.
	Config string
}

// Broker is a running RabbitMQ.
type Broker struct {
	Port    int    // AMQP
	TLSPort int    // AMQP over TLS; 0 without Options.TLS
	CertDir string // ca.pem, client.pem and client.key; "" without Options.TLS
	Dir     string // everything on disk

	epmd, server *guarded
	env          []string
}

// Start runs a broker until the test ends.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	Need(t)
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// Need states what a broker needs of the machine.
func Need(t testing.TB) {
	t.Helper()
	need.Command(t, "epmd", "erl")
	if _, err := os.Stat(bin + "rabbitmq-server"); err != nil {
		need.Unmet(t, "the package rabbitmq-server")
	}
}

// New runs a broker until Close, for a TestMain. Start is the usual way.
func New(o Options) (*Broker, error) {
	dir, err := os.MkdirTemp("", "rabbit-")
	if err != nil {
		return nil, err
	}
	b := &Broker{Dir: dir}
	if err := b.configure(o); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := b.Start(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Broker) configure(o Options) error {
	ports, err := freePorts(4)
	if err != nil {
		return err
	}
	b.Port = ports[0]
	conf := fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%d\nloopback_users.guest = true\n", b.Port)
	if o.TLS {
		b.TLSPort, b.CertDir = ports[1], filepath.Join(b.Dir, "certs")
		if err := certs.Make(b.CertDir); err != nil {
			return err
		}
		conf += fmt.Sprintf("listeners.ssl.1 = 127.0.0.1:%d\n"+
			"ssl_options.cacertfile = %[2]s/ca.pem\nssl_options.certfile = %[2]s/server.pem\nssl_options.keyfile = %[2]s/server.key\n"+
			"ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n", b.TLSPort, b.CertDir)
	}
	conf += o.Config
	for name, text := range map[string]string{"rabbitmq.conf": conf, "enabled_plugins": "[].\n"} {
		if err := os.WriteFile(filepath.Join(b.Dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	b.env = append(os.Environ(),
		"HOME="+b.Dir, // the Erlang cookie
		"RABBITMQ_NODENAME=t"+strconv.Itoa(b.Port)+"@localhost",
		"RABBITMQ_DIST_PORT="+strconv.Itoa(ports[2]),
		"RABBITMQ_MNESIA_BASE="+b.Dir+"/mnesia",
		"RABBITMQ_LOG_BASE="+b.Dir+"/log",
		"RABBITMQ_CONFIG_FILE="+b.Dir+"/rabbitmq.conf",
		"RABBITMQ_CONF_ENV_FILE="+b.Dir+"/none",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+b.Dir+"/enabled_plugins",
		"RABBITMQ_PID_FILE="+b.Dir+"/pid",
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
		"ERL_EPMD_ADDRESS=127.0.0.1",
		"ERL_EPMD_PORT="+strconv.Itoa(ports[3]),
		"RUNNING_UNDER_SYSTEMD=true", // no shell between us and the Erlang VM
	)
	b.epmd, err = guard(b.Dir, b.env, "epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(ports[3]))
	return err
}

// Start runs the broker again after Kill or Stop, on the same ports and with
// what it had on disk, and waits until it takes connections.
func (b *Broker) Start() error {
	server, err := guard(b.Dir, b.env, bin+"rabbitmq-server")
	if err != nil {
		return err
	}
	b.server = server
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	for {
		conn, err := amqp.DialConfig(b.URL("amqp"), amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("broker did not start: %w\n%s", err, b.server.output())
		case <-b.server.done:
			return fmt.Errorf("broker ended at start: %s", b.server.output())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Kill ends the broker as a crash would.
func (b *Broker) Kill() { b.server.kill(syscall.SIGKILL) }

// Stop ends the broker in an orderly way.
func (b *Broker) Stop() { b.server.kill(syscall.SIGTERM) }

// Close ends the broker and removes its directory.
func (b *Broker) Close() error {
	if b.server != nil {
		b.server.kill(syscall.SIGKILL)
	}
	if b.epmd != nil {
		b.epmd.kill(syscall.SIGKILL)
	}
	return os.RemoveAll(b.Dir)
}

// URL of the broker as its user guest; scheme is "amqp" or "rabbit".
func (b *Broker) URL(scheme string) string {
	return fmt.Sprintf("%s://guest:guest@127.0.0.1:%d/", scheme, b.Port)
}

// Ctl runs rabbitmqctl, which takes a second or more, and returns what it prints.
func (b *Broker) Ctl(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(bin+"rabbitmqctl", append([]string{"-q"}, args...)...)
	cmd.Env = b.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("rabbitmqctl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Channel opens a channel on a connection of its own, for tests that look at
// the broker themselves.
func (b *Broker) Channel(t testing.TB) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(b.URL("amqp"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// guarded is a process in a session of its own below a shell that ends it when
// this process is gone.
type guarded struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bytes.Buffer
	done  chan struct{}
}

// guardScript: the shell's standard input is a pipe from us. Its end means that
// we have ended, or want the program to.
// SIGTERM to the shell is passed on.
const guardScript = `exec 3<&0 </dev/null
"$@" 3<&- & p=$!
trap 'kill -TERM $p' TERM
{ cat <&3 >/dev/null; kill -KILL $p; } 2>/dev/null &
exec 3<&-
while :; do wait $p; kill -0 $p 2>/dev/null || exit; done`

func guard(dir string, env []string, args ...string) (*guarded, error) {
	g := &guarded{cmd: exec.Command("sh", append([]string{"-c", guardScript, "guard"}, args...)...), out: new(bytes.Buffer), done: make(chan struct{})}
	g.cmd.Env, g.cmd.Dir = env, dir
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	g.cmd.Stdout, g.cmd.Stderr = g.out, g.out
	g.cmd.WaitDelay = time.Second
	stdin, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	g.stdin = stdin
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.done)
	}()
	return g, nil
}

// kill sends sig to the program and waits for the end of its whole session.
func (g *guarded) kill(sig syscall.Signal) {
	select {
	case <-g.done:
	default:
		if sig == syscall.SIGTERM {
			_ = g.cmd.Process.Signal(sig)
		} else {
			_ = syscall.Kill(-g.cmd.Process.Pid, sig)
		}
		select {
		case <-g.done:
		case <-time.After(30 * time.Second):
		}
	}
	_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL)
	_ = g.stdin.Close()
	<-g.done
}

// output is what the program has printed; only once it has ended.
func (g *guarded) output() string {
	g.kill(syscall.SIGKILL)
	return g.out.String()
}

// freePorts returns n ports of the loopback interface that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
