// Package wire is what an agent and a shim say to each other over a unix stream
// socket.
//
// Each message is a Header and its payload; descriptors travel with the header's
// first byte. Numbers are little-endian. A connection starts with Hello and
// Welcome, which carry the protocol's version: an agent must talk to shims that
// an older agent has started, so a change adds message types or raises the version, and an
// old version stays understood.
//
// A connection has one of three roles, chosen by its second message. A control
// connection sends requests, gets one reply to each in order, and Exited in between.
// An attachment (Attach) carries Output and Input. A connection that
// starts with Exec is that exec's: its reply is Started or Failed, then Output and Input follow,
// then Exited.
//
// The package does no I/O; it is part of the shim and imports next to nothing.
package wire
