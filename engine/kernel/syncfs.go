package kernel

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// SyncFS brings everything that was written to the file system of dir to
// stable storage, by whomever it was written.
func SyncFS(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("syncfs %s: %w", dir, err)
	}
	return nil
}
