package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"novaagent/engine/store"
)

// ROOT/networks/ID.json is a copy of a network's record, and bridge.json of the addresses of the network bridge, from which
// they are rebuilt after the database was lost: containers that run are in these networks. A copy is written after the
// record and removed before it, so that without a record it says that the database was lost.

func (e *Engine) networksDir() string { return filepath.Join(e.opts.Root, "networks") }

func (e *Engine) networkCopy(id string) string { return filepath.Join(e.networksDir(), id+".json") }

func (e *Engine) copyNetwork(id string, record any) error {
	data, err := json.Marshal(record)
	if err == nil {
		err = os.MkdirAll(e.networksDir(), 0o700)
	}
	if err == nil {
		err = writeFile(e.networkCopy(id), data, 0o600, store.Range{})
	}
	if err != nil {
		return fmt.Errorf("copy of the record of network %s: %w", id, fileError(err))
	}
	return nil
}

func (e *Engine) dropNetworkCopy(id string) error {
	if err := os.Remove(e.networkCopy(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("copy of the record of network %s: %w", id, fileError(err))
	}
	return nil
}

// loadNetworks reads the records as the engine opens, rebuilds those that were lost, and makes the copies that an
// earlier version or a crash did not.
func (e *Engine) loadNetworks() error {
	records, err := store.List[Network](e.db, kindUserNetwork)
	if records == nil {
		return fmt.Errorf("engine root %s: networks: %w", e.opts.Root, err)
	}
	lost := err != nil || e.db.Quarantined() != ""
	if err != nil {
		e.log.Error("records of networks cannot be read", "error", err)
	}
	copies, err := os.ReadDir(e.networksDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("engine root %s: networks: %w", e.opts.Root, fileError(err))
	}
	there := map[string]bool{}
	for _, entry := range copies {
		id, _ := strings.CutSuffix(entry.Name(), ".json")
		there[id] = true
		if _, known := records[id]; known || id == bridgeName || !lost {
			continue
		}
		var n Network
		if err := e.rebuildNetwork(id, kindUserNetwork, &n); err != nil {
			e.log.Error("a network's record cannot be rebuilt", "network", id, "error", err)
			continue
		}
		records[id] = n
	}
	for id, n := range records {
		if !there[id] {
			if err := e.copyNetwork(id, n); err != nil {
				return err
			}
		}
	}
	e.networks = records
	return e.loadBridge(there[bridgeName], lost)
}

// loadBridge does the same for the network bridge.
func (e *Engine) loadBridge(copied, lost bool) error {
	b, err := store.Get[BridgeNetwork](e.db, kindNetwork, bridgeName)
	switch {
	case err == nil && !copied:
		return e.copyNetwork(bridgeName, b)
	case err != nil && copied && lost:
		if err := e.rebuildNetwork(bridgeName, kindNetwork, &b); err != nil {
			e.log.Error("the addresses of the network bridge cannot be rebuilt", "error", err)
		}
	}
	return nil
}

// rebuildNetwork reads a copy into record and puts it into the database.
func (e *Engine) rebuildNetwork(id string, kind store.Kind, record any) error {
	data, err := os.ReadFile(e.networkCopy(id))
	if err == nil {
		err = json.Unmarshal(data, record)
	}
	if err == nil {
		err = store.Put(e.db, kind, id, record)
	}
	if err == nil {
		e.log.Warn("a network's record was rebuilt", "network", id)
	}
	return err
}
