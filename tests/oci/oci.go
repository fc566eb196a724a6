// Package oci finds the OCI runtimes that the tests run containers with: those of Debian's packages.
package oci

import (
	"os"
	"path/filepath"
	"sync"

	"novaagent/engine/runtime"
)

// onCrun runs crun where it finds no controllers of cgroup version 2. Beside those of version 1 it refuses to work, and the
// kernel gives version 2 what nobody has mounted for version 1.
const onCrun = `#!/bin/sh
controllers=/sys/fs/cgroup/unified/cgroup.controllers
[ -n "$(cat $controllers 2>/dev/null)" ] || exec crun "$@"
exec unshare -m sh -c 'mount --bind /dev/null '$controllers' && exec crun "$@"' crun "$@"
`

var once = sync.OnceValues(func() (string, error) {
	// Not of one test: containers of several may use it.
	dir := filepath.Join(os.TempDir(), "nova-agent-test-oci")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	script := filepath.Join(dir, "crun")
	if have, err := os.ReadFile(script); err == nil && string(have) == onCrun {
		return dir, nil
	}
	half, err := os.CreateTemp(dir, "crun-")
	if err != nil {
		return "", err
	}
	_, err = half.WriteString(onCrun)
	if err == nil {
		err = half.Chmod(0o700)
	}
	if closeErr := half.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(half.Name(), script)
	}
	return dir, err
})

// Runtimes are crun and runc.
func Runtimes() (map[string]runtime.OCI, error) {
	dir, err := once()
	if err != nil {
		return nil, err
	}
	return map[string]runtime.OCI{"crun": {Path: filepath.Join(dir, "crun")}, "runc": {Path: "runc"}}, nil
}
