// Package dockerregistry runs Debian's docker-registry for tests, on a loopback address: plain, or with TLS and
// a login, whose tokens are given out by a token server of its own.
package dockerregistry

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"novaagent/tests/certs"
	"novaagent/tests/need"
)

// User and Password are who may log in.
const (
	User     = "user"
	Password = "secret"
)

// Options say how a registry is protected.
type Options struct {
	TLS   bool // with the certificates of Registry.Certificates
	Known bool // with TLS: clients must show a certificate
	Basic bool // User and Password
	Token bool // the same, for tokens
}

// Registry is a running registry, which ends with the test.
type Registry struct {
	Addr         string // 127.0.0.1:PORT
	Root         string // its files
	Certificates string // see package certificates; "" without TLS
	Tokens       *TokenServer
}

// Start runs a registry.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	need.Command(t, "docker-registry")
	dir := t.TempDir()
	r := &Registry{Addr: freeAddr(t), Root: filepath.Join(dir, "files")}
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp:\n  addr: %s\n", r.Root, r.Addr)
	if o.TLS {
		r.Certificates = filepath.Join(dir, "certificates")
		if err := certs.Make(r.Certificates); err != nil {
			t.Fatal(err)
		}
		clients := ""
		if o.Known {
			clients = fmt.Sprintf(", clientcas: [%q]", filepath.Join(r.Certificates, "ca.pem"))
		}
		config += fmt.Sprintf("  tls: {certificate: %q, key: %q%s}\n", filepath.Join(r.Certificates, "server.pem"), filepath.Join(r.Certificates, "server.key"), clients)
	}
	switch {
	case o.Basic:
		need.Command(t, "htpasswd")
		users, err := exec.Command("htpasswd", "-Bbn", User, Password).Output()
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "htpasswd"), users, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		config += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", filepath.Join(dir, "htpasswd"))
	case o.Token:
		r.Tokens = startTokenServer(t, filepath.Join(dir, "tokens.pem"))
		config += fmt.Sprintf("auth: {token: {realm: %q, service: test-registry, issuer: test-issuer, rootcertbundle: %q}}\n", r.Tokens.URL, filepath.Join(dir, "tokens.pem"))
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	// The shell ends it when this process does, in whatever way.
	cmd := exec.Command("sh", "-c", `"$@" & pid=$!; read end; kill -9 $pid; wait`, "sh", "docker-registry", "serve", file)
	cmd.Stdout, cmd.Stderr = &log, &log
	alive, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		alive.Close()
		_ = cmd.Wait() // it was killed
	})
	// It tells nobody when it is ready.
	scheme := "http"
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // only its own
	if o.TLS {
		scheme = "https"
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(scheme + "://" + r.Addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return r
		}
		if o.Known && strings.Contains(err.Error(), "remote error: tls") {
			return r // it is there, and doesn't know this client
		}
		if time.Now().After(end) {
			t.Fatalf("docker-registry does not answer: %v", err)
		}
	}
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
