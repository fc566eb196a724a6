package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"novaagent/engine/errdefs"
)

// TestRangesNeverOverlap plays allocations, releases, failed transactions, checkpoints and crashes against
// a model: no two owners ever share an id, and a range is stable until its release.
func TestRangesNeverOverlap(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "store-test-") // no disk to wait for
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, "state.db")
		os.Remove(path)
		os.Remove(journalPath(path))
		db, err := Open(path, quiet())
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { db.Close() }()
		held := map[string]Range{}
		reserved := map[Range]bool{}
		owner := rapid.Map(rapid.IntRange(0, 40), func(i int) string { return fmt.Sprint("owner", i) })
		commit := rapid.SampledFrom([]func(func(*Tx) error) error{
			func(f func(*Tx) error) error { return db.Update(f) },
			func(f func(*Tx) error) error { return db.UpdateLazy(f) },
		})
		boom := errors.New("boom")
		rt.Repeat(map[string]func(*rapid.T){
			"allocate": func(rt *rapid.T) {
				who := owner.Draw(rt, "owner")
				var got Range
				err := commit.Draw(rt, "commit")(func(tx *Tx) (err error) { got, err = tx.AllocateRange(who); return err })
				if err != nil {
					rt.Fatal(err)
				}
				if old, ok := held[who]; ok && old != got {
					rt.Fatalf("%s had %v and now has %v", who, old, got)
				}
				held[who] = got
			},
			"fail": func(rt *rapid.T) {
				who := owner.Draw(rt, "owner")
				release := rapid.Bool().Draw(rt, "release")
				err := db.Update(func(tx *Tx) error {
					if release {
						if err := tx.ReleaseRange(who); err != nil {
							return err
						}
					} else if _, err := tx.AllocateRange(who); err != nil {
						return err
					}
					return boom
				})
				if !errors.Is(err, boom) {
					rt.Fatal(err)
				}
			},
			"release": func(rt *rapid.T) {
				who := owner.Draw(rt, "owner")
				if err := commit.Draw(rt, "commit")(func(tx *Tx) error { return tx.ReleaseRange(who) }); err != nil {
					rt.Fatal(err)
				}
				delete(held, who)
			},
			"claim": func(rt *rapid.T) {
				who := owner.Draw(rt, "owner")
				want := Range{FirstID + uint32(rapid.IntRange(0, 60).Draw(rt, "slot"))*RangeSize, RangeSize}
				err := db.Update(func(tx *Tx) error { return tx.ClaimRange(who, want) })
				old, has := held[who]
				free := !slices.Contains(slices.Collect(maps.Values(held)), want) && !reserved[want]
				switch {
				case has && old == want, !has && free:
					if err != nil {
						rt.Fatal(err)
					}
					held[who] = want
				default:
					if !errors.Is(err, errdefs.ErrConflict) {
						rt.Fatalf("%s claims %v: %v", who, want, err)
					}
				}
			},
			"reserve": func(rt *rapid.T) {
				r, err := db.ReserveRange()
				if err != nil {
					rt.Fatal(err)
				}
				if reserved[r] {
					rt.Fatalf("%v is reserved twice", r)
				}
				reserved[r] = true
			},
			"take a reserved one": func(rt *rapid.T) {
				who, fail := owner.Draw(rt, "owner"), rapid.Bool().Draw(rt, "fail")
				for r := range reserved {
					var got Range
					err := db.Update(func(tx *Tx) (err error) {
						if got, err = tx.AllocateReserved(who, r); err == nil && fail {
							err = boom
						}
						return err
					})
					old, has := held[who]
					if fail != (err != nil) || !has && got != r || has && got != old {
						rt.Fatalf("%s takes %v: %v, %v", who, r, got, err)
					}
					if !has && !fail {
						held[who] = r
						delete(reserved, r)
					}
					return
				}
			},
			"give a reserved one back": func(rt *rapid.T) {
				for r := range reserved {
					db.UnreserveRange(r)
					delete(reserved, r)
					return
				}
			},
			"checkpoint": func(rt *rapid.T) {
				if err := db.checkpoint(); err != nil {
					rt.Fatal(err)
				}
			},
			"crash": func(rt *rapid.T) {
				db.crash(t)
				clear(reserved)
				if db, err = Open(path, quiet()); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				seen := map[uint32]string{}
				for r := range reserved {
					seen[r.Start] = "nobody yet"
				}
				for who, r := range held {
					if _, err := r.slot(); err != nil {
						rt.Fatal(err)
					}
					if other, taken := seen[r.Start]; taken {
						rt.Fatalf("%s and %s share %v", who, other, r)
					}
					seen[r.Start] = who
				}
				all, err := List[Range](db, kindRange)
				if err != nil || !maps.Equal(all, held) {
					rt.Fatalf("the database has %v, the model %v: %v", all, held, err)
				}
			},
		})
	})
}

func TestRangesRunOut(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	for i := range db.ranges.taken {
		db.ranges.taken[i] = i != 77
	}
	allocate := func(owner string) (r Range, err error) {
		err = db.UpdateLazy(func(tx *Tx) (err error) { r, err = tx.AllocateRange(owner); return err })
		return r, err
	}
	r, err := allocate("a")
	if err != nil || r.Start != FirstID+77*RangeSize {
		t.Fatalf("the last range: %v, %v", r, err)
	}
	if _, err := allocate("b"); !errors.Is(err, errdefs.ErrExhausted) {
		t.Errorf("none is left: %v", err)
	}
	last := Range{FirstID + (rangeCount-1)*RangeSize, RangeSize}
	if uint64(last.Start)+uint64(last.Size) > LastID {
		t.Errorf("the last range %v runs over %d", last, uint32(LastID))
	}
}

func TestReleasedRangeRests(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.db"))
	var first, second Range
	err := errors.Join(
		db.Update(func(tx *Tx) (err error) { first, err = tx.AllocateRange("a"); return err }),
		db.Update(func(tx *Tx) error { return tx.ReleaseRange("a") }),
		db.Update(func(tx *Tx) (err error) { second, err = tx.AllocateRange("a"); return err }))
	if err != nil || first == second {
		t.Errorf("the range %v was given out again at once (%v)", first, err)
	}
}
