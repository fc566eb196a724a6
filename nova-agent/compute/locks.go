package compute

import (
	"context"
	"fmt"
	"sync"

	"novaagent/engine/errdefs"
)

// lockMap is a set of locks by name. A lock exists while somebody holds it or
// waits for it; those who wait get it in the order in which they came.
type lockMap struct {
	mu    sync.Mutex
	locks map[string]*fairLock
}

func newLockMap() *lockMap { return &lockMap{locks: map[string]*fairLock{}} }

// lock waits for the lock of name and returns its release, which may be called more
// than once. ErrUnavailable: ctx ended first.
func (l *lockMap) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	f := l.locks[name]
	if f == nil {
		f = &fairLock{}
		l.locks[name] = f
	}
	f.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if f.users--; f.users == 0 {
			delete(l.locks, name)
		}
	}
	release, err := f.lock(ctx)
	if err != nil {
		leave()
		return nil, fmt.Errorf("lock of %s: %w", name, err)
	}
	return sync.OnceFunc(func() { release(); leave() }), nil
}

// held is the names of the locks that are held or waited for, for the debug page.
func (l *lockMap) held() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := make([]string, 0, len(l.locks))
	for name := range l.locks {
		names = append(names, name)
	}
	return names
}

// taken says whether somebody holds the lock of name or waits for it.
func (l *lockMap) taken(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.locks[name] != nil
}

// fairLock is a mutex that is handed on in the order of arrival and whose wait ends with
// a context. Its zero value is unlocked.
type fairLock struct {
	users int // of lockMap, under its mutex

	mu      sync.Mutex
	locked  bool
	waiting []chan struct{}
}

// lock returns the release, which may be called more than once.
func (f *fairLock) lock(ctx context.Context) (unlock func(), err error) {
	f.mu.Lock()
	if !f.locked {
		f.locked = true
		f.mu.Unlock()
		return sync.OnceFunc(f.release), nil
	}
	turn := make(chan struct{})
	f.waiting = append(f.waiting, turn)
	f.mu.Unlock()

	select {
	case <-turn:
		return sync.OnceFunc(f.release), nil
	case <-ctx.Done():
		f.mu.Lock()
		for i, w := range f.waiting {
			if w == turn {
				f.waiting = append(f.waiting[:i], f.waiting[i+1:]...)
				f.mu.Unlock()
				return nil, fmt.Errorf("%w: %w", context.Cause(ctx), errdefs.ErrUnavailable)
			}
		}
		f.mu.Unlock()
		f.release() // our turn came in the same moment
		return nil, fmt.Errorf("%w: %w", context.Cause(ctx), errdefs.ErrUnavailable)
	}
}

// release hands the lock to whoever waits longest.
func (f *fairLock) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.waiting) == 0 {
		f.locked = false
		return
	}
	next := f.waiting[0]
	f.waiting = f.waiting[1:]
	close(next)
}
