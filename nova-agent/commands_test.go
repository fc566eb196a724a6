package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"novaagent/nova-agent/check"
	"novaagent/tests/cloud"
	"novaagent/tests/need"
)

// invoke runs a command to its end.
func invoke(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience) // one that serves instead of refusing
	defer cancel()
	var out, err bytes.Buffer
	cmd := exec.CommandContext(ctx, "nova-agent", args...)
	cmd.Stdout, cmd.Stderr = &out, &err
	var exit *exec.ExitError
	if e := cmd.Run(); e != nil && !errors.As(e, &exit) {
		t.Fatal(e)
	}
	return cmd.ProcessState.ExitCode(), out.String(), err.String()
}

// TestExitStatus: 2 for a command line that cannot be understood, 1 for what does not
// work, each with one line.
func TestExitStatus(t *testing.T) {
	dir := t.TempDir()
	absent, file := filepath.Join(dir, "absent.yaml"), filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		status int
		args   []string
	}{
		{0, []string{"help"}},
		{0, []string{"check", "-h"}},
		{0, []string{"version"}},
		{0, []string{"config", "docs"}},
		{2, []string{"frobnicate"}},
		{2, []string{"version", "extra"}},
		{2, []string{"run", "--colour"}},
		{2, []string{"check", "--timeout", "soon"}},
		{2, []string{"config"}},
		{2, []string{"config", "frob"}},
		{2, []string{"config", "import"}},
		{2, []string{"config", "docs", "extra"}},
		{2, []string{"standalone", "--root", dir}},
		{2, []string{"standalone", "--root", dir, "--host", "unix://" + dir + "/s", "--log-level", "loud"}},
		{2, []string{"standalone", "--root", dir, "--host", "unix://" + dir + "/s", "--log-format", "xml"}},
		{2, []string{"standalone", "--root", dir, "--host", "unix://" + dir + "/s", "--insecure-registry", "http://x"}},
		{2, []string{"standalone", "--root", dir, "--host", "unix://" + dir + "/s", "--registry-mirror", "x"}},
		{2, []string{"standalone", "--root", dir, "--host", "unix://" + dir + "/s", "--max-concurrent-downloads", "0"}},
		{1, []string{"run", "--config", absent}},
		{1, []string{"config", "show", "--config", absent}},
		{1, []string{"config", "validate", "--config", file}},
		{1, []string{"config", "import", absent}},
		{1, []string{"purge", "--config", absent}},
		{1, []string{"standalone", "--root", filepath.Join(file, "below"), "--host", "unix://" + dir + "/s"}},
	} {
		status, _, text := invoke(t, tt.args...)
		lines := strings.Count(text, "\n")
		if status != tt.status || tt.status == 0 && text != "" || tt.status > 0 && (lines != 1 || !strings.HasPrefix(text, "nova-agent: ")) {
			t.Errorf("%v: status %d, want %d; it says:\n%s", tt.args, status, tt.status, text)
		}
	}
}

// TestImportedFile: what holds passwords is for its owner alone, also where a file that
// anybody may read was before, and no file is left of an import that fails.
func TestImportedFile(t *testing.T) {
	dir := t.TempDir()
	conf, output := filepath.Join(dir, "nova.conf"), filepath.Join(dir, "nova-agent.yaml")
	text := "[DEFAULT]\ntransport_url = rabbit://u:p4ss@h/\n[placement]\nauth_url = http://h\npassword = p4ss\n[neutron]\npassword = p4ss\n"
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.WriteFile(output, nil, 0o644), os.Chmod(output, 0o644)); err != nil {
		t.Fatal(err)
	}
	if status, out, text := invoke(t, "config", "import", "--output", output, conf); status != 0 || strings.Contains(out+text, "p4ss") {
		t.Fatalf("status %d\n%s%s", status, out, text)
	}
	info, err := os.Stat(output)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
	if status, _, _ := invoke(t, "config", "import", "--output", filepath.Join(dir, "none", "file"), conf); status != 1 {
		t.Errorf("a directory that is not there: status %d", status)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := invoke(t, "config", "import", "--output", taken, conf); status != 1 {
		t.Errorf("a directory in the place of the file: status %d", status)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCheckCloud: every service of a real cloud is found with the configuration of its
// nova-compute; with a wrong password it is said which one refuses it, not the password.
func TestCheckCloud(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "nova-agent.yaml"), cloud.Admin(t).Password
	args := append([]string{"config", "import", "--output", file, "--set", "state_dir=" + dir}, cloud.ComputeConf(t)...)
	if status, out, text := invoke(t, args...); status != 0 || strings.Contains(out+text, secret) {
		t.Fatalf("status %d\n%s%s", status, out, text)
	}
	for _, args := range [][]string{{"config", "show"}, {"config", "validate"}} {
		if status, out, text := invoke(t, append(args, "--config", file)...); status != 0 || strings.Contains(out+text, secret) {
			t.Errorf("%v: status %d\n%s%s", args, status, out, text)
		}
	}
	status, out, text := invoke(t, "check", "--config", file, "--timeout", patience.String(), "--json")
	var report struct{ Kernel, Services []check.Result }
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 || text != "" {
		t.Fatalf("status %d, %v\n%s%s", status, err, out, text)
	}
	found := map[string]bool{}
	for _, r := range append(report.Kernel, report.Services...) {
		found[r.Name] = r.Found
	}
	for _, name := range []string{"overlay file system", "RabbitMQ", "nova-conductor", "Keystone", "Placement", "Neutron", "Glance"} {
		if !found[name] {
			t.Errorf("%s is not found in\n%s", name, out)
		}
	}
	if strings.Contains(out, secret) {
		t.Error("a password is printed")
	}

	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(data, []byte(secret), []byte("wr0ng-s3cret")), 0o600); err != nil {
		t.Fatal(err)
	}
	status, out, text = invoke(t, "check", "--config", file, "--timeout", "5s")
	if status != 1 || !strings.Contains(out, "MISSING  Keystone") || !strings.Contains(out, "MISSING  RabbitMQ") || strings.Contains(out+text, "s3cret") {
		t.Errorf("a wrong password: status %d\n%s%s", status, out, text)
	}
}
