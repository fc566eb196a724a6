package compute

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"novaagent/engine/errdefs"
)

func TestLockMapIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockMap()
		first, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		var order []int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				unlock, err := l.lock(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				defer unlock()
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait() // it waits for its turn now
		}
		other, err := l.lock(t.Context(), "b")
		if err != nil {
			t.Fatal("another name waits")
		}
		other()
		first()
		first() // a second release is none
		wg.Wait()
		if !slices.IsSorted(order) || len(order) != 20 {
			t.Errorf("the order is %v", order)
		}
		if held := l.held(); len(held) != 0 {
			t.Errorf("locks %v are left", held)
		}
	})
}

func TestLockEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLockMap()
		unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error, 1)
		go func() {
			_, err := l.lock(ctx, "a")
			gaveUp <- err
		}()
		synctest.Wait()
		got := make(chan struct{})
		go func() {
			unlock, err := l.lock(t.Context(), "a")
			if err != nil {
				t.Error(err)
				return
			}
			unlock()
			close(got)
		}()
		synctest.Wait()
		cancel()
		if err := <-gaveUp; !errors.Is(err, errdefs.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if !l.taken("a") {
			t.Error("the lock is not taken")
		}
		unlock()
		<-got
		if l.taken("a") {
			t.Error("the lock is taken still")
		}
	})
}

// TestLockExcludes: never two at a time, whoever gives up meanwhile.
func TestLockExcludes(t *testing.T) {
	l := newLockMap()
	inside, total := 0, 0
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if i%3 == 0 {
				cancel()
			}
			unlock, err := l.lock(ctx, "a")
			if err != nil {
				return
			}
			defer unlock()
			inside++
			if inside != 1 {
				t.Error("two are inside")
			}
			total++
			inside--
		})
	}
	wg.Wait()
	if total < 133 || len(l.held()) != 0 {
		t.Errorf("%d got it, %v are held", total, l.held())
	}
}
