package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"novaagent/engine/errdefs"
)

// schema is the version this program writes.
const schema = 1

// migration turns a file of one version into the next.
type migration func(*bolt.Tx) error

// migrations has a step from each older version. The journal's frames are
// applied after them, so a step that changes the shape of a kind must first
// raise the version with an empty journal: the version before it closes with one.
var migrations = map[uint64]migration{}

// migrate brings the file to version and returns the journal's epoch.
func (db *DB) migrate(version uint64, steps map[uint64]migration) (epoch uint64, err error) {
	found, epoch, err := db.readMeta()
	if err != nil {
		return 0, err
	}
	if found > version {
		return 0, fmt.Errorf("database %s has schema %d and this program knows up to %d: it needs the newer version that wrote it: %w",
			db.path, found, version, errdefs.ErrUnsupported)
	}
	if found == version {
		return epoch, nil
	}
	err = db.bolt.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists([]byte(metaBucket))
		if err != nil {
			return err
		}
		for from := found; from != 0 && from < version; from++ {
			step := steps[from]
			if step == nil {
				return fmt.Errorf("no way from schema %d to %d", from, from+1)
			}
			if err := step(tx); err != nil {
				return fmt.Errorf("from schema %d to %d: %w", from, from+1, err)
			}
		}
		if epoch == 0 {
			epoch = 1
		}
		return errors.Join(
			meta.Put(keyEpoch, binary.BigEndian.AppendUint64(nil, epoch)),
			meta.Put(keySchema, binary.BigEndian.AppendUint64(nil, version)))
	})
	if err != nil {
		return 0, fmt.Errorf("database %s: migrate: %v: %w", db.path, err, errdefs.ErrUnavailable)
	}
	return epoch, nil
}

// readMeta returns zeros for a file that was only just made.
func (db *DB) readMeta() (version, epoch uint64, err error) {
	err = db.bolt.View(func(tx *bolt.Tx) error {
		meta := tx.Bucket([]byte(metaBucket))
		if meta == nil {
			if name, _ := tx.Cursor().First(); name != nil {
				return &damageError{db.path, "it has records and no schema"}
			}
			return nil
		}
		v, e := meta.Get(keySchema), meta.Get(keyEpoch)
		if len(v) != 8 || len(e) != 8 {
			return &damageError{db.path, "its schema cannot be read"}
		}
		version, epoch = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(e)
		return nil
	})
	return version, epoch, err
}
