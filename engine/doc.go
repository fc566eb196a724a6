// Package engine runs containers. Both front doors, Nova's and Docker's, make a
// Spec and translate the answer; every rule that both need is here.
//
// Start reading at Spec (spec.go) and Container with its table of moves
// (container.go); then create.go, start.go, exit.go, stop.go and remove.go in
// that order are a container's life, volume.go begins the volumes (volume_plugin.go those of plug-ins), netrecord.go the networks, and reconcile.go is what Open does about
// the lives that a crash cut short. tracked.go is the one place that changes a state.
//
// The engine orchestrates mechanisms that don't know of each other: image
// (layers), kernel (namespaces), network (endpoints), runtime (processes) and
// store (records).
//
// # Locks
//
// A container's lock (Engine.locks, by ID) is held, with a context, over each operation that
// changes it, but not while Stop or Wait wait for its process. Then Engine.mu, for the tables and
// for the record each tracked container points to; nothing blocks under it. A volume's lock (by
// name) is held while it is made, filled, mounted or removed, and the one of the gateways while bridges and rules
// are made or removed; both come between the two.
// A record is replaced, never changed, so readers need no container's lock. The database's own
// locks come last. Two containers' locks are never held together.
//
// Copies of a container's files hold no lock: files.go says what waits for them, and ends them.
//
// # On disk
//
//	ROOT/lock                  held while an engine is open; contains its pid
//	ROOT/state.db              records (package store)
//	ROOT/images/               layers (package image)
//	ROOT/containers/ID/        record.json: a copy of the record, to rebuild a lost database from
//	                           upper/, work/: the writable layer, within disk/ when there is a quota
//	                           hosts, hostname, resolv.conf: mounted over those of the image
//	                           log/: console.log and its rotated predecessors, which may be gzip; forwarded: how far they were sent
//	                           quota.img: the file system that is mounted at disk/
//	ROOT/networks/ID.json      copies of the records of networks
//	ROOT/trash/ID/             files of removed containers, being deleted
//	ROOT/volumes/NAME/         _data: a volume's files; volume.json: a copy of its record
//	                           _new: what the image has, on the way to an empty volume
//	RUN/ns/ID/{user,net}       pinned namespaces
//	RUN/runtime/               package runtime
//
// In the kernel: a Linux bridge or a VLAN device for each network of its own and nftables tables; else what the packages below leave, and for a quota a loop device that
// frees itself with its mount, and volumes in memory, mounted at their _data. Every name is a function of the container's ID, so
// Remove needs no list, and Open finds strays by what has no record.
//
// # Crash safety
//
// A record in state Creating is on the way to the disk before the first side effect, one in state
// Removing before the first thing is undone. Open removes the former and completes the
// latter. A volume's record is written after its directory and deleted before it, a network's the other way round. The steps are announced to Options.Hooks by the names in Steps; the tests kill the
// process at each. Every undo asks for absence.
package engine
