package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/enginetest"
	"novaagent/tests/need"
)

// daemon is a server of Docker's API in network and mount namespaces of its own, so that the
// bridges and firewall rules of each are its own and go with it.
type daemon struct {
	name   string
	client *http.Client
}

// startDaemon runs a program that will listen on the socket.
func startDaemon(b *testing.B, name, socket string, args ...string) *daemon {
	b.Helper()
	need.Command(b, args[0])
	log, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("sh", append([]string{"-c", `ip link set lo up && exec "$@"`, "sh"}, args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			b.Logf("%s: %v", name, err)
		}
		log.Close()
	})
	d := &daemon{name: name, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	b.Cleanup(d.client.CloseIdleConnections)
	// It is ready when it answers; neither daemon tells in another way that both have.
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		resp, err := d.client.Get("http://docker/_ping")
		if err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(log.Name())
			b.Fatalf("%s does not answer: %v\n%s", name, err, text)
		}
	}
	return d
}

// call makes a request and decodes the answer.
func (d *daemon) call(method, path string, body, answer any) error {
	var r io.Reader
	switch v := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(v)
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		r = bytes.NewReader(data)
	}
	req, err := http.NewRequest(method, "http://docker/v1.41"+path, r)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s: %s %s: %s: %s", d.name, method, path, resp.Status, data)
	}
	if answer != nil {
		return json.Unmarshal(data, answer)
	}
	return nil
}

type object = map[string]any

func (d *daemon) create(network string, command ...string) (string, error) {
	var made struct{ ID string }
	err := d.call("POST", "/containers/create", object{"Image": "busybox:latest", "Cmd": command, "HostConfig": object{"NetworkMode": network}}, &made)
	return made.ID, err
}

// run is create, start, wait and remove.
func (d *daemon) run(network string) error {
	id, err := d.create(network, "true")
	if err != nil {
		return err
	}
	var end struct{ StatusCode int }
	return errors.Join(
		d.call("POST", "/containers/"+id+"/start", nil, nil),
		d.call("POST", "/containers/"+id+"/wait", nil, &end),
		d.call("DELETE", "/containers/"+id, nil, nil))
}

// exec runs true in a container and waits until its connection ends.
func (d *daemon) exec(id string) error {
	var made struct{ ID string }
	if err := d.call("POST", "/containers/"+id+"/exec", object{"Cmd": []string{"true"}, "AttachStdout": true, "AttachStderr": true}, &made); err != nil {
		return err
	}
	return d.call("POST", "/exec/"+made.ID+"/start", object{}, nil)
}

// BenchmarkDockerAPI drives nova-agent and Debian's dockerd in turn, through their HTTP API, with the
// same requests and the same image.
func BenchmarkDockerAPI(b *testing.B) {
	need.Root(b)
	dir := b.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	b.Cleanup(func() { // dockerd leaves its own, empty
		for _, dir := range []string{"/sys/fs/cgroup/docker", "/sys/fs/cgroup/*/docker"} {
			found, _ := filepath.Glob(dir)
			for _, d := range found {
				os.Remove(d)
			}
		}
	})
	peers := []*daemon{
		startDaemon(b, "nova-agent", path("n.sock"), "../../bin/nova-agent", "standalone", "--root", path("n"), "--host", "unix://"+path("n.sock")),
		startDaemon(b, "dockerd", path("d.sock"), "dockerd", "--data-root", path("d"), "--exec-root", path("dx"), "--pidfile", path("d.pid"), "-H", "unix://"+path("d.sock")),
	}
	archive := enginetest.Archive(b, "busybox:latest", ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
	idle := map[*daemon]string{}
	for _, d := range peers {
		if err := d.call("POST", "/images/load", archive, nil); err != nil {
			b.Fatal(err)
		}
		id, err := d.create("none", "sleep", "100000")
		if err == nil {
			err = d.call("POST", "/containers/"+id+"/start", nil, nil)
		}
		if err != nil {
			b.Fatal(err)
		}
		idle[d] = id
	}
	defer func() {
		for d, id := range idle {
			if err := d.call("DELETE", "/containers/"+id+"?force=1", nil, nil); err != nil {
				b.Error(err)
			}
		}
	}()
	operations := []struct {
		name string
		do   func(*daemon) error
	}{
		{"run, no network", func(d *daemon) error { return d.run("none") }},
		{"run, bridge network", func(d *daemon) error { return d.run("bridge") }},
		{"exec", func(d *daemon) error { return d.exec(idle[d]) }},
		{"8 runs at once", func(d *daemon) error {
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = d.run("none") })
			}
			wg.Wait()
			return errors.Join(errs...)
		}},
	}
	took := make([][2][]time.Duration, len(operations))
	for b.Loop() {
		for i, op := range operations {
			for k, d := range peers {
				begin := time.Now()
				if err := op.do(d); err != nil {
					b.Fatal(err)
				}
				took[i][k] = append(took[i][k], time.Since(begin))
			}
		}
	}
	table := tabwriter.NewWriter(b.Output(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "median (90 %)\tnova-agent\tdockerd\tratio")
	for i, op := range operations {
		ours, theirs := took[i][0], took[i][1]
		fmt.Fprintf(table, "%s\t%s (%s)\t%s (%s)\t%.1f\n", op.name, quantile(ours, 0.5), quantile(ours, 0.9),
			quantile(theirs, 0.5), quantile(theirs, 0.9), float64(quantile(theirs, 0.5))/float64(quantile(ours, 0.5)))
		b.ReportMetric(float64(quantile(theirs, 0.5))/float64(quantile(ours, 0.5)), strings.ReplaceAll(op.name, " ", "-")+"-ratio")
	}
	table.Flush()
}
