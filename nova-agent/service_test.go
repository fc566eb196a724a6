package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rabbitmq/amqp091-go"

	"novaagent/config"
	"novaagent/engine/errdefs"
	"novaagent/nova-agent/keystone"
	"novaagent/tests/cloud"
	"novaagent/tests/need"
)

// node is a compute node that only this test knows.
type node struct {
	t       *testing.T
	host    string
	file    string // its configuration
	listen  string
	admin   *keystone.Session
	nova    string
	stateIn string
}

// newNode makes nova-agent's file from the cluster's own nova-compute.conf, as an
// operator does, for a host of another name.
func newNode(t *testing.T) *node {
	t.Helper()
	need.Root(t)
	l := cloud.Admin(t)
	n := &node{t: t, host: "service-test-" + uuid.NewString()[:8], listen: freeAddress(t), stateIn: t.TempDir()}
	n.file = filepath.Join(n.stateIn, "nova-agent.yaml")
	args := append([]string{"config", "import", "--output", n.file, "--set", "host=" + n.host, "--set", "node_name=" + n.host,
		"--set", "state_dir=" + filepath.Join(n.stateIn, "state"), "--set", "run_dir=" + filepath.Join(n.stateIn, "run"),
		"--set", "observe.listen=" + n.listen, "--set", "engine.cgroup_parent=/" + n.host}, cloud.ComputeConf(t)...)
	if out, err := exec.Command("nova-agent", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var err error
	n.admin, err = keystone.New(keystone.Options{Region: l.Region, Credentials: keystone.Credentials{
		AuthURL: l.AuthURL, Username: l.Username, Password: l.Password, ProjectName: l.Project,
		UserDomainName: l.UserDomain, ProjectDomainName: l.ProjectDomain}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.admin.Close)
	if n.nova, err = n.admin.Endpoint(t.Context(), "compute"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.forget)
	t.Cleanup(n.deleteQueues)
	return n
}

// deleteQueues takes the host's queues out of the broker, which stay there for the next
// start.
func (n *node) deleteQueues() {
	c, err := config.Load(n.file)
	if err != nil {
		n.t.Fatal(err)
	}
	conn, err := amqp091.Dial("amqp" + strings.TrimPrefix(c.RPC.TransportURL, "rabbit"))
	if err != nil {
		n.t.Fatal(err)
	}
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, queue := range []string{"compute." + n.host, "compute-alt." + n.host} {
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			n.t.Error(err)
		}
	}
}

// set adds keys to the configuration.
func (n *node) set(text string) {
	n.t.Helper()
	f, err := os.OpenFile(n.file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) start(env ...string) *process {
	n.t.Helper()
	p := startProcess(n.t, env, "run", "--config", n.file)
	p.expect("READY=1")
	return p
}

// ask asks Nova as the administrator.
func (n *node) ask(method, path string, into any) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, n.nova+path, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("OpenStack-API-Version", "compute 2.53")
	resp, err := n.admin.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if into == nil {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(into)
}

type serviceRecord struct{ ID, State, Status string }

func (n *node) services() ([]serviceRecord, error) {
	var answer struct{ Services []serviceRecord }
	_, err := n.ask(http.MethodGet, "/os-services?host="+n.host, &answer)
	return answer.Services, err
}

// forget deletes what the node has left in Nova: the service record, and with it the
// compute node and the resource provider.
func (n *node) forget() {
	records, err := n.services()
	for _, r := range records {
		status, deleteErr := n.ask(http.MethodDelete, "/os-services/"+r.ID, nil)
		if deleteErr == nil && status != http.StatusNoContent {
			deleteErr = fmt.Errorf("delete service %s: status %d: %w", r.ID, status, errdefs.ErrUnavailable)
		}
		err = errors.Join(err, deleteErr)
	}
	if err != nil {
		n.t.Error(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestService: the life of the compute service at a real control plane, as systemd, an
// operator and Nova see it.
func TestService(t *testing.T) {
	n := newNode(t)
	p := n.start("WATCHDOG_USEC=2000000")
	records, err := n.services()
	if err != nil || len(records) != 1 || records[0].State != "up" {
		t.Errorf("Nova's record: %+v, %v", records, err)
	}
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, text := get(t, client, "http://"+n.listen+path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	page, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, metrics := get(t, client, "http://"+n.listen+"/metrics")
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (nova_agent_\w+)`).FindAllStringSubmatch(metrics, -1) {
		if !strings.Contains(string(page), m[1]) {
			t.Errorf("docs/observability.md lacks %s", m[1])
		}
	}
	for _, want := range []string{"nova_agent_rpc_connected 1", `nova_agent_rpc_queue_consumed{queue="compute.` + n.host + `"} 1`, "nova_agent_open_intents 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	debug := unixClient(t, filepath.Join(n.stateIn, "run", "debug.sock"))
	for _, name := range []string{"engine", "locks", "rpc", "pprof/goroutine?debug=1"} {
		if status, text := get(t, debug, "http://debug/debug/"+name); status != http.StatusOK || strings.Contains(text, `"error"`) {
			t.Errorf("debug/%s: %d %s", name, status, text)
		}
	}
	p.expect("WATCHDOG=1")

	n.set("log: {level: debug}\n")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.logged("level=debug changed=log.level")
	n.set("colour: red\n")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.logged("the configuration is not taken over")
	n.unset("colour: red\n")

	second := startProcess(t, nil, "run", "--config", n.file)
	second.wait(1)
	second.logged("another nova-agent runs with this state_dir")
	p.end()
	if strings.Contains(p.log(), "level=ERROR") && !strings.Contains(p.log(), "not taken over") {
		t.Errorf("errors in the log:\n%s", p.log())
	}

	// Killed, and started again: the same record.
	p = n.start()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait(-1)
	p = n.start()
	again, err := n.services()
	if err != nil || len(again) != 1 || again[0].ID != records[0].ID {
		t.Errorf("after a kill: %+v, %v", again, err)
	}
	p.end()
}

// unset takes text out of the configuration again.
func (n *node) unset(text string) {
	n.t.Helper()
	data, err := os.ReadFile(n.file)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.file, []byte(strings.Replace(string(data), text, "", 1)), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// TestControlPlaneAway: a start waits, tells systemd so, and can be ended.
func TestControlPlaneAway(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "nova-agent.yaml")
	nobody := freeAddress(t)
	text := fmt.Sprintf(`
state_dir: %[1]s/state
run_dir: %[1]s/run
observe: {listen: %[2]q}
rpc: {transport_url: "rabbit://u:p@%[3]s/"}
placement: {auth_url: "http://%[3]s", password: p}
neutron: {password: p}
compute: {graceful_shutdown_timeout: 5s}
`, dir, freeAddress(t), nobody)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, nil, "run", "--config", file)
	p.expect("STATUS=waiting for Nova's conductor")
	p.logged("chmod 600")
	began := time.Now()
	p.end()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s to end", took)
	}
	if strings.Contains(p.log(), "level=ERROR") {
		t.Errorf("errors in the log:\n%s", p.log())
	}
}
