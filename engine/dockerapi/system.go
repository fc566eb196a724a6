package dockerapi

import (
	"io"
	"net/http"
	"runtime"
	"strings"

	"github.com/moby/moby/api/types/system"
)

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

// composeVersion is the newest API version for docker-compose 1.x: it asks for the newest that /version tells, though
// it needs fields of images and events that Docker took out in 1.45 and 1.52.
const composeVersion = 43

func (s *server) version(r *request) error {
	kernel := kernelRelease()
	newest := maxVersion
	if strings.HasPrefix(r.Header.Get("User-Agent"), "docker-compose/1.") {
		newest = composeVersion
	}
	return r.reply(http.StatusOK, system.VersionResponse{
		Platform:      system.PlatformInfo{Name: "nova-agent"},
		Version:       s.opts.Version,
		APIVersion:    versionText(newest),
		MinAPIVersion: versionText(minVersion),
		Os:            "linux",
		Arch:          runtime.GOARCH,
		GoVersion:     runtime.Version(),
		KernelVersion: kernel,
		Components: []system.ComponentVersion{{
			Name: "Engine", Version: s.opts.Version,
			Details: map[string]string{
				"ApiVersion": versionText(newest), "MinAPIVersion": versionText(minVersion), "Os": "linux",
				"Arch": runtime.GOARCH, "GoVersion": runtime.Version(), "KernelVersion": kernel,
			},
		}},
	})
}
