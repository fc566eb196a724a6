package dockerapi

import (
	"io"
	"net/http"
	"runtime"

	"github.com/moby/moby/api/types/system"
)

// runtimeName is what GET /info calls the engine's own runtime.
const runtimeName = "nova-agent"

func (s *server) ping(r *request) error {
	h := r.w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Builder-Version", "1") // the classic one: it gets to the message of POST /build
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return r.done(http.StatusOK)
	}
	r.w.WriteHeader(http.StatusOK)
	_, _ = io.WriteString(r.w, "OK")
	return nil
}

func (s *server) version(r *request) error {
	kernel := kernelRelease()
	return r.reply(http.StatusOK, system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "nova-agent"},
		Version:       s.opts.Version,
		APIVersion:    versionText(maxVersion),
		MinAPIVersion: versionText(minVersion),
		Os:            "linux",
		Arch:          runtime.GOARCH,
		GoVersion:     runtime.Version(),
		KernelVersion: kernel,
		Components: []system.ComponentVersion{{
			Name: "Engine", Version: s.opts.Version,
			Details: map[string]string{
				"ApiVersion": versionText(maxVersion), "MinAPIVersion": versionText(minVersion), "Os": "linux",
				"Arch": runtime.GOARCH, "GoVersion": runtime.Version(), "KernelVersion": kernel,
			},
		}},
	})
}
