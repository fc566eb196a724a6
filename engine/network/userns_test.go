package network

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// TestUserNamespace: the namespace belongs to a user namespace, as each instance's does; the host
// acts on it all the same, and it outlives the process that was in it.
func TestUserNamespace(t *testing.T) {
	m := newManager(t)
	noLeaks(t)
	ids := []syscall.SysProcIDMap{{HostID: 1_000_000, Size: 65536}}
	cmd := exec.Command("/bin/cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: ids, GidMappings: ids, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "net")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid), path, "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.RemoveNamespace(path); err != nil {
			t.Error(err)
		}
	})
	e := endpoint(1, "brqtestu")
	plug(t, m, path, e)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}

	other := newNamespace(t, m)
	eo := endpoint(2, "brqtestu")
	plug(t, m, other, eo)
	for _, p := range e.Addresses {
		if err := reaches(t, other, path, p.Addr()); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	inside(t, path, func(h *netlink.Handle) error {
		link, err := h.LinkByName("eth0")
		if err == nil && link.Attrs().MTU != e.MTU {
			t.Errorf("MTU %d", link.Attrs().MTU)
		}
		return err
	})
	if drift, err := m.Check(t.Context(), path, []Endpoint{e}); err != nil || len(drift) > 0 {
		t.Errorf("Check: %v, %v", drift, err)
	}
}
