// Package kernel is every raw system call of the agent, and the probes for what
// this kernel can do. It is the only importer of golang.org/x/sys/unix, so that
// there is one package to audit.
//
// Where to start reading: Builder (launch.go) assembles the list of system calls that
// becomes a container; package fork below executes it. Namespaces are made and pinned
// in namespaces.go; mount.go has mounts by descriptor, path.go the operations on
// paths that a container controls; check.go probes.
//
// Nothing here holds a lock. On disk it leaves only what CreateNamespaces pins.
package kernel
