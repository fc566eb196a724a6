package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	bolt "go.etcd.io/bbolt"

	"novaagent/engine/errdefs"
)

const kindThing Kind = "thing"

type thing struct{ Name string }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func mustOpen(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(path, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// crash lets go of the files as the end of the process would.
func (db *DB) crash(t testing.TB) {
	t.Helper()
	db.closed = true
	if err := errors.Join(db.journal.close(), db.bolt.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsSurviveACrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	steps := []error{
		Put(db, kindThing, "a", thing{"1"}),
		PutLazy(db, kindThing, "b", thing{"2"}),
		Put(db, kindThing, "c", thing{"3"}),
		PutLazy(db, kindThing, "d", thing{"4"}),
		DeleteLazy(db, kindThing, "a"),
		Delete(db, kindThing, "absent"),
		PutLazy(db, kindThing, "b", thing{"5"}),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	db.crash(t)
	for range 2 { // the second time from bolt
		db = mustOpen(t, path)
		all, err := List[thing](db, kindThing)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]thing{"b": {"5"}, "c": {"3"}, "d": {"4"}}
		if fmt.Sprint(all) != fmt.Sprint(want) {
			t.Errorf("records are %v, want %v", all, want)
		}
		if _, err := Get[thing](db, kindThing, "a"); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("a deleted record: %v", err)
		}
		if got, err := Get[thing](db, kindThing, "d"); err != nil || got.Name != "4" {
			t.Errorf("d is %v, %v", got, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerCut keeps of the journal only what O_DSYNC writes have carried.
func TestPowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	for i := range 20 {
		if err := PutLazy(db, kindThing, fmt.Sprint("lazy", i), thing{}); err != nil {
			t.Fatal(err)
		}
		if i == 9 {
			if err := Put(db, kindThing, "synced", thing{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	synced := db.journal.syncedTo
	if synced == 0 || synced == db.journal.end {
		t.Fatalf("synced to %d of %d", synced, db.journal.end)
	}
	db.crash(t)
	for _, tail := range []string{"zeros", "garbage", "torn"} {
		t.Run(tail, func(t *testing.T) {
			cut := filepath.Join(t.TempDir(), "state.db")
			copyFile(t, path, cut)
			data, err := os.ReadFile(journalPath(path))
			if err != nil {
				t.Fatal(err)
			}
			switch tail {
			case "zeros":
				clear(data[synced:])
			case "garbage":
				copy(data[synced:], bytes.Repeat([]byte{0xa5}, 4096))
			case "torn":
				clear(data[synced+frameHeader+3:])
			}
			if err := os.WriteFile(journalPath(cut), data, 0o600); err != nil {
				t.Fatal(err)
			}
			all, err := List[thing](mustOpen(t, cut), kindThing)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := all["synced"]; !ok || len(all) != 11 {
				t.Errorf("after the power cut there is %v", all)
			}
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	boom := errors.New("boom")
	err := db.Update(func(tx *Tx) error {
		if err := tx.Put(kindThing, "a", thing{}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if _, err := Get[thing](db, kindThing, "a"); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("a record of a failed update: %v", err)
	}
}

func TestCheckpoints(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	big := strings.Repeat("x", 100_000)
	const n = 40 // four journals full
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range n / 4 {
				key := fmt.Sprint(g, "-", i)
				put := Put[thing]
				if i%2 == 0 {
					put = PutLazy[thing]
				}
				if err := put(db, kindThing, key, thing{big}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	huge := strings.Repeat("y", 2*journalSize) // never fits
	if err := PutLazy(db, kindThing, "huge", thing{huge}); err != nil {
		t.Fatal(err)
	}
	db.crash(t)
	all, err := List[thing](mustOpen(t, path), kindThing)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != n+1 || all["huge"].Name != huge {
		t.Errorf("%d records, want %d", len(all), n+1)
	}
	if info, err := os.Stat(journalPath(path)); err != nil || info.Size() != journalSize {
		t.Errorf("the journal is %v, %v", info, err)
	}
}

func TestFailedSyncIsTakenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	if err := Put(db, kindThing, "a", thing{"old"}); err != nil {
		t.Fatal(err)
	}
	good := db.journal.synced
	broken, err := os.Open(os.DevNull) // not open for writing
	if err != nil {
		t.Fatal(err)
	}
	db.journal.synced = broken
	if err := Put(db, kindThing, "a", thing{"new"}); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a write to a broken disk: %v", err)
	}
	if err := db.Update(func(tx *Tx) error { _, err := tx.AllocateRange("x"); return err }); err == nil {
		t.Error("an id range on a broken disk")
	}
	if got, err := Get[thing](db, kindThing, "a"); err != nil || got.Name != "old" {
		t.Errorf("after the failed write: %v, %v", got, err)
	}
	db.journal.synced = good
	broken.Close()
	if err := Put(db, kindThing, "b", thing{"after"}); err != nil {
		t.Errorf("the disk works again: %v", err)
	}
	db.crash(t)
	db = mustOpen(t, path)
	all, err := List[thing](db, kindThing)
	if err != nil || all["a"].Name != "old" || all["b"].Name != "after" {
		t.Errorf("after a crash: %v, %v", all, err)
	}
	if ranges, err := List[Range](db, kindRange); err != nil || len(ranges) != 0 {
		t.Errorf("ranges %v, %v", ranges, err)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	mustOpen(t, path)
	if _, err := Open(path, quiet()); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a second open: %v", err)
	}
}

func TestDamage(t *testing.T) {
	sound := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, sound)
	for i := range 500 {
		if err := PutLazy(db, kindThing, fmt.Sprintf("%05d", i), thing{strings.Repeat("z", 200)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(sound)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(from, to int) func([]byte) []byte {
		return func(b []byte) []byte {
			for i := from; i < to && i < len(b); i++ {
				b[i] ^= 0xff
			}
			return b
		}
	}
	for name, harm := range map[string]func([]byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"zeros":         func(b []byte) []byte { clear(b); return b },
		"garbage":       func(b []byte) []byte { return bytes.Repeat([]byte("garbage!"), 2048) },
		"half":          func(b []byte) []byte { return b[:len(b)/2] },
		"two pages":     func(b []byte) []byte { return b[:2*os.Getpagesize()] },
		"short":         func(b []byte) []byte { return b[:100] },
		"meta pages":    flip(0, 2*4096),
		"the rest":      flip(2*4096, 1<<30),
		"page headers":  flip(4*4096, 4*4096+16),
		"another bolt":  func([]byte) []byte { return foreignBolt(t) },
		"schema broken": func([]byte) []byte { return boltWithMeta(t, []byte("??")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			broken := harm(bytes.Clone(whole))
			if err := os.WriteFile(path, broken, 0o600); err != nil {
				t.Fatal(err)
			}
			db := mustOpen(t, path)
			if db.Quarantined() == "" {
				// Damage to what no page refers to is none.
				if all, err := List[thing](db, kindThing); err != nil || len(all) != 500 {
					t.Errorf("neither put aside nor whole: %d, %v", len(all), err)
				}
				return
			}
			aside, err := os.ReadFile(db.Quarantined())
			if err != nil || !bytes.Equal(aside, broken) {
				t.Errorf("the damaged file was not kept as it was: %v", err)
			}
			if err := Put(db, kindThing, "a", thing{}); err != nil {
				t.Errorf("the new database: %v", err)
			}
		})
	}
}

func foreignBolt(t *testing.T) []byte { return boltWithMeta(t, nil) }

func boltWithMeta(t *testing.T, version []byte) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.db")
	b, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(func(tx *bolt.Tx) error {
		if version == nil {
			_, err := tx.CreateBucket([]byte("somebody else's"))
			return err
		}
		meta, err := tx.CreateBucket([]byte(metaBucket))
		if err != nil {
			return err
		}
		return errors.Join(meta.Put(keySchema, version), meta.Put(keyEpoch, binary.BigEndian.AppendUint64(nil, 1)))
	})
	if err := errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestNewerSchemaIsRefusedUntouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	data := boltWithMeta(t, binary.BigEndian.AppendUint64(nil, schema+1))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, quiet()); !errors.Is(err, errdefs.ErrUnsupported) {
		t.Errorf("a newer schema: %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
		t.Errorf("it was touched: %v", err)
	}
}

func TestMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	if err := Put(db, kindThing, "a", thing{"old"}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	rename := func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(kindThing))
		return b.Put([]byte("b"), b.Get([]byte("a")))
	}
	for range 2 {
		db, err := open(path, quiet(), schema+1, map[uint64]migration{schema: rename})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Get[thing](db, kindThing, "b"); err != nil || got.Name != "old" {
			t.Errorf("migrated: %v, %v", got, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		rename = nil // only once
	}
	if _, err := open(path, quiet(), schema+3, nil); err == nil {
		t.Error("a migration that is missing")
	}
}

// TestEveryVersionOpens opens a file of each version that was ever released.
func TestEveryVersionOpens(t *testing.T) {
	files, err := filepath.Glob("testdata/schema-*.db")
	if err != nil || len(files) != schema {
		t.Fatalf("%d files of old versions, want %d: %v", len(files), schema, err)
	}
	for _, file := range files {
		path := filepath.Join(t.TempDir(), "state.db")
		copyFile(t, file, path)
		db := mustOpen(t, path)
		if db.Quarantined() != "" {
			t.Errorf("%s was put aside", file)
		}
		if got, err := Get[Range](db, kindRange, strings.Repeat("a", 64)); err != nil || got.Start != FirstID {
			t.Errorf("%s: range %v, %v", file, got, err)
		}
		if intents, err := db.Intents(); err != nil || len(intents) != 1 || intents[0].Step != "second" {
			t.Errorf("%s: intents %v, %v", file, intents, err)
		}
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "absent", "state.db")
	if _, err := Open(path, quiet()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("no directory: %v", err)
	}
	path = filepath.Join(dir, "state.db")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, quiet()); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("a directory: %v", err)
	}
}

func TestIntents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	db := mustOpen(t, path)
	i, err := db.Begin("build", "x", map[string]int{"n": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Begin("build", "x", nil); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("begun twice: %v", err)
	}
	if _, err := db.Begin("", "x", nil); !errors.Is(err, errdefs.ErrInvalid) {
		t.Errorf("without a kind: %v", err)
	}
	if err := i.Advance("network"); err != nil {
		t.Fatal(err)
	}
	db.crash(t)
	db = mustOpen(t, path)
	open, err := db.Intents()
	if err != nil || len(open) != 1 || open[0].Step != "network" || string(open[0].Detail) != `{"n":1}` {
		t.Fatalf("intents %+v, %v", open, err)
	}
	if err := open[0].End(); err != nil {
		t.Fatal(err)
	}
	if open, err := db.Intents(); err != nil || len(open) != 0 {
		t.Errorf("intents %+v, %v", open, err)
	}
}

// TestFaultyDisk fails the k-th write to the database and journal of a child process, for all k
// that matter, and opens what it leaves.
func TestFaultyDisk(t *testing.T) {
	if path := os.Getenv("STORE_TEST_CHILD"); path != "" {
		db, err := Open(path, quiet())
		if err != nil {
			t.Skip(err) // refused cleanly
		}
		for i := range 10 {
			if err := Put(db, kindThing, fmt.Sprint(i), thing{"v"}); err == nil {
				fmt.Println("acked", i)
			}
		}
		_ = db.Close()
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	for k := 1; k <= 13; k += 2 {
		path := filepath.Join(t.TempDir(), "state.db")
		if err := mustOpen(t, path).Close(); err != nil {
			t.Fatal(err)
		}
		inject := fmt.Sprintf("inject=pwrite64,fdatasync,fsync,fallocate:error=EIO:when=%d", k)
		cmd := exec.Command(strace, "-f", "-qq", "-e", "trace=none", "-e", inject, os.Args[0], "-test.run=TestFaultyDisk", "-test.v")
		cmd.Env = append(os.Environ(), "STORE_TEST_CHILD="+path)
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "PTRACE") {
			t.Skip("ptrace is not permitted")
		}
		if err != nil {
			t.Fatalf("k=%d: %v\n%s", k, err, out)
		}
		all, err := List[thing](mustOpen(t, path), kindThing)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			_, there := all[fmt.Sprint(i)]
			if strings.Contains(string(out), fmt.Sprintf("acked %d\n", i)) && !there {
				t.Errorf("k=%d: record %d was acknowledged and is lost", k, i)
			}
		}
	}
}

func BenchmarkPut(b *testing.B) {
	db := mustOpen(b, filepath.Join(b.TempDir(), "state.db"))
	v := thing{strings.Repeat("x", 1500)}
	for _, bench := range []struct {
		name string
		put  func(*DB, Kind, string, thing) error
	}{{"synced", Put[thing]}, {"lazy", PutLazy[thing]}} {
		b.Run(bench.name, func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := bench.put(db, kindThing, fmt.Sprint(i%100), v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzFrames(f *testing.F) {
	j := &journal{epoch: 7}
	for _, ops := range [][]op{{{"thing", "a", []byte(`{}`)}}, {{"thing", "a", nil}, {"x", "y", []byte("1")}}} {
		j.tail, j.end = nil, 0
		dummy, err := os.CreateTemp(f.TempDir(), "")
		if err != nil {
			f.Fatal(err)
		}
		j.lazy = dummy
		if _, err := j.append(encodeOps(ops), false); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(j.tail))
		dummy.Close()
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, frame := range append(parseFrames(data, 7), data) {
			ops, err := decodeOps(frame)
			if err != nil {
				continue
			}
			again, err := decodeOps(encodeOps(ops))
			if err != nil || fmt.Sprint(again) != fmt.Sprint(ops) {
				t.Errorf("%v became %v, %v", ops, again, err)
			}
		}
	})
}
