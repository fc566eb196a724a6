package engine_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"novaagent/engine"
	"novaagent/engine/errdefs"
)

func TestEnvironment(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "id -u; id -g; id -G; pwd; hostname; echo $FOO $HOME; cat /etc/hostname; cat /proc/sys/kernel/domainname; grep -c myhost /etc/hosts; grep nameserver /etc/resolv.conf; ls -ld / | cut -c1-10")
	s.User, s.WorkDir, s.Hostname, s.Domainname = "user", "/made/for/this", "myhost", "mydomain"
	s.Env = []string{"FOO=bar"}
	s.DNS = engine.DNS{Nameservers: []string{"192.0.2.53"}, Hosts: []string{"myhost:192.0.2.1"}}
	text, exit := runScript(t, e, s)
	want := "1000\n1000\n1000 2000\n/made/for/this\nmyhost\nbar /home/user\nmyhost\nmydomain\n1\nnameserver 192.0.2.53\ndrwxr-xr-x\n"
	if text != want || exit.Code != 0 {
		t.Errorf("got %q, %+v\nwant %q", text, exit, want)
	}
}

func TestConfinement(t *testing.T) {
	e := newEngine(t)
	text, _ := runScript(t, e, spec(t, "cat /proc/self/uid_map; ip -o link | wc -l; cat /sys/class/net/lo/operstate; echo $$; wc -c < /proc/kcore; touch /sys/x /proc/sys/x; mount -t tmpfs x /mnt 2>&1 | grep -c -i permitted"))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if f := strings.Fields(lines[0]); len(f) != 3 || f[0] != "0" || f[1] < "1000000000" || f[2] != "65536" {
		t.Errorf("uid_map %q", lines[0])
	}
	if !slices.Contains(lines, "1") {
		t.Errorf("output %q", text)
	}
	a, b := mustRun(t, e, spec(t, "sleep 1000")), mustRun(t, e, spec(t, "sleep 1000"))
	if a.IDs == b.IDs {
		t.Errorf("two containers share the range %v", a.IDs)
	}
}

func TestLimits(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "dd if=/dev/zero of=/dev/null bs=100M count=1")
	s.Resources.MemoryBytes = 32 << 20
	if _, exit := runScript(t, e, s); !exit.OOMKilled || exit.Code == 0 {
		t.Errorf("memory: %+v", exit)
	}
	s = spec(t, "for i in $(seq 50); do sleep 5 & done; wait")
	s.Resources.PidsLimit = 10
	if text, exit := runScript(t, e, s); !strings.Contains(text, "fork") || exit.Code == 0 {
		t.Errorf("pids: %q %+v", text, exit)
	}
	s = spec(t, "ulimit -n; ulimit -c")
	s.Resources.Ulimits = []engine.Ulimit{{Name: "nofile", Soft: 123, Hard: 456}, {Name: "core", Soft: 0, Hard: 0}}
	if text, _ := runScript(t, e, s); text != "123\n0\n" {
		t.Errorf("ulimits: %q", text)
	}
}

func TestMounts(t *testing.T) {
	e := newEngine(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/file", []byte("from the host\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := spec(t, "exec 2>&1; cat /rw/file; echo new > /rw/new; stat -c %u /rw/file; echo no > /ro/new || echo refused; echo t > /tmp/deep/x && df -k /tmp/deep | tail -1 | awk '{print $2}'; ls /made")
	s.Mounts = []engine.Mount{
		{Type: engine.MountBind, Source: dir, Target: "/rw"},
		{Type: engine.MountBind, Source: dir, Target: "/ro", ReadOnly: true},
		{Type: engine.MountTmpfs, Target: "/tmp/deep", SizeBytes: 1 << 20},
		{Type: engine.MountBind, Source: dir + "/made", Target: "/made", CreateSource: true},
	}
	text, exit := runScript(t, e, s)
	if want := "from the host\n0\n/bin/sh: can't create /ro/new: Read-only file system\nrefused\n1024\n"; text != want || exit.Code != 0 {
		t.Errorf("got %q, %+v, want %q", text, exit, want)
	}
	info, err := os.Stat(dir + "/new")
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != uint32(os.Getuid()) {
		t.Errorf("a file written through a bind mount belongs to %d", uid)
	}
	s.Mounts = []engine.Mount{{Type: engine.MountBind, Source: dir + "/absent", Target: "/x"}}
	if _, err := e.Run(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) || !strings.Contains(err.Error(), "/absent") {
		t.Errorf("a missing source: %v", err)
	}
}

func TestReadonlyRootfs(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "touch /x || echo refused; touch /dev/shm/x && echo shm")
	s.Security.ReadonlyRootfs = true
	if text, _ := runScript(t, e, s); !strings.Contains(text, "refused") || !strings.Contains(text, "shm") {
		t.Errorf("got %q", text)
	}
}

func TestHostNetwork(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "readlink /proc/self/ns/net; ls /sys/class/net | wc -l; cat /proc/self/uid_map")
	s.NetworkMode = engine.NetworkHost
	text, _ := runScript(t, e, s)
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil || !strings.HasPrefix(text, host+"\n") {
		t.Errorf("got %q, the host is in %s, %v", text, host, err)
	}
	s.Owner = engine.OwnerNova
	if _, err := e.Create(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("an instance in the host's network: %v", err)
	}
}

func TestPrivileged(t *testing.T) {
	e := newEngine(t)
	s := spec(t, "mount -t tmpfs x /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs x /mnt && echo mounted; cat /proc/self/uid_map | awk '{print $3}'")
	s.Security.Privileged = true
	if text, exit := runScript(t, e, s); text != "mounted\n4294967295\n" || exit.Code != 0 {
		t.Errorf("got %q, %+v", text, exit)
	}
}

func TestNames(t *testing.T) {
	e := newEngine(t)
	ctx := testContext(t)
	s := spec(t, "true")
	s.Name = "first"
	c, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Create(ctx, s); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), c.ID) {
		t.Errorf("a taken name: %v", err)
	}
	s.Name = "second"
	second, err := e.Create(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Rename(ctx, second.ID, "first"); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("renamed to a taken name: %v", err)
	}
	if err := e.Rename(ctx, c.ID, "third"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{c.ID, c.ID[:12], "third", "/third"} {
		if got, err := e.Inspect(ref); err != nil || got.ID != c.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	if err := e.Rename(ctx, second.ID, "first"); err != nil {
		t.Errorf("the name is free now: %v", err)
	}
}

func TestHostileSpecs(t *testing.T) {
	e := newEngine(t)
	for name, change := range map[string]func(*engine.Spec){
		"name with a slash":      func(s *engine.Spec) { s.Name = "a/b" },
		"name of dots":           func(s *engine.Spec) { s.Name = ".." },
		"name with a newline":    func(s *engine.Spec) { s.Name = "a\nb" },
		"long name":              func(s *engine.Spec) { s.Name = strings.Repeat("a", 200) },
		"ID that is a path":      func(s *engine.Spec) { s.ID = "../../etc" },
		"NUL in an argument":     func(s *engine.Spec) { s.Args = []string{"a\x00b"} },
		"NUL in the environment": func(s *engine.Spec) { s.Env = []string{"A=\x00"} },
		"nameless variable":      func(s *engine.Spec) { s.Env = []string{"=x"} },
		"relative directory":     func(s *engine.Spec) { s.WorkDir = "x" },
		"line in the host name":  func(s *engine.Spec) { s.Hostname = "a\n1.2.3.4 b" },
		"line in a search list":  func(s *engine.Spec) { s.DNS.Search = []string{"a\nnameserver 1.2.3.4"} },
		"line in a host entry":   func(s *engine.Spec) { s.DNS.Hosts = []string{"a\nb:1.2.3.4"} },
		"mount over the root":    func(s *engine.Spec) { s.Mounts = []engine.Mount{{Type: engine.MountTmpfs, Target: "/x/.."}} },
		"no owner":               func(s *engine.Spec) { s.Owner = "" },
		"privileged instance":    func(s *engine.Spec) { s.Owner, s.Security.Privileged = engine.OwnerNova, true },
		"no image":               func(s *engine.Spec) { s.Rootfs = "" },
		"tiny memory":            func(s *engine.Spec) { s.Resources.MemoryBytes = 1 },
		"tiny disk":              func(s *engine.Spec) { s.Resources.DiskBytes = 1 },
		"unknown ulimit":         func(s *engine.Spec) { s.Resources.Ulimits = []engine.Ulimit{{Name: "x"}} },
		"unknown capability":     func(s *engine.Spec) { s.Security.CapAdd = []string{"EVERYTHING"} },
		"no command":             func(s *engine.Spec) { s.Args = nil },
		"many labels":            func(s *engine.Spec) { s.Labels = map[string]string{"a": strings.Repeat("x", 1<<20)} },
		"restart and removal":    func(s *engine.Spec) { s.AutoRemove, s.Restart.Mode = true, engine.RestartAlways },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(t, "true")
			change(&s)
			if _, err := e.Run(testContext(t), s); !errors.Is(err, errdefs.ErrInvalid) {
				t.Errorf("got %v", err)
			}
			if n := len(e.List()); n != 0 {
				t.Errorf("%d containers are left", n)
			}
		})
	}
}

// TestHostileRootfs runs containers whose file system is set to harm the host.
func TestHostileRootfs(t *testing.T) {
	e := newEngine(t)
	trap := t.TempDir()
	for name, set := range map[string]func(dir string) error{
		"etc is a link out":     func(dir string) error { return errors.Join(os.RemoveAll(dir+"/etc"), os.Symlink(trap, dir+"/etc")) },
		"resolv.conf is a link": func(dir string) error { return os.Symlink(trap+"/resolv.conf", dir+"/etc/resolv.conf") },
		"dev is a link out":     func(dir string) error { return errors.Join(os.RemoveAll(dir+"/dev"), os.Symlink(trap, dir+"/dev")) },
		"passwd is a fifo": func(dir string) error {
			return errors.Join(os.Remove(dir+"/etc/passwd"), syscall.Mkfifo(dir+"/etc/passwd", 0o644))
		},
		"passwd is huge":         func(dir string) error { return os.Truncate(dir+"/etc/passwd", 10<<30) },
		"the workdir is a link":  func(dir string) error { return os.Symlink(trap, dir+"/work") },
		"the workdir goes above": func(dir string) error { return os.Symlink("../../../../../.."+trap, dir+"/work") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			copyRootfs(t, dir)
			if err := set(dir); err != nil {
				t.Fatal(err)
			}
			s := spec(t, "touch $PWD/trapped /etc/trapped; true")
			s.Rootfs, s.WorkDir, s.User = dir, "/work/below", "user"
			c, err := e.Run(testContext(t), s)
			if err == nil {
				mustWait(t, e, c.ID)
			}
			if left, err := os.ReadDir(trap); err != nil || len(left) > 0 {
				t.Errorf("the host has %v, %v", left, err)
			}
		})
	}
}

// copyRootfs makes a root file system with links to the shared one's busybox only.
func copyRootfs(t *testing.T, dir string) {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(rootfs(t))); err != nil {
		t.Fatal(err)
	}
}
