package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"novaagent/engine/errdefs"
)

// journalSize is the length of the journal file. A frame that does not fit goes
// straight to bolt.
const journalSize = 1 << 20

// frameHeader is magic, epoch, length of the payload and the CRC-32C of the three
// with the payload: 4 + 8 + 4 + 4 bytes, big-endian.
const (
	frameHeader = 20
	frameMagic  = 0x6e616a31 // "naj1"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func journalPath(path string) string { return path + "-journal" }

// journal is the file of frames since the latest checkpoint. The DB's locks
// guard it: mu for end and tail, syncMu for writes through synced.
type journal struct {
	lazy   *os.File // the same file twice:
	synced *os.File // this one with O_DSYNC
	epoch  uint64
	end    int64 // where the next frame goes
	// tail holds the bytes from syncedTo to end, which no O_DSYNC write has
	// carried yet.
	tail     []byte
	syncedTo int64
	// cachedTo is up to where the page cache has the frames at least.
	cachedTo int64
}

// openJournal opens the file for writing from its beginning, making it if
// needed: in full length and filled with zeros, so that overwriting it never
// changes metadata and never runs out of space.
func openJournal(path string, epoch uint64) (*journal, error) {
	fail := func(err error) (*journal, error) {
		return nil, fmt.Errorf("journal %s: %v: %w", path, err, errdefs.ErrUnavailable)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != journalSize {
		if err := makeJournal(path); err != nil {
			return fail(err)
		}
	}
	lazy, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fail(err)
	}
	synced, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DSYNC, 0)
	if err != nil {
		return fail(errors.Join(err, lazy.Close()))
	}
	return &journal{lazy: lazy, synced: synced, epoch: epoch}, nil
}

// makeJournal writes a file of zeros beside path and renames it. An older file
// there is one that recoverJournal has read.
func makeJournal(path string) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, journalSize))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// readJournal returns the payloads of the frames of epoch, in order, up to the
// first that is not whole. What follows that is either of an earlier epoch or lazy writes
// that a power cut tore.
func readJournal(path string, epoch uint64) ([][]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal %s: %v: %w", path, err, errdefs.ErrUnavailable)
	}
	return parseFrames(data, epoch), nil
}

func parseFrames(data []byte, epoch uint64) (frames [][]byte) {
	for len(data) >= frameHeader {
		length := int64(binary.BigEndian.Uint32(data[12:]))
		if binary.BigEndian.Uint32(data) != frameMagic || binary.BigEndian.Uint64(data[4:]) != epoch ||
			length > int64(len(data)-frameHeader) {
			return frames
		}
		payload := data[frameHeader : frameHeader+length]
		if frameSum(data[:16], payload) != binary.BigEndian.Uint32(data[16:]) {
			return frames
		}
		frames = append(frames, payload)
		data = data[frameHeader+length:]
	}
	return frames
}

func frameSum(head, payload []byte) uint32 {
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, payload)
}

// fits says whether a frame with a payload of n bytes has room.
func (j *journal) fits(n int) bool { return j.end+frameHeader+int64(n) <= journalSize }

// nearlyFull says that it is time for a checkpoint.
func (j *journal) nearlyFull() bool { return j.end > journalSize/4*3 }

// append adds a frame and returns where it ends. The caller holds mu. A frame that
// will be synced at once is not written to the page cache first.
func (j *journal) append(payload []byte, lazy bool) (end int64, err error) {
	start := len(j.tail)
	j.tail = binary.BigEndian.AppendUint32(j.tail, frameMagic)
	j.tail = binary.BigEndian.AppendUint64(j.tail, j.epoch)
	j.tail = binary.BigEndian.AppendUint32(j.tail, uint32(len(payload)))
	j.tail = binary.BigEndian.AppendUint32(j.tail, frameSum(j.tail[start:], payload))
	j.tail = append(j.tail, payload...)
	end = j.end + int64(len(j.tail)-start)
	if lazy {
		// Frames before this one may be waiting for their group commit; a reader must
		// not find a hole in their place.
		from := max(j.cachedTo, j.syncedTo)
		if _, err := j.lazy.WriteAt(j.tail[from-j.syncedTo:], from); err != nil {
			j.tail = j.tail[:start]
			return 0, err
		}
		j.cachedTo = end
	}
	j.end = end
	return j.end, nil
}

// reset begins an empty journal. The caller holds both locks.
func (j *journal) reset(epoch uint64) {
	j.epoch, j.end, j.syncedTo, j.cachedTo, j.tail = epoch, 0, 0, 0, nil
}

func (j *journal) close() error { return errors.Join(j.lazy.Close(), j.synced.Close()) }
