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
	dir := need.Env(t, "NOVA_AGENT_TEST_CLOUD")
	var text []byte
	var err error
	for _, name := range names {
		if text, err = os.ReadFile(filepath.Join(dir, name)); err == nil {
			break
		}
	}
	if err != nil {
		need.Unmet(t, "a cluster (make cluster): "+err.Error())
	}
	env := map[string]string{}
	for _, m := range assignment.FindAllStringSubmatch(string(text), -1) {
		env[m[1]] = m[2]
	}
	return Login{
		AuthURL: env["OS_AUTH_URL"], Username: env["OS_USERNAME"], Password: env["OS_PASSWORD"], Project: env["OS_PROJECT_NAME"],
		UserDomain: env["OS_USER_DOMAIN_NAME"], ProjectDomain: env["OS_PROJECT_DOMAIN_NAME"], Region: env["OS_REGION_NAME"],
	}
}
