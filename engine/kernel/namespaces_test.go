package kernel_test

import (
	"os"
	"strings"
	"testing"

	"novaagent/engine/kernel"
	"novaagent/tests/need"
)

var testMap = kernel.IDMap{
	UIDs: []kernel.IDRange{{Container: 0, Host: 1_500_000_000, Size: 65536}},
	GIDs: []kernel.IDRange{{Container: 0, Host: 1_500_000_000, Size: 65536}},
}

func TestCreateNamespaces(t *testing.T) {
	need.Root(t)
	dir := t.TempDir() + "/ns"
	if err := kernel.CreateNamespaces(dir, testMap); err != nil {
		t.Fatal(err)
	}
	stat := func(name string) os.FileInfo {
		t.Helper()
		i, err := os.Stat(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	user, net := stat("user"), stat("net")
	if err := kernel.CreateNamespaces(dir, testMap); err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(user, stat("user")) || !os.SameFile(net, stat("net")) {
		t.Error("a second call made new namespaces")
	}
	nf, err := os.Open(dir + "/net")
	if err != nil {
		t.Fatal(err)
	}
	defer nf.Close()
	uf, err := os.Open(dir + "/user")
	if err != nil {
		t.Fatal(err)
	}
	defer uf.Close()
	if owned, err := kernel.OwnerOf(nf, uf); err != nil || !owned {
		t.Errorf("the network namespace is not the user namespace's: %v", err)
	}
	for range 2 {
		if err := kernel.RemoveNamespaces(dir); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) {
		t.Error("a mount was left")
	}
}

func TestCreateNamespacesWithABadMapLeavesNothing(t *testing.T) {
	need.Root(t)
	dir := t.TempDir() + "/ns"
	bad := kernel.IDMap{UIDs: []kernel.IDRange{{0, 1000, 10}, {5, 3000, 10}}}
	if err := kernel.CreateNamespaces(dir, bad); err == nil {
		t.Error("overlapping ranges were accepted")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s was left: %v", dir, err)
	}
}

func BenchmarkCreateNamespaces(b *testing.B) {
	need.Root(b)
	dir := b.TempDir() + "/ns"
	for b.Loop() {
		if err := kernel.CreateNamespaces(dir, testMap); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		kernel.RemoveNamespaces(dir)
		b.StartTimer()
	}
}
