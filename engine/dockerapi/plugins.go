package dockerapi

import (
	"fmt"
	"net/http"

	"github.com/moby/moby/api/types/plugin"

	"novaagent/engine/errdefs"
)

// pluginList lists the plug-ins that are installed as images. There are none: see outofscope.go.
func (s *server) pluginList(r *request) error {
	if _, err := r.filters("capability", "enable"); err != nil {
		return err
	}
	return r.reply(http.StatusOK, []plugin.Plugin{})
}

func (s *server) pluginInspect(r *request) error {
	return fmt.Errorf("plugin %q not found: %w", r.vars["name"], errdefs.ErrNotFound)
}
