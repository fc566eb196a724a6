package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"novaagent/engine/errdefs"
)

const kindIntent Kind = "intent"

// Intent is the memory of an operation in progress: what was begun and how far it
// came. After a crash, Intents tells what must be settled.
type Intent struct {
	Kind   string // "build"
	ID     string // of what it is done to
	Detail json.RawMessage
	Step   string // the latest Advance
	Begun  time.Time

	db *DB
}

func intentKey(kind, id string) string { return kind + "/" + id }

// Begin records that an operation of that kind on id begins, durably, before its
// first side effect. detail is what settling it will need. ErrConflict: one is open already.
func (db *DB) Begin(kind, id string, detail any) (Intent, error) {
	raw, err := json.Marshal(detail)
	if err != nil {
		return Intent{}, fmt.Errorf("intent %s %s: %v: %w", kind, id, err, errdefs.ErrInvalid)
	}
	if kind == "" || id == "" || strings.Contains(kind, "/") {
		return Intent{}, fmt.Errorf("intent %q %q: kind and id must not be empty: %w", kind, id, errdefs.ErrInvalid)
	}
	i := Intent{Kind: kind, ID: id, Detail: raw, Begun: time.Now().UTC(), db: db}
	err = db.Update(func(tx *Tx) error {
		old, err := db.get(kindIntent, intentKey(kind, id))
		if err != nil {
			return err
		}
		if old != nil {
			return fmt.Errorf("intent %s %s is open already: %w", kind, id, errdefs.ErrConflict)
		}
		return tx.Put(kindIntent, intentKey(kind, id), i)
	})
	return i, err
}

// Advance records that step was reached. It does not wait for the disk, since settling
// must cope with any step before it.
func (i *Intent) Advance(step string) error {
	i.Step = step
	return PutLazy(i.db, kindIntent, intentKey(i.Kind, i.ID), *i)
}

// End closes the intent: the operation is done, or undone. It does not wait for the
// disk: an intent that comes back after a power cut is settled once more.
func (i *Intent) End() error { return DeleteLazy(i.db, kindIntent, intentKey(i.Kind, i.ID)) }

// Intents returns the open intents, in no order.
func (db *DB) Intents() ([]Intent, error) {
	all, err := List[Intent](db, kindIntent)
	if err != nil {
		return nil, err
	}
	list := make([]Intent, 0, len(all))
	for _, i := range all {
		i.db = db
		list = append(list, i)
	}
	return list, nil
}
