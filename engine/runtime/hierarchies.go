package runtime

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
)

// hierarchies are the host's cgroup file systems.
//
// On a host with v1 controllers a v2 hierarchy without them is often there, too
// ("hybrid"). It is used for what v1 can't do: to start a process in its cgroup,
// to freeze and to kill a whole cgroup at a stroke.
type hierarchies struct {
	// unified is the mount point of cgroup v2, or empty.
	unified string
	// v1 has each controller's mount point. Empty on a pure v2 host.
	v1 map[string]string
	// others are the mount points of further v1 hierarchies: an OCI runtime uses them as well.
	others []string
	// parent is the path, in every hierarchy, of what is ours.
	parent string
}

// v1Controllers are those that are used where they are mounted. The network ones are
// not: network policy is the network's.
var v1Controllers = []string{"memory", "cpu", "cpuacct", "pids", "blkio", "cpuset", "devices", "freezer", "hugetlb"}

// findHierarchies reads the mount table and makes the parent in each.
func findHierarchies(parent string) (*hierarchies, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cgroups: %w", err)
	}
	defer f.Close()
	h := &hierarchies{v1: map[string]string{}, parent: filepath.Clean("/" + parent)}
	if h.parent == "/" {
		return nil, fmt.Errorf("cgroup parent %q: must not be the root: %w", parent, errdefs.ErrInvalid)
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// ID parent major:minor root mountpoint options [optional] - type source superoptions
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(fs) < 3 || fields[3] != "/" {
			continue
		}
		switch fs[0] {
		case "cgroup2":
			h.unified = fields[4]
		case "cgroup":
			known := false
			for option := range strings.SplitSeq(fs[2], ",") {
				if slices.Contains(v1Controllers, option) {
					h.v1[option], known = fields[4], true
				}
			}
			if !known {
				h.others = append(h.others, fields[4])
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("cgroups: read mount table: %w", err)
	}
	if h.unified == "" && len(h.v1) == 0 {
		return nil, fmt.Errorf("cgroups: none is mounted: %w", errdefs.ErrUnsupported)
	}
	return h, h.makeParent()
}

// below is h with another parent.
func (h *hierarchies) below(parent string) *hierarchies {
	other := *h
	other.parent = parent
	return &other
}

// pure tells whether all controllers are v2's.
func (h *hierarchies) pure() bool { return len(h.v1) == 0 }

// mounts lists each mount point once.
func (h *hierarchies) mounts() []string {
	var out []string
	for _, m := range h.v1 {
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	if h.unified != "" {
		out = append(out, h.unified)
	}
	return out
}

func (h *hierarchies) makeParent() error {
	for _, m := range h.mounts() {
		if err := os.MkdirAll(m+h.parent, 0o755); err != nil {
			return fmt.Errorf("cgroups: make parent: %w", err)
		}
	}
	if m := h.v1["cpuset"]; m != "" {
		// A new cpuset is empty, and then nothing can run in it (cpuset(7)).
		at := m
		for part := range strings.SplitSeq(strings.Trim(h.parent, "/"), "/") {
			if err := inheritCpuset(at, filepath.Join(at, part)); err != nil {
				return err
			}
			at = filepath.Join(at, part)
		}
	}
	if h.unified != "" && h.pure() {
		at := h.unified
		for part := range strings.SplitSeq(strings.Trim(h.parent, "/")+"/", "/") {
			if err := enableControllers(at); err != nil {
				return err
			}
			at = filepath.Join(at, part)
		}
	}
	return nil
}

// inheritCpuset fills what is empty in the cpuset dir from its parent.
func inheritCpuset(parent, dir string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("cgroups: %w", err)
		}
		if strings.TrimSpace(string(have)) != "" {
			continue
		}
		v, err := os.ReadFile(filepath.Join(parent, name))
		if err != nil {
			return fmt.Errorf("cgroups: %w", err)
		}
		if err := writeFile(dir, name, string(v)); err != nil {
			return err
		}
	}
	return nil
}

// enableControllers gives dir's children all controllers that dir has.
func enableControllers(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cgroups: %w", err)
	}
	for c := range strings.FieldsSeq(string(b)) {
		// One by one: a controller that cannot be enabled (a real-time process with cpu) must not hold up the rest.
		if err := writeFile(dir, "cgroup.subtree_control", "+"+c); err != nil && (c == "memory" || c == "pids" || c == "cpu") {
			return err
		}
	}
	return nil
}

// removeParent removes the parent, if nothing is left in it.
func (h *hierarchies) removeParent() {
	for _, m := range append(h.mounts(), h.others...) {
		os.Remove(m + h.parent) // not empty: a container runs
	}
}

func writeFile(dir, name, value string) error {
	if err := kernel.WriteFile(dir+"/"+name, []byte(value), 0); err != nil {
		return fmt.Errorf("cgroups: set %q: %w", value, err)
	}
	return nil
}
