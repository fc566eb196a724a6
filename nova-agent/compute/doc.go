// Package compute is what nova-compute is to Nova: it takes the messages of the
// control plane, orchestrates image, ports and container, and keeps Nova's record
// and Placement's true.
//
// Start reading in methods.go, the table of every RPC method; each operation has a
// file of its own. wrappers.go is what all of them have in common, spec.go the one place
// where Nova's words become the engine's, fault.go the tables from errors to
// Nova's exceptions, decide.go those of start-up and power synchronisation.
//
// Lock order: an instance's lock, then the tracker's. Nothing is held over a call to
// conductor but these two and, for a build, one of the limited places to build.
//
// On disk, in the engine's database: an intent for each build and delete under way,
// and the last build's attempt of each instance, by which a message that
// was delivered twice is known.
//
// To add an RPC method: give it a row in methods.go, and a file if it does something.
package compute
