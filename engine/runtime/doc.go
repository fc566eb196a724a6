// Package runtime turns an OCI runtime specification into a process, and looks
// after that process for as long as it lives.
//
// Runtime.Start compiles the specification to a launch program: a list of system
// calls whose arguments are all laid out beforehand (package
// engine/kernel/fork). A warm shim (package main in engine/shim) forks and lets the child
// execute that list, so that no second Go program, and no C, runs between the
// fork and the container's own executable.
//
// Where to start reading: Runtime.Start in start.go, then compile.go, which
// decides the order of the steps, and task.go for what can be asked of a running
// container.
//
// # Lock order
//
// Runtime.mu guards the warm shims and the table of tasks and is never held
// across a system call that can block. Task.mu guards one task's state; it may be
// taken while Runtime.mu is not held. No lock is held across a call to the shim.
//
// # On disk
//
// RunDir/shim/<hash> is the shim program. RunDir/tasks/<id>/ holds what a new agent
// needs to adopt a container: task.json (spec, pid, start time, boot id), shim.sock
// and, once the first process has ended, exit. Cgroups are named
// <CgroupParent>/<id> in every hierarchy; the shims are in <CgroupParent>/shims.
// With an OCI runtime (oci.go) there are its config.json beside, and its state in RunDir/oci/<name>/<id>.
// Task.Delete removes all of it.
package runtime
