package dockerapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types"

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
	if o.Until, err = r.moment("until"); err != nil {
		return err
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
	if c.Spec.Log.Driver == "none" {
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
	var line []byte
	err = s.engine.Logs(r.Context(), c.ID, o, func(l engine.LogLine) error {
		line = line[:0]
		if timestamps {
			line = l.Time.UTC().AppendFormat(line, logTime)
			line = append(line, ' ')
		}
		if details {
			line = append(line, ' ') // after attributes, of which there are none
		}
		line = append(line, l.Text...)
		stream := stdcopy.Stdout
		if l.Stream == "stderr" {
			stream = stdcopy.Stderr
		}
		var err error
		if c.Spec.TTY {
			_, err = r.w.Write(line)
		} else {
			_, err = writeFrame(r.w, byte(stream), line)
		}
		if err == nil && o.Follow {
			err = control.Flush()
		}
		return err
	})
	if err != nil && r.Context().Err() == nil {
		s.log.WarnContext(r.Context(), "logs broke off", "container_id", c.ID, "error", err)
	}
	return nil
}
