package bench

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"novaagent/tests/peer"
)

// BenchmarkLogs measures how long a container takes to write a million lines of 100 bytes, and how long docker logs
// takes to read them.
func BenchmarkLogs(b *testing.B) {
	daemons := contestants(b)
	lines := []byte(strings.Repeat("It says "+strings.Repeat(`"so" and so <on> `, 5)+"100 bytes\n", 1_000_000))
	var file bytes.Buffer
	w := tar.NewWriter(&file)
	if err := w.WriteHeader(&tar.Header{Name: "lines", Mode: 0o644, Size: int64(len(lines))}); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Write(lines); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	made := map[*peer.Daemon]string{}
	var steps []step
	for _, driver := range []string{"json-file", "local"} {
		without := ""
		if driver == "local" {
			without = "podman"
		}
		steps = append(steps,
			step{without: without, do: func(d *peer.Daemon) (err error) {
				config := object{"max-size": "1g"} // all of it is kept
				if driver == "local" {
					config["compress"] = "false"
				}
				log := object{"Type": driver, "Config": config}
				if made[d], err = create(d, object{"NetworkMode": "none", "LogConfig": log}, "cat", "/lines"); err != nil {
					return err
				}
				return d.Call("PUT", "/containers/"+made[d]+"/archive?path=/", file.Bytes(), nil)
			}},
			step{name: driver + ", written", aim: 1, without: without, settle: true, do: func(d *peer.Daemon) error {
				if err := start(d, made[d]); err != nil {
					return err
				}
				return wait(d, made[d])
			}},
			step{name: driver + ", read", aim: 1, without: without, settle: true, do: func(d *peer.Daemon) error {
				return receive(d, "/containers/"+made[d]+"/logs?stdout=1&stderr=1", int64(len(lines)))
			}},
			step{without: without, do: func(d *peer.Daemon) error { return remove(d, made[d]) }})
	}
	contest(b, daemons, steps...)
}
