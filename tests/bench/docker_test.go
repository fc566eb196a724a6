package bench

import (
	"errors"
	"sync"
	"testing"

	"novaagent/tests/peer"
)

// run is create, start, wait and remove.
func run(d *peer.Daemon, network string) error {
	id, err := create(d, object{"NetworkMode": network}, "true")
	if err != nil {
		return err
	}
	return errors.Join(start(d, id), wait(d, id), d.Call("DELETE", "/containers/"+id, nil, nil))
}

// runExec runs true in a container and waits until its connection ends.
func runExec(d *peer.Daemon, id string) error {
	var made struct{ ID string }
	if err := d.Call("POST", "/containers/"+id+"/exec", object{"Cmd": []string{"true"}, "AttachStdout": true, "AttachStderr": true}, &made); err != nil {
		return err
	}
	return d.Call("POST", "/exec/"+made.ID+"/start", object{}, nil)
}

// BenchmarkDockerAPI measures runs and execs.
func BenchmarkDockerAPI(b *testing.B) {
	daemons := contestants(b)
	idle := map[*peer.Daemon]string{}
	for _, d := range daemons {
		id, err := create(d, object{"NetworkMode": "none"}, "sleep", "100000")
		if err == nil {
			err = start(d, id)
		}
		if err != nil {
			b.Fatal(err)
		}
		idle[d] = id
	}
	defer func() {
		for d, id := range idle {
			if err := remove(d, id); err != nil {
				b.Error(err)
			}
		}
	}()
	contest(b, daemons,
		step{name: "run, no network", aim: 15, do: func(d *peer.Daemon) error { return run(d, "none") }},
		step{name: "run, bridge network", aim: 8, do: func(d *peer.Daemon) error { return run(d, "bridge") }},
		step{name: "exec", aim: 10, do: func(d *peer.Daemon) error { return runExec(d, idle[d]) }},
		step{name: "8 runs at once", aim: 15, do: func(d *peer.Daemon) error {
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() { errs[i] = run(d, "none") })
			}
			wg.Wait()
			return errors.Join(errs...)
		}})
}
