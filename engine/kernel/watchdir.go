package kernel

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// DirWatch tells when files in a directory are written, made or renamed.
type DirWatch struct {
	f       *os.File
	changed chan struct{}
	done    sync.WaitGroup
}

// WatchDir watches path. It fails when the user's inotify instances are used up.
func WatchDir(path string) (*DirWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	const mask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, path, mask); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("inotify: %s: %w", path, err)
	}
	// Not blocking, so the reads below wait in the runtime's poller, and Close ends them.
	w := &DirWatch{f: os.NewFile(uintptr(fd), "inotify"), changed: make(chan struct{}, 1)}
	w.done.Go(w.read)
	return w, nil
}

func (w *DirWatch) read() {
	buf := make([]byte, 4096)
	for {
		if _, err := w.f.Read(buf); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// Changed receives after a change; several changes may give one.
func (w *DirWatch) Changed() <-chan struct{} { return w.changed }

// Close ends the watch.
func (w *DirWatch) Close() error {
	err := w.f.Close()
	w.done.Wait()
	return err
}
