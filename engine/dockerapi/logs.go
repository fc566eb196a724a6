package dockerapi

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

// logTime is Docker's format of --timestamps: nanoseconds, always nine digits.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (s *server) containerLogs(r *request) error {
	o := engine.LogsOptions{
		Stdout: r.boolean("stdout", false), Stderr: r.boolean("stderr", false), Follow: r.boolean("follow", false), Tail: -1,
	}
	if !o.Stdout && !o.Stderr {
		return fmt.Errorf("Bad parameters: you must choose at least one stream: %w", errdefs.ErrInvalid) //nolint:staticcheck // Docker's words
	}
	var err error
	if o.Since, err = r.moment("since"); err != nil {
		return err
	}
	if r.query.Get("until") != "0" { // which bounds nothing, unlike that of events
		if o.Until, err = r.moment("until"); err != nil {
			return err
		}
	}
	if tail := r.query.Get("tail"); tail != "" && tail != "all" {
		// Docker takes what is no number for all.
		if n, err := strconv.Atoi(tail); err == nil && n >= 0 {
			o.Tail = n
		}
	}
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	if !c.Spec.Log.Readable() {
		return fmt.Errorf("configured logging driver does not support reading: %w", errdefs.ErrUnsupported)
	}
	timestamps, details := r.boolean("timestamps", false), r.boolean("details", false)
	media := types.MediaTypeRawStream
	if !c.Spec.TTY && r.version >= 42 {
		media = types.MediaTypeMultiplexedStream
	}
	r.w.Header().Set("Content-Type", media)
	r.w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(r.w)
	if err := control.Flush(); err != nil {
		return nil
	}
	attributes := attributeText(c.LogAttributes())
	var line []byte
	// Many lines a chunk; whoever follows gets them all the same before there is a wait.
	out := bufio.NewWriterSize(r.w, 64<<10)
	o.Pause = func() error { return errors.Join(out.Flush(), control.Flush()) }
	err = s.engine.Logs(r.Context(), c.ID, o, func(l engine.LogLine) error {
		line = line[:0]
		if timestamps {
			line = l.Time.UTC().AppendFormat(line, logTime)
			line = append(line, ' ')
		}
		if details {
			line = append(append(line, attributes...), ' ')
		}
		line = append(line, l.Text...)
		stream := stdcopy.Stdout
		if l.Stream == "stderr" {
			stream = stdcopy.Stderr
		}
		var err error
		if c.Spec.TTY {
			_, err = out.Write(line)
		} else {
			_, err = writeFrame(out, byte(stream), line)
		}
		return err
	})
	err = errors.Join(err, out.Flush())
	if err != nil && r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "logs broke off", "container_id", c.ID, "error", err)
	}
	return nil
}

// attributeText is what --details shows before each line.
func attributeText(attributes map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		out = append(out, url.QueryEscape(name)+"="+url.QueryEscape(attributes[name]))
	}
	return strings.Join(out, ",")
}

// Docker's limits of the driver local (daemon/logger/local).
const (
	localBytes = 20 << 20
	localFiles = 5
)

// logOf translates the log's driver and options.
func logOf(l container.LogConfig) (engine.LogConfig, error) {
	out := engine.LogConfig{Driver: l.Type, Options: map[string]string{}}
	forwarded := l.Type == "syslog" || l.Type == "journald"
	if l.Type == engine.LogLocal {
		out.MaxBytes, out.MaxFiles = localBytes, localFiles
	}
	out.Compress = l.Type == engine.LogLocal || forwarded // whose cache is Docker's driver local
	for _, name := range slices.Sorted(maps.Keys(l.Config)) {
		value := l.Config[name]
		var err error
		switch name {
		case "max-size", "cache-max-size":
			if value == "-1" { // no limit
				out.MaxBytes = 1 << 62
				break
			}
			if out.MaxBytes, err = units.RAMInBytes(value); err == nil && out.MaxBytes <= 0 {
				err = errors.New("max-size must be a positive number")
			}
		case "max-file", "cache-max-file":
			if out.MaxFiles, err = strconv.Atoi(value); err == nil && out.MaxFiles < 1 {
				err = errors.New("max-file cannot be less than 1")
			}
		case "compress", "cache-compress":
			out.Compress, err = strconv.ParseBool(value)
		case "cache-disabled":
			out.NoCache, err = strconv.ParseBool(value)
		default:
			out.Options[name] = value
			continue
		}
		if err != nil {
			return out, fmt.Errorf("HostConfig.LogConfig: %s=%s: %v: %w", name, value, err, errdefs.ErrInvalid)
		}
		if l.Type == engine.LogNone || strings.HasPrefix(name, "cache-") != forwarded {
			return out, fmt.Errorf("unknown log opt '%s' for %s log driver: %w", name, cmp.Or(l.Type, engine.LogJSONFile), errdefs.ErrInvalid)
		}
	}
	if out.Compress && cmp.Or(l.Type, engine.LogJSONFile) == engine.LogJSONFile && (out.MaxFiles < 2 || l.Config["max-size"] == "" || l.Config["max-size"] == "-1") {
		return out, fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set: %w", errdefs.ErrInvalid) // Docker's words
	}
	if len(out.Options) == 0 {
		out.Options = nil
	}
	return out, nil
}
