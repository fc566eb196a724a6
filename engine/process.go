package engine

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/errdefs"
)

// defaultPath is the PATH of an image that sets none, as Docker's.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// resolve decides what the first process is, of the spec and the image's configuration
// (moby's daemon/commit.go, merge).
func (s *Spec) resolve(id string, image ocispec.ImageConfig) (Process, error) {
	p := Process{WorkDir: firstOf(s.WorkDir, image.WorkingDir, "/"), User: firstOf(s.User, image.User)}
	entrypoint, args := s.Entrypoint, s.Args
	if len(entrypoint) == 0 && !s.NoEntrypoint {
		entrypoint = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	}
	p.Args = slices.Concat(entrypoint, args)
	if len(p.Args) == 0 || p.Args[0] == "" {
		return p, fmt.Errorf("no command specified, and image %s has none: %w", printable(firstOf(s.Image, s.Rootfs)), errdefs.ErrInvalid)
	}
	if !path.IsAbs(p.WorkDir) {
		p.WorkDir = "/" + p.WorkDir
	}
	p.WorkDir = path.Clean(p.WorkDir)

	env := []string{defaultPath, "HOSTNAME=" + s.hostname(id)}
	if s.TTY {
		env = append(env, "TERM=xterm")
	}
	p.Env = mergeEnv(mergeEnv(env, image.Env), s.Env)

	p.StopSignal = s.StopSignal
	if p.StopSignal == 0 && image.StopSignal != "" {
		sig, err := ParseSignal(image.StopSignal)
		if err != nil {
			return p, fmt.Errorf("image %s: stop signal: %w", printable(s.Image), err)
		}
		p.StopSignal = sig
	}
	if p.StopSignal == 0 {
		p.StopSignal = syscall.SIGTERM
	}
	for _, text := range slices.Concat(p.Args, p.Env, []string{p.WorkDir, p.User}) {
		if strings.ContainsRune(text, 0) || len(text) > maxTextBytes {
			return p, fmt.Errorf("image %s: %s has a NUL or is longer than %d bytes: %w",
				printable(s.Image), printable(text), maxTextBytes, errdefs.ErrInvalid)
		}
	}
	return p, nil
}

// groups are the numbers of s.Groups.
func (s *Spec) groups() ([]uint32, error) {
	var out []uint32
	for _, g := range s.Groups {
		n, err := strconv.ParseUint(g, 10, 31)
		if errors.Is(err, strconv.ErrSyntax) {
			return nil, fmt.Errorf("supplementary group %s: names are not available yet: %w", printable(g), errdefs.ErrUnsupported)
		}
		if err != nil {
			return nil, fmt.Errorf("supplementary group %s: out of range: %w", printable(g), errdefs.ErrInvalid)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// hostname is what the process sees.
func (s *Spec) hostname(id string) string { return firstOf(s.Hostname, short(id)) }

// mergeEnv adds or replaces base's variables by more's; a bare name removes one.
func mergeEnv(base, more []string) []string {
	merged := slices.Clone(base)
	for _, v := range more {
		name, _, set := strings.Cut(v, "=")
		if name == "" {
			continue // of an image; exec would pass it, nobody could read it
		}
		i := slices.IndexFunc(merged, func(old string) bool { return strings.HasPrefix(old, name+"=") })
		switch {
		case set && i >= 0:
			merged[i] = v
		case set:
			merged = append(merged, v)
		case i >= 0:
			merged = slices.Delete(merged, i, i+1)
		}
	}
	return merged
}

func firstOf(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
