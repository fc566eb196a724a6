// Package cloud finds the real OpenStack that tests ask: the one whose state lies in
// the directory NOVA_AGENT_TEST_CLOUD. Tests leave it as they found it.
package cloud

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"novaagent/tests/need"
)

// Login is a user of the cloud.
type Login struct {
	AuthURL                   string
	Username, Password        string
	Project                   string
	UserDomain, ProjectDomain string
	Region                    string
}

// Admin is the administrator.
func Admin(t testing.TB) Login {
	t.Helper()
	return read(t, "admin-openrc", "openrc")
}

// Demo is an ordinary user.
func Demo(t testing.TB) Login {
	t.Helper()
	return read(t, "demo-openrc")
}

var assignment = regexp.MustCompile(`(OS_[A-Z_]+)=['"]?([^'"\s]+)`)

// read takes the first of some openrc files that exists.
func read(t testing.TB, names ...string) Login {
	t.Helper()
	text := readFirst(t, names...)
	env := map[string]string{}
	for _, m := range assignment.FindAllStringSubmatch(text, -1) {
		env[m[1]] = m[2]
	}
	return Login{
		AuthURL: env["OS_AUTH_URL"], Username: env["OS_USERNAME"], Password: env["OS_PASSWORD"], Project: env["OS_PROJECT_NAME"],
		UserDomain: env["OS_USER_DOMAIN_NAME"], ProjectDomain: env["OS_PROJECT_DOMAIN_NAME"], Region: env["OS_REGION_NAME"],
	}
}

func readFirst(t testing.TB, names ...string) string {
	t.Helper()
	dir := need.Env(t, "NOVA_AGENT_TEST_CLOUD")
	var text []byte
	var err error
	for _, name := range names {
		if text, err = os.ReadFile(filepath.Join(dir, name)); err == nil {
			return string(text)
		}
	}
	need.Unmet(t, "a cluster (make cluster): "+err.Error())
	return ""
}

// ComputeConf lists the files that the cloud's nova-compute is started with, in their
// order. A cluster of make cluster has one, others a common one besides.
func ComputeConf(t testing.TB) (files []string) {
	t.Helper()
	dir := need.Env(t, "NOVA_AGENT_TEST_CLOUD")
	for _, name := range []string{"nova-compute-base.conf", "nova-compute.conf"} {
		path := filepath.Join(dir, "etc/nova", name)
		if _, err := os.Stat(path); err == nil {
			files = append(files, path)
		}
	}
	if len(files) == 0 {
		need.Unmet(t, "a cluster (make cluster): there is no nova-compute.conf below "+dir)
	}
	return files
}

var transportURL = regexp.MustCompile(`(?m)^transport_url *= *(\S+)`)

// TransportURL is how the cloud's nova-compute reaches RabbitMQ.
func TransportURL(t testing.TB) string {
	t.Helper()
	url := ""
	for _, file := range ComputeConf(t) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if m := transportURL.FindSubmatch(text); m != nil {
			url = string(m[1]) // the last file wins
		}
	}
	if url == "" {
		t.Fatal("nova-compute.conf has no transport_url")
	}
	return url
}
