package runtime_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"novaagent/engine/kernel"
)

// BenchmarkStartWaitDelete is the life of `busybox true` in pinned namespaces, as the engine has it.
func BenchmarkStartWaitDelete(b *testing.B) {
	r := newRuntime(b)
	lower := image(b)
	ns := b.TempDir() + "/ns"
	m := kernel.IDMap{UIDs: []kernel.IDRange{{Host: firstID, Size: 65536}}, GIDs: []kernel.IDRange{{Host: firstID, Size: 65536}}}
	if err := kernel.CreateNamespaces(ns, m); err != nil {
		b.Fatal(err)
	}
	defer kernel.RemoveNamespaces(ns)
	bu := bundle(b, "bench", lower, "true")
	for i, n := range bu.Spec.Linux.Namespaces {
		switch n.Type {
		case specs.UserNamespace:
			bu.Spec.Linux.Namespaces[i].Path = ns + "/user"
		case specs.NetworkNamespace:
			bu.Spec.Linux.Namespaces[i].Path = ns + "/net"
		}
	}
	ctx := context.Background()
	var all []time.Duration
	var parts [3]time.Duration
	n := 0
	for b.Loop() {
		n++
		t0 := time.Now()
		t, err := r.Start(ctx, bu)
		if err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if x, err := t.Wait(ctx); err != nil || x.Code != 0 {
			b.Fatal(x, err)
		}
		t2 := time.Now()
		if err := t.Delete(ctx); err != nil {
			b.Fatal(err)
		}
		t3 := time.Now()
		parts[0] += t1.Sub(t0)
		parts[1] += t2.Sub(t1)
		parts[2] += t3.Sub(t2)
		all = append(all, t3.Sub(t0))
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[0].Microseconds()), "min-µs")
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "median-µs")
	for i, name := range []string{"start-µs", "wait-µs", "delete-µs"} {
		b.ReportMetric(float64(parts[i].Microseconds())/float64(n), name)
	}
}
