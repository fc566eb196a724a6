package store

import (
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"novaagent/engine/errdefs"
)

// Put records v under kind and key, durably.
func Put[T any](db *DB, kind Kind, key string, v T) error {
	return db.Update(func(tx *Tx) error { return tx.Put(kind, key, v) })
}

// PutLazy is Put without waiting for the disk.
func PutLazy[T any](db *DB, kind Kind, key string, v T) error {
	return db.UpdateLazy(func(tx *Tx) error { return tx.Put(kind, key, v) })
}

// Delete makes sure that there is no record of that key, durably.
func Delete(db *DB, kind Kind, key string) error {
	return db.Update(func(tx *Tx) error { tx.Delete(kind, key); return nil })
}

// DeleteLazy is Delete without waiting for the disk.
func DeleteLazy(db *DB, kind Kind, key string) error {
	return db.UpdateLazy(func(tx *Tx) error { tx.Delete(kind, key); return nil })
}

// Get returns the record of that key, or ErrNotFound.
func Get[T any](db *DB, kind Kind, key string) (T, error) {
	db.mu.RLock()
	value, err := db.get(kind, key)
	db.mu.RUnlock()
	var v T
	if err != nil {
		return v, err
	}
	if value == nil {
		return v, fmt.Errorf("record %s %s: %w", kind, key, errdefs.ErrNotFound)
	}
	return decode[T](kind, key, value)
}

// List returns all records of a kind by key. Those that cannot be decoded are
// missing from the map and named by the error, which is of kind ErrInvalid; the rest is there all the same.
func List[T any](db *DB, kind Kind) (map[string]T, error) {
	db.mu.RLock()
	raw, err := db.list(kind)
	db.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	all := make(map[string]T, len(raw))
	var errs []error
	for key, value := range raw {
		v, err := decode[T](kind, key, value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all[key] = v
	}
	return all, errors.Join(errs...)
}

func decode[T any](kind Kind, key string, value []byte) (T, error) {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return v, fmt.Errorf("record %s %s: %v: %w", kind, key, err, errdefs.ErrInvalid)
	}
	return v, nil
}

// get returns the value, or nil if there is none. The caller holds mu.
func (db *DB) get(kind Kind, key string) ([]byte, error) {
	if value, ok := db.pending[kind][key]; ok {
		return value, nil
	}
	if db.closed {
		return nil, fmt.Errorf("database %s is closed: %w", db.path, errdefs.ErrUnavailable)
	}
	var value []byte
	err := db.bolt.View(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(kind)); b != nil {
			if v := b.Get([]byte(key)); v != nil {
				value = append([]byte{}, v...) // v is valid within the transaction only
			}
		}
		return nil
	})
	return value, err
}

// list returns all values of kind. The caller holds mu.
func (db *DB) list(kind Kind) (map[string][]byte, error) {
	if db.closed {
		return nil, fmt.Errorf("database %s is closed: %w", db.path, errdefs.ErrUnavailable)
	}
	all := map[string][]byte{}
	err := db.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(kind))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			all[string(k)] = append([]byte{}, v...)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for key, value := range db.pending[kind] {
		if value == nil {
			delete(all, key)
		} else {
			all[key] = value
		}
	}
	return all, nil
}
