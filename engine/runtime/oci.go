package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// OCI is an OCI runtime: a program with the command line interface of runc, as crun, youki, runsc and kata-runtime are.
//
// A container of one differs from ours in who makes its processes. A shim executes the runtime's create and exec in
// place of a launch program, adopts the process that they leave, and is to it what it is to any other. What the
// kernel tells, cgroups and namespaces, is read and, in the end, removed as for any other container, too: whatever
// becomes of the runtime, nothing of its containers stays.
type OCI struct {
	// Path is the program's, or its name in $PATH.
	Path string
	// Args go before its own arguments.
	Args []string `json:",omitempty"`
}

// ociRecord is the runtime of a container that was started: a configuration may have another by that name later.
type ociRecord struct {
	Name string
	OCI
	// Stage is where it finds the container's mounts, see stage.
	Stage string
}

// ociNamed is the runtime of that name; nil stands for ours, which has none.
func (r *Runtime) ociNamed(name string) (*ociRecord, error) {
	if name == "" {
		return nil, nil
	}
	o, ok := r.oci[name]
	if !ok {
		return nil, fmt.Errorf("unknown or invalid runtime name: %s: %w", name, errdefs.ErrInvalid)
	}
	return &ociRecord{Name: name, OCI: o}, nil
}

// ociRoot is where the runtime of that name has its own state, in a directory for each container.
func (r *Runtime) ociRoot(name string) string { return filepath.Join(r.runDir, "oci", name) }

// argv is one of o's commands; log is the file for messages, standard error if empty.
func (o *ociRecord) argv(root, log, verb string, args ...string) []string {
	out := append([]string{o.Path}, o.Args...)
	out = append(out, "--root", root)
	if log != "" {
		out = append(out, "--log", log)
	}
	return append(append(out, "--log-format", "json", verb), args...)
}

// ociEnv is the environment of a runtime. The agent's own has what is not for it: NOTIFY_SOCKET and LISTEN_FDS.
func ociEnv() []string {
	path := os.Getenv("PATH")
	if path == "" {
		path = defaultPath
	}
	return []string{"PATH=" + path}
}

// runOCI runs one of o's commands for a container, in its directory, and returns the output. The runtime's own message
// is in the error. The container's ID goes before last.
func (r *Runtime) runOCI(ctx context.Context, o *ociRecord, id, verb string, options []string, last ...string) ([]byte, error) {
	argv := append(append(o.argv(r.ociRoot(o.Name), "", verb, options...), id), last...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = r.taskDir(id), ociEnv()
	var out, messages bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &messages
	if err := cmd.Run(); err != nil {
		return nil, ociError(verb, messages.Bytes(), err)
	}
	return out.Bytes(), nil
}

// ociError is the failure of a runtime's command: its last message of an error, else what happened to it.
func ociError(verb string, log []byte, happened error) error {
	text := happened.Error()
	for line := range bytes.Lines(log) {
		var m struct{ Level, Msg string }
		if json.Unmarshal(line, &m) == nil && m.Msg != "" && (m.Level == "error" || m.Level == "fatal") {
			text = strings.TrimSpace(m.Msg)
		}
	}
	err := fmt.Errorf("OCI runtime %s failed: %s", verb, text)
	// What moby takes for the container's fault, and not the daemon's (daemon/errors.go, translateContainerdStartErr).
	lower := strings.ToLower(text)
	for _, s := range []string{
		"executable file not found", "no such file or directory", "not a directory", "is a directory", "permission denied", "exec format error",
	} {
		if strings.Contains(lower, s) {
			return fmt.Errorf("%w: %w", err, errdefs.ErrInvalid)
		}
	}
	return err
}

// ociStatus is what a runtime says of a container: creating, created, running, paused or stopped.
func (r *Runtime) ociStatus(ctx context.Context, o *ociRecord, id string) (string, error) {
	out, err := r.runOCI(ctx, o, id, "state", nil)
	if err != nil {
		return "", err
	}
	var s struct{ Status string }
	if err := json.Unmarshal(out, &s); err != nil {
		return "", fmt.Errorf("OCI runtime state: %v: %w", err, errdefs.ErrUnavailable)
	}
	return s.Status, nil
}

// deleteOCI makes a runtime forget a container whose processes have ended, or soon will. The runtime may be gone
// meanwhile, or know nothing of it: what it keeps is removed in any case.
func (r *Runtime) deleteOCI(ctx context.Context, o *ociRecord, id string) error {
	dir := filepath.Join(r.ociRoot(o.Name), id)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if _, err := r.runOCI(ctx, o, id, "delete", []string{"--force"}); err != nil {
		r.log.WarnContext(ctx, "an OCI runtime did not delete a container; its state is removed", "container_id", id, "runtime", o.Name, "error", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("state of runtime %s: %w", o.Name, err)
	}
	return nil
}

// removeOCIState removes what runtimes keep of a container of which no record tells the runtime.
func (r *Runtime) removeOCIState(id string) error {
	var errs []error
	roots, err := os.ReadDir(r.ociRoot(""))
	if err != nil {
		return ignoreGone(err)
	}
	for _, root := range roots {
		errs = append(errs, os.RemoveAll(filepath.Join(r.ociRoot(root.Name()), id)))
	}
	return errors.Join(errs...)
}

// stageDirs are directories of every host (Filesystem Hierarchy Standard) where a runtime, in a mount namespace of its
// own, finds the mounts that it is to use. Ours would not do: it needs to be passable for the container's root.
var stageDirs = []string{"/mnt", "/media", "/srv", "/opt", "/home"}

// stageDir is one that is there and holds none of the paths that the runtime needs.
func stageDir(needed ...string) (string, error) {
	for _, dir := range stageDirs {
		info, err := os.Lstat(dir)
		used := slices.ContainsFunc(needed, func(p string) bool { return strings.HasPrefix(p+"/", dir+"/") })
		if err == nil && info.IsDir() && !used {
			return dir, nil
		}
	}
	return "", fmt.Errorf("none of the directories %s is there to be used: %w", strings.Join(stageDirs, ", "), errdefs.ErrUnsupported)
}
