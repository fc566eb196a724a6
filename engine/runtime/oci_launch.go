package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// ociCommand is a runtime's command that makes a process: create, or exec.
type ociCommand struct {
	*ociRecord
	path, verb string
	// dir is the container's directory, root the runtime's.
	dir, root string
	// prefix begins the names of the command's files in dir: of the log, the pid, the console socket.
	prefix string
}

func (r *Runtime) ociCommand(o *ociRecord, id, verb, prefix string) (*ociCommand, error) {
	path, err := exec.LookPath(o.Path)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("OCI runtime %s failed: runtime %s: %w: %w", verb, o.Name, pathless(err), errdefs.ErrInvalid)
	}
	c := &ociCommand{ociRecord: o, path: path, verb: verb, dir: r.taskDir(id), root: r.ociRoot(o.Name), prefix: prefix}
	if err := os.MkdirAll(c.root, 0o700); err != nil {
		return nil, err
	}
	if o.Stage == "" {
		if o.Stage, err = stageDir(path, c.dir, c.root); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// pathless takes a deed off an error that is clear without.
func pathless(err error) error {
	var e *exec.Error
	if errors.As(err, &e) && errors.Is(e.Err, fs.ErrNotExist) {
		return fmt.Errorf("%s: no such file or directory", e.Name)
	}
	return err
}

// file names a file of the command's.
func (c *ociCommand) file(suffix string) string { return filepath.Join(c.dir, c.prefix+suffix) }

// removeFiles removes what the command had besides the process.
func (c *ociCommand) removeFiles(suffixes ...string) {
	for _, suffix := range suffixes {
		_ = os.Remove(c.file(suffix)) // it goes with the directory at the latest
	}
}

// failure tells why a launch failed: what the runtime said, if it came to that.
func (c *ociCommand) failure(step int, errno syscall.Errno, notes map[int]syscall.Errno, explain func(int) string) error {
	log, _ := os.ReadFile(c.file("log"))
	switch step {
	case wire.StepCommand:
		ws := syscall.WaitStatus(notes[wire.StepCommand])
		happened := fmt.Errorf("%s: exit status %d", c.Path, ws.ExitStatus())
		if ws.Signaled() {
			happened = fmt.Errorf("%s: signal: %v", c.Path, ws.Signal())
		}
		return ociError(c.verb, log, happened)
	case wire.StepPID:
		return ociError(c.verb, log, fmt.Errorf("%s has left no process of the container's", c.Path))
	}
	return ociError(c.verb, nil, fmt.Errorf("%s: %w", explain(step), errno))
}

// enterHost begins a runtime's command: it is to have the host's files, as the agent has them, and an empty stage in a
// mount namespace of its own, and ends if the shim does.
func (l *launch) enterHost(cg *cgroup) (*stage, error) {
	// With v1's controllers runtimes know nothing of v2's hierarchy; what they fork is found and killed by it.
	if cg != nil && cg.Unified != "" && !cg.h.pure() {
		f, err := kernel.Open(cg.Unified, kernel.OPath)
		if err != nil {
			return nil, fmt.Errorf("cgroups: %w", err)
		}
		l.b.InCgroup2(l.fd(f))
	}
	l.b.DieWithParent()
	host, err := kernel.Open("/proc/self/ns/mnt", os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	l.b.Setns(l.fd(host), kernel.NewMount, "the host's mount namespace")
	l.b.Unshare(kernel.NewMount)
	l.b.SetPropagation(kernel.PropagateSlave)
	dir := l.oci.Stage
	s := &stage{launch: l, dir: dir, top: l.b.NewMount("tmpfs", []kernel.MountOption{{Key: "mode", Value: "755"}}, kernel.AttrNoSuid|kernel.AttrNoDev)}
	target, _ := l.b.Open(dir, kernel.OPath|syscall.O_DIRECTORY)
	l.b.AttachTo(s.top, target, dir)
	l.b.Close(target)
	return s, nil
}

// executeOCI ends a program with the runtime's command, in the container's directory.
func (l *launch) executeOCI(args ...string) error {
	c := l.oci
	if l.console != nil {
		args = append(args, "--console-socket", c.prefix+"console.sock")
		null, err := kernel.Open(os.DevNull, os.O_RDWR)
		if err != nil {
			return err
		}
		l.files = append(l.files, null)
		l.stdio = [3]*os.File{null, null, null}
	}
	b := l.b
	b.Setsid()
	for i, f := range l.stdio {
		b.Dup(b.FD(int(f.Fd())), i)
	}
	dir, _ := b.Open(c.dir, kernel.OPath|syscall.O_DIRECTORY)
	b.Fchdir(dir, c.dir)
	b.CloseFrom(3)
	b.Umask(0o022)
	argv := c.argv(c.root, c.prefix+"log", c.verb, append(args, "--pid-file", c.prefix+"pid", l.id)...)
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return fmt.Errorf("argument %q of runtime %s has a NUL: %w", arg, c.Name, errdefs.ErrInvalid)
		}
	}
	b.Exec(c.path, b.Vector(argv), b.Vector(ociEnv()))
	return nil
}

// compileCreate appends the steps of a runtime's create, and writes its config.json. The root file system and all
// mounts are mounted by the agent, with its ids, and attached where only the runtime and the container see them.
func (l *launch) compileCreate(cg *cgroup) error {
	c := l.oci
	s, err := l.enterHost(cg)
	if err != nil {
		return err
	}
	spec, err := s.specification()
	if err != nil {
		return err
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("config.json: %v: %w", err, errdefs.ErrInvalid)
	}
	if err := kernel.WriteFile(filepath.Join(c.dir, "config.json"), data, os.O_CREATE|os.O_TRUNC); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	return l.executeOCI("--bundle", ".")
}

// compileOCIExec appends the steps of a runtime's exec, and writes the process's file.
func (l *launch) compileOCIExec(cg *cgroup) error {
	s, err := l.enterHost(cg)
	if err != nil {
		return err
	}
	s.b.MkdirIn(s.top, "0", 0o755) // the root file system's place: runc begins there
	if err := l.ownStreams(l.spec.Process); err != nil {
		return err
	}
	if err := l.completeProcess(l.spec.Process); err != nil {
		return err
	}
	data, err := json.Marshal(l.spec.Process)
	if err != nil {
		return fmt.Errorf("process: %v: %w", err, errdefs.ErrInvalid)
	}
	if err := kernel.WriteFile(l.oci.file("json"), data, os.O_CREATE|os.O_TRUNC); err != nil {
		return err
	}
	return l.executeOCI("--detach", "--process", l.oci.prefix+"json")
}
