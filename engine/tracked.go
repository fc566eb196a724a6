package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
	"novaagent/engine/network"
	"novaagent/engine/runtime"
	"novaagent/engine/store"
)

const kindContainer store.Kind = "container"

// tracked is a container in memory.
type tracked struct {
	id string

	// The container's lock guards these.
	task    *runtime.Task // of the running process
	waiting []*Attachment // clients that attached before the start
	spare   *spare        // its namespaces, until they are pinned
	// prepared: prepare went through in this process, so all is there for a start.
	prepared bool
	// traces says that the runtime may have something of it left.
	traces    bool
	published []Port     // of the start that is under way
	monitor   *monitor   // probes its health
	forward   *logWorker // sends its log
	compress  *logWorker // compresses what was rotated of it
	names     *network.Resolver
	// attempt counts restarts by policy, for the backoff.
	attempt int
	// size is what the client said its terminal has, for the next start.
	width, height uint16

	// Engine.mu guards these.
	rec     *Container    // replaced, never changed
	changed chan struct{} // closed and replaced with rec
	exits   uint64        // how many runs have ended since Open
	last    Exit          // of the latest of them
	gone    bool          // Remove is through; rec is what it was before
	// claims are what it has in networks, from before its start until after its end.
	claims []claim
	// accesses are the uses of its files under way; see files.go.
	accesses []*access
}

// writing says how durable a change of a record must be.
type writing bool

const (
	synced writing = true  // a power cut doesn't take it back
	lazy   writing = false // may be found out again after one
)

// move records t's new state and other changes, then makes them visible. It is the
// only way a state changes. The caller holds t's lock.
func (e *Engine) move(t *tracked, to State, w writing, change func(*Container)) error {
	rec := e.record(t)
	if err := checkMove(t.id, rec.State, to); err != nil {
		return err
	}
	next := *rec
	next.State = to
	if change != nil {
		change(&next)
	}
	if err := e.put(&next, w); err != nil {
		return fmt.Errorf("container %s: record %s: %w", short(t.id), to, err)
	}
	e.show(t, &next)
	return nil
}

// observe is move for what has happened already: a database that refuses the
// record doesn't make it unhappen.
func (e *Engine) observe(t *tracked, to State, w writing, change func(*Container)) {
	rec := e.record(t)
	next := *rec
	next.State = to
	change(&next)
	if err := checkMove(t.id, rec.State, to); err != nil {
		e.log.Error("a container changed in a way that it can't", "container_id", t.id, "error", err)
	}
	if err := e.put(&next, w); err != nil {
		e.log.Error("a container's state was not recorded", "container_id", t.id, "state", to, "error", err)
	}
	e.show(t, &next)
}

// amend records a change that is none of state. The caller holds t's lock.
func (e *Engine) amend(t *tracked, w writing, change func(*Container)) error {
	next := *e.record(t)
	change(&next)
	if err := e.put(&next, w); err != nil {
		return fmt.Errorf("container %s: %w", short(t.id), err)
	}
	e.show(t, &next)
	return nil
}

func (e *Engine) put(rec *Container, w writing) error {
	if w == synced {
		return store.Put(e.db, kindContainer, rec.ID, rec)
	}
	return store.PutLazy(e.db, kindContainer, rec.ID, rec)
}

func (e *Engine) show(t *tracked, next *Container) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if t.rec.State.Live() && !next.State.Live() {
		t.exits++
		t.last = next.Exit
	}
	t.rec = next
	close(t.changed)
	t.changed = make(chan struct{})
}

// record is t's record as it is now.
func (e *Engine) record(t *tracked) *Container {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return t.rec
}

// find returns the container that ref means: an ID, a name, or the unique beginning of an ID.
func (e *Engine) find(ref string) (*tracked, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.findLocked(ref)
}

func (e *Engine) findLocked(ref string) (*tracked, error) {
	if t := e.containers[ref]; t != nil {
		return t, nil
	}
	if ref == "" {
		return nil, fmt.Errorf("invalid name or ID supplied: %q: %w", ref, errdefs.ErrInvalid)
	}
	ref = strings.TrimPrefix(ref, "/")
	if id, ok := e.names[ref]; ok {
		if t := e.containers[id]; t != nil {
			return t, nil
		}
	}
	var found *tracked
	if isHex(ref) {
		for id, t := range e.containers {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("container %s: several IDs begin so: %w", ref, errdefs.ErrInvalid)
			}
			found = t
		}
	}
	if found == nil {
		return nil, fmt.Errorf("No such container: %s: %w", printable(ref), errdefs.ErrNotFound)
	}
	return found, nil
}

// hold finds the container that ref means and takes its lock.
func (e *Engine) hold(ctx context.Context, ref string) (*tracked, func(), error) {
	t, err := e.find(ref)
	if err != nil {
		return nil, nil, err
	}
	unlock, err := e.lockContainer(ctx, t.id)
	if err != nil {
		return nil, nil, err
	}
	e.mu.RLock()
	gone := t.gone
	e.mu.RUnlock()
	if gone {
		unlock()
		return nil, nil, fmt.Errorf("No such container: %s: %w", printable(ref), errdefs.ErrNotFound)
	}
	return t, unlock, nil
}

// process is t's process, which a record in state Running or Paused has unless the engine could
// not adopt it. The caller holds t's lock.
func (t *tracked) process() (*runtime.Task, error) {
	if t.task == nil {
		return nil, fmt.Errorf("container %s: its process cannot be reached: %w", short(t.id), errdefs.ErrUnavailable)
	}
	return t.task, nil
}

// taskError is an error of the runtime's about t's process. That the process has ended, and
// the record does not know yet, is a conflict and not a missing container.
func taskError(id, deed string, err error) error {
	if errors.Is(err, errdefs.ErrNotFound) {
		return fmt.Errorf("container %s: %s: it is not running: %v: %w", short(id), deed, err, errdefs.ErrConflict)
	}
	return fmt.Errorf("container %s: %s: %w", short(id), deed, err)
}

// step announces a step to the tests.
func (e *Engine) step(name, id string) {
	if e.opts.Hooks.Step != nil {
		e.opts.Hooks.Step(name, id)
	}
}

// printable is s cut and quoted for a message, as it came from a client.
func printable(s string) string {
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return fmt.Sprintf("%q", s)
		}
	}
	return s
}

func isHex(s string) bool {
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return s != ""
}
