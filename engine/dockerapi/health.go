package dockerapi

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/opencontainers/go-digest"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// mergeHealth completes what a client asks for by what the image says (moby's daemon/commit.go, merge).
func mergeHealth(asked, image *container.HealthConfig) *container.HealthConfig {
	if asked == nil || image == nil {
		if asked != nil {
			return asked
		}
		return image
	}
	out := *asked
	if len(out.Test) == 0 {
		out.Test = image.Test
	}
	inherit(&out.Interval, image.Interval)
	inherit(&out.Timeout, image.Timeout)
	inherit(&out.StartPeriod, image.StartPeriod)
	inherit(&out.StartInterval, image.StartInterval)
	inherit(&out.Retries, image.Retries)
	return &out
}

func inherit[T comparable](to *T, from T) {
	var none T
	if *to == none {
		*to = from
	}
}

// healthOf translates a health check; nil is none.
func healthOf(h *container.HealthConfig, image *dockerspec.DockerOCIImageConfig) (*engine.Healthcheck, error) {
	if h == nil || len(h.Test) == 0 {
		return nil, nil
	}
	out := &engine.Healthcheck{
		Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.StartPeriod, StartInterval: h.StartInterval, Retries: h.Retries,
	}
	switch kind, rest := h.Test[0], h.Test[1:]; kind {
	case "NONE":
		return nil, nil
	case "CMD":
		out.Args = rest
	case "CMD-SHELL":
		shell := image.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		if len(rest) > 0 {
			out.Args = slices.Concat(shell, rest)
		}
	default:
		return nil, fmt.Errorf("Healthcheck: unknown type %q, expected CMD, CMD-SHELL or NONE: %w", kind, errdefs.ErrInvalid)
	}
	return out, nil
}

// inspectHealth is State.Health of inspect.
func inspectHealth(c *engine.Container) *container.Health {
	if c.Health == nil {
		return nil
	}
	out := &container.Health{
		Status: healthStatus(c), FailingStreak: c.Health.FailingStreak, Log: []*container.HealthcheckResult{},
	}
	for _, r := range c.Health.Log {
		out.Log = append(out.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.ExitCode, Output: r.Output})
	}
	return out
}

func healthStatus(c *engine.Container) container.HealthStatus {
	if c.Health == nil {
		return container.NoHealthcheck
	}
	return container.HealthStatus(c.Health.Status)
}

// healthText is what docker ps adds to the status of a container that runs.
func healthText(c *engine.Container) string {
	switch status := healthStatus(c); status {
	case container.NoHealthcheck:
		return ""
	case container.Starting:
		return " (health: starting)"
	default:
		return " (" + string(status) + ")"
	}
}

// imageConfig is the Docker configuration of an image, which never changes.
func (s *server) imageConfig(r *request, d digest.Digest) (*dockerspec.DockerOCIImageConfig, error) {
	if known, ok := s.imageConfigs.Load(d); ok {
		return known.(*dockerspec.DockerOCIImageConfig), nil
	}
	config, err := s.engine.Images().DockerConfig(r.Context(), d)
	if err != nil {
		return nil, err
	}
	s.imageConfigs.Store(d, &config)
	return &config, nil
}

// healthcheck reads what follows HEALTHCHECK in a Dockerfile: NONE, or options and CMD with a command.
func healthcheck(text string) (*container.HealthConfig, error) {
	out := &container.HealthConfig{}
	for strings.HasPrefix(text, "--") {
		var option string
		option, text, _ = strings.Cut(text, " ")
		text = strings.TrimSpace(text)
		name, value, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		durations := map[string]*time.Duration{
			"interval": &out.Interval, "timeout": &out.Timeout, "start-period": &out.StartPeriod, "start-interval": &out.StartInterval,
		}
		var err error
		switch to := durations[name]; {
		case to != nil:
			*to, err = time.ParseDuration(value)
		case name == "retries":
			out.Retries, err = strconv.Atoi(value)
		default:
			return nil, fmt.Errorf("unknown flag: %s", name)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %v", option, err)
		}
	}
	kind, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToUpper(kind) {
	case "NONE":
		if rest != "" {
			return nil, errors.New("NONE takes no arguments")
		}
		out.Test = []string{"NONE"}
	case "CMD":
		if rest == "" {
			return nil, errors.New("missing command after CMD")
		}
		if list, ok := jsonList(rest); ok {
			out.Test = append([]string{"CMD"}, list...)
		} else {
			out.Test = []string{"CMD-SHELL", rest}
		}
	default:
		return nil, fmt.Errorf("unknown type %q (try CMD)", kind)
	}
	return out, nil
}
