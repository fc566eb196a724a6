package plugin

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"novaagent/engine/errdefs"
)

// TestFind: sockets and files of both kinds, with a directory of their own or not.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	f := Finder{Sockets: []string{dir + "/absent", dir + "/run"}, Specs: []string{dir + "/etc", dir + "/lib"}}
	for path, text := range map[string]string{
		"etc/file.spec": "unix:///x/file.sock\n", "lib/file.spec": "tcp://other", "lib/deep/deep.spec": "tcp://127.0.0.1:8080",
		"lib/secure.json": `{"Name":"secure","Addr":"https://plugin.example:443","TLSConfig":{"CAFile":"/ca.pem"}}`,
		"etc/bad.spec":    "nonsense", "etc/broken.json": "{", "run/plain.sock": "no socket",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", dir+"/run/live.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, want := range map[string]address{
		"live": {network: "unix", at: dir + "/run/live.sock"}, "file": {network: "unix", at: "/x/file.sock"},
		"deep": {network: "tcp", at: "127.0.0.1:8080"}, "secure": {network: "tcp", at: "plugin.example:443", tls: &tlsFiles{CAFile: "/ca.pem"}},
	} {
		got, err := f.find(name)
		if err != nil || got.network != want.network || got.at != want.at || (got.tls == nil) != (want.tls == nil) || got.tls != nil && *got.tls != *want.tls {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, want := range map[string]error{
		"absent": errdefs.ErrNotFound, "plain": errdefs.ErrNotFound, "bad": errdefs.ErrInvalid, "broken": errdefs.ErrInvalid,
		"../etc/file": errdefs.ErrInvalid, "": errdefs.ErrInvalid, ".hidden": errdefs.ErrInvalid, "a\x00b": errdefs.ErrInvalid,
	} {
		if _, err := f.find(name); !errors.Is(err, want) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if names := f.Names(); !slices.Equal(names, []string{"bad", "broken", "deep", "file", "live", "plain", "secure"}) {
		t.Errorf("names %q", names)
	}
}
