package engine

import (
	"context"
	"fmt"
	"sync"

	"novaagent/engine/errdefs"
)

// keyedLocks are mutexes by key that are taken with a context.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]*keyedLock
	what string // that the keys name, for messages; "container" if empty
}

type keyedLock struct {
	slot  chan struct{} // full while the lock is held
	users int           // holder and waiters; guarded by keyedLocks.mu
}

// lock takes key's lock and returns what gives it back, or ErrUnavailable if ctx ends first.
func (k *keyedLocks) lock(ctx context.Context, key string) (unlock func(), err error) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{slot: make(chan struct{}, 1)}
		k.held[key] = l
	}
	l.users++
	k.mu.Unlock()
	select {
	case l.slot <- struct{}{}:
		return func() { <-l.slot; k.leave(key, l) }, nil
	case <-ctx.Done():
		k.leave(key, l)
		return nil, fmt.Errorf("%s %s: waiting for its lock: %v: %w", firstOf(k.what, "container"), short(key), context.Cause(ctx), errdefs.ErrUnavailable)
	}
}

func (k *keyedLocks) leave(key string, l *keyedLock) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(k.held, key)
	}
}

// keys are those that are held or waited for, for the debug page.
func (k *keyedLocks) keys() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := make([]string, 0, len(k.held))
	for key := range k.held {
		keys = append(keys, key)
	}
	return keys
}
