package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"novaagent/engine/errdefs"
	"novaagent/engine/kernel"
	"novaagent/engine/shim/wire"
)

// Load adopts a container that an earlier Runtime started, or returns it if it is
// known. errdefs.ErrNotFound: there is none, or what there was did not survive a reboot.
//
// A container whose shim has died is killed, and the task's Wait tells Lost unless
// the exit was recorded.
func (r *Runtime) Load(ctx context.Context, id string) (*Task, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	if t := r.task(id); t != nil {
		return t, nil
	}
	dir := r.taskDir(id)
	rec, err := readRecord(dir)
	if err != nil {
		return nil, fmt.Errorf("container %s: %v: %w", id, err, errdefs.ErrNotFound)
	}
	if rec.BootID != r.bootID {
		return nil, fmt.Errorf("container %s: the host was rebooted: %w", id, errdefs.ErrNotFound)
	}
	if rec.Cgroup != nil {
		rec.Cgroup.h = r.cg
	}
	t := newTask(r, rec)
	c, st, err := dial(dir)
	switch {
	case err != nil:
		t.endLost(nil)
	case st.State == wire.Idle: // it was connected before it had launched anything
		c.net.Close()
		return nil, fmt.Errorf("container %s: it was not started: %w", id, errdefs.ErrNotFound)
	default:
		if err := t.adopt(clientOf(c), st); err != nil {
			return nil, fmt.Errorf("container %s: %w", id, err)
		}
		if rec.OCI == nil || st.State != wire.Running {
			break
		}
		if gone, err := t.removeUnstarted(ctx); gone {
			return nil, errors.Join(err, fmt.Errorf("container %s: it was not started: %w", id, errdefs.ErrNotFound))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known := r.tasks[id]; known != nil {
		go t.release()
		return known, nil
	}
	r.tasks[id] = t
	return t, nil
}

// adopt takes over from a living shim. It is the process's parent and has not reaped it, so that the pid is
// the process's.
func (t *Task) adopt(c *client, st wire.Status) error {
	if st.State == wire.Ended {
		t.end(exitFrom(st.Exit, t.rec.Cgroup))
	} else {
		pidfd, err := kernel.OpenProcess(int(st.PID))
		if err != nil {
			// It has ended and been reaped since the greeting; the exit is about to be told.
			pidfd = nil
		}
		t.started(int(st.PID), pidfd)
	}
	if st.LostBytes > 0 {
		t.r.log.Warn("a container's log has a gap", "container_id", t.rec.ID, "bytes", st.LostBytes)
	}
	t.begin(c)
	if st.State == wire.Ended {
		return nil
	}
	// An exit between the greeting and now was told to nobody.
	if e, err := readExit(t.r.taskDir(t.rec.ID)); err == nil {
		t.end(exitFrom(e, t.rec.Cgroup))
	}
	return nil
}

func readRecord(dir string) (record, error) {
	var rec record
	b, err := os.ReadFile(filepath.Join(dir, "task.json"))
	if err != nil {
		return rec, err
	}
	if err := json.Unmarshal(b, &rec); err != nil {
		return rec, err
	}
	if rec.Version != recordVersion || rec.Process == nil || rec.Linux == nil {
		return rec, fmt.Errorf("task.json: version %d", rec.Version)
	}
	return rec, nil
}

// awaitFrozen waits until all processes of the cgroup have stopped, or ctx is done.
func (c *cgroup) awaitFrozen(ctx context.Context) error {
	for wait := 100 * time.Microsecond; !c.frozen(); wait = min(2*wait, 10*time.Millisecond) {
		if c.Unified == "" {
			// v1 gives up at processes that were just forking (cgroup-v1/freezer-subsystem.rst): ask again.
			if err := c.freeze(true); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not all processes stop: %v: %w", ctx.Err(), errdefs.ErrUnavailable)
		case <-time.After(wait):
		}
	}
	return nil
}
