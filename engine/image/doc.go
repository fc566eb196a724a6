// Package image keeps container images: it imports archives of them, verifies
// and unpacks their layers once, and says which directories make up an
// image's root file system. It is a small front of containerd's libraries,
// which run in this process: the local content store, the metadata database
// with its leases and garbage collector, and the overlay snapshotter.
//
// Start reading at Store, then at import.go for the way of an archive through
// the package: spool.go reads the stream and verifies the blobs, resolve.go
// finds the image among them, layer.go and filter.go unpack its layers,
// record.go makes the result visible. pull.go with download.go is the way of an image that is elsewhere. contents.go has
// what goes out again, as an archive (save.go) or to a registry; commit.go puts a layer on an image.
//
// # Trust
//
// Everything in an archive is taken to be written by an attacker. Nothing in
// it is executed, no helper program is run, every size and count is bounded by
// Limits, and layers are unpacked with plain ids into directories that only
// root can reach. What an archive does not carry itself is never taken from
// another image: to get a layer one has to bring its bytes. A pull is different: who may ask for one is root on the
// node, so blobs that are here aren't downloaded again.
//
// # On disk
//
//	DIR/lock         held while a store is open
//	DIR/meta.db      images, leases, labels (bbolt, containerd's schema)
//	DIR/content/     manifests, configurations, kept layer blobs
//	DIR/snapshots/   unpacked layers, with the snapshotter's own metadata.db
//	DIR/spool/       archives being imported; emptied by Open
//
// An import makes its image visible in one transaction, after the layers are on
// stable storage. Whatever an import that died has left is unreferenced, and
// the next Open removes it.
//
// # Locks
//
// Store.mu guards the table of images and the uses, and is held for memory
// operations and for the transaction that changes an image's records. The
// lock of a chain ID (Store.chains) is taken before it, by one import at a
// time, and spans the unpacking of that layer.
package image
