package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"novaagent/engine/errdefs"
)

// Kind is a class of records, such as "container"; each has keys of its own.
type Kind string

// metaBucket holds the schema's version and the journal's epoch. Its name can't be a
// Kind, since those have no NUL.
const metaBucket = "\x00meta"

var (
	keySchema = []byte("schema")
	keyEpoch  = []byte("epoch")
)

// openTimeout bounds the wait for a process that has the file and is about to end.
const openTimeout = 2 * time.Second

// DB is an open database. All its methods may be called at the same time.
type DB struct {
	path        string
	log         *slog.Logger
	quarantined string
	bolt        *bolt.DB

	// syncMu is held over writes that wait for the disk. It guards the
	// journal's synced end and comes before mu.
	syncMu sync.Mutex

	mu      sync.RWMutex
	journal *journal
	// pending holds what is in the journal and not in bolt yet; a nil value is a deletion.
	pending map[Kind]map[string][]byte
	ranges  *ranges
	closed  bool
}

// Open opens the database at path, making it if it is not there. It returns
// ErrConflict if another process has it open, ErrUnsupported if a newer version of this
// program wrote it, and ErrUnavailable if it cannot be read or written. A damaged
// file is put aside and the database begins empty: see Quarantined.
func Open(path string, log *slog.Logger) (*DB, error) {
	return open(path, log, schema, migrations)
}

func open(path string, log *slog.Logger, version uint64, steps map[uint64]migration) (*DB, error) {
	db := &DB{path: path, log: log, pending: map[Kind]map[string][]byte{}}
	epoch, err := db.openBolt(version, steps)
	var damage *damageError
	if errors.As(err, &damage) {
		if err := db.quarantine(damage); err != nil {
			return nil, err
		}
		epoch, err = db.openBolt(version, steps)
	}
	if err != nil {
		return nil, err
	}
	if err := db.recoverJournal(epoch); err != nil {
		return nil, errors.Join(err, db.bolt.Close())
	}
	if db.ranges, err = loadRanges(db); err != nil {
		return nil, errors.Join(err, db.journal.close(), db.bolt.Close())
	}
	return db, nil
}

// Quarantined is the path to which a damaged database was renamed by Open, "" if
// it was sound. Whoever opened the DB must then not treat what has no record as a stray.
func (db *DB) Quarantined() string { return db.quarantined }

// damageError says that a file is not a sound database.
type damageError struct {
	path  string
	cause any
}

func (e *damageError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.path, e.cause)
}

// openBolt opens and verifies the bbolt file, and returns the journal's epoch.
func (db *DB) openBolt(version uint64, steps map[uint64]migration) (epoch uint64, err error) {
	// bbolt panics on some damage, and a truncated file faults in its memory map.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			epoch, err = 0, &damageError{db.path, p}
		}
		if err != nil && db.bolt != nil {
			db.closeDamaged()
		}
	}()
	info, err := os.Stat(db.path)
	if err == nil && !info.Mode().IsRegular() {
		return 0, fmt.Errorf("database %s is not a file: %w", db.path, errdefs.ErrUnavailable)
	}
	if err == nil && info.Size() == 0 {
		// bbolt takes an empty file for a new one; a file we made is never empty.
		return 0, &damageError{db.path, "the file is empty"}
	}
	if err == nil {
		// Read-only first: opened for writing, bbolt walks the pages in a goroutine of its own, where
		// a panic about a damaged one would end the process.
		if err := db.openFile(bolt.Options{ReadOnly: true}); err != nil {
			return 0, err
		}
		if err := errors.Join(db.bolt.View(readEverything), db.bolt.Close()); err != nil {
			return 0, &damageError{db.path, err}
		}
	}
	err = db.openFile(bolt.Options{
		NoFreelistSync: true, // rebuilt at open; saves a page for each commit
		FreelistType:   bolt.FreelistMapType,
	})
	if err != nil {
		return 0, err
	}
	return db.migrate(version, steps)
}

// openFile sets db.bolt and sorts the errors.
func (db *DB) openFile(o bolt.Options) (err error) {
	o.Timeout = openTimeout
	db.bolt, err = bolt.Open(db.path, 0o600, &o)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return fmt.Errorf("database %s: another process has it open: %w", db.path, errdefs.ErrConflict)
	case errors.As(err, new(*fs.PathError)), errors.As(err, new(syscall.Errno)):
		return fmt.Errorf("database %s: open: %v: %w", db.path, err, errdefs.ErrUnavailable)
	}
	// Bad magic, checksum or version; a file shorter than its pages gives a plain error.
	return &damageError{db.path, err}
}

// closeDamaged closes what could be opened of a database that is no good.
func (db *DB) closeDamaged() {
	defer func() {
		if p := recover(); p != nil {
			db.log.Warn("closing a damaged database", "path", db.path, "error", p)
		}
	}()
	if err := db.bolt.Close(); err != nil {
		db.log.Warn("closing a damaged database", "path", db.path, "error", err)
	}
	db.bolt = nil
}

// readEverything walks all pages, so that damage shows now and not in the
// middle of an operation.
func readEverything(tx *bolt.Tx) error {
	sum := byte(0)
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			for _, s := range [][]byte{k, v} {
				if len(s) > 0 {
					sum ^= s[0] ^ s[len(s)-1]
				}
			}
			return nil
		})
	})
}

// quarantine puts the damaged file and its journal aside.
func (db *DB) quarantine(damage *damageError) error {
	aside := fmt.Sprintf("%s.corrupt-%s", db.path, time.Now().UTC().Format("20060102T150405.000000000"))
	if err := os.Rename(db.path, aside); err != nil {
		return fmt.Errorf("%v; putting it aside: %v: %w", damage, err, errdefs.ErrUnavailable)
	}
	if err := os.Rename(journalPath(db.path), journalPath(aside)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%v; putting its journal aside: %v: %w", damage, err, errdefs.ErrUnavailable)
	}
	db.quarantined = aside
	db.log.Error("the database is damaged; it was put aside and an empty one takes its place",
		"path", db.path, "aside", aside, "error", damage)
	return nil
}

// recoverJournal takes what the journal holds into bolt and makes it ready for writes.
func (db *DB) recoverJournal(epoch uint64) error {
	frames, err := readJournal(journalPath(db.path), epoch)
	if err != nil {
		return err
	}
	for _, frame := range frames {
		ops, err := decodeOps(frame)
		if err != nil {
			// Its checksum was right, so another version of this program wrote it.
			return fmt.Errorf("database %s: journal: %v: %w", db.path, err, errdefs.ErrUnsupported)
		}
		db.apply(ops)
	}
	if db.journal, err = openJournal(journalPath(db.path), epoch); err != nil {
		return err
	}
	if len(frames) > 0 {
		if err := db.checkpoint(); err != nil {
			return errors.Join(err, db.journal.close())
		}
	}
	return nil
}

// apply makes ops visible. The caller holds mu or is alone.
func (db *DB) apply(ops []op) {
	for _, o := range ops {
		m := db.pending[o.kind]
		if m == nil {
			m = map[string][]byte{}
			db.pending[o.kind] = m
		}
		m[o.key] = o.value
	}
}

// checkpoint moves what is pending into bolt, synced, and begins a new epoch of the journal.
func (db *DB) checkpoint() error {
	db.syncMu.Lock()
	defer db.syncMu.Unlock()
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.checkpointLocked()
}

func (db *DB) checkpointLocked() error {
	if db.journal.end == 0 && len(db.pending) == 0 {
		return nil
	}
	epoch := db.journal.epoch + 1
	err := db.bolt.Update(func(tx *bolt.Tx) error {
		for kind, records := range db.pending {
			b, err := tx.CreateBucketIfNotExists([]byte(kind))
			if err != nil {
				return err
			}
			for key, value := range records {
				if value == nil {
					err = b.Delete([]byte(key))
				} else {
					err = b.Put([]byte(key), value)
				}
				if err != nil {
					return err
				}
			}
		}
		return tx.Bucket([]byte(metaBucket)).Put(keyEpoch, binary.BigEndian.AppendUint64(nil, epoch))
	})
	if err != nil {
		return fmt.Errorf("database %s: checkpoint: %v: %w", db.path, err, errdefs.ErrUnavailable)
	}
	db.pending = map[Kind]map[string][]byte{}
	db.journal.reset(epoch)
	return nil
}

// Close writes a checkpoint and closes the files.
func (db *DB) Close() error {
	db.syncMu.Lock()
	defer db.syncMu.Unlock()
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	return errors.Join(db.checkpointLocked(), db.journal.close(), db.bolt.Close())
}
