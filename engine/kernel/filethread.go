package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileCapabilities are those over files, and no others: a file of /proc or a device that asks
// its reader for more stays closed.
const fileCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH |
	1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP

// OnFileThread runs f on a thread of its own that acts on files as the host's user and group
// id, with the capabilities over files and no others. What it makes belongs to id; a file
// system of a container's user namespace takes new files of no owner that the namespace does
// not know, root included. The thread ends with f.
func OnFileThread(id uint32, f func() error) error {
	done := make(chan error)
	go onDoomedThread(done, func() error {
		if err := becomeOwner(id); err != nil {
			return err
		}
		if err := limitCapabilities(fileCapabilities); err != nil {
			return err
		}
		return f()
	})
	return <-done
}

// becomeOwner makes id the owner of the files that the calling thread makes. It keeps its capabilities.
func becomeOwner(id uint32) error {
	// Both answer with the former id and tell of no error; asking once more does.
	for _, set := range []struct {
		what string
		call func(int) (int, error)
	}{{"group", unix.SetfsgidRetGid}, {"user", unix.SetfsuidRetUid}} {
		_, _ = set.call(int(id))
		if now, _ := set.call(-1); uint32(now) != id {
			return fmt.Errorf("act as %s %d: %w", set.what, id, unix.EPERM)
		}
	}
	// The change to another user than root has taken the capabilities over files out of effect.
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// limitCapabilities leaves the calling thread those of the mask that it has.
func limitCapabilities(mask uint64) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for i := range data {
		kept := data[i].Permitted & uint32(mask>>(32*i))
		data[i] = unix.CapUserData{Effective: kept, Permitted: kept}
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}
