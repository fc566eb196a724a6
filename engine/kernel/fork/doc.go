// Package fork starts a process whose first steps are raw system calls instead of
// a program.
//
// A Program is a list of system calls with their data, laid out before the
// fork. Run clones a child that shares the caller's memory, as vfork(2) does, and lets it
// execute the list; the calling thread sleeps until the child has executed its
// last step, execve(2), or has failed. So no page table is copied, whatever the
// size of the caller, and the child's result is simply found in memory.
//
// The child runs no Go but one nosplit loop (run.go): it must not allocate, grow
// its stack, be preempted or write a pointer, since all of that belongs to its
// parent. The same holds for the second fork (Program.Fork), which lets the
// child enter a PID namespace and be the caller's child at the same time.
//
// Park makes a child that does nothing at all, to own new namespaces until they are
// pinned.
//
// This package uses the standard library's syscall package only, since the shim
// is built from it. Start reading at Program.
package fork
