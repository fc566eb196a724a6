package engine

import (
	"fmt"
	"regexp"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// OwnRuntime is the name of the engine's own runtime, which no other may have.
const OwnRuntime = "nova-agent"

// dockerRuntime is what Docker calls its runtime. Who asks for it gets the engine's own, unless another has that name.
const dockerRuntime = "runc"

var runtimeName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// checkRuntimes refuses runtimes that cannot be.
func (o *Options) checkRuntimes() error {
	for name, r := range o.Runtimes {
		switch {
		case name == OwnRuntime || !runtimeName.MatchString(name):
			return fmt.Errorf("runtime name %s: not of letters, digits, _, . and -, or the engine's own: %w", printable(name), errdefs.ErrInvalid)
		case r.Path == "":
			return fmt.Errorf("runtime %s has no path: %w", name, errdefs.ErrInvalid)
		}
	}
	if _, ok := o.Runtimes[o.DefaultRuntime]; !ok && o.DefaultRuntime != "" && o.DefaultRuntime != OwnRuntime {
		return fmt.Errorf("default runtime %s: %w", printable(o.DefaultRuntime), errdefs.ErrNotFound)
	}
	return nil
}

// Runtimes are the OCI runtimes by name, and DefaultRuntime the name of the one that is taken if none is named.
func (e *Engine) Runtimes() map[string]runtime.OCI { return e.opts.Runtimes }

// DefaultRuntime is OwnRuntime, or the name of one of Runtimes.
func (e *Engine) DefaultRuntime() string { return firstOf(e.opts.DefaultRuntime, OwnRuntime) }

// ociRuntime is what package runtime calls a Spec's runtime: nothing for the engine's own.
//
// ErrInvalid: there is none of that name.
func (e *Engine) ociRuntime(name string) (string, error) {
	if _, ok := e.opts.Runtimes[name]; ok {
		return name, nil
	}
	switch name {
	case "", OwnRuntime, dockerRuntime:
		return "", nil
	}
	return "", fmt.Errorf("unknown or invalid runtime name: %s: %w", printable(name), errdefs.ErrInvalid)
}
