package runtime_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/runtime"
)

// probe runs the prober, with the probes that are named or all, and returns its results by name.
func probe(t testing.TB, r *runtime.Runtime, b runtime.Bundle, names ...string) map[string]string {
	t.Helper()
	b.Spec.Process.Args = append([]string{"/prober", "probe"}, names...)
	exit, out := run(t, r, b)
	if exit.Code != 0 {
		t.Fatalf("the prober ended with %+v: %s", exit, out)
	}
	results := map[string]string{}
	for line := range strings.Lines(out) {
		if name, result, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			results[name] = result
		}
	}
	return results
}

// TestDefaultConfinement compares what a process can do with what it should be able to.
func TestDefaultConfinement(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	addProber(t, img)
	expect := map[string]string{
		"getpid": "ok", "AF_INET": "ok", "chroot": "ok",
		"unshare user": "EPERM", "unshare mount": "EPERM", "clone user": "EPERM", "clone3": "ENOSYS", "setns": "EPERM",
		"io_uring_setup": "EPERM", "AF_ALG": "EPERM", "AF_VSOCK": "EPERM", "bpf": "EPERM", "keyctl": "EPERM", "add_key": "EPERM",
		"userfaultfd": "EPERM", "perf_event_open": "EPERM", "open_by_handle_at": "EPERM", "kexec_load": "EPERM",
		"mount": "EPERM", "umount2": "EPERM", "fsopen": "EPERM", "open_tree": "EPERM", "pivot_root": "EPERM",
		"swapon": "EPERM", "settimeofday": "EPERM", "mknod block": "EPERM", "mknod mem": "EPERM", "syslog": "EPERM",
		"unknown number":  "ENOSYS",
		"read /proc/keys": "empty", "read /proc/timer_list": "empty", "read /proc/interrupts": "empty", "read /sys/firmware": "empty",
		"read /proc/version": "ok", "write /proc/sysrq-trigger": "EROFS", "write core_pattern": "EACCES", "write ip_forward": "EACCES",
		"create /sys/fs/cgroup": "EROFS", "write /dev/null": "ok", "read /dev/zero": "ok",
		"open /dev/mem": "ENOENT", "open /dev/kmsg": "ENOENT", "create /tmp/file": "ok",
	}
	// Kernel files may be absent on this host, and an older kernel asks first whose the file is.
	asGood := map[string]string{"read /proc/keys": "ENOENT", "read /proc/timer_list": "ENOENT", "read /sys/firmware": "ENOENT",
		"write /proc/sysrq-trigger": "ENOENT EACCES"}
	wrong := func(name, got, want string) bool {
		return got != want && !slices.Contains(strings.Fields(asGood[name]), got)
	}
	got := probe(t, r, bundle(t, "default", img))
	for name, want := range expect {
		if wrong(name, got[name], want) {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
	if g := got["read /proc/kcore"]; g != "empty" && g != "ENOENT" {
		t.Errorf("read /proc/kcore: %s", g)
	}
	if g := got["write uevent_helper"]; g == "ok" {
		t.Errorf("write uevent_helper: %s", g)
	}

	// Without a user namespace what seccomp and capabilities forbid is the same.
	b := bundle(t, "hostuser", img)
	withoutUserNamespace(t, &b)
	got = probe(t, r, b)
	for name, want := range expect {
		switch name {
		case "mknod block", "mknod mem":
			want = "ok" // the devices cgroup lets nobody open it
		case "write core_pattern", "write ip_forward":
			want = "EROFS" // there the owner may not, here the mount doesn't let
		}
		if wrong(name, got[name], want) {
			t.Errorf("without user namespace: %s: %s, want %s", name, got[name], want)
		}
	}
}

func withoutUserNamespace(t testing.TB, b *runtime.Bundle) {
	t.Helper()
	var ns []specs.LinuxNamespace
	for _, n := range b.Spec.Linux.Namespaces {
		if n.Type != specs.UserNamespace {
			ns = append(ns, n)
		}
	}
	b.Spec.Linux.Namespaces, b.Spec.Linux.UIDMappings, b.Spec.Linux.GIDMappings = ns, nil, nil
	if err := os.Chown(b.Rootfs.Upper, 0, 0); err != nil {
		t.Fatal(err)
	}
}

func TestDeviceCgroup(t *testing.T) {
	r := newRuntime(t)
	b := bundle(t, "devices", image(t), "sh", "-c", `
		mknod /tmp/mem c 1 1; cat /tmp/mem; cat </dev/null && echo null; mknod /dev/kmsg2 c 1 11; head -c1 /dev/kmsg2`)
	withoutUserNamespace(t, &b)
	_, out := run(t, r, b)
	// The root file system is nodev, /dev is not.
	if !strings.Contains(out, "'/tmp/mem': Permission denied") || !strings.Contains(out, "/dev/kmsg2: Operation not permitted") || !strings.Contains(out, "null\n") {
		t.Errorf("got %q", out)
	}
}

func TestCapabilitiesAndFlags(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	status := func(id string, edit func(*runtime.Bundle)) map[string]string {
		b := bundle(t, id, img, "cat", "/proc/self/status")
		edit(&b)
		_, out := run(t, r, b)
		fields := map[string]string{}
		for line := range strings.Lines(out) {
			if k, v, ok := strings.Cut(line, ":"); ok {
				fields[k] = strings.TrimSpace(v)
			}
		}
		return fields
	}
	const docker = "00000000a80425fb"
	check := func(name string, got, want map[string]string) {
		t.Helper()
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q", name, k, got[k], v)
			}
		}
	}
	none := "0000000000000000"
	check("root", status("caps-root", func(*runtime.Bundle) {}), map[string]string{
		"CapBnd": docker, "CapEff": docker, "CapPrm": docker, "CapInh": none, "CapAmb": none,
		"NoNewPrivs": "0", "Seccomp": "2", "Seccomp_filters": "1",
	})
	check("user", status("caps-user", func(b *runtime.Bundle) { b.User = "user"; b.Spec.Process.NoNewPrivileges = true }), map[string]string{
		"CapBnd": docker, "CapEff": none, "CapPrm": none, "CapInh": none, "CapAmb": none, "NoNewPrivs": "1", "Seccomp": "2",
	})
	check("ambient", status("caps-ambient", func(b *runtime.Bundle) {
		b.User = "user"
		c := []string{"CAP_NET_BIND_SERVICE"}
		b.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: c, Effective: c, Permitted: c, Inheritable: c, Ambient: c}
	}), map[string]string{
		"CapBnd": "0000000000000400", "CapEff": "0000000000000400", "CapPrm": "0000000000000400", "CapInh": "0000000000000400", "CapAmb": "0000000000000400",
	})
	check("unconfined", status("caps-unconfined", func(b *runtime.Bundle) {
		if err := runtime.ApplySeccomp(b.Spec, "unconfined", false); err != nil {
			t.Fatal(err)
		}
	}), map[string]string{"Seccomp": "0"})
}

func TestSeccompProfileOfTheUser(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	addProber(t, img)
	b := bundle(t, "profile", img)
	profile := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["swapon"],"action":"SCMP_ACT_ERRNO","errnoRet":2},
		{"names":["socket"],"action":"SCMP_ACT_ERRNO","errnoRet":22,"args":[{"index":0,"value":40,"op":"SCMP_CMP_EQ"}]}]}`
	if err := runtime.ApplySeccomp(b.Spec, profile, false); err != nil {
		t.Fatal(err)
	}
	// Others would do something.
	got := probe(t, r, b, "swapon", "AF_VSOCK", "AF_INET")
	for name, want := range map[string]string{"swapon": "ENOENT", "AF_VSOCK": "EINVAL", "AF_INET": "ok"} {
		if got[name] != want {
			t.Errorf("%s: %s, want %s", name, got[name], want)
		}
	}
}

// TestFileOwnership checks that files of the image are the container's root's, and new ones the host's shifted id.
func TestFileOwnership(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	if err := os.WriteFile(filepath.Join(img, "theirs"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(img, "theirs"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, "owner", img, "sh", "-c", "stat -c '%u:%g' /bin/busybox /theirs / /dev/null; touch /new; echo changed >>/theirs; stat -c '%u:%g' /new /theirs; cat /proc/self/uid_map")
	_, out := run(t, r, b)
	want := "0:0\n1000:1000\n0:0\n0:0\n0:0\n1000:1000\n"
	if !strings.HasPrefix(out, want) || strings.Join(strings.Fields(out[min(len(want), len(out)):]), " ") != fmt.Sprintf("0 %d 65536", firstID) {
		t.Errorf("got %q", out)
	}
	for name, id := range map[string]uint32{"new": firstID, "theirs": firstID + 1000} {
		if got := ownerOf(t, filepath.Join(b.Rootfs.Upper, name)); got != id {
			t.Errorf("%s belongs to %d on the host, want %d", name, got, id)
		}
	}
	if got := ownerOf(t, filepath.Join(img, "theirs")); got != 1000 {
		t.Errorf("the image's file belongs to %d now", got)
	}
}

func TestMounts(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	src := t.TempDir()
	if err := os.Mkdir(filepath.Join(src, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(src, "file"), []byte("text\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, "mounts", img, "sh", "-c", `
		cat /data/file /one; touch /data/x || echo ro; touch /one || echo rofile; touch /rw/made && echo rw; stat -c %u /mapped/file; touch /mapped/made2
		touch /scratch/y && echo scratch; touch /data/sub/z || echo nested; grep -c . /proc/mounts >/dev/null; grep ' /scratch ' /proc/mounts`)
	b.Spec.Mounts = append(b.Spec.Mounts,
		specs.Mount{Type: "bind", Source: src, Destination: "/data", Options: []string{"rbind", "ro"}},
		specs.Mount{Type: "bind", Source: filepath.Join(src, "file"), Destination: "/one", Options: []string{"ro"}},
		specs.Mount{Type: "bind", Source: t.TempDir(), Destination: "/rw", Options: []string{"rw"}},
		specs.Mount{Type: "bind", Source: src, Destination: "/mapped", Options: []string{"idmap", "nosuid", "nodev"}},
		specs.Mount{Type: "tmpfs", Source: "scratch", Destination: "/scratch", Options: []string{"size=1m", "noexec", "uid=5"}},
	)
	if err := os.Chmod(b.Spec.Mounts[len(b.Spec.Mounts)-3].Source, 0o777); err != nil {
		t.Fatal(err)
	}
	_, out := run(t, r, b)
	for _, want := range []string{"text\ntext\n", "ro\n", "rofile\n", "rw\n", "\n0\n", "scratch\n", "nested\n", "scratch /scratch tmpfs rw,noexec", "uid=1700000005"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in %q", want, out)
		}
	}
	if got := ownerOf(t, filepath.Join(src, "made2")); got != 0 {
		t.Errorf("a file made on an idmapped mount belongs to %d", got)
	}
	// The root can be read-only.
	b = bundle(t, "readonly", img, "sh", "-c", "touch /x || echo ro; touch /dev/shm/x && echo shm")
	b.Spec.Root.Readonly = true
	if _, out := run(t, r, b); !strings.Contains(out, "Read-only file system") || !strings.Contains(out, "shm\n") {
		t.Errorf("got %q", out)
	}
}

func TestNamesSysctlsAndHostNetwork(t *testing.T) {
	r := newRuntime(t)
	img := image(t)
	script := "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax; ls /sys/class/net"
	b := bundle(t, "names", img, "sh", "-c", script)
	b.Spec.Hostname, b.Spec.Domainname = "host", "example.org"
	b.Spec.Linux.Sysctl = map[string]string{"kernel.msgmax": "12345"}
	_, out := run(t, r, b)
	if want := "host\nexample.org\n0\t65535\n0\n12345\nlo\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	b = bundle(t, "hostnet", img, "sh", "-c", "ls /sys/class/net; test -e /proc/sys/net/ipv4/ip_forward && echo net")
	var ns []specs.LinuxNamespace
	for _, n := range b.Spec.Linux.Namespaces {
		if n.Type != specs.NetworkNamespace {
			ns = append(ns, n)
		}
	}
	b.Spec.Linux.Namespaces = ns
	_, out = run(t, r, b)
	if !strings.HasSuffix(out, "net\n") || !strings.Contains(out, "lo\n") {
		t.Errorf("got %q", out)
	}
}

// TestDev starts containers one after the other: the later ones get a /dev that was ready.
func TestDev(t *testing.T) {
	r, img := newRuntime(t), image(t)
	const want = "fd 777 0:0 0:0\nfull 666 0:0 1:7\nmine 600 7:7 0:0\nmqueue 1777 0:0 0:0\nnull 666 0:0 1:3\nptmx 777 0:0 0:0\npts 755 0:0 0:0\n" +
		"random 666 0:0 1:8\nshm 1777 0:0 0:0\nstderr 777 0:0 0:0\nstdin 777 0:0 0:0\nstdout 777 0:0 0:0\ntty 666 0:0 5:0\nurandom 666 0:0 1:9\nzero 666 0:0 1:5\n"
	for i := range 4 {
		b := bundle(t, fmt.Sprintf("dev%d", i), img, "sh", "-c",
			"cd /dev && ! ls mine 2>&- && (umask 077; echo x >mine) && chown 7:7 mine && echo x >null && head -c1 zero >null && stat -c '%n %a %u:%g %t:%T' *")
		if _, got := run(t, r, b); got != want {
			t.Errorf("container %d has in /dev:\n%s", i, got)
		}
	}
}
