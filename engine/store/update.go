package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"novaagent/engine/errdefs"
)

// op is one change: a nil value deletes.
type op struct {
	kind  Kind
	key   string
	value []byte
}

// Tx gathers the changes of one Update; they take effect together or not at all.
type Tx struct {
	db  *DB
	ops []op
	// taken and freed are what the transaction did to the id ranges.
	taken, freed []uint32
}

// Put records v as JSON.
func (tx *Tx) Put(kind Kind, key string, v any) error {
	if key == "" || kind == "" || strings.ContainsRune(string(kind), 0) {
		return fmt.Errorf("record %q %q: kind and key must not be empty: %w", kind, key, errdefs.ErrInvalid)
	}
	value, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s %s: %v: %w", kind, key, err, errdefs.ErrInvalid)
	}
	tx.ops = append(tx.ops, op{kind, key, value})
	return nil
}

// Delete makes sure that no record of that key is there.
func (tx *Tx) Delete(kind Kind, key string) {
	tx.ops = append(tx.ops, op{kind: kind, key: key})
}

// Update runs f and makes its changes durable. If f fails nothing changes. An
// error of kind ErrUnavailable means that the disk refused; the changes are taken back.
// f runs under the DB's lock: it is short and does not call the DB.
func (db *DB) Update(f func(*Tx) error) error { return db.update(f, false) }

// UpdateLazy is Update without waiting for the disk; see the package's comment.
func (db *DB) UpdateLazy(f func(*Tx) error) error { return db.update(f, true) }

// Sync makes all earlier lazy writes durable.
func (db *DB) Sync() error { return db.Barrier()() }

// Barrier returns what makes the lazy writes durable that come before it, and costs nothing if
// another Sync has done so meanwhile.
func (db *DB) Barrier() (sync func() error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	end, epoch := db.journal.end, db.journal.epoch
	return func() error { return db.sync(end, epoch) }
}

func (db *DB) update(f func(*Tx) error, lazy bool) error {
	if err := db.lockWithRoom(); err != nil {
		return err
	}
	tx := &Tx{db: db}
	if err := f(tx); err != nil {
		tx.undoRanges()
		db.mu.Unlock()
		return err
	}
	if len(tx.ops) == 0 {
		db.mu.Unlock()
		return nil
	}
	undo := db.before(tx.ops)
	payload := encodeOps(tx.ops)
	if !db.journal.fits(len(payload)) {
		db.apply(tx.ops)
		db.mu.Unlock()
		return db.settle(tx, undo, db.checkpoint())
	}
	end, err := db.journal.append(payload, lazy)
	epoch := db.journal.epoch
	if err != nil {
		tx.undoRanges()
		db.mu.Unlock()
		return fmt.Errorf("database %s: journal: %v: %w", db.path, err, errdefs.ErrUnavailable)
	}
	db.apply(tx.ops)
	db.mu.Unlock()
	if lazy {
		return db.settle(tx, undo, nil)
	}
	return db.settle(tx, undo, db.sync(end, epoch))
}

// lockWithRoom locks mu when the journal has room, after a checkpoint if need be.
func (db *DB) lockWithRoom() error {
	for {
		db.mu.Lock()
		if db.closed {
			db.mu.Unlock()
			return fmt.Errorf("database %s is closed: %w", db.path, errdefs.ErrUnavailable)
		}
		if !db.journal.nearlyFull() {
			return nil
		}
		db.mu.Unlock()
		if err := db.checkpoint(); err != nil {
			return err
		}
	}
}

// before returns the operations that take ops back.
func (db *DB) before(ops []op) []op {
	undo := make([]op, 0, len(ops))
	for i := len(ops) - 1; i >= 0; i-- {
		value, _ := db.get(ops[i].kind, ops[i].key)
		undo = append(undo, op{ops[i].kind, ops[i].key, value})
	}
	return undo
}

// settle ends an update whose write went as err says.
func (db *DB) settle(tx *Tx, undo []op, err error) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err == nil {
		tx.freeRanges()
		return nil
	}
	tx.undoRanges()
	// Tell the journal too, if it can be told: the frame may be in the file.
	if db.journal.fits(len(encodeOps(undo))) {
		if _, jerr := db.journal.append(encodeOps(undo), true); jerr != nil {
			err = errors.Join(err, jerr)
		}
	}
	db.apply(undo)
	return err
}

// sync makes the journal durable up to end. Whoever waits here while another
// writes usually finds his own frame written with it.
func (db *DB) sync(end int64, epoch uint64) error {
	db.syncMu.Lock()
	defer db.syncMu.Unlock()
	db.mu.RLock()
	j := db.journal
	done := j.epoch != epoch || j.syncedTo >= end // a checkpoint is durable too
	from, tail := j.syncedTo, j.tail
	closed := db.closed
	db.mu.RUnlock()
	if done {
		return nil
	}
	if closed {
		return fmt.Errorf("database %s is closed: %w", db.path, errdefs.ErrUnavailable)
	}
	if _, err := j.synced.WriteAt(tail, from); err != nil {
		return fmt.Errorf("database %s: journal: %v: %w", db.path, err, errdefs.ErrUnavailable)
	}
	db.mu.Lock()
	j.syncedTo = from + int64(len(tail))
	j.tail = append([]byte(nil), j.tail[len(tail):]...)
	db.mu.Unlock()
	return nil
}

// encodeOps is the payload of a frame: for each operation a byte (1 put, 0
// delete) and kind, key and value, each behind its length as a uvarint.
func encodeOps(ops []op) []byte {
	var b []byte
	for _, o := range ops {
		put := byte(0)
		if o.value != nil {
			put = 1
		}
		b = append(b, put)
		b = appendField(b, string(o.kind))
		b = appendField(b, o.key)
		if o.value != nil {
			b = appendField(b, string(o.value))
		}
	}
	return b
}

func appendField(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func decodeOps(b []byte) ([]op, error) {
	var ops []op
	field := func() (string, error) {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return "", errors.New("a field runs over the end of its frame")
		}
		s := string(b[size : size+int(n)])
		b = b[size+int(n):]
		return s, nil
	}
	for len(b) > 0 {
		put := b[0]
		b = b[1:]
		kind, err := field()
		if err != nil {
			return nil, err
		}
		key, err := field()
		if err != nil {
			return nil, err
		}
		o := op{kind: Kind(kind), key: key}
		switch put {
		case 0:
		case 1:
			value, err := field()
			if err != nil {
				return nil, err
			}
			o.value = []byte(value)
		default:
			return nil, fmt.Errorf("unknown operation %d", put)
		}
		if o.key == "" || o.kind == "" {
			return nil, errors.New("an operation without kind or key")
		}
		ops = append(ops, o)
	}
	return ops, nil
}
