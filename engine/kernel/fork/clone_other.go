//go:build !s390x

package fork

// cloneOrder gives the first two arguments of clone(2).
func cloneOrder(flags uintptr) (a1, a2 uintptr) { return flags, 0 }
