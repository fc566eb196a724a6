package bench

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"novaagent/tests/peer"
)

// treeOf is a tar of files of these sizes and numbers, in directories of a hundred.
func treeOf(b *testing.B, sizes ...[2]int) []byte {
	random := make([]byte, 8<<20)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, s := range sizes {
		size, files := s[0], s[1]
		for i := range files {
			if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("tree/%d/%d/%d", size, i/100, i), Mode: 0o644, Size: int64(size)}); err != nil {
				b.Fatal(err)
			}
			at := r.IntN(len(random) - size)
			if _, err := w.Write(random[at : at+size]); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkFiles measures docker cp in both directions, export and commit of a tree of 500 MB: 10,000 files of 4 kB,
// 4,000 of 100 kB and 12 of 5 MB.
func BenchmarkFiles(b *testing.B) {
	daemons := contestants(b)
	tree := treeOf(b, [2]int{4_000, 10_000}, [2]int{100_000, 4_000}, [2]int{5_000_000, 12})
	const size = 500_000_000
	made := map[*peer.Daemon]string{}
	image := map[*peer.Daemon]string{}
	contest(b, daemons,
		step{do: func(d *peer.Daemon) (err error) {
			made[d], err = create(d, object{"NetworkMode": "none"}, "true")
			return err
		}},
		step{name: "cp in", aim: 1, settle: true, do: func(d *peer.Daemon) error {
			// Of unknown length, as the client's.
			return d.Call("PUT", "/containers/"+made[d]+"/archive?path=/", io.MultiReader(bytes.NewReader(tree)), nil)
		}},
		step{name: "cp out", aim: 1, settle: true, do: func(d *peer.Daemon) error {
			return receive(d, "/containers/"+made[d]+"/archive?path=/tree", size)
		}},
		step{name: "export", aim: 1, settle: true, do: func(d *peer.Daemon) error {
			return receive(d, "/containers/"+made[d]+"/export", size)
		}},
		step{name: "commit", aim: 1, settle: true, do: func(d *peer.Daemon) error {
			var answer struct{ ID string }
			err := d.Call("POST", "/commit?container="+made[d]+"&repo=tree", object{}, &answer)
			image[d] = answer.ID
			return err
		}},
		step{do: func(d *peer.Daemon) error {
			if err := remove(d, made[d]); err != nil {
				return err
			}
			return d.Call("DELETE", "/images/"+image[d]+"?force=1", nil, nil)
		}})
}
