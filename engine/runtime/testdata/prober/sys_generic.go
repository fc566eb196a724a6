//go:build arm64 || riscv64

package main

const (
	sysBPF            = 280
	sysUserfaultfd    = 282
	sysOpenByHandleAt = 265
	sysSetns          = 268
)
