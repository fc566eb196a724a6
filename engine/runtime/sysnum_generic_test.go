//go:build arm64 || riscv64

package runtime_test

const sysRenameat2 = 276
