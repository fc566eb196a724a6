package engine

import (
	"context"
	"fmt"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/engine/runtime"
)

// Stats are a running container's counters.
type Stats struct {
	runtime.Stats
	Interfaces []network.Statistics
}

// Stats reads a container's counters. ErrConflict: it does not run.
func (e *Engine) Stats(ctx context.Context, ref string) (Stats, error) {
	task, rec, err := e.taskOf(ctx, ref)
	if err != nil {
		return Stats{}, err
	}
	s, err := task.Stats(ctx)
	if err != nil {
		return Stats{}, taskError(rec.ID, "stats", err)
	}
	stats := Stats{Stats: s}
	if id, ok := rec.Spec.NetworkMode.Shared(); ok {
		if owner, err := e.Inspect(id); err == nil {
			rec = &owner
		}
	}
	if len(rec.Spec.Endpoints) > 0 {
		if stats.Interfaces, err = e.network.Stats(ctx, e.netPath(rec.ID), rec.Spec.Endpoints); err != nil {
			return Stats{}, fmt.Errorf("container %s: stats: %w", short(rec.ID), err)
		}
	}
	return stats, nil
}

// PIDs are the processes of a container as the host numbers them. ErrConflict: it does not run.
func (e *Engine) PIDs(ctx context.Context, ref string) ([]int, error) {
	task, rec, err := e.taskOf(ctx, ref)
	if err != nil {
		return nil, err
	}
	pids, err := task.PIDs(ctx)
	if err != nil {
		return nil, taskError(rec.ID, "processes", err)
	}
	return pids, nil
}

// taskOf returns the process of a container that runs.
func (e *Engine) taskOf(ctx context.Context, ref string) (*runtime.Task, *Container, error) {
	t, unlock, err := e.hold(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	rec := e.record(t)
	if t.task == nil || !rec.State.Live() {
		return nil, nil, fmt.Errorf("container %s is not running: %w", rec.ID, errdefs.ErrConflict)
	}
	return t.task, rec, nil
}
