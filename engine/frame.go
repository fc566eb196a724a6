package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"novaagent/engine/kernel"
)

// A frame is a container's directory with what is the same in each: the directory of its log, the files of etcFiles and the
// copy of its record. To make inodes and to delete them is most of what a container's life asks of
// the disk, and an ext4 without a journal gets slower with each that was deleted in the last minute
// (fs/ext4/ialloc.c, recently_deleted). So the frames of removed containers become those of the next ones.
// What a container writes into, its layer, is always new.

// keptFrames is how many frames wait for a container.
const keptFrames = 16

func (e *Engine) framesDir() string { return filepath.Join(e.opts.Root, "frames") }

// frameFiles are the files of a frame, by their modes.
func frameFiles() map[string]os.FileMode {
	files := map[string]os.FileMode{recordFile: recordMode}
	for _, name := range etcFiles {
		files[name] = etcMode
	}
	return files
}

// findFrames finds those of an earlier engine.
func (e *Engine) findFrames() error {
	for _, name := range entries(e.framesDir()) {
		select {
		case e.frames <- name:
		default:
			if err := os.RemoveAll(filepath.Join(e.framesDir(), name)); err != nil {
				return fmt.Errorf("engine root %s: %w", e.opts.Root, err)
			}
		}
	}
	return nil
}

// takeFrame makes dir of a frame, if there is one.
func (e *Engine) takeFrame(dir string) {
	select {
	case name := <-e.frames:
		// Without success dir is made as if there were none, and the next engine finds the frame.
		if err := os.Rename(filepath.Join(e.framesDir(), name), dir); err != nil {
			e.log.Warn("the directory of a removed container cannot be used again", "error", err)
		}
	default:
	}
}

// keepFrame makes a frame of dir, in which there is nothing else any more. Without an error dir is gone.
func (e *Engine) keepFrame(dir, name string) error {
	if len(e.frames) == cap(e.frames) || e.lends(name) {
		return errNoFrame
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	files := frameFiles()
	if len(list) != len(files)+1 {
		return errNoFrame
	}
	logs, err := os.ReadDir(filepath.Join(dir, logDir))
	if err != nil {
		return err
	}
	for _, file := range logs {
		if err := os.Remove(filepath.Join(dir, logDir, file.Name())); err != nil {
			return err
		}
	}
	for file, mode := range files {
		// Its content stays: who writes it next is quicker if it is as long already.
		if fresh, err := kernel.Renew(filepath.Join(dir, file), mode); err != nil || !fresh {
			return errors.Join(err, errNoFrame)
		}
	}
	if err := os.Rename(dir, filepath.Join(e.framesDir(), name)); err != nil {
		return err
	}
	select {
	case e.frames <- name:
		return nil
	default:
		return os.RemoveAll(filepath.Join(e.framesDir(), name))
	}
}

// lends tells whether a container has files of the one with that ID mounted, as one that shares its network has: they must not
// become another's.
func (e *Engine) lends(id string) bool {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for other, t := range e.containers {
		if other != id && t.rec.networkOwner() == id {
			return true
		}
	}
	return false
}

var errNoFrame = errors.New("no frame")

// isFrame tells whether an entry of a container's directory stays in a frame.
func isFrame(name string) bool {
	return name == logDir || name == recordFile || slices.Contains(etcFiles, name)
}
