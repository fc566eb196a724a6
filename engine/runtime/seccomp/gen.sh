#!/bin/sh
# Writes numbers_<arch>.go from golang.org/x/sys/unix, the version in go.mod.
set -eu
src=$(go list -m -f '{{.Dir}}' golang.org/x/sys)/unix
for arch in amd64 arm64 ppc64le s390x riscv64; do
	{
		echo "// Code generated from golang.org/x/sys/unix by gen.sh. DO NOT EDIT."
		echo
		echo "package seccomp"
		echo
		echo "// numbers are the system calls of this architecture."
		echo "var numbers = map[string]uint32{"
		sed -n 's/^\tSYS_\([A-Z0-9_]*\) *= \([0-9]*\).*/\1 \2/p' "$src/zsysnum_linux_$arch.go" |
			tr A-Z a-z | sed 's/\(.*\) \(.*\)/\t"\1": \2,/'
		echo "}"
	} | gofmt >"numbers_$arch.go"
done
