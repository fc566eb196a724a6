package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/cgroups"
	_ "github.com/opencontainers/cgroups/devices" // registers the device rules with cgroups
	cgroup1 "github.com/opencontainers/cgroups/fs"
	cgroup2 "github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/errdefs"
)

// cgroup is a container's cgroup in all hierarchies it is in.
type cgroup struct {
	h *hierarchies
	// V1 has a directory for each v1 controller in use.
	V1 map[string]string `json:",omitempty"`
	// Unified is the directory in the v2 hierarchy, or empty.
	Unified string `json:",omitempty"`
	// Others are directories that only an OCI runtime makes.
	Others []string `json:",omitempty"`
}

// newCgroup names a container's cgroup, whose path is the same in every hierarchy; it makes nothing.
func (h *hierarchies) newCgroup(path string, r *specs.LinuxResources, deviceRules bool) *cgroup {
	c := &cgroup{h: h, V1: map[string]string{}}
	if h.unified != "" {
		c.Unified = filepath.Join(h.unified, path)
	}
	for name, mount := range h.v1 {
		used := true
		switch name {
		case "cpuset":
			used = r != nil && r.CPU != nil && (r.CPU.Cpus != "" || r.CPU.Mems != "")
		case "devices":
			used = deviceRules
		case "freezer":
			used = h.unified == ""
		case "hugetlb":
			used = r != nil && len(r.HugepageLimits) > 0
		}
		if used {
			c.V1[name] = filepath.Join(mount, path)
		}
	}
	return c
}

// everywhere is the cgroup of that path in all hierarchies: where an OCI runtime puts a container, and for a removal
// that must not rely on a record.
func (h *hierarchies) everywhere(path string) *cgroup {
	c := &cgroup{h: h, V1: map[string]string{}}
	if h.unified != "" {
		c.Unified = filepath.Join(h.unified, path)
	}
	for name, mount := range h.v1 {
		c.V1[name] = filepath.Join(mount, path)
	}
	for _, mount := range h.others {
		c.Others = append(c.Others, filepath.Join(mount, path))
	}
	return c
}

// dirs lists the directories, each once.
func (c *cgroup) dirs() []string {
	var out []string
	for _, d := range c.V1 {
		if !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	if c.Unified != "" {
		out = append(out, c.Unified)
	}
	return out
}

// create makes the directories and sets the limits.
func (c *cgroup) create(r *specs.LinuxResources) error {
	for _, d := range c.dirs() {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cgroups: %w", err)
		}
	}
	if d := c.V1["cpuset"]; d != "" {
		if err := inheritCpuset(filepath.Dir(d), d); err != nil {
			return err
		}
	}
	return c.set(r)
}

// createBeside is create beside the caller's further work. What it returns waits for the result; c may be nil.
func (c *cgroup) createBeside(r *specs.LinuxResources) (wait func() error) {
	if c == nil {
		return func() error { return nil }
	}
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = c.create(r)
	}()
	return func() error {
		<-done
		return err
	}
}

// set applies limits.
func (c *cgroup) set(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	res, err := cgroupResources(r, c.h.pure())
	if err != nil {
		return err
	}
	m, err := c.manager(res)
	if err != nil {
		return err
	}
	if err := m.Set(res); err != nil {
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ERANGE) {
			return fmt.Errorf("cgroups: %v: %w", err, errdefs.ErrInvalid)
		}
		return fmt.Errorf("cgroups: %w", err)
	}
	return nil
}

func (c *cgroup) manager(res *cgroups.Resources) (cgroups.Manager, error) {
	config := &cgroups.Cgroup{Resources: res}
	if c.h.pure() {
		m, err := cgroup2.NewManager(config, c.Unified)
		if err != nil {
			return nil, fmt.Errorf("cgroups: %w", err)
		}
		return m, nil
	}
	m, err := cgroup1.NewManager(config, c.V1)
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	return m, nil
}

// controllerDir is where files of a controller are: v1's or the unified one.
func (c *cgroup) controllerDir(name string) string {
	if d := c.V1[name]; d != "" {
		return d
	}
	return c.Unified
}

// oomKills is how many processes the kernel has killed for want of memory.
func (c *cgroup) oomKills() uint64 {
	name := "memory.events"
	if !c.h.pure() {
		name = "memory.oom_control"
	}
	return c.keyed("memory", name, "oom_kill")
}

// keyed reads a value of a file of "key value" lines; 0 if it is not there.
func (c *cgroup) keyed(controller, file, key string) uint64 {
	b, err := os.ReadFile(filepath.Join(c.controllerDir(controller), file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseUint(v, 10, 64)
			return n
		}
	}
	return 0
}

// pids lists the processes, those of nested cgroups included.
func (c *cgroup) pids() ([]int, error) {
	dir := c.Unified
	if dir == "" {
		dir = c.controllerDir("pids")
	}
	if dir == "" {
		dir = c.dirs()[0]
	}
	var out []int
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		if !d.IsDir() {
			return nil
		}
		f, err := os.Open(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return ignoreGone(err)
		}
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			if pid, err := strconv.Atoi(s.Text()); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cgroups: list processes: %w", err)
	}
	return out, nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil
	}
	return err
}

// kill sends SIGKILL to every process, so that none escapes by forking.
func (c *cgroup) kill() error {
	if c.Unified != "" {
		err := writeFile(c.Unified, "cgroup.kill", "1")
		if err == nil {
			return c.thawV1()
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
			return err
		}
	}
	// Before Linux 5.14 there is no cgroup.kill, and maybe no v2: freeze, kill, thaw. A cgroup
	// that is gone has no processes.
	frozen := c.freeze(true) == nil
	pids, err := c.pids()
	for _, pid := range pids {
		if killErr := syscall.Kill(pid, syscall.SIGKILL); killErr != nil && killErr != syscall.ESRCH {
			err = errors.Join(err, fmt.Errorf("kill process %d: %w", pid, killErr))
		}
	}
	if frozen {
		err = errors.Join(err, c.freeze(false))
	}
	return err
}

// freeze stops or continues all processes. Freezing is asked for; frozen tells when it is done.
func (c *cgroup) freeze(on bool) error {
	if c.Unified != "" {
		return writeFile(c.Unified, "cgroup.freeze", map[bool]string{true: "1", false: "0"}[on])
	}
	if d := c.V1["freezer"]; d != "" {
		return writeFile(d, "freezer.state", map[bool]string{true: "FROZEN", false: "THAWED"}[on])
	}
	return fmt.Errorf("freeze: no freezer: %w", errdefs.ErrUnsupported)
}

// thawV1 lets processes go on that an OCI runtime has frozen with v1's freezer, though there is v2's: they could not die.
func (c *cgroup) thawV1() error {
	d := c.V1["freezer"]
	if d == "" {
		return nil
	}
	if err := writeFile(d, "freezer.state", "THAWED"); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
		return err
	}
	return nil
}

// frozen tells whether all processes have stopped.
func (c *cgroup) frozen() bool {
	if c.Unified != "" {
		b, err := os.ReadFile(filepath.Join(c.Unified, "cgroup.events"))
		if stopped := err == nil && strings.Contains(string(b), "frozen 1"); stopped || c.V1["freezer"] == "" {
			return stopped
		}
	}
	b, err := os.ReadFile(filepath.Join(c.V1["freezer"], "freezer.state"))
	return err == nil && strings.TrimSpace(string(b)) == "FROZEN"
}

// remove kills what is left and removes the directories. Nil: they are not there.
func (c *cgroup) remove(ctx context.Context) error {
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		busy := false
		var failed error
		for _, d := range append(c.dirs(), c.Others...) {
			switch err := removeCgroup(d); {
			case err == nil:
			case errors.Is(err, syscall.EBUSY):
				busy = true
			default:
				failed = errors.Join(failed, err)
			}
		}
		if !busy {
			return failed
		}
		// Processes may be frozen, or on their way out.
		if err := c.kill(); err != nil {
			failed = errors.Join(failed, err)
		}
		if c.Unified == "" {
			c.freeze(false)
		}
		select {
		case <-ctx.Done():
			return errors.Join(failed, fmt.Errorf("cgroups: %s: processes are left: %v: %w", filepath.Base(c.dirs()[0]), ctx.Err(), errdefs.ErrUnavailable))
		case <-time.After(wait):
		}
	}
}

// removeCgroup removes a directory and nested ones.
func removeCgroup(dir string) error {
	err := syscall.Rmdir(dir)
	switch err {
	case nil, syscall.ENOENT, syscall.ENODEV:
		return nil
	case syscall.EBUSY, syscall.ENOTEMPTY:
		// Processes, or cgroups that the container has made.
	default:
		return fmt.Errorf("cgroups: remove %s: %w", dir, err)
	}
	entries, readErr := os.ReadDir(dir)
	if readErr != nil {
		return ignoreGone(readErr)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	switch err := syscall.Rmdir(dir); err {
	case nil, syscall.ENOENT:
		return nil
	default:
		return fmt.Errorf("cgroups: remove %s: %w", dir, err)
	}
}
