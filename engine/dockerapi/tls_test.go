package dockerapi_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"novaagent/engine/dockerapi"
	"novaagent/engine/errdefs"
	"novaagent/tests/certs"
	"novaagent/tests/need"
)

// serveTLS serves a's engine on a TCP port with the certificates of dir, until the end of the test.
func (a *api) serveTLS(t *testing.T, dir string) (address string) {
	t.Helper()
	address, stop, err := a.startTLS(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return address
}

// startTLS is serveTLS until stop is called.
func (a *api) startTLS(t testing.TB, dir string) (address string, stop func(), err error) {
	list, err := dockerapi.Endpoint{Host: "tcp://127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), TLS: &dockerapi.TLSFiles{
		CA: dir + "/ca.pem", Cert: dir + "/server.pem", Key: dir + "/server.key",
	}}.Listen()
	if err != nil {
		return "", nil, err
	}
	server := dockerapi.NewServer(dockerapi.New(a.engine, dockerapi.Options{Version: "0.0-test"}))
	done := make(chan error)
	go func() { done <- server.Serve(list[0]) }()
	return list[0].Addr().String(), func() { server.Close(); <-done }, nil
}

// certDir has what docker looks for in DOCKER_CERT_PATH.
func certDir(t *testing.T, from, client string) string {
	t.Helper()
	dir := t.TempDir()
	for name, source := range map[string]string{"ca.pem": "ca.pem", "cert.pem": client + ".pem", "key.pem": client + ".key"} {
		if err := os.Symlink(filepath.Join(from, source), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTLS: the docker command line client with certificates, without, with one that has expired and one of
// other authorities.
func TestTLS(t *testing.T) {
	need.Command(t, "docker")
	a := newAPI(t)
	good, other := t.TempDir(), t.TempDir()
	if err := errors.Join(certs.Make(good), certs.Make(other)); err != nil {
		t.Fatal(err)
	}
	address := a.serveTLS(t, good)
	_, port, _ := net.SplitHostPort(address)
	config := t.TempDir()
	docker := func(stdin string, env []string, args ...string) (string, error) {
		cmd := exec.Command("docker", args...)
		cmd.Env = append(append(os.Environ(), "DOCKER_CONFIG="+config, "DOCKER_CLI_HINTS=false"), env...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	with := func(certs string) []string {
		return []string{"DOCKER_HOST=tcp://localhost:" + port, "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + certs}
	}
	ours := certDir(t, good, "client")
	if out, err := docker("", with(ours), "version", "--format", "{{.Server.Version}}"); err != nil || strings.TrimSpace(out) != "0.0-test" {
		t.Errorf("version: %v %s", err, out)
	}
	// A stream whose one half ends within TLS.
	if out, err := docker("through TLS", with(ours), "run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", "cat; echo; echo end"); err != nil || out != "through TLS\nend\n" {
		t.Errorf("run: %v %q", err, out)
	}
	// A context has its own copy of the certificates.
	if out, err := docker("", nil, "context", "create", "node", "--docker",
		"host=tcp://localhost:"+port+",ca="+ours+"/ca.pem,cert="+ours+"/cert.pem,key="+ours+"/key.pem"); err != nil {
		t.Fatalf("context: %v %s", err, out)
	}
	if out, err := docker("", nil, "--context", "node", "images", "--format", "{{.Repository}}"); err != nil || strings.TrimSpace(out) != "busybox" {
		t.Errorf("images: %v %s", err, out)
	}
	for name, env := range map[string][]string{
		"no TLS":            {"DOCKER_HOST=tcp://localhost:" + port},
		"expired":           with(certDir(t, good, "expired")),
		"other authorities": {"DOCKER_HOST=tcp://localhost:" + port, "DOCKER_TLS=1", "DOCKER_CERT_PATH=" + certDir(t, other, "client")},
	} {
		out, err := docker("", env, "ps")
		if err == nil || strings.Contains(out, "CONTAINER ID") {
			t.Errorf("%s: %s", name, out)
		}
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// TestTLSReload: new files count for the next connection; files that are broken do not.
func TestTLSReload(t *testing.T) {
	a := newAPI(t)
	dir, other := t.TempDir(), t.TempDir()
	if err := errors.Join(certs.Make(dir), certs.Make(other)); err != nil {
		t.Fatal(err)
	}
	address := a.serveTLS(t, dir)
	reach := func(certs string) error {
		pair, err := tls.LoadX509KeyPair(certs+"/client.pem", certs+"/client.key")
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		}}}
		resp, err := client.Get("https://" + address + "/_ping")
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
	old := t.TempDir()
	for _, name := range []string{"client.pem", "client.key"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(old, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := reach(old); err != nil {
		t.Fatal(err)
	}
	if err := reach(other); err == nil {
		t.Fatal("a certificate of other authorities is taken")
	}
	if err := os.WriteFile(dir+"/ca.pem", []byte("broken, and of another length"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reach(old); err != nil {
		t.Errorf("with a broken file: %v", err)
	}
	for _, name := range []string{"ca.pem", "server.pem", "server.key"} {
		if err := os.Rename(filepath.Join(other, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := reach(other); err != nil {
		t.Errorf("with new files: %v", err)
	}
	if err := reach(old); err == nil {
		t.Error("the old authorities still count")
	}
}

func TestEndpoint(t *testing.T) {
	dir := t.TempDir()
	if err := certs.Make(dir); err != nil {
		t.Fatal(err)
	}
	files := &dockerapi.TLSFiles{CA: dir + "/ca.pem", Cert: dir + "/server.pem", Key: dir + "/server.key"}
	for _, e := range []dockerapi.Endpoint{
		{Host: "tcp://127.0.0.1:0"},
		{Host: "tcp://0.0.0.0:0", Plain: true},
		{Host: "tcp://127.0.0.1:0", TLS: &dockerapi.TLSFiles{CA: files.CA, Cert: files.Cert}},
		{Host: "tcp://127.0.0.1:0", TLS: &dockerapi.TLSFiles{CA: files.Key, Cert: files.Cert, Key: files.Key}},
		{Host: "tcp://127.0.0.1:0", TLS: &dockerapi.TLSFiles{CA: files.CA, Cert: files.Cert, Key: dir + "/client.key"}},
		{Host: "tcp://127.0.0.1:0", TLS: &dockerapi.TLSFiles{CA: files.CA, Cert: dir + "/absent", Key: files.Key}},
		{Host: "unix://" + dir + "/x.sock", Group: "there-is-no-such-group"},
		{Host: "fd://"}, {Host: "fd://3"},
	} {
		if list, err := e.Listen(); !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%+v: %v, %v", e, list, err)
		}
	}
	list, err := dockerapi.Endpoint{Host: "unix://" + dir + "/mode.sock", Mode: 0o600, Group: "1234"}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer list[0].Close()
	out, err := exec.Command("stat", "-c", "%a %g", dir+"/mode.sock").Output()
	if err != nil || strings.TrimSpace(string(out)) != "600 1234" {
		t.Errorf("the socket is %s, %v", out, err)
	}
}
