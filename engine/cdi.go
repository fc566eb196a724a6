package engine

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"novaagent/engine/errdefs"
	"novaagent/engine/runtime"
)

// injectCDI adds the devices of the Container Device Interface that rec asks for: nodes, mounts, environment and groups. The
// specifications are read at each start, so that a driver's new ones hold.
func (e *Engine) injectCDI(s *specs.Spec, rec *Container) error {
	names := rec.Spec.CDIDevices
	if len(names) == 0 {
		return nil
	}
	dirs := e.CDISpecDirs()
	cache, err := cdi.NewCache(cdi.WithAutoRefresh(false), cdi.WithSpecDirs(dirs...))
	if err != nil {
		return fmt.Errorf("CDI device injection failed: %v: %w", err, errdefs.ErrInvalid)
	}
	if s.Linux.Resources.Devices == nil {
		s.Linux.Resources.Devices = runtime.DefaultDeviceRules()
	}
	if _, err := cache.InjectDevices(s, names...); err != nil {
		return fmt.Errorf("CDI device injection failed: %v, looked for in %s: %w", err, strings.Join(dirs, ", "), errdefs.ErrInvalid)
	}
	if oci, err := e.ociRuntime(rec.Spec.Runtime); err != nil {
		return err
	} else if s.Hooks != nil && oci == "" {
		return fmt.Errorf("CDI device injection failed: %s asks for hooks, which the engine's runtime does not run: %w", strings.Join(names, ", "), errdefs.ErrUnsupported)
	}
	return nil
}

// CDISpecDirs are where specifications of CDI devices are looked for; a later directory goes first.
func (e *Engine) CDISpecDirs() []string {
	if len(e.opts.CDISpecDirs) > 0 {
		return e.opts.CDISpecDirs
	}
	return cdi.DefaultSpecDirs
}
