package imagebridge

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// cacheVersion is the schema of the file.
const cacheVersion = 1

// entry is an image of Glance that the store has.
type entry struct {
	Record   Record    `json:"record"`
	Digest   string    `json:"digest"` // of the manifest
	LastUsed time.Time `json:"last_used"`
}

// cache knows which images of Glance the store has. The file is rewritten when
// an image comes or goes; a mere use is written with the next of these, for it
// only delays an eviction.
type cache struct {
	path string

	mu      sync.Mutex
	entries map[string]entry
}

// openCache reads the file. One that cannot be read counts as empty: all of it
// can be had from Glance again.
func openCache(path string) (*cache, error) {
	c := &cache{path: path, entries: map[string]entry{}}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	var doc struct {
		Version int              `json:"version"`
		Images  map[string]entry `json:"images"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return c, err
	}
	if doc.Version != cacheVersion {
		return c, fmt.Errorf("version %d, known is %d", doc.Version, cacheVersion)
	}
	if doc.Images != nil {
		c.entries = doc.Images
	}
	return c, nil
}

// get finds the digest for the image that rec names, and notes its use.
func (c *cache) get(rec Record, now time.Time) (string, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[rec.ID]
	if !ok || !e.Record.same(rec) {
		return "", false
	}
	e.LastUsed = now
	c.entries[rec.ID] = e
	return e.Digest, true
}

// put adds an image, in the file too.
func (c *cache) put(e entry) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[e.Record.ID] = e
	return c.writeLocked()
}

// drop removes images, from the file too.
func (c *cache) drop(ids ...string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		delete(c.entries, id)
	}
	return c.writeLocked()
}

// take removes the entry of an image that was not used since a time, and
// tells whether it was not. One whose entry was lost counts from its import.
// Only the memory changes: the caller flushes.
func (c *cache) take(id string, imported, since time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[id]
	if !ok {
		e.LastUsed = imported
	}
	if e.LastUsed.After(since) {
		return false
	}
	delete(c.entries, id)
	return true
}

// all returns a copy of the entries.
func (c *cache) all() map[string]entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.entries)
}

// retain drops the entries whose image the store lost.
func (c *cache) retain(has func(digest string) bool) error {
	var gone []string
	for id, e := range c.all() {
		if !has(e.Digest) {
			gone = append(gone, id)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	return c.drop(gone...)
}

// flush writes the times of use.
func (c *cache) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writeLocked()
}

func (c *cache) writeLocked() (err error) {
	raw, err := json.Marshal(map[string]any{"version": cacheVersion, "images": c.entries})
	if err != nil {
		return err
	}
	dir := filepath.Dir(c.path)
	f, err := os.CreateTemp(dir, filepath.Base(c.path)+".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), c.path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
