package objects

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	"novaagent/engine/errdefs"
)

func (h *Header) versionOr(own string) string {
	if h.version != "" {
		return h.version
	}
	return own
}

// VersionError says that an object came in a version that its struct can't
// read. nova-conductor may be able to rewrite it: conductor.Client.Decode. Its kind
// is ErrUnsupported.
type VersionError struct {
	Name, Version string
	Supported     string // the struct's version
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("object %s: version %s is not compatible with %s", e.Name, e.Version, e.Supported)
}

// Unwrap returns ErrUnsupported.
func (e *VersionError) Unwrap() error { return errdefs.ErrUnsupported }

// accepts refuses another major version. Newer minors only add, so they are
// read, and what they add is kept. The third part, of a stable branch, says
// nothing about compatibility.
func (p *plan) accepts(version string) error {
	major, _, ok := parseVersion(version)
	if !ok {
		return fmt.Errorf("object %s: version %q is not a version", p.name, version)
	}
	if own, _, _ := parseVersion(p.version); major != own {
		return &VersionError{Name: p.name, Version: version, Supported: p.version}
	}
	return nil
}

func parseVersion(version string) (major, minor int, ok bool) {
	parts := strings.Split(version, ".")
	if len(parts) < 2 || len(parts) > 3 {
		return 0, 0, false
	}
	numbers := make([]int, len(parts))
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil {
			return 0, 0, false
		}
		numbers[i] = int(n)
	}
	return numbers[0], numbers[1], true
}

// Newer returns a *VersionError for the first object in o, itself included, whose
// minor version is newer than its struct, and nil if there is none. Nova would have
// such an object backported; here it is enough to know that fields of it may be
// in Unknown.
func Newer(o Object) error {
	var newer error
	Walk(o, func(o Object) {
		p, _ := planOf(o)
		if p == nil || newer != nil {
			return
		}
		_, minor, _ := parseVersion(o.ObjectVersion())
		if _, own, _ := parseVersion(p.version); minor > own {
			newer = &VersionError{Name: p.name, Version: o.ObjectVersion(), Supported: p.version}
		}
	})
	return newer
}

// Manifest returns the versions that this package reads of the object name and of
// every object that it can hold, as Nova's obj_tree_get_versions does: what
// conductor backports its answers to. It is nil for an object without a struct.
func Manifest(name string) map[string]string {
	versions := make(map[string]string)
	plans().addVersions(versions, name)
	if len(versions) == 0 {
		return nil
	}
	return maps.Clone(versions)
}

func (s *planSet) addVersions(to map[string]string, name string) {
	p := s.byName[name]
	if _, done := to[name]; done || p == nil {
		return
	}
	to[name] = p.version
	for i := range p.fields {
		for _, sub := range p.fields[i].subobjects {
			s.addVersions(to, sub)
		}
	}
}
