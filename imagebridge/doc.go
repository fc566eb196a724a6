// Package imagebridge brings images from Glance into the engine's image store.
// It is Glance's client and the memory of what came from there; it knows
// nothing of instances or flavors.
//
// Start reading at Bridge.Ensure. record.go is what Glance says of an image and
// which of its formats are taken, download.go the stream that survives a lost
// connection and verifies what it passes on, glance.go the requests, cache.go
// which image of Glance is which of the store, and when it was last wanted.
//
// # Formats
//
//	container_format  disk_format  content
//	docker            raw          what `docker save` writes, or an OCI archive
//	bare              raw          a tar of a root file system
//
// Either may be compressed with gzip or zstd. The declared formats decide how
// the bytes are read; they are never guessed from the bytes.
//
// # Access
//
// A cached image is given out without asking Glance if the caller brings
// Glance's record of it, as Nova's build message does: nova-api has read that
// record with the user's own token. Without a record it is read with the
// caller's session, which proves the same. The data of an image never changes
// in Glance once it is active, so ID and checksum name it for good.
//
// # On disk
//
// One JSON file (Options.File), written beside and renamed: image ID, checksum,
// manifest digest, time of last use. The store's image has the name
// glance.local/ID:latest besides, so that an image whose entry is lost is
// still found by Evict. Losing the file costs downloads.
//
// # Locks
//
// Bridge.mu guards the running downloads and is never held while waiting.
// cache.mu guards the entries and the writing of the file; it is a leaf.
package imagebridge
