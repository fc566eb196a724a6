package engine

import (
	"context"
	"fmt"
	"os"
	"time"

	"novaagent/engine/kernel"
	"novaagent/engine/store"
)

// A network namespace takes a millisecond to make. So a user namespace with an id range of its own and
// a network namespace with its loopback device are kept ready for the next container. Nothing but this
// process knows of them: they are not pinned, and the range is not recorded.

// spareRetry is how long after a failure another spare is tried. Create makes its own meanwhile, and
// reports what is wrong.
const spareRetry = 10 * time.Second

// spare is what is ready.
type spare struct {
	ids       store.Range
	user, net *os.File
}

// keepSpare makes a spare whenever there is none.
func (e *Engine) keepSpare(ctx context.Context) {
	for {
		s, err := e.newSpare()
		if err != nil {
			e.log.Debug("no namespaces are ready for the next container", "error", err)
			select {
			case <-time.After(spareRetry):
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case e.spares <- s:
		case <-ctx.Done():
			e.drop(s)
			return
		}
	}
}

func (e *Engine) newSpare() (*spare, error) {
	ids, err := e.db.ReserveRange()
	if err != nil {
		return nil, err
	}
	s := &spare{ids: ids}
	if s.user, s.net, err = kernel.NewNamespaces(idMap(ids), true); err == nil {
		err = kernel.LoopbackUp(fmt.Sprintf("/proc/self/fd/%d", s.net.Fd()))
	}
	if err != nil {
		e.drop(s)
		return nil, err
	}
	return s, nil
}

// takeSpare returns nil if none is ready.
func (e *Engine) takeSpare() *spare {
	select {
	case s := <-e.spares:
		return s
	default:
		return nil
	}
}

// drop gives a spare up that no container has got.
func (e *Engine) drop(s *spare) {
	s.close()
	e.db.UnreserveRange(s.ids)
}

func (s *spare) close() {
	for _, f := range []*os.File{s.user, s.net} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// idMap maps all of a container's ids.
func idMap(ids store.Range) kernel.IDMap {
	r := []kernel.IDRange{{Container: 0, Host: ids.Start, Size: ids.Size}}
	return kernel.IDMap{UIDs: r, GIDs: r}
}
