// Package seccomp compiles an OCI seccomp profile to the BPF program that the
// kernel runs at each system call of a container.
//
// Only the native ABI is let through: calls by another one (i386, or x32 on amd64) would bypass
// rules on arguments and numbers, as socketcall(2) does for socket(2).
//
// Start reading at Compile. gen.sh makes the tables of system call numbers.
package seccomp
