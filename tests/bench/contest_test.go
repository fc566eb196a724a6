package bench

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"novaagent/engine/enginetest"
	"novaagent/tests/need"
	"novaagent/tests/peer"
)

type object = map[string]any

// contestants are nova-agent, Debian 12's dockerd and its podman, in this order, each in namespaces of its
// own and with the same image busybox:latest.
func contestants(b *testing.B) []*peer.Daemon {
	b.Helper()
	need.Root(b)
	dir := b.TempDir()
	socket := filepath.Join(dir, "sock")
	all := []*peer.Daemon{
		peer.Start(b, "nova-agent", socket, "../../bin/nova-agent", "standalone", "--root", filepath.Join(dir, "root"), "--host", "unix://"+socket),
		peer.Dockerd(b, peer.Releases[0]),
		peer.Podman(b),
	}
	archive := enginetest.Archive(b, "busybox:latest", ocispec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}})
	for _, d := range all {
		if err := d.Call("POST", "/images/load", archive, nil); err != nil {
			b.Fatal(err)
		}
	}
	return all
}

// step is something that daemons do in turns.
type step struct {
	name   string // "" if its time does not matter
	aim    float64
	settle bool // what was written before is on the disk when it begins
	do     func(*peer.Daemon) error
	// without is the daemon that cannot do it.
	without string
}

// contest has the daemons do the steps in turns for as long as the benchmark goes on. Then it
// prints how long they took, and how many times longer the second daemon took than the first, which is to be aim
// or more.
func contest(b *testing.B, daemons []*peer.Daemon, steps ...step) {
	b.Helper()
	took := make([][][]time.Duration, len(steps))
	for i := range took {
		took[i] = make([][]time.Duration, len(daemons))
	}
	for b.Loop() {
		for i, s := range steps {
			for k, d := range daemons {
				if d.Name == s.without {
					continue
				}
				if s.settle {
					syscall.Sync()
				}
				begin := time.Now()
				if err := s.do(d); err != nil {
					b.Fatalf("%s: %s: %v", d.Name, s.name, err)
				}
				took[i][k] = append(took[i][k], time.Since(begin))
			}
		}
	}
	table := tabwriter.NewWriter(b.Output(), 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "median (90 %%) of %d", len(took[0][0]))
	for _, d := range daemons {
		fmt.Fprintf(table, "\t%s", d.Name)
	}
	fmt.Fprintln(table, "\tratio\taim\t")
	for i, s := range steps {
		if s.name == "" {
			continue
		}
		fmt.Fprint(table, s.name)
		for k := range daemons {
			if len(took[i][k]) == 0 {
				fmt.Fprint(table, "\t-")
				continue
			}
			fmt.Fprintf(table, "\t%s (%s)", short(quantile(took[i][k], 0.5)), short(quantile(took[i][k], 0.9)))
		}
		ratio := quantile(took[i][1], 0.5).Seconds() / quantile(took[i][0], 0.5).Seconds()
		fmt.Fprintf(table, "\t%.2f\t%s\t%s\n", ratio, fmt.Sprintf("%g", s.aim), verdict(ratio >= s.aim))
		b.ReportMetric(ratio, strings.ReplaceAll(s.name, " ", "-")+"-ratio")
	}
	table.Flush()
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

// short is a duration with three digits.
func short(d time.Duration) string {
	for unit := time.Microsecond; ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}

// create makes a container of busybox.
func create(d *peer.Daemon, host object, command ...string) (string, error) {
	var made struct{ ID string }
	err := d.Call("POST", "/containers/create", object{"Image": "busybox:latest", "Cmd": command, "HostConfig": host}, &made)
	return made.ID, err
}

func start(d *peer.Daemon, id string) error {
	return d.Call("POST", "/containers/"+id+"/start", nil, nil)
}

func remove(d *peer.Daemon, id string) error {
	return d.Call("DELETE", "/containers/"+id+"?force=1", nil, nil)
}

// wait waits for the end of a container, which must be a success.
func wait(d *peer.Daemon, id string) error {
	var end struct{ StatusCode int }
	err := d.Call("POST", "/containers/"+id+"/wait", nil, &end)
	if err == nil && end.StatusCode != 0 {
		err = fmt.Errorf("the container ended with %d", end.StatusCode)
	}
	return err
}

// receive reads an answer, of which there must be at least so many bytes.
func receive(d *peer.Daemon, path string, atLeast int64) error {
	resp, err := d.Do(context.Background(), "GET", path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err == nil && n < atLeast {
		err = fmt.Errorf("GET %s: %d bytes, want %d", path, n, atLeast)
	}
	return err
}
