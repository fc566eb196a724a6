package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"novaagent/tests/peer"
)

// BenchmarkIdle measures what idle containers cost: 1,000 of nova-agent's, 40 of the others', whose memory a
// machine might not have otherwise. Memory is the proportional set size of all of the engine's own processes.
func BenchmarkIdle(b *testing.B) {
	daemons := contestants(b)
	for b.Loop() {
		table := tabwriter.NewWriter(b.Output(), 0, 8, 2, ' ', 0)
		fmt.Fprintln(table, "daemon\tcontainers\tmemory of each\tstart, first ten\tstart, last ten\tps -a\tinspect\t")
		for i, d := range daemons {
			n := 40
			if i == 0 {
				n = 1000
			}
			r := idle(b, d, n)
			fmt.Fprintf(table, "%s\t%d\t%.2f MB\t%s\t%s\t%s\t%s\t", d.Name, n, r.megabytes, short(r.first), short(r.last), short(r.list), short(r.inspect))
			if i == 0 {
				fmt.Fprintf(table, "at most 1.5 MB: %s; at most 50 ms: %s", verdict(r.megabytes <= 1.5), verdict(r.list <= 50*time.Millisecond))
			}
			fmt.Fprintln(table)
			b.ReportMetric(r.megabytes, strings.ReplaceAll(d.Name, " ", "-")+"-MB")
		}
		table.Flush()
	}
}

type idleFigures struct {
	megabytes                  float64
	first, last, list, inspect time.Duration // medians
}

// idle measures n containers.
func idle(b *testing.B, d *peer.Daemon, n int) (r idleFigures) {
	b.Helper()
	before := engineMemory(b, d)
	ids := make([]string, n)
	starts := make([]time.Duration, n)
	for i := range ids {
		id, err := create(d, object{"NetworkMode": "none"}, "sleep", "100000")
		if err != nil {
			b.Fatal(err)
		}
		ids[i] = id
		begin := time.Now()
		if err := start(d, id); err != nil {
			b.Fatal(err)
		}
		starts[i] = time.Since(begin)
	}
	r.megabytes = float64(engineMemory(b, d)-before) * 1024 / 1e6 / float64(n)
	r.first, r.last = quantile(starts[:10], 0.5), quantile(starts[n-10:], 0.5)
	var lists, inspects []time.Duration
	for i := range 20 {
		var all []struct{ ID string }
		begin := time.Now()
		if err := d.Call("GET", "/containers/json?all=1", nil, nil); err != nil {
			b.Fatal(err)
		}
		lists = append(lists, time.Since(begin))
		if err := d.Call("GET", "/containers/json?all=1", nil, &all); err != nil || len(all) != n {
			b.Fatal(len(all), err)
		}
		begin = time.Now()
		if err := d.Call("GET", "/containers/"+ids[i]+"/json", nil, nil); err != nil {
			b.Fatal(err)
		}
		inspects = append(inspects, time.Since(begin))
	}
	r.list, r.inspect = quantile(lists, 0.5), quantile(inspects, 0.5)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for k := range errs {
		wg.Go(func() {
			for i := k; i < n; i += len(errs) {
				errs[k] = errors.Join(errs[k], remove(d, ids[i]))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	return r
}

// engineMemory is the proportional set size, in KiB, of a daemon and all its helpers: the processes in its network
// namespace. Containers without a network have others.
func engineMemory(b *testing.B, d *peer.Daemon) (kib int) {
	b.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", d.PID))
	if err != nil {
		b.Fatal(err)
	}
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		b.Fatal(err)
	}
	for _, p := range all {
		if ns, err := os.Readlink(p + "/ns/net"); err != nil || ns != own {
			continue // others', or ended
		}
		data, err := os.ReadFile(p + "/smaps_rollup")
		if err != nil {
			continue // ended
		}
		_, rest, found := strings.Cut(string(data), "\nPss:")
		if !found {
			continue
		}
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			b.Fatal(err)
		}
		kib += n
	}
	return kib
}
