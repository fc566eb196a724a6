package dockerapi

import (
	"fmt"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func (s *server) execCreate(r *request) error {
	var body container.ExecCreateRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	if _, err := parseDetachKeys(body.DetachKeys); err != nil {
		return err
	}
	spec := engine.ExecSpec{
		Args: body.Cmd, Env: body.Env, WorkDir: body.WorkingDir, User: body.User, TTY: body.Tty,
		OpenStdin: body.AttachStdin, Privileged: body.Privileged, Front: &body,
	}
	if size := body.ConsoleSize; size != nil && body.Tty {
		spec.Height, spec.Width = uint16(size[0]), uint16(size[1])
	}
	id, err := s.engine.ExecCreate(r.Context(), r.vars["id"], spec)
	if err != nil {
		return err
	}
	return r.reply(http.StatusCreated, common.IDResponse{ID: id})
}

func (s *server) execStart(r *request) error {
	var body container.ExecStartRequest
	if err := r.decode(&body); err != nil {
		return err
	}
	id := r.vars["id"]
	x, err := s.engine.ExecInspect(id)
	if err != nil {
		return err
	}
	if x.Running || x.Ended {
		return fmt.Errorf("exec command %s has already run: %w", id, errdefs.ErrConflict)
	}
	if size := body.ConsoleSize; size != nil && x.Spec.TTY {
		if err := s.engine.ExecResize(r.Context(), id, uint16(size[1]), uint16(size[0])); err != nil {
			return err
		}
	}
	if body.Detach {
		if err := s.engine.ExecStart(r.Context(), id, engine.Streams{}); err != nil {
			return err
		}
		return r.done(http.StatusOK)
	}
	return s.execAttached(r, x)
}

// execAttached runs the exec on the connection.
func (s *server) execAttached(r *request, x engine.ExecInfo) error {
	asked, ok := x.Spec.Front.(*container.ExecCreateRequest)
	if !ok {
		return fmt.Errorf("exec %s was not made by this API: %w", x.ID, errdefs.ErrConflict)
	}
	keys, err := parseDetachKeys(asked.DetachKeys)
	if err != nil {
		return err
	}
	conn, ctx, err := r.hijack(x.Spec.TTY)
	if err != nil {
		return err
	}
	defer conn.close()
	var streams engine.Streams
	if asked.AttachStdin {
		streams.Stdin = conn.stdin()
		if x.Spec.TTY {
			streams.Stdin = &detachReader{in: streams.Stdin, keys: keys, detach: s.detach(x.ContainerID, engine.ActionExecDetach, map[string]string{"execID": x.ID}, conn.cancel), gone: ctx.Done()}
		}
	} else {
		conn.ignoreStdin()
	}
	if asked.AttachStdout {
		streams.Stdout = conn.stdout()
	}
	if asked.AttachStderr {
		streams.Stderr = conn.stderr()
		if x.Spec.TTY {
			streams.Stderr = nil
		}
	}
	if conn.open() != nil {
		return nil
	}
	if err := s.engine.ExecStart(ctx, x.ID, streams); err != nil {
		// As Docker does: the connection is a stream already, and the exit code is in GET /exec/{id}/json.
		_, _ = io.WriteString(conn.stdout(), messageOf(err)+"\r\n")
		return nil
	}
	_, _ = s.engine.ExecWait(ctx, x.ID) // ended, detached or gone
	return nil
}

func (s *server) execResize(r *request) error {
	width, height, err := r.size()
	if err != nil {
		return err
	}
	if err := s.engine.ExecResize(r.Context(), r.vars["id"], width, height); err != nil {
		return err
	}
	return r.done(http.StatusOK)
}

func (s *server) execInspect(r *request) error {
	x, err := s.engine.ExecInspect(r.vars["id"])
	if err != nil {
		return err
	}
	answer := container.ExecInspectResponse{
		ID: x.ID, Running: x.Running, ContainerID: x.ContainerID, Pid: x.PID, CanRemove: x.Ended, OpenStdin: x.Spec.OpenStdin,
		DetachKeys: defaultDetachKeys,
		ProcessConfig: &container.ExecProcessConfig{
			Tty: x.Spec.TTY, Entrypoint: x.Spec.Args[0], Arguments: x.Spec.Args[1:], User: x.Spec.User, Privileged: &x.Spec.Privileged,
		},
	}
	if asked, ok := x.Spec.Front.(*container.ExecCreateRequest); ok {
		answer.OpenStdout, answer.OpenStderr = asked.AttachStdout, asked.AttachStderr
	}
	if x.Ended {
		answer.ExitCode = &x.Exit.Code
	}
	return r.reply(http.StatusOK, answer)
}
