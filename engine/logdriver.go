package engine

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"novaagent/engine/errdefs"
	"novaagent/engine/logsink"
)

// Log drivers. The shim keeps every line in files of the container's, whatever the driver, but for LogNone; of
// these docker logs reads. The others are sent from there by the agent; see logforward.go.
const (
	LogJSONFile = "json-file"
	LogLocal    = "local"
	LogNone     = "none"
)

// LogDrivers are the names of all log drivers.
func LogDrivers() []string {
	return append([]string{LogJSONFile, LogLocal, LogNone}, logsink.Drivers()...)
}

// forwarded tells whether lines are sent elsewhere, too.
func (l *LogConfig) forwarded() bool { return slices.Contains(logsink.Drivers(), l.Driver) }

// Readable tells whether Logs can show the log.
func (l *LogConfig) Readable() bool { return l.Driver != LogNone && !l.NoCache }

// commonLogOptions are those of every driver that keeps anything.
var commonLogOptions = []string{"labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"}

func (l *LogConfig) validate() error {
	if l.MaxBytes < 0 || l.MaxFiles < 0 {
		return fmt.Errorf("log limits must not be negative")
	}
	if l.Compress && l.MaxFiles == 1 {
		return fmt.Errorf("compression cannot be enabled when max file count is 1")
	}
	driver := firstOf(l.Driver, LogJSONFile)
	if !slices.Contains(LogDrivers(), driver) {
		return fmt.Errorf("error looking up logging plugin %s: plugin %q not found: use %s", printable(driver), driver, strings.Join(LogDrivers(), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(l.Options)) {
		if driver == LogNone || !slices.Contains(commonLogOptions, name) && !logsink.Known(driver, name) {
			return fmt.Errorf("unknown log opt '%s' for %s log driver", printable(name), driver)
		}
	}
	switch mode := l.Options["mode"]; {
	case mode != "" && mode != "blocking" && mode != "non-blocking":
		return fmt.Errorf("logger: logging mode not supported: %s", printable(mode))
	case l.Options["max-buffer-size"] != "" && mode != "non-blocking":
		return fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
	}
	for _, name := range []string{"labels-regex", "env-regex"} {
		if _, err := regexp.Compile(l.Options[name]); err != nil {
			return fmt.Errorf("log opt %s: %v", name, err)
		}
	}
	if _, err := l.tag(logInfo{}); err != nil {
		return err
	}
	if l.forwarded() {
		return logsink.Check(driver, l.Options)
	}
	return nil
}

// logInfo is what a tag's template can use, with Docker's names.
type logInfo struct {
	ContainerID, ContainerName, ContainerImageID, ContainerImageName, DaemonName string
}

// The methods are those of moby's logger.Info.

func (i logInfo) ID() string            { return short(i.ContainerID) }
func (i logInfo) FullID() string        { return i.ContainerID }
func (i logInfo) Name() string          { return strings.TrimPrefix(i.ContainerName, "/") }
func (i logInfo) ImageID() string       { return short(strings.TrimPrefix(i.ContainerImageID, "sha256:")) }
func (i logInfo) ImageFullID() string   { return i.ContainerImageID }
func (i logInfo) ImageName() string     { return i.ContainerImageName }
func (l *LogConfig) defaultTag() string { return "{{.ID}}" }

func (l *LogConfig) tag(info logInfo) (string, error) {
	t, err := template.New("tag").Parse(firstOf(l.Options["tag"], l.defaultTag()))
	if err != nil {
		return "", fmt.Errorf("log opt tag: %v: %w", err, errdefs.ErrInvalid)
	}
	var out strings.Builder
	if err := t.Execute(&out, info); err != nil {
		return "", fmt.Errorf("log opt tag: %v: %w", err, errdefs.ErrInvalid)
	}
	return out.String(), nil
}

// logSource describes c to a sink.
func (c *Container) logSource() (logsink.Source, error) {
	image := firstOf(c.Spec.ImageName, c.Spec.Image)
	tag, err := c.Spec.Log.tag(logInfo{
		ContainerID: c.ID, ContainerName: "/" + c.Spec.Name, ContainerImageID: c.ImageConfigDigest, ContainerImageName: image, DaemonName: "nova-agent",
	})
	return logsink.Source{ID: c.ID, Name: c.Spec.Name, Image: image, Tag: tag, Attributes: c.LogAttributes()}, err
}

// LogAttributes are the labels and environment variables that the log's options labels, env and their -regex
// forms choose (moby's daemon/logger/loginfo.go, ExtraAttributes), and the tag, if one was asked for.
func (c *Container) LogAttributes() map[string]string {
	o := c.Spec.Log.Options
	if len(o) == 0 {
		return nil
	}
	out := map[string]string{}
	pick := func(all map[string]string, names, pattern string) {
		for name := range strings.SplitSeq(names, ",") {
			if v, ok := all[name]; ok && name != "" {
				out[name] = v
			}
		}
		if pattern == "" {
			return
		}
		if expr, err := regexp.Compile(pattern); err == nil {
			for name, v := range all {
				if expr.MatchString(name) {
					out[name] = v
				}
			}
		}
	}
	env := map[string]string{}
	for _, v := range c.Process.Env {
		if name, value, ok := strings.Cut(v, "="); ok {
			env[name] = value
		}
	}
	pick(c.Spec.Labels, o["labels"], o["labels-regex"])
	pick(env, o["env"], o["env-regex"])
	if o["tag"] != "" && !c.Spec.Log.forwarded() {
		if tag, err := c.Spec.Log.tag(logInfo{
			ContainerID: c.ID, ContainerName: "/" + c.Spec.Name, ContainerImageID: c.ImageConfigDigest, ContainerImageName: firstOf(c.Spec.ImageName, c.Spec.Image),
		}); err == nil {
			out["tag"] = tag
		}
	}
	return out
}
