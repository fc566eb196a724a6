//go:build !ppc64le

package kernel

const iocSizeBits13 = false
