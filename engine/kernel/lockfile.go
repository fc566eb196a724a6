package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"novaagent/engine/errdefs"
)

// lockPatience bounds the wait for a holder that is going: what a process that was killed
// has just forked has its descriptors until it executes something.
const lockPatience = 2 * time.Second

// LockFile makes and locks the file at path, and writes this process's pid into it. The
// lock is held until the file is closed or the process ends, however it ends; the
// file stays. ErrConflict: another process holds it; the error tells its pid.
func LockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock file: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPatience / 100) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Now().After(end) {
			break
		}
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		err = fmt.Errorf("lock file %s is held by process %s: %w", path, bytes.TrimSpace(pid), errdefs.ErrConflict)
		return nil, errors.Join(err, f.Close())
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock file %s: %w", path, err), f.Close())
	}
	return f, nil
}
