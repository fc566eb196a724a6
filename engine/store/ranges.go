package store

import (
	"errors"
	"fmt"

	"novaagent/engine/errdefs"
)

const kindRange Kind = "idrange"

// The host's ids that containers get, 65,536 each. No distribution gives them to
// users or to newuidmap, and they end below 2^32-1, which is no id.
const (
	RangeSize  = 65536
	FirstID    = 1_000_000_000
	LastID     = 4_294_000_000 // the first id after the last range is at most this
	rangeCount = (LastID - FirstID) / RangeSize
)

// Range is a run of host user and group ids; the zero Range is none.
type Range struct {
	Start uint32
	Size  uint32
}

// IsZero says that r is no range.
func (r Range) IsZero() bool { return r.Size == 0 }

// ranges knows which ranges are taken. DB.mu guards it.
type ranges struct {
	taken [rangeCount]bool
	// next is where the search begins, so that a range rests as long as possible
	// before it is used again.
	next uint32
}

// Ranges returns the ranges that are taken, by owner.
func (db *DB) Ranges() (map[string]Range, error) { return List[Range](db, kindRange) }

// slot is r's number, or an error if r is not one that AllocateRange returns.
func (r Range) slot() (uint32, error) {
	if r.Size != RangeSize || r.Start < FirstID || (r.Start-FirstID)%RangeSize != 0 ||
		(r.Start-FirstID)/RangeSize >= rangeCount {
		return 0, fmt.Errorf("id range %d+%d is none of ours: %w", r.Start, r.Size, errdefs.ErrInvalid)
	}
	return (r.Start - FirstID) / RangeSize, nil
}

func loadRanges(db *DB) (*ranges, error) {
	all, err := List[Range](db, kindRange)
	if err != nil {
		// A range that cannot be read might be given out twice.
		return nil, fmt.Errorf("id ranges: %w", err)
	}
	r := &ranges{}
	for owner, used := range all {
		slot, err := used.slot()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", owner, err)
		}
		r.taken[slot] = true
		r.next = max(r.next, slot+1)
	}
	return r, nil
}

// AllocateRange gives owner a range of its own, the same one if it has one
// already. ErrExhausted: all are taken. The range is owner's until a
// transaction with ReleaseRange succeeds.
func (tx *Tx) AllocateRange(owner string) (Range, error) {
	if held, ok, err := tx.heldRange(owner); err != nil || ok {
		return held, err
	}
	slot, err := tx.db.ranges.free()
	if err != nil {
		return Range{}, fmt.Errorf("id range for %s: %w", owner, err)
	}
	return tx.takeSlot(owner, slot)
}

// AllocateReserved is AllocateRange with a range from ReserveRange, unless owner has another one
// already. If that is so, or the transaction fails, r stays reserved.
func (tx *Tx) AllocateReserved(owner string, r Range) (Range, error) {
	if held, ok, err := tx.heldRange(owner); err != nil || ok {
		return held, err
	}
	if _, err := r.slot(); err != nil {
		return Range{}, err
	}
	return r, tx.Put(kindRange, owner, r)
}

// ReserveRange keeps a range from being allocated, until UnreserveRange or the end of this process.
func (db *DB) ReserveRange() (Range, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	slot, err := db.ranges.free()
	if err != nil {
		return Range{}, fmt.Errorf("reserve an id range: %w", err)
	}
	db.ranges.take(slot)
	return Range{Start: FirstID + slot*RangeSize, Size: RangeSize}, nil
}

// UnreserveRange gives back what ReserveRange returned and no transaction has allocated.
func (db *DB) UnreserveRange(r Range) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if slot, err := r.slot(); err == nil {
		db.ranges.taken[slot] = false
	}
}

// free finds a range that is not taken.
func (r *ranges) free() (slot uint32, err error) {
	for i := range uint32(rangeCount) {
		if slot := (r.next + i) % rangeCount; !r.taken[slot] {
			return slot, nil
		}
	}
	return 0, fmt.Errorf("all %d are taken: %w", rangeCount, errdefs.ErrExhausted)
}

func (r *ranges) take(slot uint32) {
	r.taken[slot] = true
	r.next = (slot + 1) % rangeCount
}

// ClaimRange gives owner exactly r, as when a record is rebuilt. ErrConflict:
// somebody else has it.
func (tx *Tx) ClaimRange(owner string, r Range) error {
	slot, err := r.slot()
	if err != nil {
		return err
	}
	held, ok, err := tx.heldRange(owner)
	switch {
	case err != nil:
		return err
	case ok && held == r:
		return nil
	case ok, tx.db.ranges.taken[slot]:
		return fmt.Errorf("id range %d for %s: %w", r.Start, owner, errdefs.ErrConflict)
	}
	_, err = tx.takeSlot(owner, slot)
	return err
}

// ReleaseRange gives owner's range back, if it has one. Call it only when no file or
// process with an id of the range is left.
func (tx *Tx) ReleaseRange(owner string) error {
	held, ok, err := tx.heldRange(owner)
	if err != nil || !ok {
		return err
	}
	slot, err := held.slot()
	if err != nil {
		return err
	}
	tx.Delete(kindRange, owner)
	tx.freed = append(tx.freed, slot)
	return nil
}

func (tx *Tx) takeSlot(owner string, slot uint32) (Range, error) {
	r := Range{Start: FirstID + slot*RangeSize, Size: RangeSize}
	if err := tx.Put(kindRange, owner, r); err != nil {
		return Range{}, err
	}
	tx.db.ranges.take(slot)
	tx.taken = append(tx.taken, slot)
	return r, nil
}

// heldRange looks into the transaction first, then into the database.
func (tx *Tx) heldRange(owner string) (Range, bool, error) {
	value, err := tx.db.get(kindRange, owner)
	if err != nil {
		return Range{}, false, err
	}
	for _, o := range tx.ops {
		if o.kind == kindRange && o.key == owner {
			value = o.value
		}
	}
	if value == nil {
		return Range{}, false, nil
	}
	r, err := decode[Range](kindRange, owner, value)
	if err != nil {
		return Range{}, false, errors.Join(err)
	}
	return r, true, nil
}

// undoRanges frees what a failed transaction took.
func (tx *Tx) undoRanges() {
	for _, slot := range tx.taken {
		tx.db.ranges.taken[slot] = false
	}
}

// freeRanges frees what a transaction that succeeded released. Until then nobody
// else can take it.
func (tx *Tx) freeRanges() {
	for _, slot := range tx.freed {
		tx.db.ranges.taken[slot] = false
	}
}
