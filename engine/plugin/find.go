package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"novaagent/engine/errdefs"
)

// The directories that Docker looks in.
var (
	DefaultSockets = []string{"/run/docker/plugins"}
	DefaultSpecs   = []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}
)

// Finder looks for plug-ins in directories: Sockets for sockets, Specs for files that name an address.
type Finder struct {
	Sockets, Specs []string
}

// address is where a plug-in listens.
type address struct {
	network, at string
	tls         *tlsFiles
}

// tlsFiles are the TLSConfig of a .json file.
type tlsFiles struct {
	InsecureSkipVerify        bool
	CAFile, CertFile, KeyFile string
}

// Names are the names of all plug-ins that there are, whether they answer or not.
func (f Finder) Names() []string {
	var names []string
	add := func(dirs []string, suffixes ...string) {
		for _, dir := range dirs {
			list, err := os.ReadDir(dir)
			if err != nil {
				continue // most hosts have none
			}
			for _, entry := range list {
				for _, suffix := range suffixes {
					name, ok := strings.CutSuffix(entry.Name(), suffix)
					if !ok && entry.IsDir() {
						name = entry.Name()
						_, err := os.Stat(filepath.Join(dir, name, name+suffix))
						ok = err == nil
					}
					if ok && checkName(name) == nil {
						names = append(names, name)
					}
				}
			}
		}
	}
	add(f.Sockets, ".sock")
	add(f.Specs, ".spec", ".json")
	slices.Sort(names)
	return slices.Compact(names)
}

// checkName keeps a name within the directories.
func checkName(name string) error {
	if name == "" || name != filepath.Base(name) || strings.HasPrefix(name, ".") || strings.ContainsRune(name, 0) {
		return fmt.Errorf("plugin name %q is not allowed: %w", name, errdefs.ErrInvalid)
	}
	return nil
}

// find returns where the plug-in of that name listens, or ErrNotFound.
func (f Finder) find(name string) (address, error) {
	if err := checkName(name); err != nil {
		return address{}, err
	}
	for _, dir := range f.Sockets {
		for _, path := range []string{filepath.Join(dir, name+".sock"), filepath.Join(dir, name, name+".sock")} {
			if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
				return address{network: "unix", at: path}, nil
			}
		}
	}
	for _, dir := range f.Specs {
		for _, base := range []string{filepath.Join(dir, name), filepath.Join(dir, name, name)} {
			a, err := readSpec(base)
			if !errors.Is(err, fs.ErrNotExist) {
				return a, err
			}
		}
	}
	return address{}, fmt.Errorf("plugin %q not found: %w", name, errdefs.ErrNotFound)
}

// readSpec reads base.spec, an address, or base.json, which has certificates besides.
func readSpec(base string) (address, error) {
	text, err := os.ReadFile(base + ".spec")
	if err == nil {
		a, err := parseAddress(strings.TrimSpace(string(text)))
		if err != nil {
			return a, fmt.Errorf("%s.spec: %w", base, err)
		}
		return a, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return address{}, err
	}
	if text, err = os.ReadFile(base + ".json"); err != nil {
		return address{}, err
	}
	var spec struct {
		Name, Addr string
		TLSConfig  *tlsFiles
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		return address{}, fmt.Errorf("%s.json: %v: %w", base, err, errdefs.ErrInvalid)
	}
	a, err := parseAddress(spec.Addr)
	if err != nil {
		return a, fmt.Errorf("%s.json: %w", base, err)
	}
	a.tls = spec.TLSConfig
	return a, nil
}

func parseAddress(text string) (address, error) {
	scheme, at, ok := strings.Cut(text, "://")
	switch {
	case !ok || at == "":
	case scheme == "unix" && filepath.IsAbs(at):
		return address{network: "unix", at: at}, nil
	case scheme == "tcp", scheme == "http", scheme == "https":
		return address{network: "tcp", at: strings.TrimSuffix(at, "/")}, nil
	}
	return address{}, fmt.Errorf("address %q is neither unix:///PATH nor tcp://HOST:PORT: %w", text, errdefs.ErrInvalid)
}
