// Package guest runs parts of the project's tests on the kernel that operators
// run: Debian's stock one, with cgroup version 2 alone, AppArmor, quotas and
// kernel modules. It is booted in QEMU without acceleration, so that any machine will do; a
// process is some fifty times slower there, and so only what depends on the kernel is run.
//
// The guest sees this machine's files read-only below an overlay, its scratch
// disk is a file, and its tests' results come over its serial line. guest.go
// boots it, testdata/init and testdata/stage2 are what it runs.
package guest
