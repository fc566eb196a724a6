package dockerapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/moby/moby/api/types/common"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func errorBody(err error) *bytes.Buffer {
	b := &bytes.Buffer{}
	_ = json.NewEncoder(b).Encode(common.ErrorResponse{Message: messageOf(err)})
	return b
}

func (s *server) containerAttach(r *request) error {
	c, err := s.engine.Inspect(r.vars["id"])
	if err != nil {
		return err
	}
	if err := attachable(&c); err != nil {
		return err
	}
	keys, err := parseDetachKeys(r.query.Get("detachKeys"))
	if err != nil {
		return err
	}
	conn, ctx, err := r.hijack(c.Spec.TTY)
	if err != nil {
		return err
	}
	defer conn.close()
	var streams engine.Streams
	if r.boolean("stdin", false) && c.Spec.OpenStdin {
		streams.Stdin = conn.stdin()
		if c.Spec.TTY {
			streams.Stdin = &detachReader{in: streams.Stdin, keys: keys, detach: s.detach(c.ID, engine.ActionDetach, nil, conn.cancel), gone: ctx.Done()}
		}
	} else {
		conn.ignoreStdin()
	}
	if r.boolean("stdout", false) {
		streams.Stdout = conn.stdout()
	}
	if r.boolean("stderr", false) && !c.Spec.TTY {
		streams.Stderr = conn.stderr()
	}
	if !r.boolean("stream", false) {
		return s.attachLogs(ctx, r, conn, c.ID, streams)
	}
	a, err := s.engine.Attach(ctx, c.ID, streams)
	if err != nil {
		conn.fail(err)
		return nil
	}
	if r.boolean("logs", false) {
		if err := s.attachLogs(ctx, r, conn, c.ID, streams); err != nil {
			return nil
		}
	} else if conn.open() != nil {
		conn.cancel()
	}
	_ = a.Wait(ctx) // ended, detached or gone: all the same to this side
	return nil
}

// attachLogs opens the stream with what was logged before.
func (s *server) attachLogs(ctx context.Context, r *request, conn *session, id string, streams engine.Streams) error {
	if err := conn.open(); err != nil {
		return err
	}
	if !r.boolean("logs", false) {
		return nil
	}
	return s.copyLogs(ctx, id, streams)
}

// attachable refuses to attach to a container that could not answer.
func attachable(c *engine.Container) error {
	switch c.State {
	case engine.Paused:
		return fmt.Errorf("container %s is paused, unpause the container before attach: %w", c.ID, errdefs.ErrConflict)
	case engine.Restarting:
		return fmt.Errorf("container %s is restarting, wait until the container is running: %w", c.ID, errdefs.ErrConflict)
	}
	return nil
}

// copyLogs writes what was logged so far.
func (s *server) copyLogs(ctx context.Context, id string, streams engine.Streams) error {
	return s.engine.Logs(ctx, id, engine.LogsOptions{Stdout: true, Stderr: true, Tail: -1}, func(l engine.LogLine) error {
		w := streams.Stdout
		if l.Stream == "stderr" && streams.Stderr != nil {
			w = streams.Stderr
		}
		if w == nil {
			return nil
		}
		_, err := w.Write(l.Text)
		return err
	})
}
