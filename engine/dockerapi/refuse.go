package dockerapi

import (
	"fmt"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// networkingConfig is the part of a create request that names endpoints.
type networkingConfig struct {
	EndpointsConfig map[string]*network.EndpointSettings
}

// refuse reports the fields of a create request that cannot be honoured yet. A field that is
// neither here nor in create.go has no effect in Docker on Linux, either.
func refuse(body *createRequest) error {
	h := body.HostConfig
	if !h.Isolation.IsDefault() {
		return fmt.Errorf("invalid isolation mode: %s: linux only supports default: %w", h.Isolation, errdefs.ErrInvalid)
	}
	if h.Cgroup != "" {
		return fmt.Errorf("HostConfig.Cgroup: %q: use CgroupParent: %w", h.Cgroup, errdefs.ErrInvalid)
	}
	for option := range h.StorageOpt {
		if option != "size" {
			return notYet("HostConfig.StorageOpt " + option)
		}
	}
	return nil
}

func notYet(field string) error {
	return fmt.Errorf("%s is not available yet: %w", field, errdefs.ErrUnsupported)
}

// checkPlatform accepts the image's own platform only. Clients pull another one when they see Docker's words.
func checkPlatform(image, wanted string, have ocispec.Platform) error {
	if wanted == "" {
		return nil
	}
	p, err := platforms.Parse(wanted)
	if err != nil {
		return fmt.Errorf("%v: %w", err, errdefs.ErrInvalid)
	}
	if platforms.OnlyStrict(p).Match(have) {
		return nil
	}
	return fmt.Errorf("image with reference %s was found but does not match the specified platform: wanted %s, actual: %s: %w",
		image, wanted, platforms.Format(have), errdefs.ErrNotFound)
}
